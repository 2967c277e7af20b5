"""A running xor for each row, in shares: what lets a payer check that no identification was kept from them.

Job: keep this guardian's two components, (2, rows) uint64 a gallery, in step with the other two's.
Invariants:
- a batch is taken in as a whole or not at all: the next state is written beside the current one, and then one word
  says which counts. `kill -9` at any moment leaves the one or the other;
- the state before stays until the others are known to have the new one, so that a guardian that is one batch ahead of
  them can go back;
- what can't be brought in step (another machine's disk, lost power) begins anew at all three with a new era and the
  time of it, which every payer is told: a lost stretch is stated, never silent.

The file holds shares and belongs in no backup: two guardians' files together say who paid and when it changed.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facefare.guardian.errors import StoreError, StoreFull

_MAGIC = 0x31534D5553_4646  # "FFSUMS1"
_HEADER_WORDS = 512  # a page
_STEP = 65_536  # rows the file grows by
_TORN = (1 << 64) - 1
# words of the header
_KIND, _CAPACITY, _ACTIVE, _ERA, _SINCE, _TAKEN, _BOOT = 0, 1, 2, 3, 4, 5, 7


@dataclass(frozen=True)
class Position:
    """Where a guardian is: how many batches it took in since `since` (ms since 1970), when era `era` began."""

    era: int
    taken: int
    since: int
    undoable: bool


class Accumulators:
    """One gallery's, in a file mapped into memory. Not thread-safe: the engine's thread owns it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises StoreError. One that lost power since is in era 0, which fits nobody's."""
        self._path = path
        self._copied = False  # the spare state is equal to the current one
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if not path.exists():
                _create(path, _STEP, np.zeros(_HEADER_WORDS, np.uint64), np.zeros((2, 2, 0), np.uint64))
            self._map()
        except (OSError, ValueError) as error:
            raise StoreError(f"The accumulators {path.name} can't be opened: {type(error).__name__}.") from error
        boot = _boot()
        before = self._header[_BOOT : _BOOT + 2]
        if self._header[_KIND] != _MAGIC or (before.any() and not np.array_equal(before, boot)):
            self._header[_ERA] = 0
        self._header[_BOOT : _BOOT + 2] = boot

    def close(self) -> None:
        """Write everything to the disk: from now on it survives lost power."""
        with suppress(OSError, ValueError):
            self._file.flush()
            self._header[_BOOT : _BOOT + 2] = 0
            self._file.flush()

    @property
    def position(self) -> Position:
        """Where this guardian is."""
        active = int(self._header[_ACTIVE])
        taken = int(self._header[_TAKEN + active])
        undoable = int(self._header[_TAKEN + 1 - active]) == taken - 1
        return Position(int(self._header[_ERA]), taken, int(self._header[_SINCE]), undoable)

    def prepare(self) -> None:
        """Copy the state in an idle moment, so that `begin` need not; only when all three are known to have it."""
        if self.position.undoable:
            self._copy()

    def begin(self, rows: int) -> NDArray[np.uint64]:
        """A copy of the current state, (2, rows) uint64, to be changed; `keep` makes it count."""
        self.reserve(rows)
        if not self._copied:
            self._copy()
        self._copied = False
        return self._states[1 - int(self._header[_ACTIVE]), :, :rows]

    def reserve(self, rows: int) -> None:
        """Make room on the disk for so many rows; raises StoreFull or StoreError, then nothing has changed."""
        if rows <= self._capacity:
            return
        self._copied = False
        try:
            _create(self._path, -(-rows * 5 // 4 // _STEP) * _STEP, self._header, self._states)
            self._map()
        except OSError as error:
            kind = StoreFull if error.errno == errno.ENOSPC else StoreError
            raise kind(f"The accumulators can't grow: {error.strerror}.") from error

    def _copy(self) -> None:
        active = int(self._header[_ACTIVE])
        self._header[_TAKEN + 1 - active] = _TORN
        np.copyto(self._states[1 - active], self._states[active])
        self._copied = True

    def keep(self) -> None:
        """Let what was begun count."""
        active = int(self._header[_ACTIVE])
        self._header[_TAKEN + 1 - active] = self._header[_TAKEN + active] + np.uint64(1)
        self._header[_ACTIVE] = 1 - active

    def undo(self) -> None:
        """Go back by one batch; see `Position.undoable`."""
        if not self.position.undoable:
            raise StoreError("The accumulators can't go back.")
        self._copied = False
        self._header[_ACTIVE] = 1 - self._header[_ACTIVE]

    def restart(self, era: int, since: int) -> None:
        """Begin anew."""
        self._copied = False
        self._header[_ERA] = 0  # a crash in here must not look like a state
        self._states[:] = 0
        self._header[_ACTIVE], self._header[_TAKEN], self._header[_TAKEN + 1] = 0, 0, _TORN
        self._header[_SINCE], self._header[_ERA] = since, era

    def clear(self, rows: NDArray[np.int64]) -> None:
        """Forget rows, in both states: they were deleted."""
        rows = rows[rows < self._capacity]
        self._states[:, :, rows] = 0

    def components(self, row: int) -> tuple[int, int]:
        """This guardian's two components of one row."""
        if row >= self._capacity:
            return 0, 0
        own, following = self._states[int(self._header[_ACTIVE]), :, row]
        return int(own), int(following)

    def _map(self) -> None:
        self._file = np.memmap(self._path, np.uint64, "r+")
        words = np.asarray(self._file)
        self._header = words[:_HEADER_WORDS]
        self._capacity = int(self._header[_CAPACITY])
        self._states = words[_HEADER_WORDS:].reshape(2, 2, self._capacity)


class AccumulatorFolder:
    """All galleries' accumulators, opened when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        """Of files in `folder`; made when needed."""
        self._folder = folder
        self._open: dict[str, Accumulators] = {}

    def of(self, gallery: str) -> Accumulators:
        """This gallery's; raises StoreError."""
        if gallery not in self._open:
            self._open[gallery] = Accumulators(self._folder / f"{gallery}.sums")
        return self._open[gallery]

    def prepare(self) -> None:
        """In a quiet moment, what the next batches would wait for."""
        for sums in self._open.values():
            sums.prepare()

    def close(self) -> None:
        """Release the files."""
        for sums in self._open.values():
            sums.close()


def _create(path: Path, capacity: int, header: NDArray[np.uint64], states: NDArray[np.uint64]) -> None:
    """Put a file of this capacity in place, as a whole, with what `header` and `states` (2, 2, fewer) say."""
    words = header.copy()
    if not header.any():
        words[_ERA], words[_TAKEN + 1] = 1, _TORN
    words[_KIND], words[_CAPACITY] = _MAGIC, capacity
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(words.tobytes())
            file.flush()
            # all blocks at once: a page of a mapped file that finds the disk full later would kill the process
            os.posix_fallocate(file.fileno(), 0, 8 * (_HEADER_WORDS + 4 * capacity))
    except OSError:
        aside.unlink()
        raise
    if states.size:
        filled = np.memmap(aside, np.uint64, "r+")
        filled[_HEADER_WORDS:].reshape(2, 2, capacity)[:, :, : states.shape[2]] = states
    aside.replace(path)


def _boot() -> NDArray[np.uint64]:
    text = Path("/proc/sys/kernel/random/boot_id").read_text()
    return np.frombuffer(bytes.fromhex(text.strip().replace("-", "")), np.uint64)
