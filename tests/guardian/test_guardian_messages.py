"""Wire messages: exact bytes to checked values and back, and nothing else."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from facefare.guardian.errors import MessageError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import (
    Confirmation,
    EnrolCall,
    EnrolPayload,
    EnrolRequest,
    GalleryStatus,
    OpenAnswer,
    OpenPayload,
    OpenRequest,
    Operation,
    Problem,
    RowCall,
    SearchAnswer,
    SearchCall,
    SearchPayload,
    SearchRequest,
    Status,
)

H = bytes(32)
EXAMPLES = [
    SearchPayload(1, "gal_a", "m", "trm_a", "payment", bytes(16), 5, (H, H, H), (H, H, H)),
    EnrolPayload(1, "gal_a", "m", "stn_a", H, bytes(16), 5, (H, H, H), (H, H, H)),
    SearchRequest(b"p", bytes(64), (bytes(560), bytes(560), bytes(560))),
    EnrolRequest(b"p", bytes(64), (bytes(560), bytes(560), bytes(560))),
    SearchCall(b"p", bytes(64), bytes(560), 7, -2000),
    EnrolCall(b"p", bytes(64), bytes(560), 3, 7),
    RowCall("gal_a", 3, 7),
    SearchAnswer(b"share"),
    Status(1, True, None, (GalleryStatus("gal_a", "live", 7, H, 3, 2, 0),)),
    EnrolPayload(1, "gal_a", "m", "stn_a", H, bytes(16), 5, (H, H, H), (H, H, H), H),
    OpenPayload(1, "gal_a", 3, H, bytes(16), 5),
    OpenRequest(b"p", bytes(64)),
    OpenAnswer(bytes(80), bytes(64)),
    SearchAnswer(b"share", bytes(48)),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message) -> None:
    assert type(message).from_bytes(message.to_bytes()) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_anything_but_the_exact_message_is_refused(message) -> None:
    kind, fields = type(message), message.to_map()
    name = next(iter(fields))
    spoilt = [
        b"",
        message.to_bytes() + b"\x00",
        message.to_bytes()[:-1],
        cbor2.dumps({**fields, "extra": 1}),
        cbor2.dumps({key: value for key, value in fields.items() if key != name}),
        cbor2.dumps({**fields, name: None}),
        cbor2.dumps({**fields, name: 1.5}),
        cbor2.dumps(cbor2.CBORTag(55799, fields)),
        cbor2.dumps(list(fields.values())),
        b"\xbf" + message.to_bytes()[1:] + b"\xff",
    ]
    for data in spoilt:
        with pytest.raises(MessageError):
            kind.from_bytes(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_an_error_of_ours(data: bytes) -> None:
    for kind in (SearchRequest, EnrolRequest, SearchCall, RowCall, Status):
        with pytest.raises(MessageError):
            kind.from_bytes(data)
    with pytest.raises(MessageError):
        Problem.from_bytes(data)
    with pytest.raises(MessageError):
        GuardianIdentity.from_json(data.decode("latin-1"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.binary(max_size=40) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_no_value_of_the_wrong_type_gets_through(value: object) -> None:
    for message in EXAMPLES:
        for name in message.to_map():
            fields = {**message.to_map(), name: value}
            try:
                decoded = type(message).from_bytes(cbor2.dumps(fields))
            except MessageError:
                continue
            assert decoded.to_map()[name] == value


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (EXAMPLES[0], "gallery", "gal_" + "x" * 41),
        (EXAMPLES[0], "gallery", "gal_a\n"),
        (EXAMPLES[0], "gallery", "trm_a"),
        (EXAMPLES[0], "v", 2),
        (EXAMPLES[0], "v", True),
        (EXAMPLES[0], "sealed_sha256", [H, H]),
        (EXAMPLES[1], "component_sha256", [H]),
        (EXAMPLES[4], "threshold", 0),
        (EXAMPLES[4], "threshold", -32_768),
        (EXAMPLES[4], "sealed", bytes(79)),
        (EXAMPLES[4], "sealed", bytes(5000)),
        (EXAMPLES[6], "row", -1),
        (EXAMPLES[6], "row", 2**31),
    ],
)
def test_values_outside_their_limits_are_refused(message, field: str, value: object) -> None:
    with pytest.raises(MessageError, match=field):
        type(message).from_bytes(cbor2.dumps({**message.to_map(), field: value}))


def test_a_message_longer_than_any_can_be_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(MessageError, match="at most"):
        SearchCall.from_bytes(bytes(100_000))


def identity(index: int, key: Ed25519PrivateKey) -> GuardianIdentity:
    public = key.public_key().public_bytes_raw()
    return GuardianIdentity(index, "g", "127.0.0.1", 1, 2, "PEM", public, bytes(32))


def test_a_confirmation_is_proof_by_that_guardian_alone() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    word = Confirmation.sign(
        key, gallery="gal_a", row=3, count=1, version=7, operation=Operation.DELETE, time=5, guardian=1
    )
    word = Confirmation.from_bytes(word.to_bytes())
    identity(1, key).check(word)
    assert (word.fields.row, word.fields.operation) == (3, "delete")
    with pytest.raises(MessageError):
        identity(1, other).check(word)
    with pytest.raises(MessageError):
        identity(2, key).check(word)
    changed = word.payload.replace(b"\x03", b"\x04", 1)
    with pytest.raises(MessageError):
        identity(1, key).check(Confirmation(changed, word.signature))


def test_an_identity_survives_its_file() -> None:
    one = identity(2, Ed25519PrivateKey.generate())
    assert GuardianIdentity.from_json(one.to_json()) == one


def test_sealed_and_opened_content_is_in_no_repr() -> None:
    secret = bytes(range(48, 118))
    for message in (SearchCall(b"p", bytes(64), secret, 1, -1), EnrolCall(b"p", bytes(64), secret, 1, 1)):
        assert "0123" not in repr(message)
