"""What this guardian accepted in the last minutes: for its rates, and so that no id is answered twice.

Job: one durable entry for each request that its policy accepted, written before it takes part in it, and
forgotten when it no longer counts. What stays for ever, and is public, is the transparency log.
Invariants:
- an entry holds terminal (or station), time, purpose, the SHA-256 of the signed payload and how many templates there
  were, nothing else;
- an id is remembered in the same transaction, until requests of its age are stale anyway;
- how many templates a day (UTC) came of each asker is kept for that day and the one before;
- so is a comparison for an enrolment, until that enrolment is made, no answer left this guardian, or it is stale.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import cbor2

from facefare.guardian.database import REQUESTS, open_database
from facefare.guardian.errors import StoreError, StoreFull
from facefare.guardian.rates import DAY_MS

_KEPT_MS = 600_000


@dataclass(frozen=True)
class Entry:
    """Who asked (terminal or station id), when (ms since 1970), what for, and which signed payload (hash)."""

    asker: str
    time: int
    purpose: str
    request_sha256: bytes
    templates: int = 1

    def leaf(self) -> bytes:
        """The exact bytes that are kept."""
        return cbor2.dumps([1, self.asker, self.time, self.purpose, self.request_sha256, self.templates])


class RequestLog:
    """The last minutes in one SQLite file. Not thread-safe: one thread owns it."""

    def __init__(self, path: Path) -> None:
        self._database = open_database(path, REQUESTS)

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def append(self, entry: Entry, request_id: bytes | None, until: int, unfinished_until: int | None = None) -> None:
        """Write an entry, and remember `request_id`, if given, until time `until` (ms); durable on return.

        With `unfinished_until`, it is a comparison that an enrolment has to follow.

        Raises:
            StoreFull, StoreError: nothing was written, so the request must not be answered.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO requests (time, leaf) VALUES (?, ?)", (entry.time, entry.leaf()))
            self._database.execute("DELETE FROM requests WHERE time < ?", (entry.time - _KEPT_MS,))
            self._database.execute(
                "INSERT INTO days VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET templates = templates + ?3",
                (entry.asker, entry.time // DAY_MS, entry.templates),
            )
            self._database.execute("DELETE FROM days WHERE day < ?", (entry.time // DAY_MS - 1,))
            self._database.execute("DELETE FROM seen WHERE until < ?", (entry.time,))
            self._database.execute("DELETE FROM unfinished WHERE until < ?", (entry.time,))
            if request_id is not None:
                self._database.execute("INSERT INTO seen VALUES (?, ?)", (request_id, until))
            if unfinished_until is not None:
                unfinished = (request_id, entry.asker, unfinished_until)
                self._database.execute("INSERT INTO unfinished VALUES (?, ?, ?)", unfinished)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StoreFull("The request log can't grow: the disk is full.") from error
            raise StoreError(f"The request log refused the write: {error}.") from error

    def seen(self) -> dict[bytes, int]:
        """Ids answered, and until when (ms) they are remembered."""
        return dict(self._database.execute("SELECT id, until FROM seen").fetchall())

    def end_check(self, enrolment_id: bytes) -> None:
        """The enrolment followed its comparison, or there was no answer; raises StoreError."""
        try:
            self._database.execute("DELETE FROM unfinished WHERE id = ?", (enrolment_id,))
        except sqlite3.Error as error:
            raise StoreError(f"The request log refused the write: {error}.") from error

    def unfinished(self) -> dict[bytes, tuple[str, int]]:
        """Comparisons that no enrolment followed: their station, and until when (ms) they count."""
        rows = self._database.execute("SELECT id, station, until FROM unfinished").fetchall()
        return {id: (station, until) for id, station, until in rows}

    def on_day(self, day: int) -> dict[str, int]:
        """Of each asker, how many templates it had looked for or enrolled on a day (days since 1970, UTC)."""
        return dict(self._database.execute("SELECT asker, templates FROM days WHERE day = ?", (day,)).fetchall())

    def since(self, time: int) -> list[Entry]:
        """Entries from `time` (ms) on, oldest first."""
        rows = self._database.execute("SELECT leaf FROM requests WHERE time >= ? ORDER BY number", (time,))
        return [Entry(*cbor2.loads(leaf)[1:]) for (leaf,) in rows]
