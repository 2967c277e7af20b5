"""Checkpoints: a log's size and root as the text of a signed note (https://c2sp.org/tlog-checkpoint)."""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Self

from facefare.audit.errors import NoteError
from facefare.audit.merkle import HASH_BYTES
from facefare.audit.notes import NoteKey, NoteSigner, SignedNote, decode_base64

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: `root` over its first `size` entries. `origin` names the log."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Write the note's text."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the note's text; raises NoteError. Extension lines are refused: our logs write none."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteError("A checkpoint has three lines: origin, size, root.")
        origin, size, root = lines[:3]
        if not origin or _SIZE.fullmatch(size) is None:
            raise NoteError("A checkpoint needs an origin and a size without leading zeros.")
        decoded = decode_base64(root)
        if len(decoded) != HASH_BYTES:
            raise NoteError("A checkpoint's root has 32 bytes.")
        return cls(origin, int(size), decoded)

    def sign(self, signer: NoteSigner) -> SignedNote:
        """Return this checkpoint as a note signed by the log itself."""
        return SignedNote(self.text(), (signer.sign(self.text(), 0),))


def open_checkpoint(note: SignedNote, log: NoteKey) -> Checkpoint:
    """Return the checkpoint in a note, if this log signed it and it is about this log.

    Raises NoteError (or SignatureInvalid) otherwise.
    """
    if note.time_signed_by(log) is None:
        raise NoteError(f"The checkpoint is not signed by {log.name}.")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise NoteError(f"The checkpoint signed by {log.name} is about another log.")
    return checkpoint
