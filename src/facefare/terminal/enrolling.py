"""One person at an enrolment station: a code says what was agreed to, the camera sees who agreed, one reference leaves.

    the phone's request (payer-held)              -> sealed to that phone, as a code to be read or pasted
    the consent's hash, and the payer's check key -> in three parts to the guardians, by way of the wallet

Invariant: the reference is handed over once, to where the code says, and the station keeps nothing of it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AfterValidator

from facefare.biometrics import FacePipeline, Template
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.frames import Frames
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import REGISTRY_IDS, EnrolRequest
from facefare.identification.calibration import Calibration
from facefare.identification.held.documents import decoded
from facefare.identification.held.errors import HeldError
from facefare.identification.held.handover import Request, hand_over
from facefare.identification.requests import prepare_enrolment
from facefare.terminal.configuration import (
    Address,
    Document,
    PublicKey,
    read_calibration,
    read_document,
    read_guardians,
    read_key,
)
from facefare.terminal.errors import ConfigurationError, NobodyEnrolled
from facefare.terminal.station import Capture

_QR = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
_CONSENT = re.compile(r"(?P<consent>[0-9A-Fa-f]{64})(?:[.:](?P<key>[0-9A-Fa-f]{64}))?")


@dataclass(frozen=True)
class HandsFree:
    """The hash of the receipt of a consent to be found by three guardians, and the payer's own check key, if any."""

    consent_sha256: bytes
    payer_key: bytes | None


Wish = Request | HandsFree


class _Station(Document):
    id: Annotated[str, AfterValidator(REGISTRY_IDS["station"])]
    key: Path
    wallet: Address
    operator_key: PublicKey
    calibration: Path | None = None
    embedder: Path | None = None
    gallery: str = ""
    guardians: tuple[Path, ...] = ()


@dataclass(frozen=True, repr=False)
class Station:
    """Who a station is: `key` is its own; what it needs for payers' phones and for guardians. See `load`."""

    id: str
    key: Ed25519PrivateKey
    wallet: str
    operator_key: Ed25519PublicKey
    gallery: str
    guardians: tuple[GuardianIdentity, ...]
    calibration: Calibration
    embedder: Path | None

    @classmethod
    def load(cls, path: Path) -> "Station":
        """Read a station's TOML file; paths are relative to it. Raises ConfigurationError, CalibrationError.

        ```toml
        id = "stn_…"
        key = "station.pem"
        wallet = "http://127.0.0.1:8080"
        operator_key = "64 hex digits"              # as `facefare wallet operator-key` prints it
        calibration = "calibration.json"            # optional
        embedder = "embedder.toml"                  # optional: your own; gallery and calibration have to be of it
        gallery = "gal_…"                           # for hands-free only, as are the guardians
        guardians = ["guardian-0.json", "guardian-1.json", "guardian-2.json"]
        ```
        """
        said, folder = read_document(path, _Station), path.parent
        return cls(
            id=said.id,
            key=read_key(folder / said.key),
            wallet=said.wallet,
            operator_key=said.operator_key,
            gallery=said.gallery,
            guardians=read_guardians(folder, said.guardians),
            calibration=read_calibration(folder, said.calibration),
            embedder=folder / said.embedder if said.embedder else None,
        )

    def hand_over(self, reference: Template, request: Request) -> bytes:
        """The reference, attested and sealed to the phone. Raises CalibrationError, TemplateOutOfRange."""
        self.calibration.require_model(reference.model_id)
        return hand_over(
            reference.vector,
            request,
            calibration=self.calibration,
            operator_key=self.operator_key,
            station=self.id,
            key=self.key,
            now=datetime.now(UTC),
        )

    def enrolment(self, reference: Template, wish: HandsFree) -> EnrolRequest:
        """The reference in three sealed parts. Raises CalibrationError, TemplateOutOfRange, ConfigurationError."""
        if not self.guardians:
            raise ConfigurationError("This station serves payers' phones only; name gallery and guardians for others.")
        return prepare_enrolment(
            reference,
            calibration=self.calibration,
            guardians=self.guardians,
            gallery=self.gallery,
            station=self.id,
            key=self.key,
            consent_sha256=wish.consent_sha256,
            now=datetime.now(UTC),
            payer_key=wish.payer_key,
        )


def read_wish(code: bytes) -> Wish | None:
    """What a code asks for: bytes of a phone's `Request`, or a consent's hash, or that and a check key (`hex.hex`)."""
    text = _CONSENT.fullmatch(code.decode("ascii", errors="replace").strip())
    if text is not None:
        key = text["key"]
        return HandsFree(bytes.fromhex(text["consent"]), None if key is None else bytes.fromhex(key))
    try:
        return decoded(Request, code)
    except HeldError:
        return None


def attend(
    frames: Frames, pipeline: FacePipeline, tell: Callable[[str, str], None], wish: Wish | None = None
) -> tuple[Wish, Template]:
    """Wait for a code (unless the wish is known), then capture the person; what is wanted, and the reference.

    `tell(event, word)`: `code` once there is one, `asked` for each move, `hint` for what to change.

    Raises:
        NotLiveError, NotOnePersonError: start again, in person.
        NobodyEnrolled: the pictures ended before that.
    """
    capture, asked = Capture(pipeline), None
    for frame in frames:
        if wish is None:
            codes = zxingcpp.read_barcodes(frame, formats=_QR, try_invert=False)
            wish = next((read for code in codes if (read := read_wish(code.bytes)) is not None), None)
            if wish is None:
                continue
            tell("code", "hands-free" if isinstance(wish, HandsFree) else "phone")
        if capture.asked is not asked and capture.asked is not None:
            asked = capture.asked
            tell("asked", asked.value)
        try:
            taken = capture.offer(frame)
        except BiometricsError as error:
            tell("hint", str(error))
            continue
        if taken.hint is not None:
            tell("hint", taken.hint.value)
        if capture.complete:
            return wish, capture.reference()
    raise NobodyEnrolled("The pictures ended before somebody showed a code and did all that was asked.")
