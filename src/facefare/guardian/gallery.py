"""One gallery of a guardian in memory: its shares, which rows may match, and the history that made it so.

Invariants:
- a gallery's version is the number of its committed changes; its `head` is a hash chain over them, so two
  guardians with one head have had the same changes in the same order;
- shares are refreshed chunk by chunk; a chunk's `mark` is a hash over all its refreshes, so two guardians with one
  mark have shares that fit together;
- a row number is used once for ever: a deleted row is never enrolled again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cbor2
import numpy as np
from numpy.typing import NDArray

from facefare.guardian.errors import Refused
from facefare.guardian.messages import GalleryStatus, Operation, RefusalCode, sha256
from facefare.guardian.registry import GalleryDefinition

CHUNK = 4096  # rows in a blob; a multiple of 64
MAX_ROWS = 1 << 24
_MAX_HOLE = 1 << 16  # rows that one enrolment may skip: bounds the memory that a wrong row number costs
_GROWTH = 1.1


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
class Record:
    """A committed change as the history has it: the version and head it made, and when (ms since 1970)."""

    version: int
    head: bytes
    time: int
    change: Change


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


class Bits(NamedTuple):
    """Bitmaps of a gallery or a chunk, uint64 each, bit n % 64 of word n // 64: rows used, live, deleted."""

    used: NDArray[np.uint64]
    live: NDArray[np.uint64]
    deleted: NDArray[np.uint64]


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
    def enrolled(self) -> NDArray[np.uint64]:
        """Which rows hold a payer's reference, paused or not; as `live`."""
        return (self._used & ~self._deleted)[: -(-self.rows // 64)]

    @property
    def standing(self) -> bytes:
        """A hash over history and refreshes: guardians with the same one may search together."""
        return standing_of(self.head, self.chunks.values())

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

    def after(self, change: Change) -> Bits:
        """The bitmaps as they will be after the change; an enrolment's rows are reserved already."""
        used, live, deleted = self._used.copy(), self._live.copy(), self._deleted.copy()
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
        return Bits(used, live, deleted)

    def take(self, bits: Bits, first: int, shares: NDArray[np.uint16] | None) -> None:
        """Let these bitmaps count, and these shares from row `first` on, if there are any."""
        if shares is not None:
            self._shares[first : first + len(shares)] = shares
        self._used, self._live, self._deleted = bits
        self.rows = _highest(self._used)

    def replace(self, chunk: Refreshed, shares: NDArray[np.uint16]) -> None:
        """Take a chunk's shares of another epoch."""
        first = chunk.number * CHUNK
        self._shares[first : first + len(shares)] = shares
        self.chunks[chunk.number] = chunk

    def put(self, chunk: Refreshed, bits: Bits, shares: NDArray[np.uint16]) -> None:
        """Take a whole chunk: bitmaps (64,) uint64 each and shares (CHUNK, D + 2)."""
        self.reserve((chunk.number + 1) * CHUNK)
        words = slice(chunk.number * CHUNK // 64, (chunk.number + 1) * CHUNK // 64)
        for part, of_chunk in zip((self._used, self._live, self._deleted), bits, strict=True):
            part[words] = of_chunk
        self.replace(chunk, shares)
        self.rows = _highest(self._used)

    def chunk(self, number: int) -> tuple[Bits, NDArray[np.uint16]]:
        """A whole chunk that there is, as `put` takes it."""
        words = slice(number * CHUNK // 64, (number + 1) * CHUNK // 64)
        bits = Bits(*(part[words] for part in (self._used, self._live, self._deleted)))
        return bits, self._shares[number * CHUNK : (number + 1) * CHUNK]

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
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


def standing_of(head: bytes, chunks: Iterable[Refreshed]) -> bytes:
    """See `Gallery.standing`."""
    marks = b"".join(
        chunk.number.to_bytes(4, "big") + chunk.mark for chunk in sorted(chunks, key=lambda chunk: chunk.number)
    )
    return sha256(head + marks)


def columns_of(change: Change) -> tuple[str, int, int, bytes, bytes, bytes]:
    """The change as the store and the hash chain take it."""
    return change.operation.value, change.row, change.count, change.digest, change.attempt, change.key


def head_after(head: bytes, version: int, change: Change) -> bytes:
    """The head of a history that goes on with this change, which makes `version`."""
    return sha256(head + cbor2.dumps([version, *columns_of(change)]))


def _bit(bits: NDArray[np.uint64], n: int) -> bool:
    word = n // 64
    return word < len(bits) and bool((int(bits[word]) >> (n % 64)) & 1)


def _highest(bits: NDArray[np.uint64]) -> int:
    """One more than the highest set bit."""
    words = np.flatnonzero(bits)
    return 0 if not len(words) else int(words[-1]) * 64 + int(bits[words[-1]]).bit_length()
