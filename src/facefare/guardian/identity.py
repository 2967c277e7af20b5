"""What is public of a guardian: the file by which terminals, stations, relays and the other two know it.

Invariants:
- a successor (its next keys) counts only under the signature of the present signing key, and is the same guardian with
  the same log;
- what is signed by a guardian is checked against the present and the announced keys, and against no others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.guardian.errors import MessageError
from facefare.guardian.messages import GUARDIANS, Confirmation, sha256, verify
from facefare.guardian.wire import integer, octets

_SUCCESSION = b"facefare/succession/1"


@dataclass(frozen=True)
class GuardianIdentity:
    """What is public of one guardian.

    Attributes:
        index, name, host: which, whose, where.
        http_port, link_port: for relays, for the other guardians.
        certificate: PEM.
        signing_key, sealing_key: raw, 32 bytes: Ed25519, X25519.
        log_key, witness_key: verifier keys of its transparency log, and of it as a witness of the others'.
        public_port: plain HTTP, where anyone may read its log; 0: it publishes the log's folder otherwise.
        succession: the document of its next keys and the signature of the present signing key over it, once announced:
            until it has changed over, and after, whoever has this takes both.
    """

    index: int
    name: str
    host: str
    http_port: int
    link_port: int
    certificate: str
    signing_key: bytes
    sealing_key: bytes
    log_key: str = ""
    witness_key: str = ""
    public_port: int = 0
    succession: tuple[str, bytes] | None = None

    @property
    def successor(self) -> GuardianIdentity | None:
        """What it will be after the rotation of its keys, if one was announced."""
        return None if self.succession is None else GuardianIdentity.from_json(self.succession[0])

    @property
    def valid(self) -> tuple[GuardianIdentity, ...]:
        """This one, and the successor if there is one: either may be met."""
        successor = self.successor
        return (self,) if successor is None else (self, successor)

    def check(self, confirmation: Confirmation) -> None:
        """Raise `MessageError` unless this guardian, or its announced successor, signed the confirmation."""
        if confirmation.fields.guardian != self.index:
            raise MessageError(f"This confirmation is not from guardian {self.index}.")
        *others, last = self.valid
        for one in others:
            try:
                return verify(one.signing_key, confirmation.signature, confirmation.payload)
            except MessageError:
                continue
        return verify(last.signing_key, confirmation.signature, confirmation.payload)

    def announce(self, successor: GuardianIdentity, key: Ed25519PrivateKey) -> GuardianIdentity:
        """The same with these next keys, signed by the present signing key."""
        document = successor.to_json()
        return replace(self, succession=(document, key.sign(_SUCCESSION + document.encode())))

    def fingerprint(self) -> str:
        """Of its keys, to be compared by phone: 32 hex digits in groups."""
        digits = sha256(replace(self, succession=None).to_json().encode()).hex()[:32]
        return " ".join(digits[n : n + 4] for n in range(0, 32, 4))

    @property
    def server_name(self) -> str:
        """The DNS name in its certificate."""
        return f"guardian-{self.index}.facefare.invalid"

    def to_json(self) -> str:
        """The identity file that guardians, terminals and the relay are given."""
        return json.dumps(
            {
                **{name: value for name, value in self.__dict__.items() if name != "succession"},
                "signing_key": self.signing_key.hex(),
                "sealing_key": self.sealing_key.hex(),
                **({} if self.succession is None else {"succession": [self.succession[0], self.succession[1].hex()]}),
            },
            indent=2,
        )

    @classmethod
    def from_file(cls, path: Path) -> GuardianIdentity:
        """An identity from an `identity.json`; raises `MessageError`, which names the file, and OSError."""
        try:
            return cls.from_json(path.read_bytes().decode(errors="replace"))
        except MessageError as error:
            raise MessageError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, document: str) -> GuardianIdentity:
        """An identity from its file; raises `MessageError`."""
        try:
            body = json.loads(document)
            if "succession" in body:
                next_document, signature = body["succession"]
                body["succession"] = (str(next_document), bytes.fromhex(signature))
            identity = cls(
                **{
                    **body,
                    "signing_key": bytes.fromhex(body["signing_key"]),
                    "sealing_key": bytes.fromhex(body["sealing_key"]),
                }
            )
            integer(0, GUARDIANS - 1)(identity.index)
            octets(32)(identity.signing_key)
            octets(32)(identity.sealing_key)
        except (ValueError, KeyError, TypeError) as error:
            raise MessageError("This is no guardian identity file.") from error
        identity._check_succession()
        return identity

    def _check_succession(self) -> None:
        if self.succession is None:
            return
        document, signature = self.succession
        verify(self.signing_key, signature, _SUCCESSION + document.encode())
        successor = GuardianIdentity.from_json(document)
        stays = ("index", "log_key", "witness_key", "succession")
        if any(getattr(successor, name) != getattr(replace(self, succession=None), name) for name in stays):
            raise MessageError("A successor is the same guardian, with the same log, and has no successor itself.")
