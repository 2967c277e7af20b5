"""What guardians say to each other between runs of the protocol: length-prefixed CBOR on the same links.

Invariant: no frame holds a share; what is not exactly the expected frame ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeVar

from facefare.audit.entries import MAX_ENTRY_BYTES
from facefare.audit.notes import MAX_NOTE_BYTES
from facefare.guardian.errors import LinkError, MessageError, RefusalCode
from facefare.guardian.links import LinkChannel, Session
from facefare.guardian.messages import MAX_REFERENCES, Operation
from facefare.guardian.wire import Check, Message, flag, integer, list_of, maybe, nested, octets, text

MAX_BATCH = 16
"""Searches that one announcement may name."""
MAX_CHUNKS = 4096
"""Of one gallery: `store.MAX_ROWS` rows in chunks of `store.CHUNK`."""
MAX_LOG_PART = 1024
"""Log entries in one frame."""
MAX_PART = 2048
"""Changes in one frame of a history."""

Frame = TypeVar("Frame", bound=Message)


class TaskKind(StrEnum):
    """What the leader may announce instead of requests."""

    REFRESH = "refresh"
    REFRESH_SUMS = "refresh-sums"
    TRANSFER = "transfer"
    REORDER = "reorder"


@dataclass(frozen=True)
class Task(Message):
    """Work on a gallery between requests: the chunk whose shares are refreshed, or the step of a transfer.

    "reorder" brings some more rows into a secret order; its part is 0.
    """

    kind: str
    part: int

    _FIELDS: ClassVar[dict[str, Check]] = {"kind": text("|".join(TaskKind)), "part": integer(0, 2**31)}
    _LIMIT = 64


@dataclass(frozen=True)
class Announcement(Message):
    """The leader: what is next, and whether the logs are signed after it. Nothing else in it: a heartbeat.

    `task`: instead of requests. `standing`: see `Gallery`.
    """

    attempt: bytes
    gallery: str
    standing: bytes
    version: int
    keys: tuple[bytes, ...]
    task: Task | None
    checkpoint: bool

    _FIELDS: ClassVar[dict[str, Check]] = {
        "checkpoint": flag,
        "task": maybe(nested(Task)),
        "attempt": octets(16),
        "gallery": text(r"[A-Za-z0-9_-]{0,44}"),
        "standing": octets(0, 32),
        "version": integer(0, 2**53),
        "keys": list_of(octets(32), 0, MAX_BATCH),
    }
    _LIMIT = 4096


@dataclass(frozen=True)
class Refusal(Message):
    """Why a guardian does not take part."""

    code: str
    detail: str

    _FIELDS: ClassVar[dict[str, Check]] = {"code": text("|".join(RefusalCode)), "detail": text(r".{0,300}")}
    _LIMIT = 1024


@dataclass(frozen=True)
class Verdict(Message):
    """Each guardian: None or why not, for each announced request; and what it wants the leader to do next.

    `recheck_permille`: how many of a thousand searches it wants to be made again in a secret order; the most counts.
    """

    refusals: tuple[Refusal | None, ...]
    wants_refresh: bool
    wants_checkpoint: bool
    recheck_permille: int

    _FIELDS: ClassVar[dict[str, Check]] = {
        "refusals": list_of(maybe(nested(Refusal)), 0, MAX_BATCH),
        "wants_refresh": flag,
        "wants_checkpoint": flag,
        "recheck_permille": integer(0, 1000),
    }
    _LIMIT = 16384


@dataclass(frozen=True)
class Prepared(Message):
    """Each guardian: the head (of a change) or mark (of a refresh) that committing gives; None: its disk refused."""

    head: bytes | None

    _FIELDS: ClassVar[dict[str, Check]] = {"head": maybe(octets(16, 32))}
    _LIMIT = 64


@dataclass(frozen=True)
class ChunkState(Message):
    """How often a chunk's shares were refreshed, and the hash over these refreshes."""

    number: int
    epoch: int
    mark: bytes

    _FIELDS: ClassVar[dict[str, Check]] = {
        "number": integer(0, MAX_CHUNKS),
        "epoch": integer(0, 2**31),
        "mark": octets(16),
    }
    _LIMIT = 128


@dataclass(frozen=True)
class SumState(Message):
    """Where a guardian's accumulators of a gallery are, and its clock (ms since 1970)."""

    gallery: str
    era: int
    taken: int
    undoable: bool
    now: int

    _FIELDS: ClassVar[dict[str, Check]] = {
        "gallery": text(r"[A-Za-z0-9_-]{1,44}"),
        "era": integer(0, 2**62),
        "taken": integer(0, 2**62),
        "undoable": flag,
        "now": integer(0, 2**53),
    }
    _LIMIT = 128


@dataclass(frozen=True)
class ArrivalState(Message):
    """How much a guardian has of a gallery that is on its way to it; see `store.Arriving`."""

    standing: bytes
    history: int
    chunks: tuple[int, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {
        "standing": octets(32),
        "history": integer(0, 2**53),
        "chunks": list_of(integer(0, MAX_CHUNKS), 0, MAX_CHUNKS),
    }
    _LIMIT = 16384


@dataclass(frozen=True)
class GalleryState(Message):
    """Where a guardian is with one gallery, and what it has prepared but not committed, or not received whole."""

    gallery: str
    version: int
    head: bytes
    rows: int
    prepared: bytes | None
    arriving: ArrivalState | None
    chunks: tuple[ChunkState, ...]
    prepared_refresh: ChunkState | None

    _FIELDS: ClassVar[dict[str, Check]] = {
        "gallery": text(r"[A-Za-z0-9_-]{1,44}"),
        "version": integer(0, 2**53),
        "head": octets(32),
        "rows": integer(0, 2**31 - 1),
        "prepared": maybe(octets(32)),
        "arriving": maybe(nested(ArrivalState)),
        "chunks": list_of(nested(ChunkState), 0, MAX_CHUNKS),
        "prepared_refresh": maybe(nested(ChunkState)),
    }
    _LIMIT = 1024


@dataclass(frozen=True)
class Entry(Message):
    """One committed change in a gallery's history; no shares."""

    operation: str
    row: int
    count: int
    digest: bytes
    attempt: bytes
    key: bytes

    _FIELDS: ClassVar[dict[str, Check]] = {
        "operation": text("|".join(Operation)),
        "row": integer(0, 2**31 - 1),
        "count": integer(1, MAX_REFERENCES),
        "digest": octets(32),
        "attempt": octets(16),
        "key": octets(0, 32),
    }
    _LIMIT = 1024


@dataclass(frozen=True)
class Dated(Message):
    """A change with the version and head it made, and when (ms since 1970)."""

    version: int
    head: bytes
    time: int
    entry: Entry

    _FIELDS: ClassVar[dict[str, Check]] = {
        "version": integer(1, 2**53),
        "head": octets(32),
        "time": integer(0, 2**53),
        "entry": nested(Entry),
    }
    _LIMIT = 1024


@dataclass(frozen=True)
class HistoryPart(Message):
    """From both others to a guardian that lacks a whole gallery: the changes of some versions that they still have."""

    changes: tuple[Dated, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {"changes": list_of(nested(Dated), 0, MAX_PART)}
    _LIMIT = MAX_PART * 384


@dataclass(frozen=True)
class ChunkRows(Message):
    """From both others to a guardian that lacks a whole gallery: which rows of a chunk are used, live, deleted."""

    used: bytes
    live: bytes
    deleted: bytes

    _FIELDS: ClassVar[dict[str, Check]] = {"used": octets(512), "live": octets(512), "deleted": octets(512)}
    _LIMIT = 2048


@dataclass(frozen=True)
class Kept(Message):
    """From that guardian: whether it has the part durably."""

    kept: bool

    _FIELDS: ClassVar[dict[str, Check]] = {"kept": flag}
    _LIMIT = 64


@dataclass(frozen=True)
class History(Message):
    """To a guardian that is behind: the changes it lacks, in order."""

    entries: tuple[Entry, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {"entries": list_of(nested(Entry), 0, MAX_PART)}
    _LIMIT = MAX_PART * 256


@dataclass(frozen=True)
class HistoryFits(Message):
    """Whether the history of the guardian that is behind begins the others', as far as the sender knows."""

    fits: bool

    _FIELDS: ClassVar[dict[str, Check]] = {"fits": flag}
    _LIMIT = 64


@dataclass(frozen=True)
class SumStates(Message):
    """Each guardian, at a session's start: where the accumulators of each gallery are."""

    sums: tuple[SumState, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {"sums": list_of(nested(SumState), 0, 10_000)}
    _LIMIT = 4 << 20


@dataclass(frozen=True)
class States(Message):
    """Each guardian, at a session's start: what it has of every gallery."""

    galleries: tuple[GalleryState, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {
        "galleries": list_of(nested(GalleryState), 0, 10_000),
    }
    _LIMIT = 64 << 20


# --- the transparency logs ---


@dataclass(frozen=True)
class LogState(Message):
    """Each guardian, at a session's start: its log's size and root."""

    size: int
    root: bytes

    _FIELDS: ClassVar[dict[str, Check]] = {"size": integer(0, 2**53), "root": octets(32)}
    _LIMIT = 128


@dataclass(frozen=True)
class LogPart(Message):
    """To a guardian that lacks entries: the next ones, and the root over all up to them."""

    entries: tuple[bytes, ...]
    root: bytes

    _FIELDS: ClassVar[dict[str, Check]] = {
        "entries": list_of(octets(1, MAX_ENTRY_BYTES), 1, MAX_LOG_PART),
        "root": octets(32),
    }
    _LIMIT = MAX_LOG_PART * (MAX_ENTRY_BYTES + 8) + 128


@dataclass(frozen=True)
class LogKnown(Message):
    """To each peer: up to which size this guardian has co-signed that peer's log."""

    size: int

    _FIELDS: ClassVar[dict[str, Check]] = {"size": integer(0, 2**53)}
    _LIMIT = 64


@dataclass(frozen=True)
class LogNote(Message):
    """To each peer: the own checkpoint and that it extends what the peer co-signed; None: it could not be signed."""

    note: bytes | None
    proof: tuple[bytes, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {
        "note": maybe(octets(1, MAX_NOTE_BYTES)),
        "proof": list_of(octets(32), 0, 128),
    }
    _LIMIT = MAX_NOTE_BYTES + 8192


@dataclass(frozen=True)
class LogCosignature(Message):
    """To each peer: a signature line for its checkpoint, or None: refused."""

    line: str | None

    _FIELDS: ClassVar[dict[str, Check]] = {"line": maybe(text(r"[^\n]{1,1000}"))}
    _LIMIT = 4096


def send(channel: LinkChannel, frame: Message) -> None:
    """Queue a frame."""
    body = frame.to_bytes()
    channel.send(len(body).to_bytes(4, "big") + body)


def receive(channel: LinkChannel, kind: type[Frame]) -> Frame:
    """The next frame, which must be of that kind; raises `LinkError`."""
    length = bytearray(4)
    channel.receive_into(memoryview(length))
    size = int.from_bytes(length, "big")
    if size > kind._LIMIT:
        raise LinkError(channel.peer, f"Guardian {channel.peer} is out of step.")
    body = bytearray(size)
    channel.receive_into(memoryview(body))
    try:
        return kind.from_bytes(bytes(body))
    except MessageError:
        raise LinkError(channel.peer, f"Guardian {channel.peer} is out of step.") from None


def exchange(session: Session, frame: Frame) -> dict[int, Frame]:
    """Send a frame to both peers and get theirs, by index."""
    for channel in session.channels.values():
        send(channel, frame)
    return {peer: receive(channel, type(frame)) for peer, channel in session.channels.items()}
