"""What guardians say to each other between runs of the protocol: length-prefixed CBOR on the same links.

Invariant: no frame holds a share; what is not exactly the expected frame ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from facefare.guardian.errors import LinkError, MessageError, RefusalCode
from facefare.guardian.links import LinkChannel, Session
from facefare.guardian.messages import MAX_REFERENCES, Operation
from facefare.guardian.wire import Check, Message, flag, integer, list_of, maybe, nested, octets, text

MAX_BATCH = 16
"""Searches that one announcement may name."""
MAX_HISTORY = 50_000
"""Changes that a guardian may be behind and still catch up by itself."""

Frame = TypeVar("Frame", bound=Message)


@dataclass(frozen=True)
class Announcement(Message):
    """The leader: what is next. No keys: a heartbeat."""

    attempt: bytes
    gallery: str
    head: bytes
    version: int
    keys: tuple[bytes, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {
        "attempt": octets(16),
        "gallery": text(r"[A-Za-z0-9_-]{0,44}"),
        "head": octets(0, 32),
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
    """Each guardian: None or why not, for each announced request."""

    refusals: tuple[Refusal | None, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {"refusals": list_of(maybe(nested(Refusal)), 0, MAX_BATCH)}
    _LIMIT = 16384


@dataclass(frozen=True)
class Prepared(Message):
    """Each guardian: the head that committing will give, or None if its disk refused."""

    head: bytes | None

    _FIELDS: ClassVar[dict[str, Check]] = {"head": maybe(octets(32))}
    _LIMIT = 64


@dataclass(frozen=True)
class GalleryState(Message):
    """Where a guardian is with one gallery, and what it has prepared but not committed."""

    gallery: str
    version: int
    head: bytes
    prepared: bytes | None

    _FIELDS: ClassVar[dict[str, Check]] = {
        "gallery": text(r"[A-Za-z0-9_-]{1,44}"),
        "version": integer(0, 2**53),
        "head": octets(32),
        "prepared": maybe(octets(32)),
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

    _FIELDS: ClassVar[dict[str, Check]] = {
        "operation": text("|".join(Operation)),
        "row": integer(0, 2**31 - 1),
        "count": integer(1, MAX_REFERENCES),
        "digest": octets(32),
        "attempt": octets(16),
    }
    _LIMIT = 1024


@dataclass(frozen=True)
class History(Message):
    """To a guardian that is behind: the changes it lacks, in order."""

    entries: tuple[Entry, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {"entries": list_of(nested(Entry), 0, MAX_HISTORY)}
    _LIMIT = MAX_HISTORY * 256


@dataclass(frozen=True)
class HistoryFits(Message):
    """From the guardian that is behind: whether what it has is the beginning of that history."""

    fits: bool

    _FIELDS: ClassVar[dict[str, Check]] = {"fits": flag}
    _LIMIT = 64


@dataclass(frozen=True)
class States(Message):
    """Each guardian, at a session's start: what it has of every gallery."""

    galleries: tuple[GalleryState, ...]

    _FIELDS: ClassVar[dict[str, Check]] = {
        "galleries": list_of(nested(GalleryState), 0, 10_000),
    }
    _LIMIT = 4 << 20


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
