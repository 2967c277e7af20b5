"""An enrolment station's capture: several different good views of one live person, fused into one reference.

Invariants:
  - a view is held in memory until the reference is made or the capture is dropped;
  - every view has to show the same face turning: an angle that is already there is not taken twice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import ENROLMENT, FacePipeline, HeadPose, Hint, QualityPolicy, Template, fuse

MIN_VIEWS = 5
SAME_PERSON = 0.90
"""Cosine of two views of one capture below which they can't be one person's, for the default embedder."""


class NotOnePersonError(Exception):
    """The views of one capture do not look like one person; the capture starts again."""


@dataclass(frozen=True)
class Taken:
    """What became of one frame offered: how many views there are, and the one thing to change."""

    views: int
    hint: Hint | None


class Capture:
    """Guided capture: offer frames until there are views enough, then make the reference."""

    def __init__(self, pipeline: FacePipeline, policy: QualityPolicy = ENROLMENT, apart: float = 4.0) -> None:
        """`apart`: degrees by which each view differs from every other."""
        self._pipeline = pipeline
        self._policy = policy
        self._apart = apart
        self._poses: list[HeadPose] = []
        self._templates: list[Template] = []

    def offer(self, frame: NDArray[np.uint8]) -> Taken:
        """Take the frame's view if it is good and new.

        Raises:
            NoFaceError, SeveralFacesError, FaceTooSmallError and other BiometricsError: see `FacePipeline.observe`.
        """
        face = self._pipeline.observe(frame)
        hint = self._policy.hint(face.pose, face.quality)
        if hint is None and all(_angle(face.pose, pose) >= self._apart for pose in self._poses):
            self._poses.append(face.pose)
            self._templates.append(self._pipeline.embed(frame, face))
        return Taken(len(self._templates), hint)

    @property
    def complete(self) -> bool:
        """Whether there are views enough."""
        return len(self._templates) >= MIN_VIEWS

    def reference(self) -> Template:
        """Fuse the views and forget them.

        Raises:
            NotOnePersonError: some view is too far from the others.
        """
        fused = fuse(self._templates)
        alike = [float(template.vector @ fused.vector) for template in self._templates]
        self._templates.clear()
        self._poses.clear()
        if min(alike) < SAME_PERSON:
            raise NotOnePersonError("The views do not look like one person. Please start again, one person only.")
        return fused


def _angle(a: HeadPose, b: HeadPose) -> float:
    return float(np.hypot(a.yaw - b.yaw, a.pitch - b.pitch))
