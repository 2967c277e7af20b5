"""An enrolment station's capture: different good views of one live person, asked for one by one, fused into one
reference.

Invariants:
  - a view is held in memory until the reference is made or the capture is dropped;
  - every view is what was asked for: straight ahead, then moves of the head that nobody can foresee, every one of
    both turns and both tilts among them;
  - every view has to look like the first one's person, every turn has to have a head's depth, and the eyes have to
    blink: a photo, another person's face for one view, or moves that were not asked for end the capture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import ENROLMENT, FacePipeline, Hint, Observation, QualityPolicy, Template, fuse
from facefare.biometrics.pad import Challenge, Direction, Move, Turn, TurnCheck, blinked

SAME_PERSON = 0.90
"""Cosine of two views of one capture below which they can't be one person's, for the default embedder."""
_STRAIGHT = 12.0
"""Degrees that still count as straight ahead: people hold their heads differently."""
_FLAT_TURNS = 3
"""Turns without depth that end a capture; landmarks may slip once."""
_MOST_BLINK_FRAMES = 150


class NotOnePersonError(Exception):
    """The views of one capture do not look like one person; the capture starts again."""


class NotLiveError(Exception):
    """Turned as a flat picture does, or moved as nobody asked; the capture starts again, and the staff look."""


class Ask(Enum):
    """What the person is asked for, one after the other."""

    LOOK_AHEAD = "look straight at the camera"
    TURN_LEFT = "turn your head to your left"
    TURN_RIGHT = "turn your head to your right"
    TILT_UP = "lift your chin a little"
    TILT_DOWN = "lower your chin a little"
    BLINK = "look straight at the camera and blink"


@dataclass(frozen=True)
class Taken:
    """What became of one frame offered.

    Attributes:
        views: how many there are.
        hint: the one thing to change, or None.
        asked: what is asked for next; None when the capture is complete.
    """

    views: int
    hint: Hint | None
    asked: Ask | None


class Capture:
    """Guided capture: offer frames until nothing more is asked, then make the reference."""

    def __init__(self, pipeline: FacePipeline, policy: QualityPolicy = ENROLMENT) -> None:
        self._pipeline = pipeline
        self._policy = policy
        self._challenge = Challenge()
        self._templates: list[Template] = []
        self._ahead: Observation | None = None
        self._eyes: list[float] = []
        self._blinked = False
        self._flat = 0

    @property
    def asked(self) -> Ask | None:
        """What is asked for now; None when the capture is complete."""
        if self._ahead is None:
            return Ask.LOOK_AHEAD
        move = self._challenge.asked
        if move is not None:
            return _ASKS[move]
        return None if self._blinked else Ask.BLINK

    @property
    def complete(self) -> bool:
        """Whether nothing more is asked."""
        return self.asked is None

    def offer(self, frame: NDArray[np.uint8]) -> Taken:
        """Take the frame's view if it is good and shows what was asked.

        Raises:
            NotLiveError, NotOnePersonError: the capture is over, and has forgotten every view.
            NoFaceError, SeveralFacesError, FaceTooSmallError and other BiometricsError: see `FacePipeline.observe`.
        """
        face = self._pipeline.observe(frame)
        if self.asked is Ask.BLINK:
            self._eyes = [*self._eyes, face.quality.eyes_open][-_MOST_BLINK_FRAMES:]
            self._blinked = blinked(self._eyes)
            return Taken(len(self._templates), None, self.asked)
        hint = self._policy.hint(face.pose, face.quality)
        if self._shows(face) and hint is None:
            self._take(frame, face)
        return Taken(len(self._templates), hint, self.asked)

    def reference(self) -> Template:
        """Fuse the views and forget them. Raises ValueError while something is still asked."""
        if not self.complete:
            raise ValueError("The capture is not complete.")
        fused = fuse(self._templates)
        self.forget()
        return fused

    def forget(self) -> None:
        """Drop every view, and begin anew."""
        self._templates.clear()
        self._eyes.clear()
        self._ahead, self._blinked, self._flat = None, False, 0
        self._challenge = Challenge()

    def _shows(self, face: Observation) -> bool:
        """Whether the face shows what is asked; every frame counts, good or not, so that no move goes unseen."""
        if self._ahead is None:
            return abs(face.pose.yaw) <= _STRAIGHT and abs(face.pose.pitch) <= _STRAIGHT
        move, ahead = self._challenge.asked, self._ahead.pose
        shown = self._challenge.shows(face.pose.yaw - ahead.yaw, face.pose.pitch - ahead.pitch)
        if self._challenge.lost:
            self.forget()
            raise NotLiveError("The moves were not those that were asked for. Please start again, in person.")
        if not shown or move not in _DIRECTIONS:
            return shown
        turn = TurnCheck(_DIRECTIONS[move]).judge(self._ahead, face)
        if turn is Turn.FLAT:
            self._flat += 1
            if self._flat >= _FLAT_TURNS:
                self.forget()
                raise NotLiveError("The turns show no depth. Please start again, in person.")
        return turn is Turn.LIVE

    def _take(self, frame: NDArray[np.uint8], face: Observation) -> None:
        template = self._pipeline.embed(frame, face)
        if not _alike(template, self._templates):
            self.forget()
            raise NotOnePersonError("The views do not look like one person. Please start again, one person only.")
        self._templates.append(template)
        if self._ahead is None:
            self._ahead = face
        else:
            self._challenge.answered()


_ASKS = {Move.LEFT: Ask.TURN_LEFT, Move.RIGHT: Ask.TURN_RIGHT, Move.UP: Ask.TILT_UP, Move.DOWN: Ask.TILT_DOWN}
_DIRECTIONS = {Move.LEFT: Direction.LEFT, Move.RIGHT: Direction.RIGHT}


def _alike(template: Template, others: Sequence[Template]) -> bool:
    return all(float(template.vector @ other.vector) >= SAME_PERSON for other in others)
