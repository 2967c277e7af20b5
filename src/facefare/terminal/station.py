"""An enrolment station's capture: different good views of one live person, asked for one by one, fused into one
reference.

Invariants:
  - a view is held in memory until the reference is made or the capture is dropped;
  - every view is what was asked for: straight ahead, both turns (which one first is random) and both tilts;
  - every view has to look like the first one's person, every turn has to have a head's depth, and the eyes have to
    blink: a photo, or another person's face for one view, ends the capture.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import ENROLMENT, FacePipeline, Hint, Observation, QualityPolicy, Template, fuse
from facefare.biometrics.pad import Direction, Turn, TurnCheck, blinked

SAME_PERSON = 0.90
"""Cosine of two views of one capture below which they can't be one person's, for the default embedder."""
MIN_TILT = 4.0
"""Degrees that a tilt has to differ from straight ahead."""
_STRAIGHT = 12.0
"""Degrees that still count as straight ahead: people hold their heads differently."""
_FLAT_TURNS = 3
"""Turns without depth that end a capture; landmarks may slip once."""
_MOST_BLINK_FRAMES = 150


class NotOnePersonError(Exception):
    """The views of one capture do not look like one person; the capture starts again."""


class NotLiveError(Exception):
    """Turned as asked, but as a flat picture does; the capture starts again, and the staff look."""


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
        turns, tilts = [Ask.TURN_LEFT, Ask.TURN_RIGHT], [Ask.TILT_UP, Ask.TILT_DOWN]
        secrets.SystemRandom().shuffle(turns)
        secrets.SystemRandom().shuffle(tilts)
        self._left = [Ask.LOOK_AHEAD, *turns, *tilts, Ask.BLINK]
        self._templates: list[Template] = []
        self._ahead: Observation | None = None
        self._eyes: list[float] = []
        self._flat = 0

    @property
    def asked(self) -> Ask | None:
        """What is asked for now; None when the capture is complete."""
        return self._left[0] if self._left else None

    @property
    def complete(self) -> bool:
        """Whether nothing more is asked."""
        return not self._left

    def offer(self, frame: NDArray[np.uint8]) -> Taken:
        """Take the frame's view if it is good and shows what was asked.

        Raises:
            NotLiveError, NotOnePersonError: the capture is over, and has forgotten every view.
            NoFaceError, SeveralFacesError, FaceTooSmallError and other BiometricsError: see `FacePipeline.observe`.
        """
        face = self._pipeline.observe(frame)
        asked = self.asked
        if asked is Ask.BLINK:
            self._eyes = [*self._eyes, face.quality.eyes_open][-_MOST_BLINK_FRAMES:]
            if blinked(self._eyes):
                self._left.pop(0)
            return Taken(len(self._templates), None, self.asked)
        hint = self._policy.hint(face.pose, face.quality)
        if hint is None and asked is not None and self._shows(asked, face):
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
        """Drop every view."""
        self._templates.clear()
        self._eyes.clear()
        self._ahead = None

    def _shows(self, asked: Ask, face: Observation) -> bool:
        if asked is Ask.LOOK_AHEAD or self._ahead is None:
            return abs(face.pose.yaw) <= _STRAIGHT and abs(face.pose.pitch) <= _STRAIGHT
        tilt = face.pose.pitch - self._ahead.pose.pitch
        if asked is Ask.TILT_UP:
            return tilt <= -MIN_TILT
        if asked is Ask.TILT_DOWN:
            return tilt >= MIN_TILT
        turn = TurnCheck(_DIRECTIONS[asked]).judge(self._ahead, face)
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
        self._left.pop(0)


_DIRECTIONS = {Ask.TURN_LEFT: Direction.LEFT, Ask.TURN_RIGHT: Direction.RIGHT}


def _alike(template: Template, others: Sequence[Template]) -> bool:
    return all(float(template.vector @ other.vector) >= SAME_PERSON for other in others)
