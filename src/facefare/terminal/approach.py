"""From frames of a lane to one fused template: whose face, whether it wants to pay, which frames.

Invariants:
  - only the nearest face inside the lane is followed; others are neither embedded nor kept;
  - nothing is embedded before the sign of will: the face is near, inside the lane and looks at the camera;
  - frames are held in memory, a bounded number of them, and dropped when the attempt ends, when the face is
    lost, or when another one takes its place;
  - a probe is made only of views that move with the depth of a head and do not look like a screen or a sheet; a face
    that once did gets no probe until it is gone;
  - where the empty place before the camera is known, a probe is made only of views that show some of it behind.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import FacePipeline, Observation, Template, fuse
from facefare.biometrics.backdrop import Backdrop, Behind
from facefare.biometrics.pad import Motion, MotionCheck
from facefare.biometrics.quality import GATE, Hint, QualityPolicy
from facefare.biometrics.screens import ScreenCheck
from facefare.biometrics.views import View, most_different

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Lane:
    """Where a person who wants to pay stands, and what a look at the camera is.

    Attributes:
        left, right: the lane in the frame, as parts of its width, 0..1.
        min_inter_eye_distance: pixels; nearer than that is near enough. 50 is 0.7 m before a camera of 640 pixels
            across 60 degrees; views are gathered from farther away.
        max_yaw, max_pitch: degrees off the camera that still count as looking at it.
        clearly_nearer: a second face whose eyes are less than this factor closer together stands too close by.
    """

    left: float = 0.2
    right: float = 0.8
    min_inter_eye_distance: float = 50.0
    max_yaw: float = 14.0
    max_pitch: float = 16.0
    clearly_nearer: float = 1.25


class SomeoneElseTooClose(Exception):
    """Two faces are in the lane side by side; neither is followed."""


class Approach:
    """One person's way to the camera; `offer` frames until it returns the probe's views."""

    VIEWS = 3
    _HELD = 8

    def __init__(
        self,
        pipeline: FacePipeline,
        lane: Lane,
        quality: QualityPolicy = GATE,
        motion: MotionCheck = MotionCheck(),  # noqa: B008 (immutable)
        screen: ScreenCheck = ScreenCheck(),  # noqa: B008 (immutable)
        backdrop: Backdrop | None = None,
    ) -> None:
        """`backdrop`: what this camera sees where nobody is, learned on the way; None does without."""
        self._pipeline = pipeline
        self._lane = lane
        self._quality = quality
        self._motion = motion
        self._screen = screen
        self._backdrop = backdrop
        self._shown = False
        self._views: list[View] = []
        self._last: Observation | None = None

    def offer(self, frame: Frame) -> Hint | None:
        """Look at one frame (H, W, 3) uint8 BGR.

        Returns:
            The one thing to change, or None.

        Raises:
            SomeoneElseTooClose: two faces in the lane, side by side.
            BiometricsError: the frame is broken.
        """
        face = self._nearest(frame)
        if self._last is not None and (face is None or _overlap(face.box, self._last.box) < 0.2):
            self.forget()
        self._last = face
        if face is None:
            return None
        hint = self._quality.hint(face.pose, face.quality)
        if hint is None and self._stands_here(frame, face):
            self._views.append(View(frame, face))
            if len(self._views) > self._HELD:
                self._views = most_different(self._views, self._HELD)
        if hint is None and self._enough:
            if self.motion is Motion.TOO_LITTLE:
                return Hint.TURN_A_LITTLE
            if self.motion is Motion.LIVE and not self._shown:
                self._shown = self._screen.judge(most_different(self._views, self.VIEWS))
        return hint

    @property
    def somebody_near(self) -> bool:
        """Whether a face is being followed."""
        return self._last is not None

    @property
    def wants_to_pay(self) -> bool:
        """The sign of will: near, inside the lane, looking at the camera, in the frame offered last."""
        face, lane = self._last, self._lane
        return (
            face is not None
            and face.inter_eye_distance >= lane.min_inter_eye_distance
            and abs(face.pose.yaw) <= lane.max_yaw
            and abs(face.pose.pitch) <= lane.max_pitch
        )

    @property
    def ready(self) -> bool:
        """Whether there is a sign of will, and there are views enough of a live head for a probe."""
        return self._enough and self.motion is Motion.LIVE and not self._shown

    @property
    def motion(self) -> Motion:
        """What the views held show."""
        return self._motion.judge([view.face for view in self._views])

    @property
    def _enough(self) -> bool:
        return self.wants_to_pay and len(self._views) >= self.VIEWS

    def probe(self) -> Template:
        """Embed the most different of the views held, fuse them, and forget all frames.

        Raises:
            ModelOutputError: the embedder misbehaved.
        """
        chosen = most_different(self._views, self.VIEWS)
        try:
            return fuse([self._pipeline.embed(view.frame, view.face) for view in chosen])
        finally:
            self.forget()

    def forget(self) -> None:
        """Drop every frame and the face followed."""
        self._views.clear()
        self._last = None
        self._shown = False

    def _stands_here(self, frame: Frame, face: Observation) -> bool:
        return self._backdrop is None or self._backdrop.behind(frame, face) is not Behind.OTHER

    def _nearest(self, frame: Frame) -> Observation | None:
        width = frame.shape[1]
        faces = self._pipeline.observe_all(frame)
        if self._backdrop is not None and faces:
            self._backdrop.somebody()
        elif self._backdrop is not None:
            self._backdrop.learn(frame)
        inside = [
            face for face in faces if self._lane.left <= (face.box[0] + face.box[2] / 2) / width <= self._lane.right
        ]
        inside.sort(key=lambda face: face.inter_eye_distance, reverse=True)
        if not inside:
            return None
        nearest = inside[0]
        for other in inside[1:]:
            if other.inter_eye_distance * self._lane.clearly_nearer > nearest.inter_eye_distance:
                self.forget()
                raise SomeoneElseTooClose
        return nearest


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (a[2] * a[3] + b[2] * b[3] - common)
