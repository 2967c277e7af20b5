"""The messages of a guardian: what terminals, stations and the relay say to it, and what it says back.

Job: exact bytes to checked values and back. All bodies are CBOR (RFC 8949), problems are JSON (RFC 9457).
Invariants:
- a decoded message has exactly the fields of its class, each inside its limits (see `wire`);
- a signature is Ed25519 (RFC 8032) over the exact payload bytes that travel; payloads of different kinds
  have different fields, so none can pass for another;
- a share is sealed by HPKE (RFC 9180, X25519 / HKDF-SHA256 / AES-128-GCM) and bound to its gallery,
  guardian and request; the two guardians that get one component can tell that they got the same (`Share`);
- no error text and no repr holds content of a sealed or opened share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

import cbor2
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from facefare.guardian.errors import MessageError, RefusalCode
from facefare.guardian.wire import Check, Message, flag, integer, list_of, maybe, nested, octets, text

__all__ = [
    "GUARDIANS",
    "MAX_DIMENSIONS",
    "MAX_ENROL_BODY",
    "MAX_REFERENCES",
    "MAX_SMALL_BODY",
    "Confirmation",
    "ConfirmationPayload",
    "EnrolCall",
    "EnrolPayload",
    "EnrolRequest",
    "GalleryStatus",
    "GuardianIdentity",
    "MessageError",
    "OpenAnswer",
    "OpenPayload",
    "OpenRequest",
    "Operation",
    "Problem",
    "RefusalCode",
    "RowCall",
    "SealedFor",
    "SearchAnswer",
    "SearchCall",
    "SearchPayload",
    "SearchRequest",
    "Share",
    "Status",
    "component_sha256",
    "open_sealed",
    "seal",
    "sha256",
    "templates_in",
    "verify",
]

GUARDIANS = 3
WIRE_VERSION = 1
MAX_DIMENSIONS = 512
MAX_REFERENCES = 1000  # in one enrolment (a migration, or the demo); a payer's own has one
SALT_BYTES = 16
_HPKE_OVERHEAD = 48  # X25519 encapsulation (32) and GCM tag (16)
_SEAL_OVERHEAD = _HPKE_OVERHEAD + 2 * SALT_BYTES  # and the salts of two components
_MAX_SEALED_PROBE = 8 * MAX_DIMENSIONS + _SEAL_OVERHEAD
_MAX_SEALED_REFERENCES = MAX_REFERENCES * 8 * MAX_DIMENSIONS + _SEAL_OVERHEAD
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
    component_sha256: tuple[bytes, bytes, bytes]  # see `Share`

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
    component_sha256: tuple[bytes, bytes, bytes]  # see `Share`
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
        "sealed": list_of(octets(_SEAL_OVERHEAD, _MAX_SEALED_PROBE), GUARDIANS),
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
        "sealed": list_of(octets(_SEAL_OVERHEAD, _MAX_SEALED_REFERENCES), GUARDIANS),
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
        "sealed": octets(_SEAL_OVERHEAD, _MAX_SEALED_PROBE),
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
        "sealed": octets(_SEAL_OVERHEAD, _MAX_SEALED_REFERENCES),
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

    def verify(self, identity: GuardianIdentity) -> None:
        """Raise `MessageError` unless `identity` signed this as the guardian it names."""
        if self.fields.guardian != identity.index:
            raise MessageError(f"This confirmation is not from guardian {identity.index}.")
        *others, last = identity.valid
        for one in others:
            try:
                return verify(one.signing_key, self.signature, self.payload)
            except MessageError:
                continue
        return verify(last.signing_key, self.signature, self.payload)


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


# --- keys, seals, signatures ---


_SUCCESSION = b"facefare/succession/1"


@dataclass(frozen=True)
class GuardianIdentity:
    """What is public of one guardian.

    Attributes:
        index, name, host: which, whose, where.
        http_port, link_port: for relays, for the other guardians.
        certificate: PEM.
        signing_key, sealing_key: raw, 32 bytes: Ed25519, X25519.
        log_key, witness_key: verifier keys of its transparency log, and of it as a witness of the others'.
        public_port: plain HTTP, where anyone may read its log; 0: it publishes the log's folder otherwise.
        succession: the document of its next keys and the signature of the present signing key over it, once announced:
            until it has changed over, and after, whoever has this takes both.
    """

    index: int
    name: str
    host: str
    http_port: int
    link_port: int
    certificate: str
    signing_key: bytes
    sealing_key: bytes
    log_key: str = ""
    witness_key: str = ""
    public_port: int = 0
    succession: tuple[str, bytes] | None = None

    @property
    def successor(self) -> GuardianIdentity | None:
        """What it will be after the rotation of its keys, if one was announced."""
        return None if self.succession is None else GuardianIdentity.from_json(self.succession[0])

    @property
    def valid(self) -> tuple[GuardianIdentity, ...]:
        """This one, and the successor if there is one: either may be met."""
        successor = self.successor
        return (self,) if successor is None else (self, successor)

    def announce(self, successor: GuardianIdentity, key: Ed25519PrivateKey) -> GuardianIdentity:
        """The same with these next keys, signed by the present signing key."""
        document = successor.to_json()
        return replace(self, succession=(document, key.sign(_SUCCESSION + document.encode())))

    def fingerprint(self) -> str:
        """Of its keys, to be compared by phone: 32 hex digits in groups."""
        digits = sha256(replace(self, succession=None).to_json().encode()).hex()[:32]
        return " ".join(digits[n : n + 4] for n in range(0, 32, 4))

    @property
    def server_name(self) -> str:
        """The DNS name in its certificate."""
        return f"guardian-{self.index}.facefare.invalid"

    def to_json(self) -> str:
        """The identity file that guardians, terminals and the relay are given."""
        return json.dumps(
            {
                **{name: value for name, value in self.__dict__.items() if name != "succession"},
                "signing_key": self.signing_key.hex(),
                "sealing_key": self.sealing_key.hex(),
                **({} if self.succession is None else {"succession": [self.succession[0], self.succession[1].hex()]}),
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, document: str) -> GuardianIdentity:
        """An identity from its file; raises `MessageError`."""
        try:
            body = json.loads(document)
            if "succession" in body:
                next_document, signature = body["succession"]
                body["succession"] = (str(next_document), bytes.fromhex(signature))
            identity = cls(
                **{
                    **body,
                    "signing_key": bytes.fromhex(body["signing_key"]),
                    "sealing_key": bytes.fromhex(body["sealing_key"]),
                }
            )
            _INDEX(identity.index)
            octets(32)(identity.signing_key)
            octets(32)(identity.sealing_key)
        except (ValueError, KeyError, TypeError) as error:
            raise MessageError("This is no guardian identity file.") from error
        identity._check_succession()
        return identity

    def _check_succession(self) -> None:
        if self.succession is None:
            return
        document, signature = self.succession
        verify(self.signing_key, signature, _SUCCESSION + document.encode())
        successor = GuardianIdentity.from_json(document)
        stays = ("index", "log_key", "witness_key", "succession")
        if any(getattr(successor, name) != getattr(replace(self, succession=None), name) for name in stays):
            raise MessageError("A successor is the same guardian, with the same log, and has no successor itself.")


@dataclass(frozen=True, repr=False)
class Share:
    """What is sealed to guardian i: components i and i + 1 (modulo 3) of a secret, and the salts of their hashes.

    The hashes of the three components are signed with the request, so that neither a client nor one of a component's
    two holders can have the other one work on something else. The salt, 16 fresh bytes known to the holders alone,
    keeps the third guardian from trying out secrets on a hash.

    Attributes:
        own, following: uint32 little-endian, of one length.
        own_salt, following_salt: 16 bytes each.
    """

    own_salt: bytes
    following_salt: bytes
    own: bytes
    following: bytes

    def to_bytes(self) -> bytes:
        """Both salts, then both components."""
        return self.own_salt + self.following_salt + self.own + self.following

    @classmethod
    def from_bytes(cls, data: bytes) -> Share:
        """A share from what was sealed; raises `MessageError` where there is no component in it."""
        salts, components = data[: 2 * SALT_BYTES], data[2 * SALT_BYTES :]
        half, rest = divmod(len(components), 2)
        if half == 0 or rest:
            raise MessageError("A share is two salts of 16 bytes and two components of one length.")
        return cls(salts[:SALT_BYTES], salts[SALT_BYTES:], components[:half], components[half:])

    def fits(self, guardian: int, signed: Sequence[bytes]) -> bool:
        """Whether these are the components of guardian `guardian` under the three signed hashes."""
        return (
            component_sha256(self.own_salt, self.own) == signed[guardian]
            and component_sha256(self.following_salt, self.following) == signed[(guardian + 1) % GUARDIANS]
        )


def component_sha256(salt: bytes, component: bytes) -> bytes:
    """The hash under which a component is signed."""
    return sha256(b"facefare/component/1" + salt + component)


class SealedFor(StrEnum):
    """What a sealed share is for; a probe can't be opened as a reference."""

    SEARCH = "search"
    ENROL = "enrol"


_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


def _seal_info(use: SealedFor, gallery: str, guardian: int, request_id: bytes) -> bytes:
    return cbor2.dumps(["facefare-sealed-share-1", use.value, gallery, guardian, request_id])


def seal(share: bytes, identity: GuardianIdentity, use: SealedFor, gallery: str, request_id: bytes) -> bytes:
    """HPKE-seal `share` to one guardian, bound to the gallery and to the query or enrolment id (16 bytes)."""
    key = X25519PublicKey.from_public_bytes(identity.sealing_key)
    return _SUITE.encrypt(share, key, info=_seal_info(use, gallery, identity.index, request_id))


def open_sealed(
    sealed: bytes, key: X25519PrivateKey, guardian: int, use: SealedFor, gallery: str, request_id: bytes
) -> bytes:
    """The share inside `sealed`; raises `MessageError` if it was sealed to or for anything else."""
    try:
        return _SUITE.decrypt(sealed, key, info=_seal_info(use, gallery, guardian, request_id))
    except InvalidTag:
        raise MessageError(f"A sealed share can't be opened by guardian {guardian} for this request.") from None


def templates_in(sealed: bytes, dimensions: int) -> int:
    """How many templates (two components of D uint32 each) a sealed share of this length can hold; 1 at least."""
    return max(1, (len(sealed) - _SEAL_OVERHEAD) // (8 * dimensions))


def verify(public_key: bytes, signature: bytes, payload: bytes) -> None:
    """Raise `MessageError` unless `signature` is Ed25519 by `public_key` (32 bytes) over `payload`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, payload)
    except (InvalidSignature, ValueError):
        raise MessageError("The signature is not by the registered key over these bytes.") from None


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()
