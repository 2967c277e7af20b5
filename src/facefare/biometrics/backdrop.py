"""What a fixed camera sees where nobody stands, and whether it is still there behind a face: a deterrent against
screens and prints that fill the view, beside the checks in `pad` and `screens`; not certified PAD.

The empty place is kept as the logarithms of the mean brightness of 32 x 24 cells. A view agrees where windows of 3 x 3
cells, beside and above the person, correlate with it (normalised cross-correlation: the same under another exposure,
and under light that changes slowly from cell to cell). People in the background cover some of it: a part is enough.

Invariants:
  - it learns from frames without any face only, from cells that were still for two seconds, and 20 before it first
    counts them: who passes by leaves nothing;
  - once known, a cell moves by `PACE` at most, so that nobody teaches it another place in a moment, and whatever stands
    there longer than that leaves no more than a shade, which goes the same way;
  - cells are too coarse to tell one face from another (20 pixels of 640), live in memory, and are never written
    or shown.

It does not see through a picture that shows this very place from this very spot.
"""

import time
from collections.abc import Callable
from enum import Enum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.pipeline import Observation

Frame = NDArray[np.uint8]
Grid = NDArray[np.float32]
ROWS, COLUMNS = 24, 32
PACE: Final = 0.5 / 600
"""How far a known cell may move, in natural logarithms of brightness a second of empty frames."""
FIRST: Final = 20.0
"""Seconds for which a cell has to be still before it is known, at the beginning."""
LATER: Final = 600.0
"""The same where the place can be told already: else what always moved could be taught by a still picture."""
STALE: Final = 1800.0
"""Seconds without an empty frame after which what was known counts no more: the light may be another one."""
_STILL = 2.0  # seconds for which a known cell has to be still to follow what it sees
_MOVED = 0.08  # natural logarithms; sensor noise, averaged over a cell, is a tenth of it
_OFTEN, _GAP = 0.1, 0.5  # seconds: frames that come sooner are passed over, longer gaps count as this much
_WINDOW = 3
_FULL = 5  # cells of a window that have to be known and uncovered
_TEXTURE = 0.06  # standard deviation in a window below which it says nothing
_AGREES = 0.9  # correlation of a window
_ENOUGH = 60  # windows beside a person that have to say something, or the place is too plain to tell
_FEWEST = 20  # the same, of one view


class Behind(Enum):
    """What is behind a face."""

    SAME = "the place that the camera stands in"
    OTHER = "another place, or nothing to be seen of this one"
    UNKNOWN = "the empty place is not known, or too plain to tell"


class Backdrop:
    """The empty place before one fixed camera. Not thread-safe."""

    def __init__(
        self,
        share: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`share`: of the windows that say something, those that have to agree; `clock` gives seconds; `on_change`
        hears whether the empty place is known well enough to compare with, each time that this changes."""
        self._share = share
        self._clock = clock
        self._on_change = on_change
        self._tells = False
        self._known: Grid | None = None  # NaN where not known
        self._recent: Grid | None = None
        self._still = np.zeros((ROWS, COLUMNS), np.float32)
        self._seen = self._learned = -np.inf

    def learn(self, frame: Frame) -> None:
        """Look at a frame (H, W, 3) uint8 BGR in which no face was found."""
        now = self._clock()
        passed = min(now - self._seen, _GAP)
        if passed < _OFTEN:
            return
        self._seen = now
        grid = _grid(frame)
        if self._recent is None:
            self._recent = grid
            self._still[:] = 0
            return
        grid -= np.float32(np.median(grid - self._recent))  # exposure
        moved = np.abs(grid - self._recent) > _MOVED
        self._recent += np.where(moved, 1, 0.2).astype(np.float32) * (grid - self._recent)
        self._still = np.where(moved, 0, self._still + np.float32(passed))
        self._follow(self._recent, passed, now)

    def somebody(self) -> None:
        """A frame held a face: nothing of the frames before is taken for the empty place any more."""
        self._recent = None

    def behind(self, frame: Frame, face: Observation) -> Behind:
        """Compare what a view (H, W, 3) uint8 BGR shows beside and above a face with the empty place."""
        if self._tells and self._clock() - self._learned > STALE:
            self._known = None
            self._weigh()
        if self._known is None or not self._tells:
            return Behind.UNKNOWN
        height, width = frame.shape[:2]
        x, y, across, down = face.box
        uncovered = ~_covered((x + across / 2) / width, (y + down / 2) / height, across / width, down / height)
        agreement, told = _told(self._known, uncovered, _grid(frame))
        if np.count_nonzero(told) < _FEWEST:
            return Behind.OTHER
        return Behind.SAME if np.mean(agreement[told] >= _AGREES) >= self._share else Behind.OTHER

    def _follow(self, seen: Grid, passed: float, now: float) -> None:
        """Take still cells over: those not known yet as they are, the others by no more than the pace allows."""
        if self._known is None:
            self._known = np.full_like(seen, np.nan)
        unknown = np.isnan(self._known)
        following = ~unknown & (self._still >= _STILL)
        if following.any():
            ahead = seen - self._known
            ahead -= np.float32(np.median(ahead[~unknown]))
            self._known += np.where(following, np.clip(ahead, -PACE * passed, PACE * passed), 0)
        first = unknown & (self._still >= (LATER if self._tells else FIRST))
        if first.any():
            level = 0.0 if unknown.all() else float(np.median((seen - self._known)[~unknown]))
            self._known[first] = seen[first] - np.float32(level)
        if np.count_nonzero(self._still >= _STILL) > self._still.size / 2:
            self._learned = now
            self._weigh()

    def _weigh(self) -> None:
        """Whether there is enough beside a person to compare with."""
        tells = self._known is not None and int(np.count_nonzero(_told(self._known, ~_STANDING)[1])) >= _ENOUGH
        if tells != self._tells:
            self._tells = tells
            self._on_change(tells)


def _grid(frame: Frame) -> Grid:
    """Mean brightness of each cell (ROWS, COLUMNS), as natural logarithm; black is lifted, so that noise is not."""
    sample = cv2.resize(frame, (10 * COLUMNS, 10 * ROWS), interpolation=cv2.INTER_NEAREST)  # 100 pixels a cell: fast
    cells = cv2.resize(sample, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA).astype(np.float32)
    grid: Grid = np.log(cells @ np.array([0.114, 0.587, 0.299], np.float32) + np.float32(4))
    return grid


def _covered(x: float, y: float, across: float, down: float) -> NDArray[np.bool_]:
    """Cells that a person covers whose face's middle is at (x, y): head, hair and body; all in parts of the frame."""
    rows = (np.arange(ROWS)[:, None] + 0.5) / ROWS - y
    aside = np.abs((np.arange(COLUMNS) + 0.5) / COLUMNS - x)
    head = (aside <= 0.75 * across) & (rows >= -1.1 * down)
    body = (aside <= 1.6 * across) & (rows >= 0.5 * down)
    return np.asarray(head | body)


_STANDING = _covered(0.5, 0.45, 0.3, 0.4)


def _told(known: Grid, uncovered: NDArray[np.bool_], seen: Grid | None = None) -> tuple[Grid, NDArray[np.bool_]]:
    """Normalised cross-correlation of the windows around each cell, and which of them say something."""
    counted = uncovered & ~np.isnan(known)
    weight = counted.astype(np.float32)
    level = known[counted].mean() if counted.any() else 0.0
    filled = np.where(counted, known - level, 0).astype(np.float32)
    count = np.maximum(_summed(weight), 1)
    mean = _summed(filled) / count
    spread = np.maximum(_summed(filled * filled) / count - mean**2, 0)
    told = counted & (count >= _FULL) & (spread >= _TEXTURE**2)
    if seen is None:
        return spread, told
    other = np.where(counted, seen - seen.mean(), 0).astype(np.float32)
    other_mean = _summed(other) / count
    other_spread = np.maximum(_summed(other * other) / count - other_mean**2, 0)
    together = _summed(filled * other) / count - mean * other_mean
    return np.asarray(together / np.sqrt(np.maximum(spread * other_spread, 1e-8))), told


def _summed(values: Grid) -> Grid:
    """The sum over the window around each cell."""
    return np.asarray(
        cv2.boxFilter(values, -1, (_WINDOW, _WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT), np.float32
    )
