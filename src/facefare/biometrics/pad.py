"""Presentation attack detection by motion: a deterrent, not certified PAD.

When a head turns, its nose moves further than its ears. A flat picture of a head, however it is turned, moves
as one plane does: by a homography (Hartley and Zisserman, Multiple View Geometry, 2004, result 13.1). So fit
one between the landmarks before and after the turn, and look at what it leaves over.

  Challenge     at enrolment: moves of the head, drawn at random and asked for one by one
  TurnCheck     at enrolment: whether a turn that was asked for has depth
  MotionCheck   at a gate: the same parallax over the frames of a walk, without asking anything
  blinked       at enrolment: the eyes close and open again

A recording made before does not know which moves will be asked. None of the checks sees a mask, nor a picture that
somebody steers by what is asked (clips picked by hand, a face drawn live). What each lets through on simulated attacks
is measured by `facefare evaluate` and stated in docs/evaluation.md; no APCER or BPCER of real attacks is claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations, pairwise
from random import Random, SystemRandom
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.pipeline import Observation
from facefare.biometrics.quality import eye_centres


class Direction(Enum):
    """Which way to turn the head, as the subject sees it."""

    LEFT = 1
    RIGHT = -1


class Turn(Enum):
    """What a pair of views shows."""

    LIVE = "turned as asked, with the depth of a head"
    FLAT = "turned as asked, but as a flat picture does"
    TOO_LITTLE = "turned too little to tell"
    WRONG_WAY = "turned the other way"


@dataclass(frozen=True)
class TurnCheck:
    """A challenge: turn the head this way.

    min_turn: degrees of yaw between the views. threshold: least parallax of a live turn (see `parallax`).
    """

    direction: Direction
    min_turn: float = 10.0
    threshold: float = 0.04

    def judge(self, before: Observation, after: Observation) -> Turn:
        """Judge two views of one face, frontal before and turned after."""
        turned = (after.pose.yaw - before.pose.yaw) * self.direction.value
        if turned <= -self.min_turn:
            return Turn.WRONG_WAY
        if turned < self.min_turn:
            return Turn.TOO_LITTLE
        live = parallax(before.landmarks, after.landmarks) >= self.threshold
        return Turn.LIVE if live else Turn.FLAT


class Move(Enum):
    """A move of the head away from straight ahead, as the subject sees it."""

    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"


class Challenge:
    """Moves of the head that nobody can foresee, asked for one by one.

    Every move comes at least once and none twice in a row. An answer is the move that is asked for. A mistake is
    another move than that and the one before (from which the head has to come back), or no answer for too long;
    then something else is drawn. More mistakes than a person makes end it.
    """

    MOVES: Final = 6
    MISTAKES: Final = 2
    """More than that, and the challenge is lost."""
    TURN: Final = 10.0
    TILT: Final = 6.0
    """Degrees off straight ahead that make a move."""
    CLEAR_TILT: Final = 9.0
    """Degrees that make a tilt that was not asked for: heads tilt a little whatever they do."""
    PATIENCE: Final = 120
    """Frames without the answer: 8 seconds at 15 a second."""

    def __init__(self, random: Random | None = None) -> None:
        """`random` is for simulations; without it the moves come from the system's entropy."""
        self._random = random or SystemRandom()
        self._left: list[Move] = []
        while not self._left or any(one is next_one for one, next_one in pairwise(self._left)):
            self._left = [*Move, *self._random.choices(list(Move), k=self.MOVES - len(Move))]
            self._random.shuffle(self._left)
        self._before: Move | None = None
        self._mistakes = self._frames = 0

    @property
    def asked(self) -> Move | None:
        """The move that is asked for; None when all were shown, or the challenge is lost."""
        return self._left[0] if self._left and not self.lost else None

    @property
    def lost(self) -> bool:
        """Whether there were too many mistakes."""
        return self._mistakes > self.MISTAKES

    def shows(self, yaw: float, pitch: float) -> bool:
        """Whether a frame shows what is asked, given degrees off this head's own straight ahead; counts mistakes."""
        asked = self.asked
        if asked is None:
            return False
        self._frames += 1
        if self._degrees(asked, yaw, pitch) >= (self.TILT if asked in (Move.UP, Move.DOWN) else self.TURN):
            return True
        shown = self._clear(yaw, pitch)
        if self._frames > self.PATIENCE or shown not in (None, asked, self._before):
            self._mistakes += 1
            self._before, self._frames = shown, 0
            self._left.insert(0, self._random.choice([move for move in Move if move not in (asked, shown)]))
        return False

    def answered(self) -> None:
        """Go on to the next move: the frame that showed the last one was taken."""
        self._before = self._left.pop(0)
        self._frames = 0

    @staticmethod
    def _degrees(move: Move, yaw: float, pitch: float) -> float:
        return {Move.LEFT: yaw, Move.RIGHT: -yaw, Move.UP: -pitch, Move.DOWN: pitch}[move]

    def _clear(self, yaw: float, pitch: float) -> Move | None:
        """The move that a head clearly makes, whatever was asked."""
        if abs(yaw) >= self.TURN:
            return Move.LEFT if yaw > 0 else Move.RIGHT
        if abs(pitch) >= self.CLEAR_TILT:
            return Move.DOWN if pitch > 0 else Move.UP
        return None


class Motion(Enum):
    """What the frames of a walk show."""

    LIVE = "moves with the depth of a head"
    FLAT = "moves, but as a flat picture does"
    TOO_LITTLE = "turned too little to tell"


@dataclass(frozen=True)
class MotionCheck:
    """Parallax over the frames of a walk, between the two whose poses differ most.

    min_turn: degrees between these poses. threshold: least parallax of a live head.
    """

    min_turn: float = 6.0
    threshold: float = 0.035

    def judge(self, faces: Sequence[Observation]) -> Motion:
        """Judge at least two observations of one face, in any order; fewer show too little."""
        pairs = list(combinations(faces, 2))
        if not pairs:
            return Motion.TOO_LITTLE
        before, after = max(pairs, key=lambda pair: _turn(*pair))
        if _turn(before, after) < self.min_turn:
            return Motion.TOO_LITTLE
        live = parallax(before.landmarks, after.landmarks) >= self.threshold
        return Motion.LIVE if live else Motion.FLAT


CLOSED = 0.8
"""Share of the median opening of a person's eyes below which they count as closed."""


def blinked(eyes_open: Sequence[float], closed: float = CLOSED) -> bool:
    """Whether a series of `Quality.eyes_open`, in the order of its frames, shows the eyes open, closed and open again.

    closed: share of the median (of this person's own eyes) below which they count as closed; open is above its
    middle to 1. The landmarks follow lids poorly: painted lids bring them to 0.65..0.95 only, noise to 0.95.
    """
    values = np.asarray(eyes_open, np.float64)
    if len(values) < 3 or not (middle := float(np.median(values))) > 0:
        return False
    wide = np.flatnonzero(values >= middle * (1 + closed) / 2)
    shut = np.flatnonzero(values < middle * closed)
    return bool(len(wide) and ((shut > wide[0]) & (shut < wide[-1])).any())


def _turn(one: Observation, other: Observation) -> float:
    return float(np.hypot(one.pose.yaw - other.pose.yaw, one.pose.pitch - other.pose.pitch))


def parallax(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the RMS distance that the best homography leaves between landmarks (468, 2 or 3), over the
    distance of the eyes' centres before. 0 for a plane; infinite distances count as no parallax."""
    eyes = eye_centres(before)
    distance = float(np.linalg.norm(eyes[1] - eyes[0]))
    source, target = before[:, :2].astype(np.float64), after[:, :2].astype(np.float64)
    homography, _ = cv2.findHomography(source, target, 0)
    if homography is None or distance < 1e-6:
        return 0.0
    moved = cv2.perspectiveTransform(source[None], homography)[0]
    residual = float(np.sqrt(np.mean(np.sum((moved - target) ** 2, axis=1)))) / distance
    return residual if np.isfinite(residual) else 0.0
