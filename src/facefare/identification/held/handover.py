"""From an enrolment station to the payer's device: a reference, attested, sealed to that device alone.

The device shows a `Request` (its keys and the consent's hash) to the station; the station captures the live
person, and gives back `hand_over(...)`, on its screen as a QR code or over any channel. The station keeps
nothing: `hand_over` is the last it has of the face.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import ArrayLike

from facefare.guardian.wire import Message, integer, octets, text
from facefare.identification.calibration import Calibration
from facefare.identification.held.code import SUITE, Holding
from facefare.identification.held.documents import (
    Attestation,
    Signed,
    commitment,
    decoded,
    operator_id,
    seconds,
)
from facefare.identification.held.errors import BadSignature, WrongTerminalKey
from facefare.identification.quantise import quantise

_INFO = b"facefare/held-handover/1"


@dataclass(frozen=True)
class Request(Message):
    """What a device shows to a station: its raw Ed25519 key, a raw X25519 key to seal to, its payer's consent."""

    v: int
    kind: str
    device_key: bytes
    sealing_key: bytes
    consent_sha256: bytes

    _FIELDS = {  # noqa: RUF012
        "v": integer(1, 1),
        "kind": text("handover-request"),
        "device_key": octets(32),
        "sealing_key": octets(32),
        "consent_sha256": octets(32),
    }
    _LIMIT = 256


@dataclass(frozen=True, repr=False)
class _Handover(Message):
    reference: bytes
    salt: bytes
    attestation: bytes

    _FIELDS = {  # noqa: RUF012
        "reference": octets(16, 256),
        "salt": octets(16),
        "attestation": octets(1, 1024),
    }
    _LIMIT = 2048


def reference_of(template: ArrayLike, calibration: Calibration) -> bytes:
    """A template (D,) as the bytes that a device keeps: quantised, centred, int8.

    Raises CalibrationError, TemplateOutOfRange: see `quantise`.
    """
    return quantise(template, calibration).astype("int8").tobytes()


def hand_over(
    template: ArrayLike,
    request: Request,
    *,
    calibration: Calibration,
    operator_key: Ed25519PublicKey,
    station: str,
    key: Ed25519PrivateKey,
    now: datetime,
) -> bytes:
    """A station's live reference (D,) for one device, attested and sealed; about 550 bytes for D = 128.

    Raises CalibrationError, TemplateOutOfRange: see `quantise`.
    """
    reference, salt = reference_of(template, calibration), os.urandom(16)
    attestation = Attestation(
        v=1,
        kind="held-reference",
        operator=operator_id(operator_key),
        station=station,
        device_key=request.device_key,
        commitment=commitment(reference, salt),
        consent_sha256=request.consent_sha256,
        model=calibration.model,
        made_at=seconds(now),
    )
    inner = _Handover(reference, salt, Signed.sign(attestation, key).to_bytes())
    recipient = X25519PublicKey.from_public_bytes(request.sealing_key)
    return SUITE.encrypt(inner.to_bytes(), recipient, info=_INFO + request.device_key)


def take(sealed: bytes, *, key: Ed25519PrivateKey, sealing_key: X25519PrivateKey) -> tuple[Holding, bytes]:
    """On the device: what to keep, and the signed attestation (bytes of `Signed`) to register with.

    Raises WrongTerminalKey where it was sealed to another device, MalformedCode, BadSignature where the
    attestation is for another device or another reference.
    """
    device_key = key.public_key().public_bytes_raw()
    try:
        plain = SUITE.decrypt(sealed, sealing_key, info=_INFO + device_key)
    except (InvalidTag, ValueError):
        raise WrongTerminalKey("This reference was handed to another device.") from None
    inner = decoded(_Handover, plain)
    attestation = decoded(Attestation, decoded(Signed, inner.attestation).payload)
    if (attestation.device_key, attestation.commitment) != (device_key, commitment(inner.reference, inner.salt)):
        raise BadSignature("The station attested another device or another reference.")
    return Holding(key, inner.reference, inner.salt, attestation.model), inner.attestation
