"""A reference on its way from the enrolment station to the one device it is for."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.identification.calibration import Calibration, Verification
from facefare.identification.errors import CalibrationError
from facefare.identification.held import errors
from facefare.identification.held.code import Claim
from facefare.identification.held.comparison import matches
from facefare.identification.held.documents import Attestation, Signed, decoded
from facefare.identification.held.handover import Request, hand_over, reference_of, take

CALIBRATION = Calibration.default()
OPERATOR, STATION = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def template(seed: int) -> Any:
    direction = np.random.default_rng(seed).normal(size=CALIBRATION.dimensions)
    return CALIBRATION.mean + 0.42 * direction / np.linalg.norm(direction)


def handed(key: Ed25519PrivateKey, sealing: X25519PrivateKey) -> bytes:
    request = Request(
        1,
        "handover-request",
        key.public_key().public_bytes_raw(),
        sealing.public_key().public_bytes_raw(),
        bytes(32),
    )
    return hand_over(
        template(1),
        request,
        calibration=CALIBRATION,
        operator_key=OPERATOR.public_key(),
        station="stn_desk",
        key=STATION,
        now=NOW,
    )


def claim_of(reference: bytes) -> Claim:
    array = np.frombuffer(reference, np.int8).astype(np.int32)
    return Claim(array, bytes(32), bytes(8), bytes(32), 1, 0, bytes(64), False)


def test_the_device_gets_the_reference_and_the_stations_word_for_it() -> None:
    key, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    holding, attestation = take(handed(key, sealing), key=key, sealing_key=sealing)
    assert holding.reference == reference_of(template(1), CALIBRATION)
    said = decoded(Signed, attestation).verified(Attestation, STATION.public_key())
    assert (said.device_key, said.commitment) == (key.public_key().public_bytes_raw(), holding.commitment)
    assert said.model == CALIBRATION.model


def test_no_other_device_can_take_it() -> None:
    key, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    sealed = handed(key, sealing)
    with pytest.raises(errors.WrongTerminalKey):
        take(sealed, key=key, sealing_key=X25519PrivateKey.generate())
    with pytest.raises(errors.WrongTerminalKey):
        take(sealed, key=Ed25519PrivateKey.generate(), sealing_key=sealing)


def test_the_sealed_handover_fits_one_qr_code() -> None:
    assert len(handed(Ed25519PrivateKey.generate(), X25519PrivateKey.generate())) < 600


def test_two_handovers_of_one_face_cannot_be_linked_by_their_commitments() -> None:
    key, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    first, _ = take(handed(key, sealing), key=key, sealing_key=sealing)
    second, _ = take(handed(key, sealing), key=key, sealing_key=sealing)
    assert first.reference == second.reference
    assert first.commitment != second.commitment


def test_a_probe_matches_its_own_reference_and_no_one_elses() -> None:
    claim = claim_of(reference_of(template(1), CALIBRATION))
    assert matches(template(1) + 0.01 * template(2), claim, CALIBRATION)
    assert not any(matches(template(seed), claim, CALIBRATION) for seed in range(2, 200))


def test_a_reference_near_everyone_is_refused() -> None:
    with pytest.raises(errors.WrongModel):
        matches(template(1), claim_of(bytes(128)), CALIBRATION)
    with pytest.raises(errors.WrongModel):
        matches(template(1), claim_of(bytes([1]) * 64), CALIBRATION)


def test_without_a_measured_threshold_nothing_matches() -> None:
    unmeasured = Calibration(
        model=CALIBRATION.model,
        mean=CALIBRATION.mean,
        scale=CALIBRATION.scale,
        min_squared_norm=CALIBRATION.min_squared_norm,
        max_squared_norm=CALIBRATION.max_squared_norm,
        thresholds=CALIBRATION.thresholds,
    )
    with pytest.raises(CalibrationError):
        matches(template(1), claim_of(reference_of(template(1), CALIBRATION)), unmeasured)


def test_the_default_calibration_states_the_false_match_rate_of_its_threshold() -> None:
    assert CALIBRATION.verification == Verification(fmr=1e-4, threshold=CALIBRATION.verification_threshold)
