"""Finds faces: BlazeFace, short range (Bazarevsky et al., 2019, arXiv:1907.05047)."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.networks import OnnxNetwork

_SIZE = 128
_MIN_SCORE = 0.5
_MIN_IOU = 0.3  # of two boxes on one face
_LARGEST_RAW_SCORE = 100.0


def _anchors() -> NDArray[np.float32]:
    """The 896 anchor centres (x, y) in 0..1: two for each cell of 16 x 16, six for each of 8 x 8."""
    centres = []
    for cells, count in ((16, 2), (8, 6)):
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, count, axis=0))
    return np.concatenate(centres).astype(np.float32)


@dataclass(frozen=True)
class Detection:
    """A face in a frame, in pixels: box (x, y, width, height), both eyes (right one first), score 0..1."""

    box: tuple[float, float, float, float]
    eyes: NDArray[np.float32]
    score: float


class BlazeFace:
    """The detector; finds faces from about an eighth of the frame's longer side."""

    def __init__(self, folder: Path):
        self._network = OnnxNetwork.pinned(folder, "blazeface.onnx")
        self._centres = _anchors()

    def detect(self, frame: NDArray[np.uint8]) -> list[Detection]:
        """Return the faces of a BGR frame (H, W, 3), the largest first."""
        height, width = frame.shape[:2]
        scale = _SIZE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        left, top = (_SIZE - size[0]) // 2, (_SIZE - size[1]) // 2
        # Black around the picture is -1 after the normalisation to -1..1.
        tensor = np.full((1, 3, _SIZE, _SIZE), -1, dtype=np.float32)
        inner = small[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
        tensor[0, :, top : top + size[1], left : left + size[0]] = inner / 127.5 - 1
        outputs = {output.shape[-1]: output[0] for output in self._network.run(tensor)}
        raw_scores = np.clip(outputs[1][:, 0], -_LARGEST_RAW_SCORE, _LARGEST_RAW_SCORE)
        scores = 1 / (1 + np.exp(-raw_scores.astype(np.float64)))
        kept = np.flatnonzero(scores >= _MIN_SCORE)
        # Each row: centre, size, then six points (x, y): right eye, left eye, nose, mouth, right ear, left ear.
        points = outputs[16][kept].reshape(-1, 8, 2)
        points[:, [0, *range(2, 8)]] += self._centres[kept, None] * _SIZE
        points[:, [0, *range(2, 8)]] -= (left, top)
        return self._merged(points / scale, scores[kept])

    def _merged(self, points: NDArray[np.float32], scores: NDArray[np.float32]) -> list[Detection]:
        """Boxes that overlap are one face: their mean, weighted by score (BlazeFace, section 3.4)."""
        faces = []
        remaining = np.argsort(-scores)
        while remaining.size:
            overlap = _iou(points[remaining[0]], points[remaining])
            group = remaining[overlap >= _MIN_IOU]
            remaining = remaining[overlap < _MIN_IOU]
            centre, size, *rest = np.average(points[group], axis=0, weights=scores[group])
            corner = centre - size / 2
            box = (float(corner[0]), float(corner[1]), float(size[0]), float(size[1]))
            faces.append(Detection(box, np.array(rest[:2], dtype=np.float32), float(scores[group[0]])))
        return sorted(faces, key=lambda face: -face.box[2])


def _iou(one: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of a box with boxes, (8, 2) with (n, 8, 2): centre and size come first."""
    low = np.maximum(one[0] - one[1] / 2, many[:, 0] - many[:, 1] / 2)
    high = np.minimum(one[0] + one[1] / 2, many[:, 0] + many[:, 1] / 2)
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(one[1]) + np.prod(many[:, 1], axis=1) - common
    return np.where(union > 0, common / np.maximum(union, 1e-9), 1.0)  # a box without area equals itself
