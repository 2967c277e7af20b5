"""What operator, station and terminal sign in the payer-held key profile: exact bytes and checked values.

A document is a `Message` (strict CBOR, see `guardian.wire`) inside a `Signed`; the signature is Ed25519 over
the exact payload bytes. Field `kind` differs for each document, so none can pass for another. What a device
signs, and what it carries in a code, is an array that starts with its own context instead, to be short.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from facefare.guardian.errors import MessageError
from facefare.guardian.wire import Message, flag, integer, list_of, maybe, octets, text
from facefare.identification.held.errors import BadSignature, MalformedCode
from facefare.publickeys import ed25519

MAX_COUNTER = 2**32 - 1
MAX_SECONDS = 2**32 - 1
MAX_DAY = 2**16 - 1
MAX_DENIED = 200_000
DAY = 86_400  # seconds

_MAX_MS = 2**53 - 1  # exact in JavaScript
_V = integer(1, 1)
_OPERATOR = octets(8)
_KEY = octets(32)
_KEY_ID = octets(8)
_HASH = octets(32)
_SIGNATURE = octets(64)
_DEVICE = octets(16)
_TERMINAL = text(r"trm_[A-Za-z0-9_-]{1,40}")
_STATION = text(r"stn_[A-Za-z0-9_-]{1,40}")
_MODEL = text(r"[A-Za-z0-9._-]{1,64}")
_SECONDS = integer(0, MAX_SECONDS)
_COUNTER = integer(1, MAX_COUNTER)

Document = TypeVar("Document", bound=Message)


def operator_id(operator_key: Ed25519PublicKey) -> bytes:
    """8 bytes that name an operator: the start of the SHA-256 of its raw public key."""
    return hashlib.sha256(operator_key.public_bytes_raw()).digest()[:8]


def key_id(public_key: bytes) -> bytes:
    """8 bytes that name a terminal's raw X25519 public key, in the same way."""
    return hashlib.sha256(public_key).digest()[:8]


def device_tag(device_key: bytes) -> bytes:
    """16 bytes that name a device by its raw Ed25519 public key: what a deny list holds."""
    return hashlib.sha256(device_key).digest()[:16]


def device_id(device_key: bytes) -> str:
    """The same as text: `dev_` and 26 letters and digits."""
    return "dev_" + base64.b32encode(device_tag(device_key)).decode().rstrip("=").lower()


def query_id(what: str, device_id: object, counter: object) -> bytes:
    """16 bytes that name what was done with a device's code: `PAYMENT`, or a later attempt to settle it."""
    return hashlib.sha256(f"{what}\n{device_id}\n{counter}".encode()).digest()[:16]


PAYMENT = "payment"


def commitment(reference: bytes, salt: bytes) -> bytes:
    """SHA-256 of salt (16 bytes) and reference (D bytes): binds a device to one reference and tells nothing of it."""
    return hashlib.sha256(b"facefare/held-reference/1" + salt + reference).digest()


def seconds(now: datetime) -> int:
    """Whole seconds since 1970."""
    if now.tzinfo is None:
        raise ValueError("A time needs its time zone.")
    return int(now.timestamp())


@dataclass(frozen=True, repr=False)
class Signed(Message):
    """A document's exact bytes with the signature over them."""

    payload: bytes
    signature: bytes

    _FIELDS = {"payload": octets(1, 16 * MAX_DENIED + 4096), "signature": _SIGNATURE}  # noqa: RUF012
    _LIMIT = 16 * MAX_DENIED + 8192

    @classmethod
    def sign(cls, document: Message, key: Ed25519PrivateKey) -> Self:
        """Sign a document."""
        payload = document.to_bytes()
        return cls(payload, key.sign(payload))

    def verified(self, kind: type[Document], key: Ed25519PublicKey) -> Document:
        """The document, once its signature was found to be by `key`. Raises BadSignature, MalformedCode."""
        check(key.public_bytes_raw(), self.signature, self.payload)
        return decoded(kind, self.payload)


def decoded(kind: type[Document], data: bytes) -> Document:
    """A document or envelope from bytes; raises MalformedCode."""
    try:
        return kind.from_bytes(data)
    except MessageError as error:
        raise MalformedCode(str(error)) from error


def check(public_key: bytes, signature: bytes, payload: bytes) -> None:
    """Raise BadSignature unless `signature` (64 bytes) is Ed25519 by `public_key` (32 bytes) over `payload`."""
    try:
        ed25519(public_key).verify(signature, payload)
    except (InvalidSignature, ValueError):
        raise BadSignature("The signature is not by the key that is named.") from None


# --- signed by the operator ---


@dataclass(frozen=True)
class Announcement(Message):
    """A terminal's current key to seal codes to: raw X25519, valid in the given seconds since 1970."""

    v: int
    kind: str
    operator: bytes
    terminal: str
    model: str
    public_key: bytes
    not_before: int
    not_after: int

    _FIELDS = {  # noqa: RUF012
        "v": _V,
        "kind": text("terminal-key"),
        "operator": _OPERATOR,
        "terminal": _TERMINAL,
        "model": _MODEL,
        "public_key": _KEY,
        "not_before": _SECONDS,
        "not_after": _SECONDS,
    }
    _LIMIT = 512


@dataclass(frozen=True)
class DenyList(Message):
    """Devices not to be accepted offline: their tags (16 bytes each), in ascending order.

    `sequence` grows with every change of any device's state, so an older list can't pass for a newer one.
    A device whose pass has run out need not be on it.
    """

    v: int
    kind: str
    operator: bytes
    sequence: int
    issued_at: int
    devices: tuple[bytes, ...]

    _FIELDS = {  # noqa: RUF012
        "v": _V,
        "kind": text("deny-list"),
        "operator": _OPERATOR,
        "sequence": integer(0, _MAX_MS),
        "issued_at": _SECONDS,
        "devices": list_of(_DEVICE, 0, MAX_DENIED),
    }
    _LIMIT = 17 * MAX_DENIED + 1024


def pass_payload(operator: bytes, device_key: bytes, committed: bytes, *, self_made: bool, through_day: int) -> bytes:
    """What the operator signs for a registered device; the code carries only what a terminal can't work out.

    `through_day` is the last day (UTC, days since 1970) on which a terminal takes it.
    """
    return cbor2.dumps(["facefare/device-pass/1", operator, device_key, committed, int(self_made), through_day])


# --- signed by the device ---


def statement(operator: bytes, key_id: bytes, committed: bytes, counter: int, expires: int) -> bytes:
    """What a device signs to pay: at this operator's terminal with this key, once, until `expires` (seconds)."""
    return cbor2.dumps(["facefare/held-payment/1", operator, key_id, committed, counter, expires])


def registration(operator: bytes, consent_sha256: bytes, committed: bytes) -> bytes:
    """What a device signs to be registered: proves that it has its key, for the payer of this consent."""
    return cbor2.dumps(["facefare/device-registration/1", operator, consent_sha256, committed])


# --- signed by an enrolment station ---


@dataclass(frozen=True)
class Attestation(Message):
    """A station made this reference from a live person who consented, for this device alone."""

    v: int
    kind: str
    operator: bytes
    station: str
    device_key: bytes
    commitment: bytes
    consent_sha256: bytes
    model: str
    made_at: int

    _FIELDS = {  # noqa: RUF012
        "v": _V,
        "kind": text("held-reference"),
        "operator": _OPERATOR,
        "station": _STATION,
        "device_key": _KEY,
        "commitment": _HASH,
        "consent_sha256": _HASH,
        "model": _MODEL,
        "made_at": _SECONDS,
    }
    _LIMIT = 512


# --- signed by a terminal ---


@dataclass(frozen=True)
class PaymentRecord(Message):
    """A terminal took this payment: the device's signed statement, an amount, when, and whether offline.

    `amount`: minor units; none for the fare, which the wallet works out for the time it was taken at.
    `sequence` counts the terminal's records from 1. `expires` in seconds, `taken_at` in milliseconds since
    1970. Nothing in it was derived from the probe, nor from the reference but its commitment.
    """

    v: int
    kind: str
    operator: bytes
    terminal: str
    sequence: int
    device_key: bytes
    key_id: bytes
    commitment: bytes
    counter: int
    expires: int
    device_signature: bytes
    amount: int | None
    currency: str
    taken_at: int
    offline: bool

    _FIELDS = {  # noqa: RUF012
        "v": _V,
        "kind": text("held-payment"),
        "operator": _OPERATOR,
        "terminal": _TERMINAL,
        "sequence": integer(1, _MAX_MS),
        "device_key": _KEY,
        "key_id": _KEY_ID,
        "commitment": _HASH,
        "counter": _COUNTER,
        "expires": _SECONDS,
        "device_signature": _SIGNATURE,
        "amount": maybe(integer(1, _MAX_MS)),
        "currency": text("[A-Z]{3}"),
        "taken_at": integer(0, _MAX_MS),
        "offline": flag,
    }
    _LIMIT = 1024

    def check_device(self) -> None:
        """Raise BadSignature unless the device signed for this operator, key, counter and expiry."""
        payload = statement(self.operator, self.key_id, self.commitment, self.counter, self.expires)
        check(self.device_key, self.device_signature, payload)
