"""What a terminal or a station sends: who can open it, and what is signed."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import EnrolRequest, MessageError, SearchRequest, sha256, verify
from facefare.guardian.sealing import SealedFor, Share, open_sealed
from facefare.identification.calibration import Calibration
from facefare.identification.errors import CalibrationError
from facefare.identification.quantise import quantise
from facefare.identification.requests import prepare_enrolment, prepare_search

D = 128
CALIBRATION = Calibration("m", np.zeros(D, np.float32), 80.0, 1, 8191, ())
KEY = Ed25519PrivateKey.generate()
SEALING = [X25519PrivateKey.generate() for _ in range(3)]
GUARDIANS = [
    GuardianIdentity(n, f"g{n}", "127.0.0.1", 1, 2, "", bytes(32), key.public_key().public_bytes_raw())
    for n, key in enumerate(SEALING)
]
TEMPLATE = np.random.default_rng(5).normal(size=D)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    vector: np.ndarray
    model_id: str = CALIBRATION.model


def search(made: Made | None = None, **changes: object) -> SearchRequest:
    details: dict = {"guardians": GUARDIANS, "now": NOW, **changes}
    return prepare_search(
        made or Made(TEMPLATE), calibration=CALIBRATION, gallery="gal_a", terminal="trm_a", key=KEY, **details
    )


def enrolment(templates: np.ndarray, model_id: str = CALIBRATION.model) -> EnrolRequest:
    return prepare_enrolment(
        Made(templates, model_id),
        calibration=CALIBRATION,
        guardians=GUARDIANS,
        gallery="gal_a",
        station="stn_a",
        key=KEY,
        consent_sha256=sha256(b"receipt"),
        now=NOW,
    )


def opened(sealed: tuple[bytes, ...], use: SealedFor, request_id: bytes) -> list[Share]:
    return [
        Share.from_bytes(open_sealed(part, SEALING[n], n, use, "gal_a", request_id)) for n, part in enumerate(sealed)
    ]


def words(component: bytes) -> np.ndarray:
    return np.frombuffer(component, "<u4")


def test_the_three_components_add_up_to_the_quantised_template_and_what_one_guardian_gets_does_not() -> None:
    request = search()
    shares = opened(request.sealed, SealedFor.SEARCH, request.fields().query_id)
    secret = quantise(TEMPLATE, CALIBRATION)
    assert np.array_equal(sum(words(share.own) for share in shares).view(np.int32), secret)
    for share in shares:
        both = words(share.own) + words(share.following)
        assert not np.isclose(np.corrcoef(both, secret)[0, 1], 1, atol=0.3)


def test_each_component_is_signed_with_its_salt_and_comes_to_two_guardians_alike() -> None:
    request = search()
    signed = request.fields().component_sha256
    shares = opened(request.sealed, SealedFor.SEARCH, request.fields().query_id)
    for n, share in enumerate(shares):
        assert share.fits(n, signed)
        assert not share.fits((n + 1) % 3, signed)
        other = shares[(n + 1) % 3]
        assert (share.following_salt, share.following) == (other.own_salt, other.own)
        assert not Share(share.own_salt, share.following_salt, share.own, bytes(len(share.own))).fits(n, signed)
        assert not Share(share.own_salt, bytes(16), share.own, share.following).fits(n, signed)


@pytest.mark.parametrize("size", [0, 31, 32, 33, 32 + 511])
def test_what_is_no_two_components_is_no_share(size: int) -> None:
    with pytest.raises(MessageError):
        Share.from_bytes(bytes(size))


def test_the_payload_is_signed_and_names_the_hashes_of_what_is_sealed() -> None:
    request = search()
    verify(KEY.public_key().public_bytes_raw(), request.signature, request.payload)
    fields = request.fields()
    assert fields.sealed_sha256 == tuple(sha256(part) for part in request.sealed)
    assert (fields.purpose, fields.issued_at) == ("payment", int(NOW.timestamp() * 1000))


def test_a_sealed_share_opens_for_its_own_guardian_purpose_gallery_and_query_only() -> None:
    request = search()
    sealed, query_id = request.sealed[0], request.fields().query_id
    open_sealed(sealed, SEALING[0], 0, SealedFor.SEARCH, "gal_a", query_id)
    for arguments in (
        (SEALING[1], 0, SealedFor.SEARCH, "gal_a", query_id),
        (SEALING[0], 1, SealedFor.SEARCH, "gal_a", query_id),
        (SEALING[0], 0, SealedFor.ENROL, "gal_a", query_id),
        (SEALING[0], 0, SealedFor.SEARCH, "gal_b", query_id),
        (SEALING[0], 0, SealedFor.SEARCH, "gal_a", bytes(16)),
    ):
        with pytest.raises(MessageError):
            open_sealed(sealed, *arguments)


def test_the_same_face_never_makes_the_same_request_twice() -> None:
    first, second = search(), search()
    assert first.fields().query_id != second.fields().query_id
    assert not set(first.sealed) & set(second.sealed)


def test_a_request_survives_the_wire_and_shows_nothing_in_its_repr() -> None:
    request = search()
    assert SearchRequest.from_bytes(request.to_bytes()) == request
    assert request.sealed[0].hex() not in repr(request)
    assert str(request.sealed[0]) not in repr(request)


def test_several_references_go_into_one_enrolment() -> None:
    many = np.random.default_rng(6).normal(size=(5, D))
    request = enrolment(many)
    shares = opened(request.sealed, SealedFor.ENROL, request.fields().enrolment_id)
    total = sum(words(share.own) for share in shares).view(np.int32).reshape(5, D)
    assert np.array_equal(total, quantise(many, CALIBRATION))
    assert request.fields().consent_sha256 == sha256(b"receipt")


def test_a_template_of_another_embedder_makes_no_request_and_the_request_names_its_embedder() -> None:
    with pytest.raises(CalibrationError, match="another-embedder"):
        search(Made(TEMPLATE, "another-embedder"))
    with pytest.raises(CalibrationError, match="another-embedder"):
        enrolment(TEMPLATE, "another-embedder")
    assert search().fields().model == enrolment(TEMPLATE).fields().model == CALIBRATION.model


def test_guardians_in_the_wrong_order_too_many_templates_and_naive_times_are_refused() -> None:
    with pytest.raises(CalibrationError):
        search(guardians=GUARDIANS[::-1])
    with pytest.raises(CalibrationError):
        enrolment(np.random.default_rng(7).normal(size=(1001, D)))
    with pytest.raises(ValueError, match="time zone"):
        search(now=datetime(2026, 1, 2))
