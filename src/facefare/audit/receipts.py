"""Proof that one entry is in a log, small enough to hand to a payer.

A receipt holds the entry, its place, the audit path and the signed checkpoint. It can be checked offline with
the log's key and the witnesses' keys, and needs nothing else from the guardians.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cbor2

from facefare.audit.checkpoints import open_checkpoint
from facefare.audit.entries import Entry
from facefare.audit.errors import BundleError, NoteError
from facefare.audit.log import Log
from facefare.audit.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from facefare.audit.notes import NoteKey, SignedNote

_MAX_RECEIPT_BYTES = 131_072


@dataclass(frozen=True)
class Receipt:
    """Entry, index, audit path and checkpoint note; see `verify`."""

    entry: bytes
    index: int
    path: tuple[bytes, ...]
    note: bytes

    def to_bytes(self) -> bytes:
        """Write the receipt as CBOR."""
        return cbor2.dumps([1, self.entry, self.index, list(self.path), self.note], canonical=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a receipt. Raises BundleError."""
        try:
            if len(data) > _MAX_RECEIPT_BYTES:
                raise ValueError("too long")
            version, entry, index, path, note = cbor2.loads(data)
            whole = version == 1 and type(index) is int and isinstance(entry, bytes) and isinstance(note, bytes)
            if not whole or any(not isinstance(part, bytes) or len(part) != HASH_BYTES for part in path):
                raise ValueError("wrong fields")
            return cls(entry, index, tuple(path), note)
        except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as error:
            raise BundleError("That is not a receipt.") from error

    def verify(self, log: NoteKey, witnesses: Sequence[NoteKey]) -> Entry:
        """Return the entry if the log, co-signed by every witness given, contains it.

        Raises NoteError, ProofInvalid or EntryError.
        """
        note = SignedNote.parse(self.note)
        checkpoint = open_checkpoint(note, log)
        for witness in witnesses:
            if note.time_signed_by(witness) is None:
                raise NoteError(f"The checkpoint lacks the cosignature of {witness.name}.")
        verify_inclusion(self.index, checkpoint.size, leaf_hash(self.entry), self.path, checkpoint.root)
        return Entry.from_bytes(self.entry)


def receipt_for(log: Log, index: int) -> Receipt:
    """Return the receipt for an entry under the log's last checkpoint. Raises LogError if it isn't in it yet."""
    if log.note is None:
        raise BundleError("The log has signed no checkpoint yet.")
    size = open_checkpoint(log.note, log.key).size
    path = log.inclusion_proof(index, size)
    return Receipt(log.entry(index), index, tuple(path), log.note.to_bytes())
