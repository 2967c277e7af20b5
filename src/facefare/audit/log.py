"""A log on disk: plain files that only grow, in one folder with one writer.

- `entries`: the entries, each as length, CRC-32 (both 4 bytes, big-endian) and bytes. The only file that matters.
- `ends`, `hashes`: where each entry ends, and every complete subtree's hash (see `merkle.stored_index`).
  Both can be made again from `entries`.
- `checkpoint`: the last signed note.

Invariants:
- an entry is on the disk before `append` returns, so before its request is answered;
- after a crash, everything that was appended is there, what was half written is not, and the tree still
  extends the last signed checkpoint; if it doesn't, the log does not open;
- what a checkpoint was signed for never changes, so the log can't sign two that contradict each other.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import BinaryIO, Self
from zlib import crc32

from facefare.audit.checkpoints import Checkpoint, open_checkpoint
from facefare.audit.errors import LogBusy, LogCorrupt, LogError, NoteError
from facefare.audit.merkle import (
    HASH_BYTES,
    Frontier,
    consistency_proof,
    frontier_of,
    inclusion_proof,
    leaf_hash,
    stored_count,
    stored_index,
)
from facefare.audit.notes import KeyKind, NoteKey, NoteSigner, Signature, SignedNote

MAX_FRAME_BYTES = 65_536
_FRAME = Struct(">II")
_END = Struct(">Q")


class Log:
    """One guardian's log. Not thread-safe: one thread owns it."""

    def __init__(self, folder: Path, key: NoteKey) -> None:
        """Open the log of this key, made if there is none. Raises LogBusy, LogCorrupt or LogError."""
        self.key = key
        self._folder = folder
        self._broken = False
        self._note: SignedNote | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._entries, self._ends, self._hashes = (_open(folder / name) for name in ("entries", "ends", "hashes"))
        except OSError as error:
            raise LogError(f"The log {folder.name} can't be opened: {error.strerror}.") from error
        try:
            fcntl.flock(self._entries, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover()
            _sync_folder(folder)
        except BlockingIOError as error:
            self.close()
            raise LogBusy(f"The log {folder.name} is open already; a log has one writer.") from error
        except OSError as error:
            self.close()
            raise LogError(f"The log {folder.name} can't be read: {error.strerror}.") from error
        except LogError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files."""
        for file in (self._entries, self._ends, self._hashes):
            file.close()

    @property
    def size(self) -> int:
        """How many entries the log has."""
        return self._frontier.size

    @property
    def note(self) -> SignedNote | None:
        """The last signed checkpoint, with the cosignatures attached so far."""
        return self._note

    def root(self) -> bytes:
        """Return the root hash over all entries."""
        return self._frontier.root()

    def root_at(self, size: int) -> bytes:
        """Return the root hash over the first `size` entries."""
        if not 0 <= size <= self.size:
            raise LogError(f"The log has no tree of {size} entries.")
        return frontier_of(size, self._read_hash).root()

    def root_with(self, entries: Sequence[bytes]) -> bytes:
        """Return the root hash that appending these entries would give; nothing is appended."""
        tree = frontier_of(self.size, self._read_hash)
        for entry in entries:
            tree.add(leaf_hash(entry))
        return tree.root()

    def append(self, entries: Sequence[bytes]) -> range:
        """Append entries; return their indices. On return they are on the disk.

        Raises LogError: nothing was appended, and the requests must not be answered. After a failure that
        leaves the disk's state unknown, the log refuses everything until it is opened again.
        """
        if self._broken:
            raise LogError("The log failed before and must be opened again.")
        if any(len(entry) > MAX_FRAME_BYTES for entry in entries):
            raise LogError("An entry is too long for the log.")
        frames = b"".join(_FRAME.pack(len(entry), crc32(entry)) + entry for entry in entries)
        self._broken = True
        try:
            _write(self._entries, frames)
            os.fsync(self._entries.fileno())
        except OSError as error:
            raise LogError(f"The log can't grow: {error.strerror}.") from error
        first = self.size
        self._index(entries)
        self._broken = False
        return range(first, self.size)

    def entry(self, index: int) -> bytes:
        """Return one entry. Raises LogCorrupt if it is not what was appended."""
        if not 0 <= index < self.size:
            raise LogError(f"The log has no entry {index}.")
        start, end = self._end_of(index), self._end_of(index + 1)
        try:
            frame = os.pread(self._entries.fileno(), end - start, start)
        except (OSError, OverflowError) as error:
            raise LogCorrupt(f"Entry {index} can't be read.") from error
        entry = frame[_FRAME.size :]
        if len(frame) != end - start or leaf_hash(entry) != self._read_hash(0, index):
            raise LogCorrupt(f"Entry {index} is not what was appended.")
        return entry

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return the proof that entry `index` is in the tree of the first `size` entries."""
        if not 0 <= index < size <= self.size:
            raise LogError("A proof needs an entry inside a tree that the log has.")
        return inclusion_proof(index, size, self._read_hash)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of the first `new` entries extends that of the first `old`."""
        if not 0 < old <= new <= self.size:
            raise LogError("A consistency proof runs between two trees that the log has.")
        return consistency_proof(old, new, self._read_hash)

    def sign_checkpoint(self, signer: NoteSigner) -> SignedNote:
        """Sign the log as it is now; the note is on the disk before it is returned.

        If nothing was appended since the last one, that one is returned, cosignatures and all.
        """
        if signer.key != self.key:
            raise LogError("A log is signed with its own key.")
        checkpoint = Checkpoint(self.key.name, self.size, self.root())
        if self._note is not None and self._note.text == checkpoint.text():
            return self._note
        for file in (self._ends, self._hashes):
            os.fsync(file.fileno())
        note = checkpoint.sign(signer)
        self._store(note)
        return note

    def attach(self, cosignatures: Sequence[Signature], witnesses: Sequence[NoteKey]) -> SignedNote:
        """Keep the witnesses' cosignatures with the last checkpoint. Raises NoteError for any other signature."""
        if self._note is None:
            raise LogError("There is no checkpoint to attach a cosignature to.")
        known = {(key.name, key.id): key for key in witnesses if key.kind is KeyKind.WITNESS}
        for signature in cosignatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                raise NoteError(f"{signature.name} is not a witness of this log.")
            key.verify(self._note.text, signature.blob)
        self._store(self._note.with_signatures(cosignatures))
        return self._note

    def _store(self, note: SignedNote) -> None:
        replace_file(self._folder / "checkpoint", note.to_bytes())
        self._note = note

    def _recover(self) -> None:
        path = self._folder / "checkpoint"
        signed = Checkpoint(self.key.name, 0, Frontier().root())
        if path.exists():
            try:
                self._note = SignedNote.parse(path.read_bytes())
                signed = open_checkpoint(self._note, self.key)
            except NoteError as error:
                raise LogCorrupt(f"The log's own checkpoint is wrong: {error}") from error
        # The indexes were on the disk before the checkpoint was; what came later may be anything.
        self._frontier = self._indexed(signed)
        self._ends.truncate(self._frontier.size * _END.size)
        self._hashes.truncate(stored_count(self._frontier.size) * HASH_BYTES)
        start = self._end_of(self._frontier.size)
        found = list(self._scan(start))
        self._index(found)
        if self.size < signed.size or frontier_of(signed.size, self._read_hash).root() != signed.root:
            raise LogCorrupt("The log's entries do not match the checkpoint it signed.")
        # Beyond the last whole entry there can only be one that was being written: no one had an answer yet.
        self._entries.truncate(self._end_of(self.size))

    def _indexed(self, signed: Checkpoint) -> Frontier:
        """Return the signed tree if the index files have it, else an empty one: all is to be indexed again."""
        hashes = os.fstat(self._hashes.fileno()).st_size // HASH_BYTES
        ends = os.fstat(self._ends.fileno()).st_size // _END.size
        if hashes < stored_count(signed.size) or ends < signed.size:
            return Frontier()
        self._frontier = frontier_of(signed.size, self._read_hash)
        try:
            if signed.size:
                self.entry(signed.size - 1)
        except LogCorrupt:
            return Frontier()
        return self._frontier if self._frontier.root() == signed.root else Frontier()

    def _scan(self, start: int) -> Iterator[bytes]:
        with (self._folder / "entries").open("rb") as file:
            file.seek(start)
            yield from read_frames(file)

    def _index(self, entries: Sequence[bytes]) -> None:
        end = self._end_of(self.size)
        ends, hashes = bytearray(), bytearray()
        for entry in entries:
            end += _FRAME.size + len(entry)
            ends += _END.pack(end)
            hashes += b"".join(self._frontier.add(leaf_hash(entry)))
        try:
            _write(self._ends, ends)
            _write(self._hashes, hashes)
        except OSError as error:
            raise LogError(f"The log's index can't grow: {error.strerror}.") from error

    def _end_of(self, count: int) -> int:
        """Where the first `count` entries end."""
        if count == 0:
            return 0
        (end,) = _END.unpack(os.pread(self._ends.fileno(), _END.size, (count - 1) * _END.size))
        return int(end)

    def _read_hash(self, level: int, index: int) -> bytes:
        offset = stored_index(level, index) * HASH_BYTES
        return os.pread(self._hashes.fileno(), HASH_BYTES, offset)


def read_frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield whole entries until the file's end or the first that is torn or damaged."""
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        length, check = _FRAME.unpack(head)
        if length > MAX_FRAME_BYTES:
            return
        entry = file.read(length)
        if len(entry) != length or crc32(entry) != check:
            return
        yield entry


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the file's place, so that a crash leaves the old or the new. Raises LogError."""
    aside = path.with_name(path.name + ".new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise LogError(f"{path.name} can't be written: {error.strerror}.") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+b", buffering=0)


def _write(file: BinaryIO, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
