"""468 landmarks with depth on a detected face: FaceMesh (Kartynnik et al., 2019, arXiv:1907.06724).

The constants name the landmarks that others use; "left" and "right" are the subject's own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.detector import Detection
from facefare.biometrics.networks import OnnxNetwork

COUNT: Final = 468
RIGHT_EYE_CORNERS: Final = (33, 133)  # outer, inner
LEFT_EYE_CORNERS: Final = (263, 362)
RIGHT_EYE_LIDS: Final = ((160, 144), (159, 145), (158, 153))  # (upper, lower)
LEFT_EYE_LIDS: Final = ((387, 373), (386, 374), (385, 380))
NOSE_TIP: Final = 1
NOSE_BASE: Final = 2
RIGHT_CHEEK: Final = (50, 205)  # below the eye
LEFT_CHEEK: Final = (280, 425)
INNER_LIPS: Final = (13, 14)  # (upper, lower)
MOUTH_CORNERS: Final = (61, 291)
FOREHEAD: Final = 10
CHIN: Final = 152

_SIZE = 192
_MARGIN = 1.5  # of the square around the detector's box


@dataclass(frozen=True, repr=False, eq=False)
class FaceMesh:
    """A face's landmarks (468, 3) float32 in frame pixels, x right, y down, z away from the camera.

    z is relative to the head's middle, in the same scale as x. `presence` in 0..1 tells a face from
    something that only looked like one; `crop` (192, 192, 3) uint8 BGR is the upright face that the network
    saw, and `in_crop` (468, 2) float32 where the landmarks lie in it.
    """

    points: NDArray[np.float32]
    presence: float
    crop: NDArray[np.uint8]
    in_crop: NDArray[np.float32]


class FaceMesher:
    """The landmark network."""

    def __init__(self, folder: Path):
        self._network = OnnxNetwork.pinned(folder, "facemesh.onnx")

    def locate(self, frame: NDArray[np.uint8], detection: Detection) -> FaceMesh:
        """Find the landmarks of one detected face in a BGR frame (H, W, 3)."""
        x, y, width, height = detection.box
        across = detection.eyes[1] - detection.eyes[0]
        angle = np.arctan2(across[1], across[0])
        unit = _MARGIN * max(width, height) / _SIZE  # frame pixels for a pixel of the crop
        cosine, sine = unit * np.cos(angle), unit * np.sin(angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        middle = np.array([x + width / 2, y + height / 2])
        # Pixel centres: crop pixel (0, 0) lies half a pixel inside the crop's corner.
        offset = middle - turn @ np.full(2, _SIZE / 2 - 0.5)
        to_frame = np.column_stack([turn, offset])
        crop = cv2.warpAffine(frame, to_frame, (_SIZE, _SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        tensor = np.ascontiguousarray(crop[:, :, ::-1].transpose(2, 0, 1)[None], dtype=np.float32)
        outputs = {output.size: output.reshape(-1) for output in self._network.run(tensor / np.float32(255))}
        raw = outputs[3 * COUNT].reshape(COUNT, 3)
        points = np.column_stack([(raw[:, :2] - 0.5) @ turn.T + offset, raw[:, 2] * unit])
        presence = 1 / (1 + np.exp(-float(outputs[1][0])))
        return FaceMesh(points.astype(np.float32), presence, np.asarray(crop, dtype=np.uint8), raw[:, :2])
