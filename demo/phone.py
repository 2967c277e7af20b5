"""A payer's phone, simulated: it holds the device's key and the reference, and draws codes.

What the app in a browser does with WebCrypto, in Python; the bytes are the same.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import cv2
import numpy as np
import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import ArrayLike, NDArray

from facefare.client import Device, PayerClient
from facefare.identification.calibration import Calibration
from facefare.identification.held import code, documents, handover
from facefare.identification.held.code import Holding, Pass
from facefare.identification.held.documents import Announcement, Signed, decoded

Frame = NDArray[np.uint8]
_QUIET = 4  # modules around a QR code


class Phone:
    """One device of one payer, for one operator."""

    def __init__(self, payer: PayerClient, operator_key: Ed25519PublicKey) -> None:
        self.device: Device | None = None
        self.counter = 0
        self._payer = payer
        self.operator_key = operator_key
        self._key = Ed25519PrivateKey.generate()
        self._sealing_key = X25519PrivateKey.generate()
        self._holding: Holding | None = None
        self._pass: Pass | None = None

    @property
    def key(self) -> bytes:
        """The device's raw public key."""
        return self._key.public_key().public_bytes_raw()

    @property
    def holding(self) -> Holding:
        """What the phone holds; raises ValueError before there is a reference."""
        if self._holding is None:
            raise ValueError("This phone has no reference yet.")
        return self._holding

    def request(self, consent_sha256: bytes) -> bytes:
        """What it shows to an enrolment station."""
        sealing_key = self._sealing_key.public_key().public_bytes_raw()
        return handover.Request(1, "handover-request", self.key, sealing_key, consent_sha256).to_bytes()

    def take(self, sealed: bytes, consent_sha256: bytes) -> Device:
        """Take the reference that a station handed over, and register with it."""
        self._holding, attestation = handover.take(sealed, key=self._key, sealing_key=self._sealing_key)
        return self._register(consent_sha256, attestation)

    def make_own(self, template: ArrayLike, calibration: Calibration, consent_sha256: bytes) -> Device:
        """Use a reference that the phone made itself from a template (D,); it pays small amounts only."""
        reference = handover.reference_of(template, calibration)
        self._holding = Holding(self._key, reference, os.urandom(16), calibration.model)
        return self._register(consent_sha256, None)

    def renew(self) -> None:
        """Fetch a pass for the next 30 days."""
        if self.device is not None:
            given = self._payer.renew_pass(self.device.id)
            self._pass = Pass(given.operator, given.self_made, given.through_day, given.signature)

    def code(self, announced: bytes, *, now: datetime | None = None) -> bytes:
        """The code for the terminal of this announcement; counts up. Raises HeldError, ValueError if unregistered."""
        if self._pass is None:
            raise ValueError("This phone is not registered yet.")
        terminal = decoded(Signed, announced).verified(Announcement, self.operator_key)
        self.counter += 1
        at = now or datetime.now(UTC)
        return code.make(self.holding, self._pass, terminal, counter=self.counter, now=at)

    def _register(self, consent_sha256: bytes, attestation: bytes | None) -> Device:
        holding, operator = self.holding, documents.operator_id(self.operator_key)
        self.device, given = self._payer.register_device(
            public_key=self.key,
            commitment=holding.commitment,
            consent_sha256=consent_sha256,
            proof=self._key.sign(documents.registration(operator, consent_sha256, holding.commitment)),
            attestation=attestation,
        )
        self._pass = Pass(given.operator, given.self_made, given.through_day, given.signature)
        return self.device


def drawn(shown: bytes, pixels: int = 2) -> Frame:
    """A code as a phone's screen shows it, (S, S, 3) uint8, with `pixels` for each module."""
    symbol = segno.make(shown, error="l", mode="byte", boost_error=False, micro=False)
    modules = np.array(list(symbol.matrix_iter(border=_QUIET)), dtype=np.uint8)
    grey = np.where(modules > 0, 20, 235).astype(np.uint8)
    return np.repeat(np.kron(grey, np.ones((pixels, pixels), np.uint8))[:, :, None], 3, axis=2)


def held_up(frames: Sequence[Frame], shown: bytes, *, seed: int = 0) -> list[Frame]:
    """The same frames with a phone held up beside the face, its screen showing the code."""
    screen = drawn(shown)
    rng = np.random.default_rng(seed)
    held = []
    for frame in frames:
        picture = frame.copy()
        side = len(screen)
        y = picture.shape[0] - side - 6 + int(rng.integers(-3, 4))
        x = 10 + int(rng.integers(-3, 4))
        noise = rng.normal(0, 2, screen.shape)
        picture[y : y + side, x : x + side] = np.clip(screen + noise, 0, 255).astype(np.uint8)
        held.append(np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.4), dtype=np.uint8))
    return held
