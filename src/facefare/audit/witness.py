"""A witness: co-signs another log's checkpoint only if that log did nothing but grow.

Invariants: what was co-signed last is on the disk before the cosignature leaves; of one log, never a smaller
tree after a larger one, never two trees of one size, never one that does not extend the last.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from facefare.audit.checkpoints import open_checkpoint
from facefare.audit.errors import Inconsistent, NoteError, ProofInvalid, WitnessRefusal
from facefare.audit.log import replace_file
from facefare.audit.merkle import EMPTY_ROOT, verify_consistency
from facefare.audit.notes import KeyKind, NoteKey, NoteSigner, Signature, SignedNote


class Witness:
    """Co-signs for the logs it knows; one folder holds the last note of each. Not thread-safe."""

    def __init__(self, folder: Path, signer: NoteSigner, logs: Sequence[NoteKey]) -> None:
        if signer.kind is not KeyKind.WITNESS:
            raise NoteError("A witness signs with a key of the witness kind.")
        self._signer = signer
        self._logs: Mapping[str, NoteKey] = {log.name: log for log in logs}
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def last_note(self, origin: str) -> SignedNote | None:
        """Return the note last co-signed for a log: from its size on, the next proof must start."""
        path = self._path(origin)
        return SignedNote.parse(path.read_bytes()) if path.exists() else None

    def cosign(self, note: SignedNote, proof: Sequence[bytes], now: int) -> Signature:
        """Co-sign a checkpoint. `proof`: consistency from `last_note`'s size; `now` in seconds since 1970.

        Raises WitnessRefusal (unknown log, not its signature, smaller, or the proof fails) or Inconsistent,
        which holds two notes of one size that the log signed: evidence of a fork.
        """
        log = self._logs.get(note.text.partition("\n")[0])
        if log is None:
            raise WitnessRefusal("This witness does not know that log.")
        try:
            checkpoint = open_checkpoint(note, log)
        except NoteError as error:
            raise WitnessRefusal(f"That is not a checkpoint of {log.name}: {error}") from error
        last = self.last_note(log.name)
        if last is None:
            if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
                raise WitnessRefusal("An empty log has another root.")
        else:
            before = open_checkpoint(last, log)
            if checkpoint.size < before.size:
                raise WitnessRefusal(f"{log.name} has {checkpoint.size} entries, it had {before.size}.")
            if checkpoint.size == before.size and checkpoint.root != before.root:
                message = f"{log.name} signed two different trees of {before.size} entries."
                raise Inconsistent(message, last.to_bytes(), note.to_bytes())
            if before.size > 0:
                try:
                    verify_consistency(before.size, checkpoint.size, before.root, checkpoint.root, proof)
                except ProofInvalid as error:
                    raise WitnessRefusal(f"{log.name} did not show that it only grew: {error}") from error
        replace_file(self._path(log.name), note.to_bytes())
        return self._signer.sign(note.text, now)

    def _path(self, origin: str) -> Path:
        return self._folder / f"{sha256(origin.encode()).hexdigest()[:32]}.checkpoint"
