"""How good a view of a face is, and the one thing to change.

The measures carry the names and, where noted, the formulas of ISO/IEC 29794-5 (face image quality); the
values are raw measures, not the standard's 0..100 components. Head pose comes from FaceMesh's depth instead
of the standard's 3DDFA network.
"""

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import landmarks as mesh
from facefare.biometrics.landmarks import FaceMesh

# The line from forehead to chin is not upright when a head looks straight ahead: degrees, the median of 13,000
# press photographs.
NEUTRAL_PITCH = 5.8


@dataclass(frozen=True)
class HeadPose:
    """Degrees; 0 is frontal. yaw > 0: turned to the subject's left (the picture's right); pitch > 0: looking
    down; roll > 0: the head tilted clockwise in the picture."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Quality:
    """Measures of one view.

    inter_eye_distance: pixels between the eye centres, divided by cos(yaw).
    eyes_open: the smaller distance of the lids over the distance from the eyes' middle to the chin.
    eyes_visible: luminance around the eye over that of the cheek below it, the darker side; dark glasses make
        it small. (The standard's measure segments the face with a network; this one sees dark glasses only.)
    mouth_visible: how much luminance changes from the nose down to below the mouth, beyond a steady slope, over that of
        the face: lips and their shadows. A mask, a scarf or a hand makes it small; a patterned scarf need not.
    mouth_closed: the distance of the inner lips over the same; 0 is closed.
    sharpness: standard deviation of the Laplacian of Gaussian over that of the luminance, in the face area.
    luminance_mean, luminance_variance: of the face area, luminance in 0..1.
    under_exposure, over_exposure: share of the face area with luminance below 26 or above 246 of 255.
    illumination_uniformity: common part of the luminance histograms of the face's halves, 0..1.
    dynamic_range: entropy of the luminance histogram in bits, 0..8.
    """

    inter_eye_distance: float
    eyes_open: float
    eyes_visible: float
    mouth_visible: float
    mouth_closed: float
    sharpness: float
    luminance_mean: float
    luminance_variance: float
    under_exposure: float
    over_exposure: float
    illumination_uniformity: float
    dynamic_range: float


class Hint(Enum):
    """The one thing to change before the next view."""

    COME_CLOSER = "come closer"
    LOOK_AT_THE_CAMERA = "look at the camera"
    HOLD_STILL = "hold still"
    MORE_LIGHT = "more light from the front"
    LESS_LIGHT = "less light"
    EVEN_LIGHT = "turn towards the light"
    OPEN_YOUR_EYES = "open your eyes"
    TAKE_OFF_GLASSES = "take off the sunglasses"
    UNCOVER_THE_MOUTH = "uncover your mouth and nose"
    TURN_A_LITTLE = "turn your head a little"


@dataclass(frozen=True)
class QualityPolicy:
    """What a view must have; the defaults are for a gate. An enrolment asks for more (`ENROLMENT`)."""

    min_inter_eye_distance: float = 36.0
    max_yaw: float = 30.0
    max_pitch: float = 25.0
    max_roll: float = 30.0
    min_sharpness: float = 0.055
    min_luminance: float = 0.15
    max_under_exposure: float = 0.5
    max_over_exposure: float = 0.3
    min_illumination_uniformity: float = 0.15
    min_eyes_open: float = 0.02
    min_eyes_visible: float = 0.3
    min_mouth_visible: float = 0.045

    def hint(self, pose: HeadPose, quality: Quality) -> Hint | None:
        """Return the first thing to change, the most helpful first, or None for a good view."""
        turned = abs(pose.yaw) > self.max_yaw or abs(pose.pitch) > self.max_pitch or abs(pose.roll) > self.max_roll
        dark = quality.luminance_mean < self.min_luminance or quality.under_exposure > self.max_under_exposure
        rules = (
            (quality.inter_eye_distance < self.min_inter_eye_distance, Hint.COME_CLOSER),
            (turned, Hint.LOOK_AT_THE_CAMERA),
            (dark, Hint.MORE_LIGHT),
            (quality.over_exposure > self.max_over_exposure, Hint.LESS_LIGHT),
            (quality.illumination_uniformity < self.min_illumination_uniformity, Hint.EVEN_LIGHT),
            (quality.eyes_visible < self.min_eyes_visible, Hint.TAKE_OFF_GLASSES),
            (quality.sharpness < self.min_sharpness, Hint.HOLD_STILL),
            (quality.mouth_visible < self.min_mouth_visible, Hint.UNCOVER_THE_MOUTH),  # a blurred mouth fades too
            (quality.eyes_open < self.min_eyes_open, Hint.OPEN_YOUR_EYES),
        )
        return next((hint for broken, hint in rules if broken), None)


GATE = QualityPolicy()
ENROLMENT = QualityPolicy(
    min_inter_eye_distance=45.0, min_sharpness=0.075, min_illumination_uniformity=0.25, min_eyes_open=0.03
)


def head_pose(points: NDArray[np.float32]) -> HeadPose:
    """Return the head's pose from the landmarks (468, 3): its axes are eye to eye and forehead to chin."""
    across = points[mesh.LEFT_EYE_CORNERS[0]] - points[mesh.RIGHT_EYE_CORNERS[0]]
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    down = points[mesh.CHIN] - points[mesh.FOREHEAD]
    down = down - across * float(across @ down)
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    forward = np.cross(down, across)  # out of the face, towards the camera (z < 0) when frontal
    return HeadPose(
        yaw=float(np.degrees(np.arctan2(forward[0], -forward[2]))),
        pitch=float(np.degrees(np.arcsin(np.clip(forward[1], -1, 1)))) - NEUTRAL_PITCH,
        roll=float(np.degrees(np.arctan2(across[1], across[0]))),
    )


def eye_centres(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middles of the eyes' corners (2, 2), the right eye first."""
    corners = [mesh.RIGHT_EYE_CORNERS, mesh.LEFT_EYE_CORNERS]
    return np.array([points[list(pair), :2].mean(axis=0) for pair in corners])


def measure(face: FaceMesh, pose: HeadPose) -> Quality:
    """Measure one view from its landmarks and the upright crop (192, 192, 3)."""
    points = face.points
    right, left = eye_centres(points)
    distance = float(np.linalg.norm(left - right))
    length = max(float(np.linalg.norm(points[mesh.CHIN, :2] - (left + right) / 2)), 1e-9)
    lids = [_gap(points, pairs) for pairs in (mesh.RIGHT_EYE_LIDS, mesh.LEFT_EYE_LIDS)]
    # The detector's box, in the middle two thirds of the crop, less its rim: hair, background, beard.
    grey = np.asarray(cv2.cvtColor(face.crop, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    area = np.ascontiguousarray(grey[44:148, 48:144])
    luminance = area.astype(np.float32) / 255
    histogram = np.bincount(area.reshape(-1), minlength=256) / area.size
    seen = histogram[histogram > 0]
    deviation = float(luminance.std())
    # Smoothed first (a Laplacian of Gaussian), so that the noise of a dark sensor does not count as detail.
    laplacian = cv2.Laplacian(cv2.GaussianBlur(luminance, (0, 0), 1.0), cv2.CV_32F)
    return Quality(
        inter_eye_distance=distance / max(float(np.cos(np.radians(pose.yaw))), 0.1),
        eyes_open=min(lids) / length,
        eyes_visible=min(
            _eye_over_cheek(grey, face.in_crop, mesh.RIGHT_EYE_CORNERS, mesh.RIGHT_CHEEK),
            _eye_over_cheek(grey, face.in_crop, mesh.LEFT_EYE_CORNERS, mesh.LEFT_CHEEK),
        ),
        mouth_visible=_below_nose(grey, face.in_crop) / max(float(area.mean()), 1.0),
        mouth_closed=_gap(points, (mesh.INNER_LIPS,)) / length,
        sharpness=float(laplacian.std()) / max(deviation, 1e-3),
        luminance_mean=float(luminance.mean()),
        luminance_variance=deviation**2,
        under_exposure=float(histogram[:26].sum()),
        over_exposure=float(histogram[247:].sum()),
        illumination_uniformity=_common(area[:, :48], area[:, 48:]),
        dynamic_range=float(-(seen * np.log2(seen)).sum()),
    )


def _gap(points: NDArray[np.float32], pairs: tuple[tuple[int, int], ...]) -> float:
    """The largest distance in the picture between the landmarks of a pair."""
    return max(float(np.linalg.norm(points[upper, :2] - points[lower, :2])) for upper, lower in pairs)


def _eye_over_cheek(
    grey: NDArray[np.uint8], points: NDArray[np.float32], corners: tuple[int, int], cheek: tuple[int, int]
) -> float:
    """Mean luminance of the square around an eye over that of the square of the same size on the cheek."""
    side = float(np.linalg.norm(points[corners[0]] - points[corners[1]]))
    eye, below = (_mean_around(grey, points[list(pair)].mean(axis=0), side) for pair in (corners, cheek))
    return eye / max(below, 1.0)


def _below_nose(grey: NDArray[np.uint8], points: NDArray[np.float32]) -> float:
    """Standard deviation of the rows' mean luminance about a line through them, in the middle half of the mouth's
    width, from the nose to half-way between mouth and chin; infinite where that is not in the picture."""
    lips = points[list(mesh.INNER_LIPS)].mean(axis=0)
    quarter = float(np.linalg.norm(points[mesh.MOUTH_CORNERS[0]] - points[mesh.MOUTH_CORNERS[1]])) / 4
    left, right = np.clip(np.rint([lips[0] - quarter, lips[0] + quarter]), 0, grey.shape[1]).astype(int)
    ends = [points[mesh.NOSE_BASE][1], (lips[1] + points[mesh.CHIN][1]) / 2]
    top, bottom = np.clip(np.rint(ends), 0, grey.shape[0]).astype(int)
    if right <= left or bottom - top < 3:
        return float("inf")
    rows = grey[top:bottom, left:right].mean(axis=1)
    at = np.arange(len(rows)) - (len(rows) - 1) / 2
    return float((rows - rows.mean() - at * float(at @ rows) / float(at @ at)).std())


def _mean_around(grey: NDArray[np.uint8], centre: NDArray[np.float32], side: float) -> float:
    """Mean of the part of a square that lies in the picture; 0 if none does."""
    half = max(side, 2.0) / 2
    left, top = np.maximum(np.rint(centre - half), 0).astype(int)
    right, bottom = np.maximum(np.rint(centre + half), 0).astype(int)
    square = grey[top:bottom, left:right]
    return float(square.mean()) if square.size else 0.0


def _common(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The common part of two luminance histograms of 32 bins."""
    histograms = [np.bincount(half.reshape(-1) // 8, minlength=32) / half.size for half in (one, other)]
    return float(np.minimum(*histograms).sum())
