"""The history of the database's shape: `upgrade` brings one to the newest revision.

It lies in web because one history covers the tables of ledger, wallet and payments, and web is the lowest
room that may know them all.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def upgrade(engine: Engine) -> None:
    """Apply every migration that is missing; two processes may call it at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7070718)")
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")
