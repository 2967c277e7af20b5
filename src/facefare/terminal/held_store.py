"""What a terminal has to remember for the payer-held key profile: one SQLite file, and no face in it.

Holds its opening keys until they are of no more use, the newest deny list, the counters seen of codes that
have not run out yet (so nobody's habits), and payment records until the wallet has them. A deleted value is
overwritten (`secure_delete`). Safe to use from several threads.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.identification.held.documents import key_id
from facefare.identification.held.errors import CounterUsed, StoreUnusable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS opening_key (
  key_id BLOB PRIMARY KEY, private BLOB NOT NULL, announcement BLOB NOT NULL,
  announced_at INTEGER NOT NULL, last_use INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deny_list (one INTEGER PRIMARY KEY CHECK (one = 1), signed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen (device BLOB PRIMARY KEY, counter INTEGER NOT NULL, until INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS number (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL);
"""


@dataclass(frozen=True, repr=False)
class OpeningKey:
    """A key that codes are sealed to, its signed announcement, and when it was announced (seconds)."""

    private: X25519PrivateKey
    announcement: bytes
    announced_at: int


class HeldStore:
    """The file; every method is one transaction, and raises StoreUnusable where the disk is full or broken."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # it holds keys: for this user only
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = DELETE", "synchronous = FULL", "secure_delete = ON"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # --- opening keys ---

    def add_key(self, key: OpeningKey, *, last_use: int) -> None:
        """Keep a key until `last_use` (seconds)."""
        public = key.private.public_key().public_bytes_raw()
        row = (key_id(public), key.private.private_bytes_raw(), key.announcement, key.announced_at, last_use)
        with self._transaction() as database:
            database.execute("INSERT INTO opening_key VALUES (?, ?, ?, ?, ?)", row)

    def keys(self, now: int) -> dict[bytes, OpeningKey]:
        """The keys still in use by key id, newest first; the others are erased."""
        with self._transaction() as database:
            database.execute("DELETE FROM opening_key WHERE last_use < ?", (now,))
            rows = database.execute(
                "SELECT key_id, private, announcement, announced_at FROM opening_key ORDER BY announced_at DESC"
            ).fetchall()
        return {
            named: OpeningKey(X25519PrivateKey.from_private_bytes(private), announcement, at)
            for named, private, announcement, at in rows
        }

    # --- deny list ---

    def deny_list(self) -> bytes | None:
        """The newest deny list (bytes of `Signed`), if there ever was one."""
        with self._transaction() as database:
            row = database.execute("SELECT signed FROM deny_list").fetchone()
        return None if row is None else bytes(row[0])

    def replace_deny_list(self, signed: bytes) -> None:
        """Keep this one instead."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO deny_list VALUES (1, ?)", (signed,))

    # --- counters ---

    def highest(self, device: bytes, now: int) -> int:
        """The highest counter seen of a device's codes that have not run out; 0 for none."""
        with self._transaction() as database:
            database.execute("DELETE FROM seen WHERE until < ?", (now,))
            row = database.execute("SELECT counter FROM seen WHERE device = ?", (device,)).fetchone()
        return 0 if row is None else int(row[0])

    def use(self, device: bytes, counter: int, *, until: int) -> None:
        """Take this counter, for good. Raises CounterUsed."""
        with self._transaction() as database:
            taken = database.execute(
                "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT (device) DO UPDATE"
                " SET counter = excluded.counter, until = max(until, excluded.until) WHERE counter < excluded.counter",
                (device, counter, until),
            ).rowcount
        if not taken:
            raise CounterUsed("This code was shown before; show a new one.")

    # --- payment records ---

    def next_sequence(self) -> int:
        """A number above all before, even if an earlier file was lost: no less than the time in milliseconds."""
        with self._transaction() as database:
            row = database.execute("SELECT last FROM number").fetchone()
            number = max(time.time_ns() // 1_000_000, 0 if row is None else row[0] + 1)
            database.execute("INSERT OR REPLACE INTO number VALUES (1, ?)", (number,))
        return number

    def keep(self, sequence: int, record: bytes) -> None:
        """Keep a signed record until the wallet has it."""
        with self._transaction() as database:
            database.execute("INSERT INTO outbox VALUES (?, ?)", (sequence, record))

    def kept(self) -> list[tuple[int, bytes]]:
        """The records the wallet doesn't have yet, oldest first."""
        with self._transaction() as database:
            return database.execute("SELECT sequence, record FROM outbox ORDER BY sequence").fetchall()

    def drop(self, sequence: int) -> None:
        """The wallet has it."""
        with self._transaction() as database:
            database.execute("DELETE FROM outbox WHERE sequence = ?", (sequence,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._database:  # commits, or rolls back
                    self._database.execute("BEGIN IMMEDIATE")
                    yield self._database
            except sqlite3.Error as error:
                raise StoreUnusable(f"The terminal's store failed: {type(error).__name__}.") from error
