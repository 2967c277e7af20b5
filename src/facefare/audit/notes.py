"""Signed notes and their keys (https://c2sp.org/signed-note), with the two Ed25519 kinds we need.

`LOG` (0x01) signs a note's text; `WITNESS` (0x04) is a timestamped cosignature (https://c2sp.org/tlog-cosignature).
A key is known by its name and its 32-bit id; a signature by a key nobody gave us is ignored, one by a key we
were given must verify.

Invariants: what parses is written back byte for byte; text, names and base64 are only accepted in the one form
the specification allows.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from facefare.audit.errors import NoteError, SignatureInvalid

MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 64  # the specification asks for at least 16
_SIGNATURE_BYTES = 64
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)")
_LINE = re.compile(r"— ([^ ]+) ([A-Za-z0-9+/]+=*)")


class KeyKind(IntEnum):
    """Signature type identifier bytes of C2SP."""

    LOG = 0x01
    WITNESS = 0x04


@dataclass(frozen=True)
class NoteKey:
    """A public key under a name, for one kind of signature."""

    name: str
    kind: KeyKind
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public) != 32:
            raise NoteError("An Ed25519 public key has 32 bytes.")

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read a verifier key: name+id+base64(kind ‖ key). Raises NoteError."""
        found = _VKEY.fullmatch(vkey)
        if found is None:
            raise NoteError("That is not a verifier key of the form name+id+key.")
        encoded = decode_base64(found[3])
        if not encoded or encoded[0] not in tuple(KeyKind):
            raise NoteError("The verifier key is of a kind this program does not know.")
        key = cls(found[1], KeyKind(encoded[0]), encoded[1:])
        if key.id.hex() != found[2]:
            raise NoteError("The verifier key's id does not fit its name and key.")
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that name this key beside its name."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        encoded = b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    def verify(self, text: str, blob: bytes) -> int:
        """Check a signature over a note's text; return its time (seconds since 1970; 0 for a log's own).

        Raises SignatureInvalid.
        """
        time, signature, message = 0, blob, text.encode()
        if self.kind is KeyKind.WITNESS:
            time = int.from_bytes(blob[:8], "big")
            signature, message = blob[8:], _cosigned(text, time)
        try:
            if len(signature) != _SIGNATURE_BYTES or time >= 1 << 63:
                raise SignatureInvalid(f"The signature of {self.name} has the wrong form.")
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature as error:
            raise SignatureInvalid(f"The signature of {self.name} does not verify.") from error
        return time


@dataclass(frozen=True, repr=False)
class NoteSigner:
    """A private key under a name. A key must not serve two names or two kinds."""

    name: str
    kind: KeyKind
    private: Ed25519PrivateKey

    @property
    def key(self) -> NoteKey:
        """The public side."""
        return NoteKey(self.name, self.kind, self.private.public_key().public_bytes_raw())

    def sign(self, text: str, time: int) -> "Signature":
        """Sign a note's text; `time` (seconds since 1970) goes into a witness's signature only."""
        if self.kind is KeyKind.WITNESS:
            blob = time.to_bytes(8, "big") + self.private.sign(_cosigned(text, time))
        else:
            blob = self.private.sign(text.encode())
        return Signature(self.name, self.key.id, blob)


@dataclass(frozen=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    blob: bytes

    def __str__(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.blob).decode()}"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a signature line, without its newline. Raises NoteError."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise NoteError("A line after the note's text is not a signature.")
        _check_name(found[1])
        blob = decode_base64(found[2])
        if len(blob) < 5:
            raise NoteError("A signature is too short.")
        return cls(found[1], blob[:4], blob[4:])


@dataclass(frozen=True)
class SignedNote:
    """A text and its signatures; nothing is verified until `time_signed_by` is asked."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a note. Raises NoteError."""
        if len(data) > MAX_NOTE_BYTES:
            raise NoteError("The note is too long.")
        try:
            note = data.decode()
        except UnicodeDecodeError as error:
            raise NoteError("The note is not UTF-8.") from error
        if any(character < " " and character != "\n" for character in note):
            raise NoteError("The note has control characters.")
        text, separator, signed = note.rpartition("\n\n")
        lines = signed.split("\n")
        if not separator or lines.pop() != "" or not 0 < len(lines) <= MAX_SIGNATURES:
            raise NoteError("The note has no signatures, too many, or does not end in a newline.")
        return cls(text + "\n", tuple(Signature.parse(line) for line in lines))

    def to_bytes(self) -> bytes:
        """Write the note."""
        return (self.text + "\n" + "".join(f"{signature}\n" for signature in self.signatures)).encode()

    def with_signatures(self, more: Iterable[Signature]) -> "SignedNote":
        """Return the note with signatures added; one by a key that has already signed is replaced."""
        by_key = {(signature.name, signature.key_id): signature for signature in (*self.signatures, *more)}
        return SignedNote(self.text, tuple(by_key.values()))

    def time_signed_by(self, key: NoteKey) -> int | None:
        """Return when `key` signed (0 for a log's own signature), or None if it did not.

        Raises SignatureInvalid if a signature under that key does not verify.
        """
        times = [
            key.verify(self.text, signature.blob)
            for signature in self.signatures
            if (signature.name, signature.key_id) == (key.name, key.id)
        ]
        return max(times, default=None)


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        raise NoteError("A key's name must not be empty nor contain spaces or plus signs.")


def decode_base64(text: str) -> bytes:
    """Decode base64 in its one proper form. Raises NoteError."""
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError("Something in the note is not base64.") from error
    if b64encode(data).decode() != text:
        raise NoteError("Something in the note is not base64 in its one proper form.")
    return data
