"""The embedder as a plug: an ONNX file and a description (embedder.toml) of how to feed it."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from facefare.biometrics.errors import EmbedderError, ModelMissingError
from facefare.biometrics.landmarks import COUNT
from facefare.biometrics.networks import OnnxNetwork
from facefare.biometrics.template import Template, unit
from facefare.files import UnreadableFile, explained, read_toml, sentence

_Strict = ConfigDict(extra="forbid", frozen=True)
_Landmark = Annotated[int, Field(ge=0, lt=COUNT)]


class Input(BaseModel):
    """What the network takes: (pixel - mean) * scale, channels in the order given, size x size pixels."""

    model_config = _Strict
    size: Annotated[int, Field(ge=32, le=512)]
    channels: Literal["RGB", "BGR"]
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    scale: Annotated[FiniteFloat, Field(gt=0)]


class Alignment(BaseModel):
    """Groups of FaceMesh landmarks and where the mean of each lies in the aligned picture, in pixels."""

    model_config = _Strict
    landmarks: Annotated[list[Annotated[list[_Landmark], Field(min_length=1)]], Field(min_length=2)]
    targets: list[tuple[FiniteFloat, FiniteFloat]]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.landmarks) != len(self.targets):
            raise ValueError("alignment.landmarks and alignment.targets must be of the same length")
        return self


class Output(BaseModel):
    """What the network gives."""

    model_config = _Strict
    dimensions: Annotated[int, Field(ge=2, le=4096, multiple_of=2)]  # private matching packs them in pairs
    mirror: bool


class Description(BaseModel):
    """An embedder.toml."""

    model_config = _Strict
    model_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.onnx$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: str
    source: str
    calibration: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.json$")] | None = None
    input: Input
    alignment: Alignment
    output: Output


class Embedder:
    """Turns a frame and its landmarks into a template."""

    def __init__(self, file: Path):
        """Read embedder.toml; raises EmbedderError, ModelMissingError or ModelChangedError."""
        try:
            self.description = Description.model_validate(read_toml(file))
        except UnreadableFile as error:
            raise EmbedderError(sentence(error)) from error
        except OSError as error:
            raise ModelMissingError(
                f"{file} can't be read ({error.strerror}); the default one comes by: facefare models install"
            ) from error
        except ValidationError as error:
            raise EmbedderError(f"{file} is no complete embedder description: {explained(error)}.") from error
        self._network = OnnxNetwork(file.parent / self.description.file, self.description.sha256)
        self._targets = np.array(self.description.alignment.targets)
        order = slice(None, None, -1) if self.description.input.channels == "RGB" else slice(None)
        self._order = order
        self._mean = np.array(self.description.input.mean, dtype=np.float32)[:, None, None]

    def embed(self, frame: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Template:
        """Embed the face with these landmarks (468, 3) in a BGR frame (H, W, 3)."""
        return self.embed_aligned(self.align(frame, landmarks))

    def points(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the alignment points (P, 2) in frame pixels."""
        groups = self.description.alignment.landmarks
        return np.array([landmarks[group, :2].mean(axis=0) for group in groups])

    def align(self, frame: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Cut the face out, (size, size, 3) uint8 BGR: similarity warp of the alignment points."""
        size = self.description.input.size
        warp = _similarity(self.points(landmarks), self._targets)  # frame to picture
        picture, warp = _halved(frame, warp, size)
        return np.asarray(cv2.warpAffine(picture, warp, (size, size), flags=cv2.INTER_LINEAR), dtype=np.uint8)

    def embed_aligned(self, aligned: NDArray[np.uint8]) -> Template:
        """Embed a picture that `align` made. Raises ModelOutputError if the network misbehaves."""
        image = aligned[:, :, self._order].transpose(2, 0, 1).astype(np.float32)
        image = (image - self._mean) * np.float32(self.description.input.scale)
        views = np.stack([image, image[:, :, ::-1]] if self.description.output.mirror else [image])
        (vectors, *_) = self._network.run(views)
        if vectors.shape != (len(views), self.description.output.dimensions):
            raise EmbedderError(f"{self.description.file} gave vectors of shape {vectors.shape[1:]}.")
        return Template(unit(np.mean([unit(vector) for vector in vectors], axis=0)), self.description.model_id)


def conformance(embedder: Embedder) -> list[str]:
    """Try an embedder on made-up pictures; return what is wrong with it, a sentence each.

    Every template must be finite, of unit length and the described dimension (else ModelOutputError or
    EmbedderError); the same picture must give the same template, other pictures another one; and one grey
    level more must not move it far.
    """
    size = embedder.description.input.size
    rng = np.random.default_rng(0)
    pictures = [
        cv2.GaussianBlur(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), (0, 0), size / 20) for _ in range(3)
    ]
    one, other, third = (embedder.embed_aligned(np.asarray(p, dtype=np.uint8)).vector for p in pictures)
    again = embedder.embed_aligned(np.asarray(pictures[0], dtype=np.uint8)).vector
    nearby = embedder.embed_aligned(np.asarray(np.minimum(pictures[0], 254) + 1, dtype=np.uint8)).vector
    problems = []
    if not np.allclose(one, again, atol=1e-5):
        problems.append("The same picture gives different templates.")
    if min(float(np.linalg.norm(one - other)), float(np.linalg.norm(one - third))) < 1e-3:
        problems.append("Different pictures give the same template.")
    if float(one @ nearby) < 0.98:
        problems.append("One grey level more changes the template; check mean, scale and channels.")
    return problems


def calibration_problems(file: Path) -> list[str]:
    """Whether the calibration that an embedder.toml names is there and is for this embedder; a sentence each.

    Raises EmbedderError, ModelMissingError or ModelChangedError as `Embedder` does.
    """
    description = Embedder(file).description
    if description.calibration is None:
        return []
    try:
        body = json.loads((file.parent / description.calibration).read_text("utf-8"))
        model, dimensions = body["model"], len(body["mean"])
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{description.calibration} is no calibration file. Make it: facefare evaluate --write-calibration"]
    problems = []
    if model != description.model_id:
        problems.append(f"{description.calibration} is for {model}, not for {description.model_id}.")
    if dimensions != description.output.dimensions:
        problems.append(f"{description.calibration} has {dimensions} dimensions, not {description.output.dimensions}.")
    return problems


def _similarity(source: NDArray[np.float32], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares similarity (2, 3) from source to target points (P, 2).

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991; in the
    plane it is one division of complex numbers.
    """
    a = source[:, 0] + 1j * source[:, 1].astype(np.float64)
    b = target[:, 0] + 1j * target[:, 1]
    centred = a - a.mean()
    spread = float(np.sum(np.abs(centred) ** 2))
    turn = np.sum(centred.conj() * (b - b.mean())) / max(spread, 1e-12)
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _halved(
    frame: NDArray[np.uint8], warp: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut out what the warp needs and halve it while it is more than twice the target, as dlib does.

    Sampling a large face directly would alias, and the template would differ from dlib's.
    """
    inverse = cv2.invertAffineTransform(warp)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ inverse.T
    margin = 8
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - margin, 0)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + margin
    picture = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
    warp = warp.copy()
    warp[:, 2] += warp[:, :2] @ (left, top)
    while np.hypot(warp[0, 0], warp[1, 0]) < 0.5 and min(picture.shape[:2]) > 2:
        picture = np.asarray(cv2.pyrDown(picture), dtype=np.uint8)
        warp[:, :2] *= 2
    return picture, warp
