"""Sample faces: two public-domain portraits, seen as a camera would see somebody walking up to it.

Eileen Collins (NASA; in scikit-image's package) and Grace Hopper (US Navy; in matplotlib's). Neither has
anything to do with this project or endorses it. The portraits are read from the installed packages and no
copy is kept; views are rendered through the portrait's own landmarks with depth.
"""

from collections.abc import Sequence
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from facefare.biometrics import FacePipeline, decode
from facefare.evaluation.heads import HEIGHT, WIDTH, Frame, Head, View, room, walk
from facefare.terminal.station import Ask

__all__ = ["HEIGHT", "WIDTH", "Frame", "Person", "Sitter", "View", "portrait", "save"]


class Person(Enum):
    """Whose portrait: the package that holds it, and the path inside."""

    EILEEN_COLLINS = ("skimage", "data/astronaut.png")
    GRACE_HOPPER = ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")


def portrait(person: Person) -> Frame:
    """Return the portrait (H, W, 3) uint8 BGR. Raises FileNotFoundError if its package is not installed."""
    package, path = person.value
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"The demo's portraits need the package {package}: pip install 'facefare[demo]'")
    return decode((Path(spec.origin).parent / path).read_bytes())


class Sitter(Head):
    """A portrait with depth."""

    def __init__(self, person: Person, pipeline: FacePipeline):
        picture = portrait(person)
        super().__init__(picture, pipeline.observe(picture).landmarks)

    def walk_up(self, seed: int, frames: int = 8, stays: Sequence[float] = ()) -> list[Frame]:
        """Render somebody coming up to the camera, looking roughly at it, larger in each frame.

        Then standing there, with the head turned by so many degrees in each further frame.
        """
        behind = room(np.random.default_rng(seed))
        views = [*walk(seed, frames), *(View(yaw=yaw, pitch=2, face_width=185) for yaw in stays)]
        return [self.view(view, seed + number, behind) for number, view in enumerate(views)]

    def obey(self, asked: Ask, seed: int = 0) -> list[Frame]:
        """Render what somebody shows who is asked for it at an enrolment station."""
        views = [View(*_OBEYED[asked], face_width=170)]
        if asked is Ask.BLINK:
            views = [View(face_width=220, closed=closed) for closed in (False, False, True, False, False)]
        return [self.view(view, seed + number) for number, view in enumerate(views)]

    def enrolment_views(self, seed: int = 0) -> list[Frame]:
        """Render five views as the guided capture asks for: centre, both turns, up and down."""
        light = float(np.random.default_rng(seed).uniform(0.95, 1.1))
        angles = [(0, 0), (-16, 0), (16, 0), (4, -8), (-4, 8)]
        views = [View(yaw, pitch, face_width=170, light=light) for yaw, pitch in angles]
        return [self.view(view, seed + number) for number, view in enumerate(views)]


_OBEYED = {
    Ask.LOOK_AHEAD: (0, 0),
    Ask.TURN_LEFT: (18, 0),
    Ask.TURN_RIGHT: (-18, 0),
    Ask.TILT_UP: (4, -9),
    Ask.TILT_DOWN: (-4, 9),
    Ask.BLINK: (0, 0),
}  # yaw, pitch


def save(frames: Sequence[Frame], folder: Path) -> None:
    """Write frames as PNG, in order, for a terminal to read as if from a camera (temporary folders only)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        if not cv2.imwrite(str(folder / f"{number:03}.png"), frame):
            raise OSError(f"Could not write to {folder}")
