"""The code that a device shows: its reference and a signed statement, sealed to one terminal's current key.

```
code      = [1, key id (8), sealed]                      at most 400 bytes; a QR code of 69 modules
sealed    = HPKE (RFC 9180: X25519, HKDF-SHA256, AES-128-GCM; base mode, no aad) of
            [operator (8), reference (D, int8), salt (16), device key (32), counter, expires,
             statement's signature (64), self-made (0 or 1), pass's last day, pass's signature (64)]
info      = "facefare/held-code/1", key id (8), one after the other
```
Arrays are CBOR with shortest lengths; numbers in brackets are bytes. Statement and pass are in `documents`.

Who photographs a code learns a terminal's key id and nothing else: neither a face nor which device it is. It
opens at no other terminal, for no longer than `LIFETIME`, and a terminal takes each counter once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import cbor2
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from numpy.typing import NDArray

from facefare.guardian.wire import Check, integer, octets
from facefare.identification.held.documents import (
    DAY,
    MAX_COUNTER,
    MAX_DAY,
    MAX_SECONDS,
    Announcement,
    check,
    commitment,
    device_id,
    device_tag,
    key_id,
    operator_id,
    pass_payload,
    seconds,
    statement,
)
from facefare.identification.held.errors import (
    CodeExpired,
    CodeTooLarge,
    CodeTooLongLived,
    MalformedCode,
    PassExpired,
    WrongModel,
    WrongOperator,
    WrongTerminalKey,
)

MAX_BYTES = 400
LIFETIME = timedelta(seconds=30)
CLOCK_SKEW = timedelta(seconds=30)
"""How far a device's clock may be off."""

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_INFO = b"facefare/held-code/1"
_START = b"\x83\x01\x48"  # an array of three: 1, eight bytes, ...
_OUTER: tuple[Check, ...] = (integer(1, 1), octets(8), octets(64, MAX_BYTES))
_INNER: tuple[Check, ...] = (
    octets(8),
    octets(16, 256),
    octets(16),
    octets(32),
    integer(1, MAX_COUNTER),
    integer(0, MAX_SECONDS),
    octets(64),
    integer(0, 1),
    integer(0, MAX_DAY),
    octets(64),
)


@dataclass(frozen=True, repr=False)
class Pass:
    """An operator's word that a device is registered there: until the end of a day (days since 1970, UTC)."""

    operator: bytes
    self_made: bool
    through_day: int
    signature: bytes

    def check(self, operator_key: Ed25519PublicKey, device_key: bytes, committed: bytes) -> None:
        """Raise BadSignature unless the operator gave this pass to this device for this reference."""
        payload = pass_payload(
            self.operator,
            device_key,
            committed,
            self_made=self.self_made,
            through_day=self.through_day,
        )
        check(operator_key.public_bytes_raw(), self.signature, payload)


@dataclass(frozen=True, repr=False)
class Holding:
    """What a device keeps, sealed at rest: its own key, the reference (D bytes, int8), its salt (16 bytes)."""

    key: Ed25519PrivateKey
    reference: bytes
    salt: bytes
    model: str

    @property
    def commitment(self) -> bytes:
        """32 bytes that bind the device to this reference."""
        return commitment(self.reference, self.salt)


@dataclass(frozen=True, repr=False, eq=False)
class Claim:
    """An opened, verified code, in the terminal's memory: `reference` is (D,) int32 until `forget`."""

    reference: NDArray[np.int32]
    device_key: bytes
    key_id: bytes
    commitment: bytes
    counter: int
    expires: int
    signature: bytes
    self_made: bool

    @property
    def tag(self) -> bytes:
        """16 bytes that name the device."""
        return device_tag(self.device_key)

    @property
    def device(self) -> str:
        """The device's id."""
        return device_id(self.device_key)

    def forget(self) -> None:
        """Overwrite the reference."""
        self.reference.fill(0)


def looks_like_one(data: bytes) -> bool:
    """Whether these bytes start as a code does; a camera sees other people's QR codes too."""
    return data.startswith(_START)


def make(holding: Holding, given: Pass, terminal: Announcement, *, counter: int, now: datetime) -> bytes:
    """The bytes to show to the announced terminal; `counter` grows by at least one each time.

    Raises CodeTooLarge where the reference has too many dimensions, WrongModel, WrongOperator for a pass of
    another operator, WrongTerminalKey for a key that isn't valid now.
    """
    if given.operator != terminal.operator:
        raise WrongOperator("This terminal is another operator's; register the device there.")
    if holding.model != terminal.model:
        raise WrongModel("This terminal compares faces by another model; make your reference anew.")
    at = seconds(now)
    if not terminal.not_before - CLOCK_SKEW.seconds <= at <= terminal.not_after:
        raise WrongTerminalKey("The terminal's announced key is not valid now; fetch the new one.")
    expires = at + LIFETIME.seconds
    named = key_id(terminal.public_key)
    signature = holding.key.sign(statement(terminal.operator, named, holding.commitment, counter, expires))
    inner = [
        given.operator,
        holding.reference,
        holding.salt,
        holding.key.public_key().public_bytes_raw(),
        counter,
        expires,
        signature,
        int(given.self_made),
        given.through_day,
        given.signature,
    ]
    recipient = X25519PublicKey.from_public_bytes(terminal.public_key)
    sealed = SUITE.encrypt(cbor2.dumps(inner), recipient, info=_INFO + named)
    code = cbor2.dumps([1, named, sealed])
    if len(code) > MAX_BYTES:
        raise CodeTooLarge(f"A code has at most {MAX_BYTES} bytes; this reference makes {len(code)}.")
    return code


def open_code(
    code: bytes,
    keys: Mapping[bytes, X25519PrivateKey],
    *,
    operator_key: Ed25519PublicKey,
    now: datetime,
) -> Claim:
    """Open and verify a code with the terminal's keys, by key id.

    What the caller has to check itself, since it needs memory: the counter, the deny list, the amounts.

    Raises:
        CodeTooLarge, MalformedCode, WrongTerminalKey, WrongOperator, BadSignature, CodeExpired,
        CodeTooLongLived, PassExpired.
    """
    if len(code) > MAX_BYTES:
        raise CodeTooLarge(f"A code has at most {MAX_BYTES} bytes, this one {len(code)}.")
    _, named, sealed = _array(code, _OUTER)
    key, operator = keys.get(named), operator_id(operator_key)
    if key is None:
        raise WrongTerminalKey("This code is for another terminal, or for a key that this one no longer has.")
    try:
        plain = SUITE.decrypt(sealed, key, info=_INFO + named)
    except (InvalidTag, ValueError):
        raise WrongTerminalKey("This code can't be opened here; it was altered.") from None
    said, reference, salt, device_key, counter, expires, signature, self_made, through_day, given = _array(
        plain, _INNER
    )
    if said != operator:
        raise WrongOperator("This code was made for another operator's terminals.")
    at = seconds(now)
    if at > expires:
        raise CodeExpired("The code has run out; show a new one.")
    if expires > at + LIFETIME.seconds + CLOCK_SKEW.seconds:
        raise CodeTooLongLived("The code is good for too long; check the clock of the device.")
    committed = commitment(reference, salt)
    check(device_key, signature, statement(operator, named, committed, counter, expires))
    Pass(said, bool(self_made), through_day, given).check(operator_key, device_key, committed)
    if at > (through_day + 1) * DAY:
        raise PassExpired("The device's pass has run out; it needs to be online once.")
    return Claim(
        reference=np.frombuffer(reference, np.int8).astype(np.int32),
        device_key=device_key,
        key_id=named,
        commitment=committed,
        counter=counter,
        expires=expires,
        signature=signature,
        self_made=bool(self_made),
    )


def new_pass(
    operator_key: Ed25519PrivateKey, device_key: bytes, committed: bytes, *, self_made: bool, through_day: int
) -> Pass:
    """Sign a pass for a device that was just registered, or still is."""
    operator = operator_id(operator_key.public_key())
    payload = pass_payload(operator, device_key, committed, self_made=self_made, through_day=through_day)
    return Pass(operator, self_made, through_day, operator_key.sign(payload))


def _array(data: bytes, checks: tuple[Check, ...]) -> list[Any]:
    """The items of a plain CBOR array, each checked; no content in any error."""
    try:
        value = cbor2.loads(data, max_depth=2, allow_indefinite=False)
        if not isinstance(value, list) or len(value) != len(checks) or cbor2.dumps(value) != data:
            raise ValueError
        return [one(item) for one, item in zip(checks, value, strict=True)]
    except Exception:  # a decoder of foreign bytes may raise anything
        raise MalformedCode("These bytes are not a code of ours.") from None
