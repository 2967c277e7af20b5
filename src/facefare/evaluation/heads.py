"""A portrait with depth: rendered through its own landmarks, so that a head really turns and its nose moves further
than its ears. For measuring attack detection, and for demonstrations; never a substitute for recordings of people.

The projection is a parallel one (a camera far away): a real walk towards a camera shows more parallax than this.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
WIDTH, HEIGHT = 640, 480
# Landmarks of each eye's rim, from corner to corner: the upper lid and the lower one.
_LIDS = (
    ([33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133]),
    ([263, 466, 388, 387, 386, 385, 384, 398, 362], [263, 249, 390, 373, 374, 380, 381, 382, 362]),
)

_HAIR = 0.8  # how much at least what belongs to a head follows its turns


@dataclass(frozen=True)
class View:
    """How the head is seen: angles in degrees, as HeadPose gives them, beside those of the portrait.

    face_width: pixels from cheek to cheek. x, y: where the face's middle is in the frame, 0..1.
    light: gain; side_light: how much brighter one side of the frame is than the other, -1..1.
    noise: standard deviation in grey levels. blur: standard deviation in pixels. closed: whether the eyes are.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    face_width: float = 150.0
    x: float = 0.5
    y: float = 0.45
    light: float = 1.0
    side_light: float = 0.0
    noise: float = 2.0
    blur: float = 0.0
    closed: bool = False


class Head:
    """One portrait (H, W, 3) uint8 BGR and its landmarks (468, 3)."""

    def __init__(self, picture: Frame, landmarks: NDArray[np.float32]):
        self._picture = picture
        face = landmarks.astype(np.float64)
        self._face_width = float(np.ptp(face[:, 0]))
        self._middle = np.array([*(face[:, :2].max(axis=0) + face[:, :2].min(axis=0)) / 2, face[:, 2].max()])
        self._vertices, self._follows = self._with_surroundings(face - self._middle)
        self._triangles = Triangulation(*self._vertices[:, :2].T).triangles

    def view(self, view: View, seed: int = 0, room: Frame | None = None) -> Frame:
        """Render one frame (480, 640, 3) uint8 BGR; `seed` is for the noise only.

        The head stands before its portrait's own background, which comes closer with it, or before a `room` (a
        frame), which does not move.
        """
        scale = view.face_width / self._face_width
        turned = self._vertices @ rotation(view.yaw, view.pitch, view.roll).T
        moved = self._vertices + (turned - self._vertices) * self._follows[:, None]
        placed = moved * scale + (view.x * WIDTH, view.y * HEIGHT, 0)
        picture, source = self._picture, self._vertices[:, :2] + self._middle[:2]
        if view.closed:
            picture = self._with_lids(source)
        while scale < 0.7:  # no aliasing where the portrait is larger than the view
            picture, source, scale = np.asarray(cv2.pyrDown(picture), dtype=np.uint8), source / 2, scale * 2
        frame = drape(picture, source, placed, self._triangles)
        if room is not None:
            rim = cv2.convexHull(placed[self._follows >= _HAIR, :2].astype(np.float32))
            mask = cv2.fillConvexPoly(np.zeros((HEIGHT, WIDTH), np.float32), np.rint(rim).astype(np.int32), 1.0)
            share = cv2.GaussianBlur(mask, (0, 0), 2.0)[..., None]
            frame = np.asarray(frame * share + room * (1 - share), np.uint8)
        return expose(frame, view, np.random.default_rng(seed))

    def _with_lids(self, points: NDArray[np.float64]) -> Frame:
        """The portrait with its eyes closed: skin from above the eye, and lashes along the lower rim."""
        picture = self._picture.copy()
        for upper, lower in _LIDS:
            rim, base = points[upper], points[lower]
            height = float(np.abs(base - rim).max())
            x, y = np.rint(rim[len(rim) // 2] - (0, 0.8 * height)).astype(int).clip(0)
            skin = picture[y : y + 2, x : x + 2].reshape(-1, 3).mean(axis=0)
            outline = np.concatenate([rim - (0, 0.15 * height), base[::-1]])
            cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], skin.tolist(), cv2.LINE_AA)
            thick = max(1, round(height / 5))
            lashes = [np.rint(base).astype(np.int32)]
            cv2.polylines(picture, lashes, False, (0.35 * skin).tolist(), thick, cv2.LINE_AA)
        return picture

    def _with_surroundings(self, face: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Add points around the face, and how much each follows its turns: hair does, the wall does not."""
        outline = 1.02 * (face[np.hypot(*face[:, :2].T) > 0.3 * self._face_width])
        angles = np.arctan2(outline[:, 1], outline[:, 0])
        rings, follows = [face], [np.ones(len(face))]
        for reach, share in ((1.25, 0.85), (1.6, 0.5), (2.4, 0.1)):
            for angle in np.linspace(-np.pi, np.pi, 24, endpoint=False):
                near = outline[np.abs(np.angle(np.exp(1j * (angles - angle)))) < 0.2]
                rim = near[np.argmax(np.hypot(*near[:, :2].T))]
                rings.append((rim * (reach, reach, 1))[None])
                follows.append(np.array([share]))
        far = 20 * self._face_width
        rings.append(np.array([(x, y, 0) for x in (-far, 0, far) for y in (-far, 0, far) if x or y]))
        follows.append(np.zeros(8))
        return np.concatenate(rings), np.concatenate(follows)


def room(rng: np.random.Generator) -> Frame:
    """Render what is behind people: large patches of colour, posts and door frames."""
    coarse = rng.integers(60, 190, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    for x in rng.uniform(0, WIDTH, 5).astype(int).tolist():
        top, wide = int(rng.uniform(-200, 200)), int(rng.uniform(8, 90))
        cv2.rectangle(picture, (x, top), (x + wide, HEIGHT), rng.integers(20, 230, 3).tolist(), -1)
    return picture


def walk(seed: int, frames: int = 8) -> Iterator[View]:
    """Give the views of somebody coming up to the camera, larger in each frame: looks up from somewhere beside it,
    turns to it, and never holds quite still."""
    rng = np.random.default_rng(seed)
    widths = np.linspace(110, 190, frames) * rng.uniform(0.95, 1.05)
    aside, pitch = rng.choice([-1, 1]) * rng.uniform(10, 18), rng.uniform(-6, 6)
    x, light, side = rng.uniform(0.42, 0.58), rng.uniform(0.85, 1.1), rng.uniform(-0.15, 0.15)
    for step, width in enumerate(widths):
        yaw = float(np.clip(aside * 0.6**step + rng.normal(0, 3), -20, 20))
        pitch = float(np.clip(pitch + rng.normal(0, 3), -12, 12))
        x += (0.5 - x) * 0.2 + rng.normal(0, 0.005)
        roll = float(rng.normal(0, 2))
        yield View(yaw, pitch, roll, float(width), x, light=light, side_light=side)


def rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Rotation in picture axes (x right, y down, z away), with the signs of HeadPose."""
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = about_z @ about_x @ about_y
    return turned


def drape(
    picture: Frame,
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    triangles: NDArray[np.int32],
    behind: Frame | None = None,
) -> Frame:
    """Draw a picture over moved triangles (T, 3), far ones first: each pixel looks up where it came from.

    source: points in the picture (P, 2); target: the same in the frame, with depth (P, 3). `behind` shows where
    no triangle lies; without it the triangles have to cover the frame.
    """
    owner = np.full((HEIGHT, WIDTH), -1, dtype=np.int32)
    corners = target[triangles]  # (T, 3, 3)
    for index in np.argsort(-corners[:, :, 2].mean(axis=1)):
        cv2.fillConvexPoly(owner, np.rint(corners[index, :, :2]).astype(np.int32), int(index))
    # The affine map (3, 2) of each triangle from the frame back to the picture.
    homogeneous = np.concatenate([corners[:, :, :2], np.ones((len(corners), 3, 1))], axis=2)
    flat = np.abs(np.linalg.det(homogeneous)) < 1e-6
    homogeneous[flat] = np.eye(3)
    maps = np.linalg.solve(homogeneous, source[triangles]).astype(np.float32)[np.maximum(owner, 0)]
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    origin = x[..., None] * maps[:, :, 0] + y[..., None] * maps[:, :, 1] + maps[:, :, 2]
    columns, rows = np.ascontiguousarray(origin[..., 0]), np.ascontiguousarray(origin[..., 1])
    draped = cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if behind is not None:
        draped[owner < 0] = behind[owner < 0]
    return np.asarray(draped, dtype=np.uint8)


def expose(frame: Frame, view: View, rng: np.random.Generator) -> Frame:
    """Light, blur and sensor noise of a view."""
    ramp = 1 + view.side_light * np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :, None]
    light = frame.astype(np.float32) * np.float32(view.light) * ramp
    if view.blur > 0:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), view.blur), dtype=np.float32)
    noise = rng.standard_normal(light.shape, dtype=np.float32) * np.float32(view.noise)
    return np.clip(np.rint(light + noise), 0, 255).astype(np.uint8)
