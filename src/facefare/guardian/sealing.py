"""A secret's components on their way to one guardian.

Invariants:
- a share is sealed by HPKE (RFC 9180, X25519 / HKDF-SHA256 / AES-128-GCM) and bound to its gallery, guardian and
  request; the two guardians that get one component can tell that they got the same (`Share`);
- no error text and no repr holds content of a sealed or opened share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from facefare.guardian.errors import MessageError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import GUARDIANS, SALT_BYTES, SEAL_OVERHEAD, sha256


@dataclass(frozen=True, repr=False)
class Share:
    """What is sealed to guardian i: components i and i + 1 (modulo 3) of a secret, and the salts of their hashes.

    The hashes of the three components are signed with the request, so that neither a client nor one of a component's
    two holders can have the other one work on something else. The salt, 16 fresh bytes known to the holders alone,
    keeps the third guardian from trying out secrets on a hash.

    Attributes:
        own, following: uint32 little-endian, of one length.
        own_salt, following_salt: 16 bytes each.
    """

    own_salt: bytes
    following_salt: bytes
    own: bytes
    following: bytes

    def to_bytes(self) -> bytes:
        """Both salts, then both components."""
        return self.own_salt + self.following_salt + self.own + self.following

    @classmethod
    def from_bytes(cls, data: bytes) -> Share:
        """A share from what was sealed; raises `MessageError` where there is no component in it."""
        salts, components = data[: 2 * SALT_BYTES], data[2 * SALT_BYTES :]
        half, rest = divmod(len(components), 2)
        if half == 0 or rest:
            raise MessageError("A share is two salts of 16 bytes and two components of one length.")
        return cls(salts[:SALT_BYTES], salts[SALT_BYTES:], components[:half], components[half:])

    def fits(self, guardian: int, signed: Sequence[bytes]) -> bool:
        """Whether these are the components of guardian `guardian` under the three signed hashes."""
        return (
            component_sha256(self.own_salt, self.own) == signed[guardian]
            and component_sha256(self.following_salt, self.following) == signed[(guardian + 1) % GUARDIANS]
        )


def component_sha256(salt: bytes, component: bytes) -> bytes:
    """The hash under which a component is signed."""
    return sha256(b"facefare/component/1" + salt + component)


class SealedFor(StrEnum):
    """What a sealed share is for; a probe can't be opened as a reference."""

    SEARCH = "search"
    ENROL = "enrol"


_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


def _seal_info(use: SealedFor, gallery: str, guardian: int, request_id: bytes) -> bytes:
    return cbor2.dumps(["facefare-sealed-share-1", use.value, gallery, guardian, request_id])


def seal(share: bytes, identity: GuardianIdentity, use: SealedFor, gallery: str, request_id: bytes) -> bytes:
    """HPKE-seal `share` to one guardian, bound to the gallery and to the query or enrolment id (16 bytes)."""
    key = X25519PublicKey.from_public_bytes(identity.sealing_key)
    return _SUITE.encrypt(share, key, info=_seal_info(use, gallery, identity.index, request_id))


def open_sealed(
    sealed: bytes, key: X25519PrivateKey, guardian: int, use: SealedFor, gallery: str, request_id: bytes
) -> bytes:
    """The share inside `sealed`; raises `MessageError` if it was sealed to or for anything else."""
    try:
        return _SUITE.decrypt(sealed, key, info=_seal_info(use, gallery, guardian, request_id))
    except InvalidTag:
        raise MessageError(f"A sealed share can't be opened by guardian {guardian} for this request.") from None


def templates_in(sealed: bytes, dimensions: int) -> int:
    """How many templates (two components of D uint32 each) a sealed share of this length can hold; 1 at least."""
    return max(1, (len(sealed) - SEAL_OVERHEAD) // (8 * dimensions))
