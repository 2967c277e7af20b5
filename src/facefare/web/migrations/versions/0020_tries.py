"""Counters of tries cost no wait for the disk; after a crash of the database they begin anew."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("ALTER TABLE tries SET UNLOGGED")
