"""Rendered places where a gate may stand, and who passes behind: for measuring the backdrop check (`evaluate`).

A place is a box with boxes in it (posts, counters, doors, signs), seen by a pinhole camera 60 degrees wide, and lit by
lamps without shadows: every surface is dull (Lambert) and has patches and grain of its own. Real places have shadows,
gloss and smaller detail; no photo of one is used.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.heads import HEIGHT, WIDTH, Frame, View

_FOCAL = WIDTH / 2 / np.tan(np.radians(30))
_PATCHES = 96  # side of a surface's picture


@dataclass(frozen=True)
class Stand:
    """Where the camera stands: metres to the right and forward of where a gate's does, and degrees to the right."""

    right: float = 0.0
    forward: float = 0.0
    turned: float = 0.0


HERE = Stand()


class Place:
    """One place, drawn at random from a seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        width, height, depth = rng.uniform(4, 9), rng.uniform(2.6, 4), rng.uniform(4, 12)
        corners = [((-width / 2, -1.5, -1.0), (width / 2, height - 1.5, depth))]
        for _ in range(int(rng.integers(5, 11))):
            x, z = rng.uniform(-width / 2, width / 2), rng.uniform(2.2, depth)
            wide, thick, tall = rng.uniform(0.2, 1.4), rng.uniform(0.2, 0.8), rng.uniform(0.6, height)
            foot = -1.5 if rng.random() < 0.7 else float(height - 1.5 - tall)  # stands, or hangs
            corners.append(((x - wide / 2, foot, z), (x + wide / 2, foot + tall, z + thick)))
        self._boxes = np.array(corners)  # (boxes, 2, 3) metres: x right, y up from the camera, z forward
        self._surfaces = np.stack([_surface(rng) for _ in range(6 * len(corners))])
        self._lamps = np.column_stack(
            [rng.uniform(-width / 2, width / 2, 4), np.full(4, height - 1.6), rng.uniform(0.5, depth, 4)]
        )
        self._tint = rng.uniform(0.85, 1.0, (4, 3))

    def seen(self, stand: Stand = HERE, lamps: tuple[float, ...] = (1, 1, 1, 1)) -> Frame:
        """Render it empty, (480, 640, 3) uint8 BGR, exposed automatically; `lamps`: how bright each of the four is."""
        y, x = np.mgrid[0:HEIGHT:2, 0:WIDTH:2] + 0.5  # half the size: half of a camera's detail is soft anyway
        ahead = np.stack([(x - WIDTH / 2) / _FOCAL, (HEIGHT / 2 - y) / _FOCAL, np.ones(x.shape)], axis=-1)
        cos, sin = np.cos(np.radians(stand.turned)), np.sin(np.radians(stand.turned))
        rays = (ahead @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])).reshape(-1, 3)
        origin = np.array([stand.right, 0, stand.forward])
        points, surface, normal = self._hit(origin, rays)
        light = np.full((len(points), 3), 0.06)
        for lamp, tint, bright in zip(self._lamps, self._tint, lamps, strict=True):
            towards = lamp - points
            distance = np.linalg.norm(towards, axis=1)
            facing = np.abs((towards * normal).sum(axis=1)) / distance
            light += (bright * facing / (1 + distance**2))[:, None] * tint
        linear = light * self._albedo(points, surface, normal)
        return _exposed(linear.reshape(HEIGHT // 2, WIDTH // 2, 3))

    def _hit(
        self, origin: NDArray[np.float64], rays: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """What each ray meets first: the point, the number of the surface, its normal's axis."""
        rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        nearest = np.full(len(rays), np.inf)
        surface = np.zeros(len(rays), np.int64)
        for number, box in enumerate(self._boxes):
            along = (box[:, None] - origin) / rays  # (2, rays, 3)
            enters, leaves = along.min(axis=0), along.max(axis=0)
            axis = leaves.argmin(axis=1) if number == 0 else enters.argmax(axis=1)
            first = leaves.min(axis=1) if number == 0 else enters.max(axis=1)  # inside the room, outside the others
            met = (first > 0.05) & (first < nearest) & ((number == 0) | (first < leaves.min(axis=1)))
            side = np.take_along_axis(rays, axis[:, None], 1)[:, 0] > 0
            nearest[met] = first[met]
            surface[met] = (6 * number + 2 * axis + side)[met]
        return origin + rays * nearest[:, None], surface, np.eye(3)[surface % 6 // 2]

    def _albedo(
        self, points: NDArray[np.float64], surface: NDArray[np.int64], normal: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        low, high = self._boxes[surface // 6].transpose(1, 0, 2)
        where = np.clip((points - low) / (high - low), 0, 1 - 1e-9)
        axis = normal.argmax(axis=1)
        across = np.where(axis == 0, where[:, 2], where[:, 0])
        down = np.where(axis == 1, where[:, 2], where[:, 1])
        shades: NDArray[np.float64] = self._surfaces[
            surface, (down * _PATCHES).astype(int), (across * _PATCHES).astype(int)
        ]
        return shades


def _surface(rng: np.random.Generator) -> NDArray[np.float64]:
    """A wall or a side: its shade, signs or windows or stripes on it, and grain; (P, P, 3) albedo, 0..1."""
    shade = rng.uniform(0.15, 0.8) * rng.uniform(0.8, 1.0, 3)
    side = np.ones((_PATCHES, _PATCHES, 3)) * shade
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.integers(0, _PATCHES, 2)
        wide, tall = rng.integers(6, 40, 2)
        side[y : y + tall, x : x + wide] = rng.uniform(0.05, 0.9) * rng.uniform(0.6, 1.0, 3)
    if rng.random() < 0.3:  # tiles or boards
        side[:: int(rng.integers(6, 20))] *= 0.7
    grain = cv2.resize(rng.normal(1, 0.12, (12, 12)), (_PATCHES, _PATCHES), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(side * grain[..., None], 0.02, 1))


def _exposed(linear: NDArray[np.float64]) -> Frame:
    """As a camera does: a gain for the whole picture, and a tone curve."""
    gain = 0.16 / linear.mean()
    picture = 255 * np.clip(linear * gain, 0, 1) ** (1 / 2.2)
    return np.asarray(cv2.resize(picture.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)


def peopled(place: Frame, motion: Iterable[View], count: int, seed: int) -> Iterator[Frame]:
    """The place with the body of somebody whose head moves as `motion` says (the head is not drawn), and with so many
    people who pass behind: bodies with heads, in clothes of any shade."""
    rng = np.random.default_rng(seed)
    passers = rng.uniform((0, 0.3 * HEIGHT, 14, -14), (WIDTH, 0.6 * HEIGHT, 46, 14), (count, 4)).tolist()
    for step, view in enumerate(motion):
        picture = place.copy()
        for number, (x, y, head, speed) in enumerate(passers):
            _body(picture, (x + step * speed) % WIDTH, y, head, np.random.default_rng((seed, number)))
        _body(picture, view.x * WIDTH, view.y * HEIGHT, view.face_width / 2, np.random.default_rng((seed, count)))
        yield picture


def _body(picture: Frame, x: float, y: float, head: float, rng: np.random.Generator) -> None:
    """Draw shoulders and trunk in place, and a head of that half width around (x, y)."""
    shade = rng.uniform(15, 220) * rng.uniform(0.7, 1.0, 3)
    wide, top = head * rng.uniform(2.2, 2.9), y + 1.6 * head
    outline = np.array(
        [
            (x - 0.5 * head, top - 0.4 * head),
            (x + 0.5 * head, top - 0.4 * head),
            (x + 0.9 * wide, top + 0.3 * head),
            (x + wide, top + head),
            (x + 0.9 * wide, HEIGHT + 9 * head),
            (x - 0.9 * wide, HEIGHT + 9 * head),
            (x - wide, top + head),
            (x - 0.9 * wide, top + 0.3 * head),
        ]
    )
    cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], shade.tolist(), cv2.LINE_AA)
    skin = rng.uniform(50, 200) * np.array([0.7, 0.8, 1.0])
    cv2.ellipse(
        picture, (round(x), round(y)), (round(head), round(1.35 * head)), 0, 0, 360, skin.tolist(), -1, cv2.LINE_AA
    )
