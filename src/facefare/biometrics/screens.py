"""Signs that a face is shown on a screen or a sheet: a deterrent beside the motion check, not certified PAD.

A recording that is played moves with the depth of a head, so that motion alone does not find it. Two other signs:
  border  a straight edge beside, above or below the face that travels with it: over the views it keeps its place
          measured from the face in distances between the eyes, not its place in the picture as a wall behind does;
  grid    narrow peaks in the spectrum of the face's colour differences: beats of a screen's grid with the camera's
          (moiré). Skin has no periods; those of JPEG's blocks are left out.
Neither sees a screen whose edge lies outside the picture and whose grid is finer than the camera shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.quality import eye_centres
from facefare.biometrics.views import View

Frame = NDArray[np.uint8]
_UNIT = 20  # pixels for the distance between the eyes, in the upright patch that edges are looked for in
_REACH = 5.5  # of that patch around the middle of the eyes, in distances between the eyes
_GRID = 128  # pixels of the side of the square of the face that the spectrum is taken of
_SLOPE = 0.2  # of an edge against upright or level


@dataclass(frozen=True)
class ScreenCheck:
    """Judges the views of one attempt.

    sides: how many of the four sides have to show a travelling border. length: of an edge, in distances between the
    eyes. still: how far it may move measured from the face, over how far it moves in the picture. travelled: pixels
    that it has to move in the picture. peak: of the spectrum over what is usual at that frequency.
    """

    sides: int = 3
    length: float = 2.6
    still: float = 0.4
    travelled: float = 16.0
    peak: float = 6.0

    def judge(self, views: Sequence[View]) -> bool:
        """Whether views of one face, of different sizes or places, look like a screen or a sheet."""
        return self.borders(views) >= self.sides or float(np.median([grid(view) for view in views])) >= self.peak

    def borders(self, views: Sequence[View]) -> int:
        """On how many sides an edge travels with the face, over all views."""
        edges = [_edges(view, self.length) for view in views]
        between_eyes = float(np.mean([view.face.inter_eye_distance for view in views]))
        return sum(self._travels([one[side] for one in edges], between_eyes) for side in range(4))

    def _travels(self, edges: Sequence[NDArray[np.float64]], between_eyes: float) -> bool:
        """Whether one edge of each view's (n, 2) keeps its place from the face but not in the picture."""
        low = high = edges[0]
        for others in edges[1:]:  # every choice of one edge a view: (n1, n2, ..., 2)
            low, high = np.minimum(low[..., None, :], others), np.maximum(high[..., None, :], others)
        from_face, in_picture = np.moveaxis(high - low, -1, 0)
        travels = (in_picture >= self.travelled) & (from_face * between_eyes <= self.still * in_picture)
        return bool(travels.any())


def grid(view: View) -> float:
    """Return the largest peak of the spectrum of the face's colour differences, over what is usual around it."""
    x, y = view.face.landmarks[:, :2].mean(axis=0)
    top, left = (round(float(middle)) - _GRID // 2 for middle in (y, x))
    square = view.frame[max(top, 0) : top + _GRID, max(left, 0) : left + _GRID].astype(np.float32)
    if min(square.shape[:2]) < _GRID:
        return 0.0
    difference = square[:, :, 0] - square[:, :, 2]
    difference -= cv2.GaussianBlur(difference, (0, 0), 6)
    window = np.hanning(_GRID).astype(np.float32)
    spectrum = np.abs(np.fft.rfft2(difference * window[:, None] * window)).astype(np.float32)
    spectrum = np.fft.fftshift(spectrum, axes=0)
    usual = cv2.blur(spectrum, (17, 17))
    y, x = np.mgrid[-_GRID // 2 : _GRID // 2, : _GRID // 2 + 1]
    period = _GRID / np.maximum(np.hypot(x, y), 1)
    blocks = ((x + 1) % (_GRID // 8) <= 2) & ((y + 1) % (_GRID // 8) <= 2)
    heard = (period >= 2.5) & (period <= 24) & (x > 0) & ~blocks
    return float((spectrum / np.maximum(usual, 1e-3))[heard].max())


def _edges(view: View, length: float) -> list[NDArray[np.float64]]:
    """Straight edges left, right, above and below of the face: (n, 2), how far from the middle of the eyes, in
    distances between the eyes, and where in the picture along the same axis, in pixels."""
    eyes = eye_centres(view.face.landmarks)
    middle, distance = eyes.mean(axis=0), view.face.inter_eye_distance
    roll = np.arctan2(*(eyes[1] - eyes[0])[::-1])
    scale, half = _UNIT / distance, _UNIT * _REACH
    turn = scale * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    to_patch = np.column_stack([turn, half - turn @ middle])
    grey = cv2.cvtColor(view.frame, cv2.COLOR_BGR2GRAY)
    patch = cv2.warpAffine(grey, to_patch, (round(2 * half),) * 2, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_CONSTANT)
    inside = cv2.warpAffine(np.ones_like(grey), to_patch, patch.shape[::-1])
    inside = cv2.erode(inside, np.ones((7, 7), np.uint8))
    found = cv2.createLineSegmentDetector().detect(patch)[0]
    segments = np.zeros((0, 4)) if found is None else found.reshape(-1, 4).astype(np.float64)
    centres = np.rint((segments[:, :2] + segments[:, 2:]) / 2).astype(int).clip(0, len(patch) - 1)
    segments = segments[inside[centres[:, 1], centres[:, 0]] > 0] - half
    along = np.abs(segments[:, 2:] - segments[:, :2])
    places = (segments[:, :2] + segments[:, 2:]) / 2
    sides = []
    for axis, other, side, beyond in ((0, 1, -1, 1.2), (0, 1, 1, 1.2), (1, 0, -1, 1.4), (1, 0, 1, 2.2)):
        straight = (along[:, axis] <= _SLOPE * along[:, other]) & (side * places[:, axis] >= beyond * _UNIT)
        where, share = places[straight, axis], along[straight, other]
        bins = np.rint(where / 4).astype(int)
        rows = []
        for one in np.unique(bins):
            near = np.abs(bins - one) <= 1
            if share[near].sum() >= length * _UNIT:
                off = float(np.average(where[near], weights=share[near])) / _UNIT
                rows.append((off, float(middle[axis]) + off * distance))
        sides.append(np.array(rows).reshape(-1, 2))
    return sides
