"""Requests of terminals and enrolment stations: a template goes in, three sealed shares and a signature come out.

Invariant: a request can be opened by no one but all three guardians, each its own part, and only for the
gallery, the purpose and the id that are signed. Ids are fresh random bytes; each request is answered once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import (
    GUARDIANS,
    MAX_REFERENCES,
    SALT_BYTES,
    EnrolPayload,
    EnrolRequest,
    OpenPayload,
    OpenRequest,
    SearchPayload,
    SearchRequest,
    sha256,
)
from facefare.guardian.sealing import SealedFor, Share, component_sha256, seal
from facefare.identification.calibration import Calibration
from facefare.identification.errors import CalibrationError
from facefare.identification.quantise import quantise
from facefare.mpc.sharing import split

_Three = tuple[bytes, bytes, bytes]


class Templates(Protocol):
    """One template (D,) or several (n, D), and the id of the embedder that made them (`biometrics.Template`, say)."""

    @property
    def vector(self) -> NDArray[np.float32]:
        """Vectors of any length above zero."""

    @property
    def model_id(self) -> str:
        """Whose they are; a request to a gallery of another embedder is not made, and would be refused."""


def prepare_search(
    template: Templates,
    *,
    calibration: Calibration,
    guardians: Sequence[GuardianIdentity],
    gallery: str,
    terminal: str,
    key: Ed25519PrivateKey,
    now: datetime,
) -> SearchRequest:
    """A terminal's request to search `gallery` for one template, for a payment.

    Raises:
        CalibrationError, TemplateOutOfRange: see `quantise`; also for a template of another embedder.
    """
    query_id = os.urandom(16)
    sealed, components = _seal_shares(template, 1, calibration, guardians, SealedFor.SEARCH, gallery, query_id)
    payload = SearchPayload(
        v=1,
        gallery=gallery,
        model=calibration.model,
        terminal=terminal,
        purpose="payment",
        query_id=query_id,
        issued_at=_milliseconds(now),
        sealed_sha256=_hashes(sealed),
        component_sha256=components,
    ).to_bytes()
    return SearchRequest(payload, key.sign(payload), sealed)


def prepare_enrolment(
    templates: Templates,
    *,
    calibration: Calibration,
    guardians: Sequence[GuardianIdentity],
    gallery: str,
    station: str,
    key: Ed25519PrivateKey,
    consent_sha256: bytes,
    now: datetime,
    payer_key: bytes | None = None,
) -> EnrolRequest:
    """A station's request to enrol one template, or for a migration up to 1,000.

    `consent_sha256` is the hash of the consent receipt (of all receipts' hashes, for several). `payer_key`, for one
    template only: the Ed25519 public key (raw, 32 bytes) by which this payer may have the own row opened.

    Raises:
        CalibrationError, TemplateOutOfRange: see `quantise`; also for templates of another embedder.
    """
    enrolment_id = os.urandom(16)
    most = MAX_REFERENCES if payer_key is None else 1
    sealed, components = _seal_shares(templates, most, calibration, guardians, SealedFor.ENROL, gallery, enrolment_id)
    payload = EnrolPayload(
        v=1,
        gallery=gallery,
        model=calibration.model,
        station=station,
        consent_sha256=consent_sha256,
        enrolment_id=enrolment_id,
        issued_at=_milliseconds(now),
        sealed_sha256=_hashes(sealed),
        component_sha256=components,
        payer_key=payer_key,
    ).to_bytes()
    return EnrolRequest(payload, key.sign(payload), sealed)


def prepare_opening(
    gallery: str, row: int, *, key: Ed25519PrivateKey, now: datetime
) -> tuple[OpenRequest, X25519PrivateKey]:
    """A payer's request to have the own row opened, signed by the key given at enrolment; and what opens the answer."""
    recipient = X25519PrivateKey.generate()
    payload = OpenPayload(
        v=1,
        gallery=gallery,
        row=row,
        recipient=recipient.public_key().public_bytes_raw(),
        opening_id=os.urandom(16),
        issued_at=_milliseconds(now),
    ).to_bytes()
    return OpenRequest(payload, key.sign(payload)), recipient


def _seal_shares(
    templates: Templates,
    most: int,
    calibration: Calibration,
    guardians: Sequence[GuardianIdentity],
    use: SealedFor,
    gallery: str,
    request_id: bytes,
) -> tuple[_Three, _Three]:
    """Three sealed shares, and the hashes of the three components."""
    if [identity.index for identity in guardians] != list(range(GUARDIANS)):
        raise CalibrationError("A request takes the identities of guardians 0, 1 and 2, in that order.")
    calibration.require_model(templates.model_id)
    secret = quantise(templates.vector, calibration).reshape(-1, calibration.dimensions)
    if len(secret) > most:
        raise CalibrationError(f"This request takes at most {most} templates.")
    components = [component.astype(np.dtype("<u4")).tobytes() for component in split(secret)]
    salts = [os.urandom(SALT_BYTES) for _ in components]
    sealed = [
        seal(
            Share(salts[i], salts[(i + 1) % GUARDIANS], components[i], components[(i + 1) % GUARDIANS]).to_bytes(),
            identity,
            use,
            gallery,
            request_id,
        )
        for i, identity in enumerate(guardians)
    ]
    hashes = [component_sha256(salt, component) for salt, component in zip(salts, components, strict=True)]
    return (sealed[0], sealed[1], sealed[2]), (hashes[0], hashes[1], hashes[2])


def _hashes(sealed: _Three) -> _Three:
    first, second, third = (sha256(part) for part in sealed)
    return first, second, third


def _milliseconds(now: datetime) -> int:
    if now.tzinfo is None:
        raise ValueError("A time needs its time zone.")
    return int(now.timestamp() * 1000)
