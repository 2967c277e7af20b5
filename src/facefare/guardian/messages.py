"""The messages of a guardian: what terminals, stations and the relay say to it, and what it says back.

Job: exact bytes to checked values and back. All bodies are CBOR (RFC 8949), problems are JSON (RFC 9457).
Invariants:
- a decoded message has exactly the fields of its class, each inside its limits (see `wire`);
- a signature is Ed25519 (RFC 8032) over the exact payload bytes that travel; payloads of different kinds
  have different fields, so none can pass for another;
- no error text and no repr holds content of a sealed share (`sealing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.guardian.errors import MessageError, RefusalCode
from facefare.guardian.wire import Check, Message, flag, integer, list_of, maybe, nested, octets, text
from facefare.publickeys import ed25519

__all__ = [
    "GUARDIANS",
    "MAX_DIMENSIONS",
    "MAX_ENROL_BODY",
    "MAX_REFERENCES",
    "MAX_SMALL_BODY",
    "SALT_BYTES",
    "SEAL_OVERHEAD",
    "Confirmation",
    "ConfirmationPayload",
    "EnrolCall",
    "EnrolPayload",
    "EnrolRequest",
    "GalleryStatus",
    "MessageError",
    "OpenAnswer",
    "OpenPayload",
    "OpenRequest",
    "Operation",
    "Problem",
    "RefusalCode",
    "RowCall",
    "SearchAnswer",
    "SearchCall",
    "SearchPayload",
    "SearchRequest",
    "Status",
    "sha256",
    "verify",
]

GUARDIANS = 3
WIRE_VERSION = 1
MAX_DIMENSIONS = 512
MAX_REFERENCES = 1000  # in one enrolment (a migration, or the demo); a payer's own has one
SALT_BYTES = 16
_HPKE_OVERHEAD = 48  # X25519 encapsulation (32) and GCM tag (16)
SEAL_OVERHEAD = _HPKE_OVERHEAD + 2 * SALT_BYTES  # and the salts of two components
_MAX_SEALED_PROBE = 8 * MAX_DIMENSIONS + SEAL_OVERHEAD
_MAX_SEALED_REFERENCES = MAX_REFERENCES * 8 * MAX_DIMENSIONS + SEAL_OVERHEAD
_MAX_PAYLOAD = 1024
MAX_SMALL_BODY = 3 * _MAX_SEALED_PROBE + 2048
MAX_ENROL_BODY = _MAX_SEALED_REFERENCES + 2048
_MAX_ENROL_REQUEST = 3 * _MAX_SEALED_REFERENCES + 2048
_MAX_ROW = 2**31 - 1
_MAX_VERSION = 2**53 - 1  # exact in JavaScript
_MAX_TIME_MS = 2**53 - 1

_VERSION = integer(0, _MAX_VERSION)
_ROW = integer(0, _MAX_ROW)
_TIME = integer(0, _MAX_TIME_MS)
_WIRE = integer(WIRE_VERSION, WIRE_VERSION)
_GALLERY = text(r"gal_[A-Za-z0-9_-]{1,40}")
_TERMINAL = text(r"trm_[A-Za-z0-9_-]{1,40}")
_STATION = text(r"stn_[A-Za-z0-9_-]{1,40}")
_MODEL = text(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = octets(32)
_SIGNATURE = octets(64)
_ID = octets(16)
_PAYLOAD = octets(1, _MAX_PAYLOAD)
_THRESHOLD = integer(-32_767, -1)
_INDEX = integer(0, GUARDIANS - 1)

REGISTRY_IDS: Mapping[str, Check] = {"gallery": _GALLERY, "terminal": _TERMINAL, "station": _STATION}


# --- signed payloads ---


@dataclass(frozen=True)
class SearchPayload(Message):
    """What a terminal signs: whom it asks, when, what for, of which embedder, and hashes of the sealed shares."""

    v: int
    gallery: str
    model: str
    terminal: str
    purpose: str
    query_id: bytes
    issued_at: int  # ms since 1970
    sealed_sha256: tuple[bytes, bytes, bytes]
    component_sha256: tuple[bytes, bytes, bytes]  # see `sealing.Share`

    _FIELDS = {  # noqa: RUF012
        "v": _WIRE,
        "gallery": _GALLERY,
        "model": _MODEL,
        "terminal": _TERMINAL,
        "purpose": text(r"[a-z-]{1,32}"),
        "query_id": _ID,
        "issued_at": _TIME,
        "sealed_sha256": list_of(_SHA256, GUARDIANS),
        "component_sha256": list_of(_SHA256, GUARDIANS),
    }
    _LIMIT = _MAX_PAYLOAD


@dataclass(frozen=True)
class EnrolPayload(Message):
    """What an enrolment station signs, over the hash of the consent receipt(s) too.

    One such request is used twice: to look for the same face among those enrolled already (a `SearchCall` to
    /v1/checks, once), and to enrol. So nothing else can be looked for than what is to be enrolled.
    `payer_key`, for an enrolment of one payer: the Ed25519 key by which that payer may have the own row's
    accumulator opened (`OpenPayload`). Made for this gallery only, so that it links nothing.
    """

    v: int
    gallery: str
    model: str
    station: str
    consent_sha256: bytes
    enrolment_id: bytes
    issued_at: int  # ms since 1970
    sealed_sha256: tuple[bytes, bytes, bytes]
    component_sha256: tuple[bytes, bytes, bytes]  # see `sealing.Share`
    payer_key: bytes | None = None

    _FIELDS = {  # noqa: RUF012
        "v": _WIRE,
        "gallery": _GALLERY,
        "model": _MODEL,
        "station": _STATION,
        "consent_sha256": _SHA256,
        "enrolment_id": _ID,
        "issued_at": _TIME,
        "sealed_sha256": list_of(_SHA256, GUARDIANS),
        "component_sha256": list_of(_SHA256, GUARDIANS),
        "payer_key": octets(32),
    }
    _OPTIONAL = frozenset({"payer_key"})
    _LIMIT = _MAX_PAYLOAD


@dataclass(frozen=True)
class OpenPayload(Message):
    """What a payer signs to have the own row's accumulator opened, sealed to the one-time X25519 key `recipient`."""

    v: int
    gallery: str
    row: int
    recipient: bytes
    opening_id: bytes
    issued_at: int  # ms since 1970

    _FIELDS = {  # noqa: RUF012
        "v": _WIRE,
        "gallery": _GALLERY,
        "row": _ROW,
        "recipient": octets(32),
        "opening_id": _ID,
        "issued_at": _TIME,
    }
    _LIMIT = _MAX_PAYLOAD


# --- from a terminal or a station to the wallet ---


@dataclass(frozen=True, repr=False)
class SearchRequest(Message):
    """A terminal's request: a signed payload and one sealed share for each guardian."""

    payload: bytes
    signature: bytes
    sealed: tuple[bytes, bytes, bytes]

    _FIELDS = {  # noqa: RUF012
        "payload": _PAYLOAD,
        "signature": _SIGNATURE,
        "sealed": list_of(octets(SEAL_OVERHEAD, _MAX_SEALED_PROBE), GUARDIANS),
    }
    _LIMIT = MAX_SMALL_BODY

    def fields(self) -> SearchPayload:
        """The signed fields, checked for form only: no signature was verified."""
        return SearchPayload.from_bytes(self.payload)


@dataclass(frozen=True, repr=False)
class EnrolRequest(Message):
    """A station's request: each sealed share holds components of 1 to 1,000 references, (n, D)."""

    payload: bytes
    signature: bytes
    sealed: tuple[bytes, bytes, bytes]

    _FIELDS = {  # noqa: RUF012
        "payload": _PAYLOAD,
        "signature": _SIGNATURE,
        "sealed": list_of(octets(SEAL_OVERHEAD, _MAX_SEALED_REFERENCES), GUARDIANS),
    }
    _LIMIT = _MAX_ENROL_REQUEST

    def fields(self) -> EnrolPayload:
        """The signed fields, checked for form only: no signature was verified."""
        return EnrolPayload.from_bytes(self.payload)


# --- from the relay to one guardian ---


@dataclass(frozen=True, repr=False)
class SearchCall(Message):
    """POST /v1/searches: this guardian's part of a search, the gallery version and threshold asked for.

    POST /v1/checks takes the same, with a station's `EnrolPayload` and its sealed share of one template.
    """

    payload: bytes
    signature: bytes
    sealed: bytes
    version: int
    threshold: int

    _FIELDS = {  # noqa: RUF012
        "payload": _PAYLOAD,
        "signature": _SIGNATURE,
        "sealed": octets(SEAL_OVERHEAD, _MAX_SEALED_PROBE),
        "version": _VERSION,
        "threshold": _THRESHOLD,
    }
    _LIMIT = MAX_SMALL_BODY


@dataclass(frozen=True, repr=False)
class EnrolCall(Message):
    """POST /v1/enrolments: this guardian's part, the first row to fill and the version it is based on."""

    payload: bytes
    signature: bytes
    sealed: bytes
    row: int
    version: int

    _FIELDS = {  # noqa: RUF012
        "payload": _PAYLOAD,
        "signature": _SIGNATURE,
        "sealed": octets(SEAL_OVERHEAD, _MAX_SEALED_REFERENCES),
        "row": _ROW,
        "version": _VERSION,
    }
    _LIMIT = MAX_ENROL_BODY


@dataclass(frozen=True)
class RowCall(Message):
    """POST /v1/deletions, /v1/pauses, /v1/resumptions: one row, and the version the change is based on."""

    gallery: str
    row: int
    version: int

    _FIELDS = {"gallery": _GALLERY, "row": _ROW, "version": _VERSION}  # noqa: RUF012
    _LIMIT = MAX_SMALL_BODY


@dataclass(frozen=True, repr=False)
class OpenRequest(Message):
    """A payer's request to open the own row; the relay passes it on as it is: POST /v1/openings."""

    payload: bytes
    signature: bytes

    _FIELDS = {"payload": _PAYLOAD, "signature": _SIGNATURE}  # noqa: RUF012
    _LIMIT = MAX_SMALL_BODY

    def fields(self) -> OpenPayload:
        """The signed fields, checked for form only: no signature was verified."""
        return OpenPayload.from_bytes(self.payload)


# --- from a guardian ---


class Operation(StrEnum):
    """A change of a gallery."""

    ENROL = "enrol"
    DELETE = "delete"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, repr=False)
class SearchAnswer(Message):
    """This guardian's part of one answer, and of its recheck if there was one; three are combined by the relay."""

    share: bytes
    recheck: bytes | None = None

    _FIELDS = {"share": octets(1, 4096), "recheck": octets(48)}  # noqa: RUF012
    _OPTIONAL = frozenset({"recheck"})
    _LIMIT = MAX_SMALL_BODY


@dataclass(frozen=True, repr=False)
class OpenAnswer(Message):
    """This guardian's components of one row, sealed to the payer, and signed (`audit.openings`)."""

    sealed: bytes
    signature: bytes

    _FIELDS = {"sealed": octets(_HPKE_OVERHEAD, 512), "signature": _SIGNATURE}  # noqa: RUF012
    _LIMIT = MAX_SMALL_BODY


@dataclass(frozen=True)
class ConfirmationPayload(Message):
    """What a guardian signs: rows `row` to `row + count - 1` changed at `time` (ms since 1970), making `version`."""

    v: int
    gallery: str
    row: int
    count: int
    version: int
    operation: str
    time: int
    guardian: int

    _FIELDS = {  # noqa: RUF012
        "v": _WIRE,
        "gallery": _GALLERY,
        "row": _ROW,
        "count": integer(1, MAX_REFERENCES),
        "version": _VERSION,
        "operation": text("|".join(Operation)),
        "time": _TIME,
        "guardian": _INDEX,
    }
    _LIMIT = _MAX_PAYLOAD


@dataclass(frozen=True)
class Confirmation(Message):
    """A guardian's signed word that a change is durable there. Keep the bytes: they are the proof."""

    payload: bytes
    signature: bytes

    _FIELDS = {"payload": _PAYLOAD, "signature": _SIGNATURE}  # noqa: RUF012
    _LIMIT = MAX_SMALL_BODY

    @classmethod
    def sign(
        cls,
        key: Ed25519PrivateKey,
        *,
        gallery: str,
        row: int,
        count: int,
        version: int,
        operation: Operation,
        time: int,
        guardian: int,
    ) -> Confirmation:
        """Say that rows `row` to `row + count - 1` changed at `time` (ms since 1970)."""
        payload = ConfirmationPayload(
            v=WIRE_VERSION,
            gallery=gallery,
            row=row,
            count=count,
            version=version,
            operation=operation.value,
            time=time,
            guardian=guardian,
        ).to_bytes()
        return cls(payload=payload, signature=key.sign(payload))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fields", ConfirmationPayload.from_bytes(self.payload))

    @property
    def fields(self) -> ConfirmationPayload:
        """gallery, row, count, version, operation, time (ms), guardian: as signed."""
        fields: ConfirmationPayload = object.__getattribute__(self, "_fields")
        return fields


@dataclass(frozen=True)
class GalleryStatus(Message):
    """One gallery as a guardian has it. `head` is the hash of its whole history, equal at all three."""

    gallery: str
    kind: str
    version: int
    head: bytes
    rows: int  # rows ever used, holes included: the next free row
    live: int
    epoch: int  # how often all of its shares were refreshed, at least

    _FIELDS = {  # noqa: RUF012
        "gallery": _GALLERY,
        "kind": text("live|demo"),
        "version": _VERSION,
        "head": _SHA256,
        "rows": _ROW,
        "live": _ROW,
        "epoch": _VERSION,
    }
    _LIMIT = MAX_SMALL_BODY


@dataclass(frozen=True)
class Status(Message):
    """GET /v1/status: whether this guardian is in session with both others (else which one it misses)."""

    guardian: int
    connected: bool
    missing: int | None
    galleries: tuple[GalleryStatus, ...]

    _FIELDS = {  # noqa: RUF012
        "guardian": _INDEX,
        "connected": flag,
        "missing": maybe(_INDEX),
        "galleries": list_of(nested(GalleryStatus), 0, 10_000),
    }
    _LIMIT = 4 << 20


@dataclass(frozen=True)
class Problem:
    """A problem detail (RFC 9457) of a guardian; `code` is a `RefusalCode`, or one of the three below."""

    status: int
    code: str
    detail: str
    guardian: int | None = None

    MALFORMED: ClassVar[str] = "malformed-message"
    UNREACHABLE: ClassVar[str] = "guardian-unreachable"
    FORBIDDEN: ClassVar[str] = "not-a-relay"

    MEDIA_TYPE: ClassVar[str] = "application/problem+json"
    _PREFIX: ClassVar[str] = "urn:facefare:problem:"

    def to_bytes(self) -> bytes:
        """JSON bytes for the response body."""
        body: dict[str, object] = {
            "type": self._PREFIX + self.code,
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
        }
        if self.guardian is not None:
            body["guardian"] = self.guardian
        return json.dumps(body).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Problem:
        """A problem from a response body; raises `MessageError`."""
        try:
            body = json.loads(data[:MAX_SMALL_BODY])
            kind, guardian = body["type"], body.get("guardian")
            if not kind.startswith(cls._PREFIX):
                raise ValueError
            return cls(
                status=int(body["status"]),
                code=kind.removeprefix(cls._PREFIX),
                detail=str(body["detail"]),
                guardian=None if guardian is None else _INDEX(guardian),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MessageError("The answer is no problem detail.") from error


# --- signatures ---


def verify(public_key: bytes, signature: bytes, payload: bytes) -> None:
    """Raise `MessageError` unless `signature` is Ed25519 by `public_key` (32 bytes) over `payload`."""
    try:
        ed25519(public_key).verify(signature, payload)
    except (InvalidSignature, ValueError):
        raise MessageError("The signature is not by the registered key over these bytes.") from None


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()
