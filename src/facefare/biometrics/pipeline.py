"""From a frame to a template, on one core: detect, locate landmarks, measure, align, embed.

Nothing of a frame is kept: an Observation holds geometry and measures, a Template its vector.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.detector import BlazeFace, Detection
from facefare.biometrics.embedder import Embedder
from facefare.biometrics.errors import FaceTooSmallError, NoFaceError, SeveralFacesError
from facefare.biometrics.landmarks import FaceMesher
from facefare.biometrics.models.install import EMBEDDER_FILE
from facefare.biometrics.pictures import checked
from facefare.biometrics.quality import HeadPose, Quality, head_pose, measure
from facefare.biometrics.template import Template

MIN_INTER_EYE_DISTANCE = 20.0  # pixels; below, the aligned picture is mostly guessed
MAX_FACES = 8  # whose landmarks are located in one frame: bounds the time a crowd can take
_MIN_PRESENCE = 0.5


@dataclass(frozen=True, repr=False, eq=False)
class Observation:
    """One face in one frame.

    box: x, y, width, height in frame pixels. landmarks: (468, 3) float32 in frame pixels, z away from the
    camera. points: the embedder's alignment points (P, 2) float32. score: the detector's, 0..1.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    points: NDArray[np.float32]
    score: float
    pose: HeadPose
    quality: Quality

    @property
    def inter_eye_distance(self) -> float:
        """Pixels between the eye centres, as if frontal."""
        return self.quality.inter_eye_distance


class FacePipeline:
    """The three networks, loaded once; each call takes one BGR frame (H, W, 3) uint8. Not thread-safe."""

    def __init__(self, detector: BlazeFace, mesher: FaceMesher, embedder: Embedder):
        self._detector = detector
        self._mesher = mesher
        self._embedder = embedder

    @classmethod
    def load(cls, models_dir: Path, embedder: Path | None = None) -> Self:
        """Load the networks of a folder made by `install`; verifies their checksums.

        `embedder` is the embedder.toml of another embedder than the one that comes with this package.
        Raises ModelMissingError, ModelChangedError or EmbedderError.
        """
        return cls(BlazeFace(models_dir), FaceMesher(models_dir), Embedder(embedder or models_dir / EMBEDDER_FILE))

    @property
    def model_id(self) -> str:
        """The embedder's id, which every template carries."""
        return self._embedder.description.model_id

    @property
    def dimensions(self) -> int:
        """D, of its templates."""
        return self._embedder.description.output.dimensions

    def observe(self, frame: NDArray[np.uint8]) -> Observation:
        """Observe the one face of a frame.

        Raises NoFaceError, SeveralFacesError, FaceTooSmallError, BrokenImageError, ImageTooLargeError or
        ModelOutputError.
        """
        faces = self.observe_all(frame)
        if not faces:
            raise NoFaceError("No face was found. Stand in front of the camera and look at it.")
        if len(faces) > 1:
            raise SeveralFacesError("More than one face was found. One person at a time, please.")
        if faces[0].inter_eye_distance < MIN_INTER_EYE_DISTANCE:
            raise FaceTooSmallError("The face is too small in the picture. Come closer to the camera.")
        return faces[0]

    def observe_all(self, frame: NDArray[np.uint8]) -> list[Observation]:
        """Observe every face of a frame, the largest first and at most MAX_FACES; embeds none of them."""
        found = self._detector.detect(checked(frame))[:MAX_FACES]
        observations = (self._observation(frame, detection) for detection in found)
        return [observation for observation in observations if observation is not None]

    def embed(self, frame: NDArray[np.uint8], observation: Observation) -> Template:
        """Embed the observed face. Raises ModelOutputError if the network misbehaves."""
        return self._embedder.embed(frame, observation.landmarks)

    def _observation(self, frame: NDArray[np.uint8], detection: Detection) -> Observation | None:
        face = self._mesher.locate(frame, detection)
        if face.presence < _MIN_PRESENCE:
            return None
        pose = head_pose(face.points)
        return Observation(
            box=detection.box,
            landmarks=face.points,
            points=self._embedder.points(face.points),
            score=detection.score,
            pose=pose,
            quality=measure(face, pose),
        )
