"""What three guardians open for a payer: the running xor of the own row, sealed to that payer and signed.

Invariant: what is read was sealed by the three guardians for this request. Each signs what it sealed with its
transparency log's key, which a payer has from where the guardians publish it. The wallet, which carries the answers,
knows the one-time key they are sealed to: without signatures it could seal an xor of its own that fits what it shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from facefare.audit.errors import OpeningError, SignatureInvalid
from facefare.audit.notes import NoteKey, NoteSigner

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_FORM = 2


@dataclass(frozen=True, repr=False)
class SealedPart:
    """What one guardian gives out: its components, sealed, and its log key's signature (64 bytes) of that."""

    sealed: bytes
    signature: bytes


@dataclass(frozen=True, repr=False)
class Components:
    """What one guardian knows of one row: two of three components, and since when (ms since 1970) they count."""

    guardian: int
    era: int
    since: int
    taken: int
    own: int
    following: int

    def give(self, recipient: bytes, gallery: str, opening_id: bytes, signer: NoteSigner) -> SealedPart:
        """Seal to the payer's one-time X25519 key (32 bytes, raw) by HPKE (RFC 9180), and sign."""
        key = X25519PublicKey.from_public_bytes(recipient)
        words = (self.own.to_bytes(8, "big"), self.following.to_bytes(8, "big"))
        plain = cbor2.dumps([_FORM, self.guardian, self.era, self.since, self.taken, *words])
        sealed = _SUITE.encrypt(plain, key, info=_info(gallery, self.guardian, opening_id))
        return SealedPart(sealed, signer.sign(_statement(gallery, self.guardian, opening_id, sealed), 0).blob)

    @classmethod
    def take(
        cls, part: SealedPart, key: X25519PrivateKey, gallery: str, guardian: int, opening_id: bytes, log: NoteKey
    ) -> Self:
        """Open what the guardian of this log gave; raises OpeningError."""
        try:
            log.verify(_statement(gallery, guardian, opening_id, part.sealed), part.signature)
            plain = _SUITE.decrypt(part.sealed, key, info=_info(gallery, guardian, opening_id))
            form, named, era, since, taken, own, following = cbor2.loads(plain)
            if form != _FORM or named != guardian or any(type(n) is not int or n < 0 for n in (era, since, taken)):
                raise ValueError
            if len(own) != 8 or len(following) != 8:
                raise ValueError
            return cls(named, era, since, taken, int.from_bytes(own, "big"), int.from_bytes(following, "big"))
        except SignatureInvalid:
            raise OpeningError(f"What came as guardian {guardian}'s is not signed by it: it was made up.") from None
        except (InvalidTag, ValueError, TypeError, cbor2.CBORDecodeError):
            raise OpeningError(f"What guardian {guardian} sealed can't be opened with this key.") from None


@dataclass(frozen=True)
class Opened:
    """A row's running xor: of the tags of all identifications since `since` (ms since 1970), when era `era` began."""

    value: int
    era: int
    since: int


@dataclass(frozen=True, repr=False)
class Opening:
    """The answers to one request, and what opens them: as a payer keeps it until it is compared."""

    gallery: str
    opening_id: bytes
    key: X25519PrivateKey
    parts: tuple[SealedPart, ...]

    def read(self, logs: Sequence[NoteKey]) -> Opened:
        """What the guardians of these logs opened; raises OpeningError."""
        if len(self.parts) != len(logs) or len(logs) != 3:
            raise OpeningError("An opening takes one part of each of the three guardians.")
        return combine(
            [
                Components.take(part, self.key, self.gallery, guardian, self.opening_id, log)
                for guardian, (part, log) in enumerate(zip(self.parts, logs, strict=True))
            ]
        )

    def fields(self) -> dict[str, object]:
        """For the payer's own file, as JSON; the one-time key is in it."""
        return {
            "gallery": self.gallery,
            "opening_id": self.opening_id.hex(),
            "one_time_key": self.key.private_bytes_raw().hex(),
            "sealed": [part.sealed.hex() for part in self.parts],
            "signatures": [part.signature.hex() for part in self.parts],
        }

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a file that has these fields; raises OpeningError."""
        try:
            document = json.loads(text)
            parts = zip(document["sealed"], document["signatures"], strict=True)
            return cls(
                document["gallery"],
                bytes.fromhex(document["opening_id"]),
                X25519PrivateKey.from_private_bytes(bytes.fromhex(document["one_time_key"])),
                tuple(SealedPart(bytes.fromhex(sealed), bytes.fromhex(signature)) for sealed, signature in parts),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise OpeningError("That is no opening as the app or `facefare payer open-log` writes it.") from error


def combine(parts: Sequence[Components]) -> Opened:
    """Put three guardians' components, in order, together; raises OpeningError where they don't fit."""
    if len({(part.era, part.since, part.taken) for part in parts}) != 1:
        raise OpeningError("The guardians opened different states; ask again.")
    for i, part in enumerate(parts):
        if part.following != parts[(i + 1) % 3].own:
            raise OpeningError(f"Guardians {i} and {(i + 1) % 3} hold different values of one component: one is lying.")
    return Opened(parts[0].own ^ parts[1].own ^ parts[2].own, parts[0].era, parts[0].since)


def _info(gallery: str, guardian: int, opening_id: bytes) -> bytes:
    return cbor2.dumps(["facefare-opened-row-1", gallery, guardian, opening_id])


def _statement(gallery: str, guardian: int, opening_id: bytes, sealed: bytes) -> str:
    """What is signed: no checkpoint, whose first line is the log's name and has no space in it."""
    return f"facefare opened row\n{gallery}\n{guardian}\n{opening_id.hex()}\n{sha256(sealed).hexdigest()}\n"
