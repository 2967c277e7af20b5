"""This guardian's own record of what it was asked, and its memory of ids it has answered.

Job: one durable, hash-chained entry for each request, written before the guardian takes part in it.
Invariants:
- an entry holds terminal (or station), time, purpose and the SHA-256 of the signed payload, nothing else;
- each entry's `chain` is SHA-256 over the one before it and its own leaf bytes, so entries can't be changed
  or left out unnoticed; the leaf bytes are what a Merkle tree (RFC 9162) will take later;
- an id is remembered in the same transaction, until requests of its age are stale anyway.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cbor2

from facefare.guardian.errors import StoreError, StoreFull
from facefare.guardian.messages import sha256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
  number INTEGER PRIMARY KEY, leaf BLOB NOT NULL, chain BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_until ON seen (until);
"""
_START = bytes(32)


@dataclass(frozen=True)
class Entry:
    """Who asked (terminal or station id), when (ms since 1970), what for, and which signed payload (hash)."""

    asker: str
    time: int
    purpose: str
    request_sha256: bytes

    def leaf(self) -> bytes:
        """The exact bytes that are chained."""
        return cbor2.dumps([1, self.asker, self.time, self.purpose, self.request_sha256])


class RequestLog:
    """The log in one SQLite file. Not thread-safe: one thread owns it."""

    def __init__(self, path: Path) -> None:
        try:
            fresh = not path.exists()
            self._database = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            if fresh:
                path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
            last = self._database.execute("SELECT chain FROM requests ORDER BY number DESC LIMIT 1").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"The request log {path.name} can't be opened: {error}.") from error
        self._chain: bytes = _START if last is None else last[0]

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def append(self, entry: Entry, request_id: bytes | None, until: int) -> None:
        """Write an entry, and remember `request_id`, if given, until time `until` (ms); durable on return.

        Raises:
            StoreFull, StoreError: nothing was written, so the request must not be answered.
        """
        leaf = entry.leaf()
        chain = sha256(self._chain + leaf)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO requests (leaf, chain) VALUES (?, ?)", (leaf, chain))
            self._database.execute("DELETE FROM seen WHERE until < ?", (entry.time,))
            if request_id is not None:
                self._database.execute("INSERT INTO seen VALUES (?, ?)", (request_id, until))
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StoreFull("The request log can't grow: the disk is full.") from error
            raise StoreError(f"The request log refused the write: {error}.") from error
        self._chain = chain

    def seen(self) -> dict[bytes, int]:
        """Ids answered, and until when (ms) they are remembered."""
        return dict(self._database.execute("SELECT id, until FROM seen").fetchall())

    def since(self, time: int) -> list[Entry]:
        """Entries from `time` (ms) on, oldest first."""
        recent: list[Entry] = []
        for (leaf,) in self._database.execute("SELECT leaf FROM requests ORDER BY number DESC"):
            entry = Entry(*cbor2.loads(leaf)[1:])
            if entry.time < time:
                break
            recent.append(entry)
        return recent[::-1]

    def verify(self) -> Iterator[Entry]:
        """All entries, oldest first; raises `StoreError` where the chain is broken."""
        chain = _START
        for number, leaf, stored in self._database.execute("SELECT number, leaf, chain FROM requests ORDER BY number"):
            chain = sha256(chain + leaf)
            if chain != stored:
                raise StoreError(f"The request log was changed at entry {number}.")
            yield Entry(*cbor2.loads(leaf)[1:])
