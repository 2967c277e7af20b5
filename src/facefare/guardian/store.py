"""The share store: one SQLite file that survives `kill -9` and a full disk, and its rows in memory.

Job: keep this guardian's shares of each gallery and the sequence of changes that made them.
Invariants:
- a gallery's version is the number of its committed changes; its `head` is a hash chain over them, so two
  guardians with one head have had the same changes in the same order;
- a change is prepared (durable, not visible) and then committed (visible), each in one transaction; what
  was prepared is either committed or discarded, never forgotten;
- the sequence holds no shares; deleting a row overwrites its share with random filler in memory and in the
  file, clears its live bit, and truncates the write-ahead log;
- shares are refreshed chunk by chunk, each prepared and committed like a change; a chunk's `mark` is a hash over all
  its refreshes, so two guardians with one mark have shares that fit together;
- memory changes only after the file did.

Rows lie in the file in blobs of 4,096, written in place, so that a million of them load in a few seconds.
Not thread-safe: one thread owns a store.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cbor2
import numpy as np
from numpy.typing import NDArray

from facefare.guardian.errors import Refused, StoreError, StoreFull
from facefare.guardian.messages import GalleryStatus, Operation, RefusalCode, sha256
from facefare.guardian.registry import GalleryDefinition

CHUNK = 4096  # rows in a blob; a multiple of 64
MAX_ROWS = 1 << 24
_MAX_HOLE = 1 << 16  # rows that one enrolment may skip: bounds the memory that a wrong row number costs
_GROWTH = 1.1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sequence (
  gallery TEXT NOT NULL, version INTEGER NOT NULL, operation TEXT NOT NULL, row INTEGER NOT NULL,
  count INTEGER NOT NULL, digest BLOB NOT NULL, attempt BLOB NOT NULL, key BLOB NOT NULL, head BLOB NOT NULL,
  time INTEGER NOT NULL, PRIMARY KEY (gallery, version)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sequence_by_digest ON sequence (gallery, digest);
CREATE INDEX IF NOT EXISTS sequence_by_row ON sequence (gallery, operation, row);
CREATE TABLE IF NOT EXISTS prepared (
  gallery TEXT PRIMARY KEY, version INTEGER NOT NULL, operation TEXT NOT NULL, row INTEGER NOT NULL,
  count INTEGER NOT NULL, digest BLOB NOT NULL, attempt BLOB NOT NULL, key BLOB NOT NULL, head BLOB NOT NULL,
  shares BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS prepared_refresh (
  gallery TEXT PRIMARY KEY, number INTEGER NOT NULL, epoch INTEGER NOT NULL, mark BLOB NOT NULL,
  shares BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS chunks (
  id INTEGER PRIMARY KEY, gallery TEXT NOT NULL, number INTEGER NOT NULL,
  used BLOB NOT NULL, live BLOB NOT NULL, deleted BLOB NOT NULL,
  epoch INTEGER NOT NULL, mark BLOB NOT NULL, UNIQUE (gallery, number)) STRICT;
CREATE TABLE IF NOT EXISTS chunk_shares (id INTEGER PRIMARY KEY, shares BLOB NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Change:
    """One change of a gallery.

    Attributes:
        operation: what.
        row, count: rows `row` to `row + count - 1`.
        digest: 32 bytes that name the request; the same request again has the same digest.
        attempt: 16 bytes that the three guardians agreed on for this run of the protocol.
        key: of an enrolment, the payer's key for openings (32 bytes), or none (empty).
    """

    operation: Operation
    row: int
    count: int
    digest: bytes
    attempt: bytes
    key: bytes = b""


@dataclass(frozen=True)
class Refreshed:
    """A chunk after its `epoch`-th refresh; `mark` (16 bytes) is a hash over all of them."""

    number: int
    epoch: int
    mark: bytes


@dataclass(frozen=True)
class Committed:
    """A change that is durable here: the version it made, and when (ms since 1970)."""

    operation: Operation
    row: int
    count: int
    version: int
    time: int


class Gallery:
    """One gallery in memory: shares (capacity, D + 2) uint16 and bitmaps (capacity / 64,) uint64."""

    def __init__(self, definition: GalleryDefinition) -> None:
        self.definition = definition
        self.version = 0
        self.head = sha256(definition.to_json().encode())
        self.prepared_head: bytes | None = None
        self.prepared_refresh: Refreshed | None = None
        self.chunks: dict[int, Refreshed] = {}
        self.rows = 0
        self.columns = definition.dimensions + 2
        self._shares: NDArray[np.uint16] = np.zeros((0, self.columns), np.uint16)
        self._used: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._live: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._deleted: NDArray[np.uint64] = np.zeros(0, np.uint64)

    @property
    def shares(self) -> NDArray[np.uint16]:
        """This guardian's shares, (rows, D + 2); holes are zero and not live."""
        return self._shares[: self.rows]

    @property
    def live(self) -> NDArray[np.uint64]:
        """Which rows may match, (ceil(rows / 64),): bit n % 64 of word n // 64."""
        return self._live[: -(-self.rows // 64)]

    @property
    def standing(self) -> bytes:
        """A hash over history and refreshes: guardians with the same one may search together."""
        marks = b"".join(number.to_bytes(4, "big") + self.chunks[number].mark for number in sorted(self.chunks))
        return sha256(self.head + marks)

    @property
    def epoch(self) -> int:
        """How often every row was refreshed, at least."""
        return min((chunk.epoch for chunk in self.chunks.values()), default=0)

    def rows_of(self, chunk: int) -> slice:
        """The rows of a chunk, as far as there are any."""
        return slice(chunk * CHUNK, min((chunk + 1) * CHUNK, self.rows))

    @property
    def deleted(self) -> NDArray[np.int64]:
        """Numbers of the deleted rows."""
        return np.flatnonzero(np.unpackbits(self._deleted.view(np.uint8), bitorder="little"))

    def status(self) -> GalleryStatus:
        """Counts and version, no shares."""
        return GalleryStatus(
            gallery=self.definition.id,
            kind=self.definition.kind,
            version=self.version,
            head=self.head,
            rows=self.rows,
            live=int(np.bitwise_count(self._live).sum()),
            epoch=self.epoch,
        )

    def check(self, operation: Operation, row: int, count: int) -> None:
        """Raise `Refused` unless the operation makes sense for these rows now."""
        if operation is Operation.ENROL:
            if row + count > min(MAX_ROWS, self.rows + _MAX_HOLE):
                raise Refused(
                    RefusalCode.ROW_TAKEN,
                    f"Row {row} is too far ahead: the next free row is {self.rows}, the most are {MAX_ROWS}.",
                )
            if any(_bit(self._used, n) for n in range(row, min(row + count, self.rows))):
                raise Refused(RefusalCode.ROW_TAKEN, "A row holds one payer for ever; take the next free one.")
            return
        if not _bit(self._used, row) or (_bit(self._deleted, row) and operation is not Operation.DELETE):
            raise Refused(RefusalCode.ROW_NOT_ENROLLED, f"Row {row} is not enrolled.")

    def in_effect(self, operation: Operation, row: int) -> bool:
        """Whether a delete, pause or resume of this row would change nothing."""
        if operation is Operation.DELETE:
            return _bit(self._deleted, row)
        live = _bit(self._live, row)
        return live if operation is Operation.RESUME else not live

    def _reserve(self, rows: int) -> None:
        have = len(self._shares)
        if rows <= have:
            return
        capacity = -(-max(rows, int(have * _GROWTH)) // CHUNK) * CHUNK
        shares = np.zeros((capacity, self.columns), np.uint16)  # untouched pages cost no memory
        shares[:have] = self._shares
        self._shares = shares
        grow = capacity // 64 - len(self._used)
        self._used, self._live, self._deleted = (
            np.concatenate([bits, np.zeros(grow, np.uint64)]) for bits in (self._used, self._live, self._deleted)
        )


class ShareStore:
    """All galleries of one guardian, in one file."""

    def __init__(self, path: Path) -> None:
        try:
            fresh = not path.exists()
            self._database = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            if fresh:
                self._database.execute("PRAGMA page_size=8192")
                path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("PRAGMA secure_delete=ON")
            self._database.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"The share store {path.name} can't be opened: {error}.") from error
        self._galleries: dict[str, Gallery] = {}
        self.erasure_pending = False  # overwritten shares may still be in the write-ahead log

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def load(self, definition: GalleryDefinition) -> Gallery:
        """The gallery, read from the file the first time."""
        known = self._galleries.get(definition.id)
        if known is not None:
            return known
        gallery = Gallery(definition)
        select = self._database.execute
        last = select(
            "SELECT version, head FROM sequence WHERE gallery = ? ORDER BY version DESC LIMIT 1", (definition.id,)
        ).fetchone()
        if last is not None:
            gallery.version, gallery.head = last
        waiting = select("SELECT head FROM prepared WHERE gallery = ?", (definition.id,)).fetchone()
        gallery.prepared_head = None if waiting is None else waiting[0]
        unfinished = select(
            "SELECT number, epoch, mark FROM prepared_refresh WHERE gallery = ?", (definition.id,)
        ).fetchone()
        gallery.prepared_refresh = None if unfinished is None else Refreshed(*unfinished)
        (chunks,) = select("SELECT max(number) FROM chunks WHERE gallery = ?", (definition.id,)).fetchone()
        if chunks is not None:
            gallery._reserve((chunks + 1) * CHUNK)
        cursor = select(
            "SELECT number, used, live, deleted, epoch, mark, shares FROM chunks JOIN chunk_shares USING (id) "
            "WHERE gallery = ?",
            (definition.id,),
        )
        for number, used, live, deleted, epoch, mark, shares in cursor:
            gallery.chunks[number] = Refreshed(number, epoch, mark)
            rows = slice(number * CHUNK, (number + 1) * CHUNK)
            words = slice(number * CHUNK // 64, (number + 1) * CHUNK // 64)
            gallery._shares[rows] = np.frombuffer(shares, np.uint16).reshape(CHUNK, gallery.columns)
            gallery._used[words] = np.frombuffer(used, np.uint64)
            gallery._live[words] = np.frombuffer(live, np.uint64)
            gallery._deleted[words] = np.frombuffer(deleted, np.uint64)
        gallery.rows = _highest(gallery._used)
        self._galleries[definition.id] = gallery
        return gallery

    def find(self, gallery: Gallery, digest: bytes) -> Committed | None:
        """The committed change that this request made, if it was made."""
        return self._committed("digest = ?", gallery, (digest,))

    def last(self, gallery: Gallery, operation: Operation, row: int) -> Committed | None:
        """The last committed change of this kind to this row."""
        return self._committed("operation = ? AND row = ?", gallery, (operation.value, row))

    def payer_key(self, gallery: Gallery, row: int) -> bytes | None:
        """The key by which a row's payer may have it opened, if one was given and the row is not deleted."""
        if not 0 <= row < gallery.rows or _bit(gallery._deleted, row):
            return None
        found = self._database.execute(
            "SELECT key FROM sequence WHERE gallery = ? AND operation = ? AND row = ? AND key != x''",
            (gallery.definition.id, Operation.ENROL.value, row),
        ).fetchone()
        return None if found is None else found[0]

    def history(self, gallery: Gallery, after: int) -> list[Change]:
        """The committed changes after version `after`, in order; not all, if some were compacted away."""
        rows = self._database.execute(
            "SELECT operation, row, count, digest, attempt, key FROM sequence "
            "WHERE gallery = ? AND version > ? ORDER BY version",
            (gallery.definition.id, after),
        )
        return [Change(Operation(row[0]), *row[1:]) for row in rows]

    def prepare(self, gallery: Gallery, change: Change, shares: NDArray[np.uint16] | None = None) -> bytes:
        """Make a change durable but not visible; the head that committing it will give.

        Args:
            gallery: loaded from this store.
            change: checked by `Gallery.check`.
            shares: (count, D + 2) uint16 for an enrolment, else None.

        Raises:
            StoreFull, StoreError: nothing was written.
        """
        version = gallery.version + 1
        head = head_after(gallery.head, version, change)
        blob = b"" if shares is None else np.ascontiguousarray(shares, np.uint16).tobytes()
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO prepared VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (gallery.definition.id, version, *_columns(change), head, blob),
            )
        gallery.prepared_head = head
        return head

    def discard(self, gallery: Gallery) -> None:
        """Forget what was prepared (no guardian committed it)."""
        with self._transaction():
            self._database.execute("DELETE FROM prepared WHERE gallery = ?", (gallery.definition.id,))
        gallery.prepared_head = None

    def commit(self, gallery: Gallery) -> Committed:
        """Make what was prepared visible. Raises `StoreFull` or `StoreError`: it stays prepared."""
        row = self._database.execute(
            "SELECT version, operation, row, count, digest, attempt, key, head, shares FROM prepared WHERE gallery = ?",
            (gallery.definition.id,),
        ).fetchone()
        if row is None:
            raise StoreError("Nothing is prepared for this gallery.")
        version, head, now = row[0], row[7], time.time_ns() // 1_000_000
        change = Change(Operation(row[1]), *row[2:7])
        end = change.row + change.count
        shares = self._new_shares(gallery, change, row[8])
        if change.operation is Operation.ENROL:
            gallery._reserve(end)
        bits = _after(gallery, change)
        with self._transaction():
            self._database.execute(
                "INSERT INTO sequence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (gallery.definition.id, version, *_columns(change), head, now),
            )
            fresh = self._write_rows(gallery, change.row, end, bits, shares)
            self._database.execute("DELETE FROM prepared WHERE gallery = ?", (gallery.definition.id,))
        if shares is not None:
            gallery._shares[change.row : end] = shares
        gallery._used, gallery._live, gallery._deleted = bits
        gallery.rows = max(gallery.rows, end)
        gallery.chunks.update(fresh)
        gallery.version, gallery.head, gallery.prepared_head = version, head, None
        if change.operation is Operation.DELETE:
            self.truncate_log()
        return Committed(change.operation, change.row, change.count, version, now)

    def prepare_refresh(self, gallery: Gallery, chunk: int, attempt: bytes, shares: NDArray[np.uint16]) -> Refreshed:
        """Make a chunk's new shares, for `gallery.rows_of(chunk)`, durable but not used.

        Raises:
            StoreFull, StoreError: nothing was written.
        """
        before = gallery.chunks[chunk]
        after = Refreshed(chunk, before.epoch + 1, sha256(before.mark + attempt)[:16])
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO prepared_refresh VALUES (?, ?, ?, ?, ?)",
                (gallery.definition.id, chunk, after.epoch, after.mark, shares.tobytes()),
            )
        gallery.prepared_refresh = after
        return after

    def discard_refresh(self, gallery: Gallery) -> None:
        """Forget the prepared shares (no guardian uses theirs)."""
        with self._transaction():
            self._database.execute("DELETE FROM prepared_refresh WHERE gallery = ?", (gallery.definition.id,))
        gallery.prepared_refresh = None

    def commit_refresh(self, gallery: Gallery) -> None:
        """Use the prepared shares and overwrite the old ones. Raises `StoreFull` or `StoreError`."""
        (number, epoch, mark, blob) = self._database.execute(
            "SELECT number, epoch, mark, shares FROM prepared_refresh WHERE gallery = ?", (gallery.definition.id,)
        ).fetchone()
        shares = np.frombuffer(blob, np.uint16).reshape(-1, gallery.columns)
        self.replace_chunk(gallery, Refreshed(number, epoch, mark), shares)

    def replace_chunk(self, gallery: Gallery, chunk: Refreshed, shares: NDArray[np.uint16]) -> None:
        """Overwrite a chunk's shares, (rows, D + 2) uint16, with those of another epoch; ends what was prepared."""
        name = gallery.definition.id
        first = chunk.number * CHUNK
        with self._transaction():
            (chunk_id,) = self._database.execute(
                "UPDATE chunks SET epoch = ?, mark = ? WHERE gallery = ? AND number = ? RETURNING id",
                (chunk.epoch, chunk.mark, name, chunk.number),
            ).fetchone()
            with self._database.blobopen("chunk_shares", "shares", chunk_id) as blob:
                blob.write(shares.tobytes())
            self._database.execute("DELETE FROM prepared_refresh WHERE gallery = ?", (name,))
        gallery._shares[first : first + len(shares)] = shares
        gallery.chunks[chunk.number] = chunk
        gallery.prepared_refresh = None
        self.erasure_pending = True  # the old shares may still be in the write-ahead log

    def truncate_log(self) -> None:
        """Move the write-ahead log into the file and cut it, so that overwritten shares are in neither.

        Where a reader or a full disk is in the way, `erasure_pending` stays true: try again later.
        """
        self.erasure_pending = True
        with suppress(sqlite3.OperationalError):
            (busy, _, _) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.erasure_pending = bool(busy)

    def _new_shares(self, gallery: Gallery, change: Change, prepared: bytes) -> NDArray[np.uint16] | None:
        if change.operation is Operation.ENROL:
            return np.frombuffer(prepared, np.uint16).reshape(change.count, gallery.columns)
        if change.operation is Operation.DELETE:
            filler = os.urandom(2 * change.count * gallery.columns)
            return np.frombuffer(filler, np.uint16).reshape(change.count, gallery.columns)
        return None

    def _write_rows(
        self,
        gallery: Gallery,
        first: int,
        end: int,
        bits: tuple[NDArray[np.uint64], ...],
        shares: NDArray[np.uint16] | None,
    ) -> dict[int, Refreshed]:
        """Write rows; the chunks that are new."""
        row_bytes = 2 * gallery.columns
        fresh: dict[int, Refreshed] = {}
        newest = max((chunk.epoch for chunk in gallery.chunks.values()), default=0)
        for number in range(first // CHUNK, -(-end // CHUNK)):
            words = slice(number * CHUNK // 64, (number + 1) * CHUNK // 64)
            if number not in gallery.chunks:
                fresh[number] = Refreshed(number, newest, bytes(16))
            (chunk_id,) = self._database.execute(
                "INSERT INTO chunks (gallery, number, used, live, deleted, epoch, mark) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET used = excluded.used, live = excluded.live, "
                "deleted = excluded.deleted RETURNING id",
                (gallery.definition.id, number, *(part[words].tobytes() for part in bits), newest, bytes(16)),
            ).fetchone()
            self._database.execute(
                "INSERT OR IGNORE INTO chunk_shares VALUES (?, zeroblob(?))", (chunk_id, CHUNK * row_bytes)
            )
            if shares is None:
                continue
            start, stop = max(first, number * CHUNK), min(end, (number + 1) * CHUNK)
            with self._database.blobopen("chunk_shares", "shares", chunk_id) as blob:
                blob.seek((start - number * CHUNK) * row_bytes)
                blob.write(shares[start - first : stop - first].tobytes())
        return fresh

    def _committed(self, where: str, gallery: Gallery, values: tuple[object, ...]) -> Committed | None:
        row = self._database.execute(
            "SELECT operation, row, count, version, time FROM sequence "  # noqa: S608
            f"WHERE gallery = ? AND {where} ORDER BY version DESC LIMIT 1",
            (gallery.definition.id, *values),
        ).fetchone()
        return None if row is None else Committed(Operation(row[0]), *row[1:])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise StoreFull("The disk is full; nothing was written. Make room and try again.") from error
                raise StoreError(f"The share store refused the write: {error}.") from error
            raise


def _columns(change: Change) -> tuple[str, int, int, bytes, bytes, bytes]:
    return change.operation.value, change.row, change.count, change.digest, change.attempt, change.key


def head_after(head: bytes, version: int, change: Change) -> bytes:
    """The head of a history that goes on with this change, which makes `version`."""
    return sha256(head + cbor2.dumps([version, *_columns(change)]))


def _bit(bits: NDArray[np.uint64], n: int) -> bool:
    word = n // 64
    return word < len(bits) and bool((int(bits[word]) >> (n % 64)) & 1)


def _highest(bits: NDArray[np.uint64]) -> int:
    """One more than the highest set bit."""
    words = np.flatnonzero(bits)
    return 0 if not len(words) else int(words[-1]) * 64 + int(bits[words[-1]]).bit_length()


def _after(gallery: Gallery, change: Change) -> tuple[NDArray[np.uint64], ...]:
    """The three bitmaps as they are after the change."""
    used, live, deleted = gallery._used.copy(), gallery._live.copy(), gallery._deleted.copy()
    for n in range(change.row, change.row + change.count):
        word, mask = n // 64, np.uint64(1 << (n % 64))
        if change.operation is Operation.ENROL:
            used[word] |= mask
            live[word] |= mask
        elif change.operation is Operation.RESUME:
            live[word] |= mask
        else:
            live[word] &= ~mask
            if change.operation is Operation.DELETE:
                deleted[word] |= mask
    return used, live, deleted
