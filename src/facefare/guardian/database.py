"""A guardian's two SQLite files: opened in one way, and only in a format that this program knows.

Invariants:
- a file says which format it is in (`user_version`). A newer one is refused, an older one is brought up step by step,
  each step in one transaction: killed in the middle the file is in the format before or in the one after;
- what was committed is on the disk (`synchronous=FULL`), and what was overwritten is not (`secure_delete`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facefare.guardian.errors import StoreError


@dataclass(frozen=True)
class Kind:
    """What a file is for, and the SQL that brings it from format n to n + 1; format 0 is an empty file."""

    name: str
    steps: tuple[Sequence[str], ...]


SHARES = Kind(
    "share store",
    (
        (
            "CREATE TABLE IF NOT EXISTS galleries (id TEXT PRIMARY KEY, definition TEXT NOT NULL) STRICT",
            "CREATE TABLE IF NOT EXISTS terminals (id TEXT PRIMARY KEY, registration TEXT NOT NULL) STRICT",
            "CREATE TABLE IF NOT EXISTS stations (id TEXT PRIMARY KEY, registration TEXT NOT NULL) STRICT",
            """CREATE TABLE IF NOT EXISTS sequence (
              gallery TEXT NOT NULL, version INTEGER NOT NULL, operation TEXT NOT NULL, row INTEGER NOT NULL,
              count INTEGER NOT NULL, digest BLOB NOT NULL, attempt BLOB NOT NULL, key BLOB NOT NULL,
              head BLOB NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (gallery, version)) STRICT, WITHOUT ROWID""",
            "CREATE INDEX IF NOT EXISTS sequence_by_digest ON sequence (gallery, digest)",
            "CREATE INDEX IF NOT EXISTS sequence_by_row ON sequence (gallery, operation, row)",
            """CREATE TABLE IF NOT EXISTS prepared (
              gallery TEXT PRIMARY KEY, version INTEGER NOT NULL, operation TEXT NOT NULL, row INTEGER NOT NULL,
              count INTEGER NOT NULL, digest BLOB NOT NULL, attempt BLOB NOT NULL, key BLOB NOT NULL,
              head BLOB NOT NULL, shares BLOB NOT NULL) STRICT""",
            """CREATE TABLE IF NOT EXISTS prepared_refresh (
              gallery TEXT PRIMARY KEY, number INTEGER NOT NULL, epoch INTEGER NOT NULL, mark BLOB NOT NULL,
              shares BLOB NOT NULL) STRICT""",
            """CREATE TABLE IF NOT EXISTS chunks (
              id INTEGER PRIMARY KEY, gallery TEXT NOT NULL, number INTEGER NOT NULL,
              used BLOB NOT NULL, live BLOB NOT NULL, deleted BLOB NOT NULL,
              epoch INTEGER NOT NULL, mark BLOB NOT NULL, UNIQUE (gallery, number)) STRICT""",
            "CREATE TABLE IF NOT EXISTS chunk_shares (id INTEGER PRIMARY KEY, shares BLOB NOT NULL) STRICT",
        ),
        (  # 2: galleries on their way from the other two, and the heads of changes that compaction dropped
            """CREATE TABLE arrivals (
              gallery TEXT PRIMARY KEY, standing BLOB NOT NULL, version INTEGER NOT NULL, head BLOB NOT NULL,
              base INTEGER NOT NULL, history INTEGER NOT NULL) STRICT""",
            """CREATE TABLE heads (
              gallery TEXT NOT NULL, version INTEGER NOT NULL, head BLOB NOT NULL,
              PRIMARY KEY (gallery, version)) STRICT, WITHOUT ROWID""",
        ),
    ),
)

REQUESTS = Kind(
    "request log",
    (
        (
            "CREATE TABLE IF NOT EXISTS requests "
            "(number INTEGER PRIMARY KEY, time INTEGER NOT NULL, leaf BLOB NOT NULL) STRICT",
            "CREATE INDEX IF NOT EXISTS requests_time ON requests (time)",
            "CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS seen_until ON seen (until)",
        ),
        (  # 2: comparisons before an enrolment
            "CREATE TABLE unfinished (id BLOB PRIMARY KEY, station TEXT NOT NULL, until INTEGER NOT NULL)"
            " STRICT, WITHOUT ROWID",
        ),
        (  # 3: how many templates each asker had compared or enrolled on a day
            "CREATE TABLE days (asker TEXT NOT NULL, day INTEGER NOT NULL, templates INTEGER NOT NULL,"
            " PRIMARY KEY (asker, day)) STRICT, WITHOUT ROWID",
        ),
    ),
)

# Files from before formats were numbered have format 0 and the tables of format 1, or those of a still older program.
_COLUMN_OF_FORMAT_1 = {"chunks": "mark", "requests": "leaf"}


def open_database(path: Path, kind: Kind) -> sqlite3.Connection:
    """The file at `path`, made where there is none; raises `StoreError` where it can't be used, and changes nothing."""
    try:
        fresh = not path.exists()
        database = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
        try:
            if fresh:
                path.chmod(0o600)
                database.execute("PRAGMA page_size=8192")
            _check_format(database, path, kind)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA secure_delete=ON")
            _upgrade(database, kind)
        except BaseException:
            database.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"The {kind.name} {path.name} can't be opened: {error}.") from error
    return database


def _format(database: sqlite3.Connection) -> int:
    (number,) = database.execute("PRAGMA user_version").fetchone()
    return int(number)


def _check_format(database: sqlite3.Connection, path: Path, kind: Kind) -> None:
    number = _format(database)
    if number > len(kind.steps):
        raise StoreError(
            f"The {kind.name} {path.name} is in format {number}, written by a newer program; "
            f"this one knows formats up to {len(kind.steps)}. Nothing was changed."
        )
    if number:
        return
    for table, column in _COLUMN_OF_FORMAT_1.items():
        columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
        if columns and column not in columns:
            raise StoreError(
                f"The {kind.name} {path.name} is in a format from before format 1, which can't be upgraded. Nothing "
                "was changed. Move it aside, register galleries, terminals and stations again and start: the other two "
                "guardians give the shares back."
            )


def _upgrade(database: sqlite3.Connection, kind: Kind) -> None:
    while _format(database) < len(kind.steps):
        database.execute("BEGIN IMMEDIATE")
        try:
            number = _format(database)  # another process may have been faster
            for statement in kind.steps[number] if number < len(kind.steps) else ():
                database.execute(statement)
            if number < len(kind.steps):
                database.execute(f"PRAGMA user_version={number + 1}")
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
