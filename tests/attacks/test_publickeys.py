"""Keys for which nobody in particular can sign are no keys, wherever one comes in."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from facefare.guardian.errors import CeremonyError, MessageError
from facefare.guardian.messages import verify
from facefare.guardian.registry import Registry, Terminal
from facefare.identification.held import documents
from facefare.identification.held.errors import BadSignature
from facefare.payments import merchants
from facefare.payments.errors import ProofWrong
from facefare.publickeys import ed25519

P = 2**255 - 19
OF_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
# The y of all points of order 1, 2, 4 and 8, with either sign of x; 0 and 1 also as they must not be written.
SMALL = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, P - 1, P, P + 1, OF_ORDER_8, P - OF_ORDER_8)
    for sign in (0, 1)
]


@pytest.mark.parametrize("key", SMALL, ids=bytes.hex)
def test_a_point_of_small_order_is_no_key(key: bytes) -> None:
    with pytest.raises(ValueError):
        ed25519(key)


def test_made_keys_are_keys() -> None:
    for _ in range(200):
        key = Ed25519PrivateKey.generate().public_key()
        assert ed25519(key.public_bytes_raw()) == key


def test_a_signature_that_anybody_can_make_is_refused_wherever_a_key_comes_in(tmp_path) -> None:
    """The point of order 1 as key and as R, with s = 0, verifies over every message."""
    one = (1).to_bytes(32, "little")
    anybodys = one + bytes(32)
    Ed25519PublicKey.from_public_bytes(one).verify(anybodys, b"whatever")  # the library takes it
    with pytest.raises(MessageError):
        verify(one, anybodys, b"whatever")
    with pytest.raises(BadSignature):
        documents.check(one, anybodys, b"whatever")
    with pytest.raises(ProofWrong):
        merchants.check_proof("mer_a", "trm_a", one, anybodys)
    registry = Registry(tmp_path / "registry")
    with pytest.raises(CeremonyError):
        registry.add_terminal(Terminal("trm_a", one, ("gal_a",)))
    registry.close()
