"""The share store: one SQLite file that survives `kill -9` and a full disk.

Job: keep this guardian's shares of each gallery and the sequence of changes that made them.
Invariants:
- a change is prepared (durable, not visible) and then committed (visible), each in one transaction; what
  was prepared is either committed or discarded, never forgotten;
- the sequence holds no shares; deleting a row overwrites its share with random filler in memory and in the
  file, clears its live bit, and truncates the write-ahead log;
- shares are refreshed chunk by chunk, each prepared and committed like a change;
- a gallery that arrives whole from the other two lies beside the one that is there and takes its place in one
  transaction, once all of it is durable; until then the gallery is the old one;
- memory changes only after the file did.

Rows lie in the file in blobs of 4,096, written in place, so that a million of them load in a few seconds.
Not thread-safe: one thread owns a store.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefare.guardian.database import SHARES, open_database
from facefare.guardian.errors import StoreError, StoreFull
from facefare.guardian.gallery import (
    CHUNK,
    Bits,
    Change,
    Committed,
    Gallery,
    Record,
    Refreshed,
    columns_of,
    head_after,
    standing_of,
)
from facefare.guardian.messages import Operation, sha256
from facefare.guardian.registry import GalleryDefinition

_NO_LIMIT = 2**62


@dataclass(frozen=True)
class Arriving:
    """What has arrived of a gallery with this standing: the history up to a version, and these chunks."""

    standing: bytes
    history: int
    chunks: frozenset[int]


class _Arrival(NamedTuple):
    standing: bytes
    version: int
    head: bytes
    base: int
    history: int


class ShareStore:
    """All galleries of one guardian, in one file."""

    def __init__(self, path: Path) -> None:
        self._database = open_database(path, SHARES)
        self._galleries: dict[str, Gallery] = {}
        self._images: dict[str, Gallery] = {}  # of galleries on their way
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
        arriving = self._arrival(definition.id)
        last = select(
            "SELECT version, head FROM sequence WHERE gallery = ? AND version <= ? ORDER BY version DESC LIMIT 1",
            (definition.id, _NO_LIMIT if arriving is None else arriving.base),
        ).fetchone()
        if last is not None:
            gallery.version, gallery.head = last
        waiting = select("SELECT head FROM prepared WHERE gallery = ?", (definition.id,)).fetchone()
        gallery.prepared_head = None if waiting is None else waiting[0]
        unfinished = select(
            "SELECT number, epoch, mark FROM prepared_refresh WHERE gallery = ?", (definition.id,)
        ).fetchone()
        gallery.prepared_refresh = None if unfinished is None else Refreshed(*unfinished)
        self._read_chunks(gallery, definition.id)
        self._galleries[definition.id] = gallery
        return gallery

    def _read_chunks(self, gallery: Gallery, name: str) -> None:
        (last,) = self._database.execute("SELECT max(number) FROM chunks WHERE gallery = ?", (name,)).fetchone()
        if last is not None:
            gallery.reserve((last + 1) * CHUNK)
        cursor = self._database.execute(
            "SELECT number, epoch, mark, used, live, deleted, shares FROM chunks JOIN chunk_shares USING (id) "
            "WHERE gallery = ?",
            (name,),
        )
        for number, epoch, mark, used, live, deleted, shares in cursor:
            bits = Bits(*(np.frombuffer(part, np.uint64) for part in (used, live, deleted)))
            rows = np.frombuffer(shares, np.uint16).reshape(CHUNK, gallery.columns)
            gallery.put(Refreshed(number, epoch, mark), bits, rows)

    def find(self, gallery: Gallery, digest: bytes) -> Committed | None:
        """The committed change that this request made, if it was made."""
        return self._committed("digest = ?", gallery, (digest,))

    def last(self, gallery: Gallery, operation: Operation, row: int) -> Committed | None:
        """The last committed change of this kind to this row."""
        return self._committed("operation = ? AND row = ?", gallery, (operation.value, row))

    def payer_key(self, gallery: Gallery, row: int) -> bytes | None:
        """The key by which a row's payer may have it opened, if one was given and the row is not deleted."""
        if gallery.in_effect(Operation.DELETE, row):
            return None
        found = self._database.execute(
            "SELECT key FROM sequence WHERE gallery = ? AND operation = ? AND row = ? AND key != x''",
            (gallery.definition.id, Operation.ENROL.value, row),
        ).fetchone()
        return None if found is None else found[0]

    def head_at(self, gallery: Gallery, version: int) -> bytes | None:
        """The head that the history had at a version; None where it is not known."""
        if version == 0:
            return Gallery(gallery.definition).head
        found = self._database.execute(
            "SELECT head FROM sequence WHERE gallery = ?1 AND version = ?2 "
            "UNION ALL SELECT head FROM heads WHERE gallery = ?1 AND version = ?2",
            (gallery.definition.id, version),
        ).fetchone()
        return None if found is None else found[0]

    def records(self, gallery: Gallery, after: int, upto: int) -> list[Record]:
        """The committed changes of versions after + 1 to `upto`, in order; without those compacted away."""
        rows = self._database.execute(
            "SELECT version, head, time, operation, row, count, digest, attempt, key FROM sequence "
            "WHERE gallery = ? AND version > ? AND version <= ? ORDER BY version",
            (gallery.definition.id, after, upto),
        )
        return [
            Record(version, head, time_ms, Change(Operation(operation), *rest))
            for version, head, time_ms, operation, *rest in rows
        ]

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
                (gallery.definition.id, version, *columns_of(change), head, blob),
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
            gallery.reserve(end)
        bits = gallery.after(change)
        with self._transaction():
            self._database.execute(
                "INSERT INTO sequence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (gallery.definition.id, version, *columns_of(change), head, now),
            )
            fresh = self._write_rows(gallery, change.row, end, bits, shares)
            self._database.execute("DELETE FROM prepared WHERE gallery = ?", (gallery.definition.id,))
        gallery.take(bits, change.row, shares)
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
        with self._transaction():
            (chunk_id,) = self._database.execute(
                "UPDATE chunks SET epoch = ?, mark = ? WHERE gallery = ? AND number = ? RETURNING id",
                (chunk.epoch, chunk.mark, name, chunk.number),
            ).fetchone()
            with self._database.blobopen("chunk_shares", "shares", chunk_id) as blob:
                blob.write(shares.tobytes())
            self._database.execute("DELETE FROM prepared_refresh WHERE gallery = ?", (name,))
        gallery.replace(chunk, shares)
        gallery.prepared_refresh = None
        self.erasure_pending = True  # the old shares may still be in the write-ahead log

    # A gallery that this guardian lacks arrives beside the one that is there: its chunks under a name of their own, its
    # history after version `base`, up to which the own one goes. `arrivals` says so until all of it is there.

    def arriving(self, gallery: Gallery) -> Arriving | None:
        """How much of a gallery has arrived, if one is on its way."""
        arrival = self._arrival(gallery.definition.id)
        if arrival is None:
            return None
        chunks = self._database.execute(
            "SELECT number FROM chunks WHERE gallery = ?", (_arriving(gallery.definition.id),)
        ).fetchall()
        return Arriving(arrival.standing, arrival.history, frozenset(number for (number,) in chunks))

    def expect(self, gallery: Gallery, standing: bytes, version: int, head: bytes) -> None:
        """Begin to take in the gallery that the other two have, or go on; one with another standing is forgotten."""
        name = gallery.definition.id
        arrival = self._arrival(name)
        if arrival is not None and arrival.standing != standing:
            self.forget_arrival(gallery)
        with self._transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO arrivals VALUES (?, ?, ?, ?, ?, ?)",
                (name, standing, version, head, gallery.version, gallery.version),
            )
        image = Gallery(gallery.definition)
        self._read_chunks(image, _arriving(name))
        self._images[name] = image

    def take_history(self, gallery: Gallery, upto: int, records: Sequence[Record]) -> None:
        """Keep a part of the history, up to a version."""
        name = gallery.definition.id
        with self._transaction():
            self._database.executemany(
                "INSERT INTO sequence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(name, one.version, *columns_of(one.change), one.head, one.time) for one in records],
            )
            self._database.execute("UPDATE arrivals SET history = ? WHERE gallery = ?", (upto, name))

    def take_chunk(self, gallery: Gallery, chunk: Refreshed, bits: Bits, shares: NDArray[np.uint16]) -> None:
        """Keep a chunk; as `Gallery.put` takes it."""
        with self._transaction():
            (chunk_id,) = self._database.execute(
                "INSERT INTO chunks (gallery, number, used, live, deleted, epoch, mark) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "RETURNING id",
                (
                    _arriving(gallery.definition.id),
                    chunk.number,
                    *(part.tobytes() for part in bits),
                    chunk.epoch,
                    chunk.mark,
                ),
            ).fetchone()
            self._database.execute("INSERT INTO chunk_shares VALUES (?, ?)", (chunk_id, shares.tobytes()))
        self._images[gallery.definition.id].put(chunk, bits, shares)

    def finish_arrival(self, gallery: Gallery) -> Gallery:
        """Put what has arrived in the place of what is there, and return it.

        Raises:
            StoreFull, StoreError: nothing was changed; also where something is missing.
        """
        name = gallery.definition.id
        arrival, image = self._arrival(name), self._images[name]
        if arrival is None or (arrival.history, standing_of(arrival.head, image.chunks.values())) != (
            arrival.version,
            arrival.standing,
        ):
            raise StoreError("The gallery has not arrived as a whole.")
        with self._transaction():
            self._delete_chunks(name)
            self._database.execute("UPDATE chunks SET gallery = ? WHERE gallery = ?", (name, _arriving(name)))
            self._database.execute("DELETE FROM arrivals WHERE gallery = ?", (name,))
        image.version, image.head = arrival.version, arrival.head
        self._galleries[name] = self._images.pop(name)
        self.erasure_pending = True
        return image

    def forget_arrival(self, gallery: Gallery) -> None:
        """Give up what has arrived of a gallery, if anything has."""
        name = gallery.definition.id
        arrival = self._arrival(name)
        if arrival is None:
            return
        with self._transaction():
            self._delete_chunks(_arriving(name))
            for table in ("sequence", "heads"):
                self._database.execute(
                    f"DELETE FROM {table} WHERE gallery = ? AND version > ?",  # noqa: S608
                    (name, arrival.base),
                )
            self._database.execute("DELETE FROM arrivals WHERE gallery = ?", (name,))
        self._images.pop(name, None)

    def _delete_chunks(self, name: str) -> None:
        self._database.execute(
            "DELETE FROM chunk_shares WHERE id IN (SELECT id FROM chunks WHERE gallery = ?)", (name,)
        )
        self._database.execute("DELETE FROM chunks WHERE gallery = ?", (name,))

    def _arrival(self, name: str) -> _Arrival | None:
        row = self._database.execute(
            "SELECT standing, version, head, base, history FROM arrivals WHERE gallery = ?", (name,)
        ).fetchone()
        return None if row is None else _Arrival(*row)

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
        bits: Bits,
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


def _arriving(name: str) -> str:
    """Under which name a gallery's chunks lie while it arrives; no gallery's id has a colon."""
    return f"{name}:arriving"
