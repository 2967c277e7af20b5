"""Which of many frames of one face to embed: the sharpest, and those that show something else.

Frames of one second are alike, and averaging them gains little; frames of other poses and distances gain much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.pipeline import Observation


@dataclass(frozen=True, repr=False, eq=False)
class View:
    """A frame (H, W, 3) uint8 BGR and the face in it. In memory only, and only until it is embedded."""

    frame: NDArray[np.uint8]
    face: Observation


def most_different(views: Sequence[View], count: int) -> list[View]:
    """Choose the sharpest view, then each time the one whose pose and size are farthest from all chosen ones.

    Raises ValueError for fewer than `count` views.
    """
    if len(views) < count:
        raise ValueError(f"{count} views cannot be chosen from {len(views)}.")
    # One unit is 10 degrees, or a quarter more of distance.
    where = np.array(
        [[v.face.pose.yaw / 10, v.face.pose.pitch / 10, 4 * np.log(v.face.inter_eye_distance)] for v in views]
    )
    chosen = [max(range(len(views)), key=lambda row: views[row].face.quality.sharpness)]
    while len(chosen) < count:
        nearest = np.linalg.norm(where[:, None] - where[chosen], axis=2).min(axis=1)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return [views[row] for row in chosen]
