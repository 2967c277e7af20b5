"""What can go wrong in the transparency log.

AuditError
├── ProofInvalid    a Merkle proof does not prove what it should
├── NoteError       a note, key, checkpoint or cosignature is malformed
│   └── SignatureInvalid   a known key's signature does not verify
├── EntryError      an entry says less, more or something else than an entry may
├── LogError        the log on disk can't be used
│   ├── LogBusy     another process has it open
│   └── LogCorrupt  it does not match what was signed
├── WitnessRefusal  a checkpoint was not co-signed
│   └── Inconsistent       the log contradicts what it signed before; carries both notes
├── OpeningError    what the guardians opened for a payer does not fit together
└── BundleError     what was given to be verified can't be read
"""


class AuditError(Exception):
    """Base class of every error of this room."""


class ProofInvalid(AuditError):
    """A Merkle proof does not prove what it should."""


class NoteError(AuditError):
    """A note, key, checkpoint or cosignature is malformed."""


class SignatureInvalid(NoteError):
    """The signature of a known key does not verify."""


class EntryError(AuditError):
    """An entry says less, more or something else than an entry may."""


class LogError(AuditError):
    """The log on disk can't be used."""


class LogBusy(LogError):
    """Another process has the log open; a log has one writer."""


class LogCorrupt(LogError):
    """The log on disk does not match what was signed; restore it or take the guardian out of service."""


class WitnessRefusal(AuditError):
    """A checkpoint was not co-signed."""


class Inconsistent(WitnessRefusal):
    """A log contradicts what it signed before. `before` and `after` are the two signed notes: publish them."""

    def __init__(self, message: str, before: bytes, after: bytes) -> None:
        super().__init__(message)
        self.before = before
        self.after = after


class OpeningError(AuditError):
    """What the guardians opened for a payer can't be read or does not fit together."""


class BundleError(AuditError):
    """What was given to be verified can't be read."""
