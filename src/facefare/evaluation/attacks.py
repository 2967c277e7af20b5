"""Simulated presentation attacks: what a camera would see of a portrait that somebody holds up to it.

Each kind (presentation attack instrument species, ISO/IEC 30107-3) is a surface with the portrait on it, moved as a
bona fide head moves: it comes closer, turns and tilts. Simulation shows what geometry alone can tell. It is no
substitute for tests with real prints, screens and masks. The nearest to a mask is a cut-out that is worn, bent round
the head: masks with a nose of their own are not simulated at all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import Enum
from itertools import repeat
from typing import Final

import numpy as np
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from facefare.evaluation.heads import HEIGHT, WIDTH, Frame, Head, View, drape, expose, room, rotation


class Species(Enum):
    """What is held up to the camera."""

    PRINT = "print"
    SCREEN_STILL = "screen still"
    SCREEN_VIDEO = "screen video replay"
    LARGE_SCREEN = "video on a screen without visible edge or grid"
    FILMED_HERE = "video without edge or grid, filmed beside this gate's camera"
    SAME_VIEW = "video without edge or grid, before this gate's own view"
    BENT_PHOTO = "bent photo"
    CUT_OUT = "cut-out"
    PHOTO_MASK = "cut-out bent round a head"


FILLS_THE_VIEW: Final = (Species.LARGE_SCREEN, Species.FILMED_HERE, Species.SAME_VIEW)
"""Alike but for the place that they show."""
_WITHOUT_BORDER = (Species.CUT_OUT, Species.PHOTO_MASK)
_SHOWN = View(face_width=190, y=0.5, noise=0.0)
"""How the portrait fills its sheet or screen, of the size of a frame."""
_HALF_WIDTH = 1.25
"""Half the sheet, in face widths: the borders lie inside the frame."""
_HEAD = 0.6
"""Radius of the head that a cut-out is bent round, in face widths."""
_BEND = 0.35
"""How far the middle of a bent photo comes forward, in face widths."""


def present(
    head: Head, species: Species, motion: Iterable[View], seed: int, behind: Iterable[Frame] | None = None
) -> Iterator[Frame]:
    """Render the frames (480, 640, 3) uint8 of one attack that is moved as `motion` says.

    `behind`: for each view what is behind, in the picture that is shown where that fills the view; else some wall.
    """
    rng = np.random.default_rng(seed)
    walls = repeat(room(rng)) if behind is None else behind
    if species in FILLS_THE_VIEW:
        yield from _filling(head, motion, walls, seed)
        return
    still = _treated(head.view(_SHOWN, seed), species, rng)
    outline = _outline(species)
    for number, (view, wall) in enumerate(zip(motion, walls, strict=False)):
        sheet = still
        placed = view
        if species is Species.SCREEN_VIDEO:  # the recording moves, the screen hardly does
            shown = replace(_SHOWN, yaw=view.yaw, pitch=view.pitch, roll=view.roll)
            sheet = _treated(head.view(shown, seed + number), species, np.random.default_rng(seed))
            placed = replace(view, yaw=float(rng.normal(0, 1.5)), pitch=float(rng.normal(0, 1.5)), roll=0.0)
        frame = _held(sheet, outline, placed, wall)
        if species in (Species.SCREEN_STILL, Species.SCREEN_VIDEO):
            frame = _moire(frame, view, rng)
        yield expose(_glare(frame, view, rng), view, rng)


def _filling(head: Head, motion: Iterable[View], walls: Iterable[Frame], seed: int) -> Iterator[Frame]:
    """A screen that fills the picture, with pixels finer than the camera's: all that is left of it is its backlight."""
    for number, (view, wall) in enumerate(zip(motion, walls, strict=False)):
        shown = _backlit(head.view(view, seed + number, wall).astype(np.float32))
        yield np.clip(shown, 0, 255).astype(np.uint8)


def _backlit(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lifted blacks, bluish."""
    lit: NDArray[np.float32] = light * np.float32(0.9) + np.array([22, 12, 8], np.float32)
    return lit


def _outline(species: Species) -> NDArray[np.float64]:
    """Points of the surface (P, 3) in face widths, x right, y down, z away."""
    if species in _WITHOUT_BORDER:
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        rim = np.column_stack([0.56 * np.cos(angle), 0.72 * np.sin(angle)])
        points = np.concatenate([rim, 0.5 * rim, np.zeros((1, 2))])
    else:
        across, down = np.meshgrid(np.linspace(-_HALF_WIDTH, _HALF_WIDTH, 17), np.linspace(-0.95, 0.95, 5))
        points = np.column_stack([across.reshape(-1), down.reshape(-1)])
    depth = np.zeros(len(points))
    if species is Species.PHOTO_MASK:
        depth = -np.sqrt(_HEAD**2 - points[:, 0] ** 2)
    if species is Species.BENT_PHOTO:  # a cylinder around the vertical axis
        depth = -_BEND * (1 - (points[:, 0] / _HALF_WIDTH) ** 2)
    return np.column_stack([points, depth])


def _held(sheet: Frame, outline: NDArray[np.float64], view: View, wall: Frame) -> Frame:
    source = outline[:, :2] * _SHOWN.face_width + (_SHOWN.x * WIDTH, _SHOWN.y * HEIGHT)
    turned = outline @ rotation(view.yaw, view.pitch, view.roll).T
    placed = turned * view.face_width + (view.x * WIDTH, view.y * HEIGHT, 0)
    return drape(sheet, source, placed, Triangulation(*outline[:, :2].T).triangles, wall)


def _treated(picture: Frame, species: Species, rng: np.random.Generator) -> Frame:
    """What paper or a screen makes of the picture, and its border: white paper, black bezel."""
    light = picture.astype(np.float32)
    if species in (Species.SCREEN_STILL, Species.SCREEN_VIDEO):
        light = _backlit(light)
        border = 8.0
    else:
        light = light * 0.78 + 28  # ink on paper: less contrast
        light += rng.normal(0, 5, (HEIGHT // 2, WIDTH // 2, 1)).repeat(2, 0).repeat(2, 1)  # halftone grain
        border = 240.0
    edge = 14
    left, right = (round(_SHOWN.x * WIDTH + side * _HALF_WIDTH * _SHOWN.face_width) for side in (-1, 1))
    top, bottom = (round(_SHOWN.y * HEIGHT + side * 0.95 * _SHOWN.face_width) for side in (-1, 1))
    if species not in _WITHOUT_BORDER:
        inner = np.zeros((HEIGHT, WIDTH), bool)
        inner[top + edge : bottom - edge, left + edge : right - edge] = True
        light[~inner] = border
    return np.clip(light, 0, 255).astype(np.uint8)


def _moire(frame: Frame, view: View, rng: np.random.Generator) -> Frame:
    """Beats between the screen's pixels and the camera's, which change with distance and angle."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    period = 5 + 40 * abs(np.sin(view.face_width / 7))
    angle = np.radians(view.roll * 8 + rng.uniform(0, 180))
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    tint = np.array([1.0, 0.6, -0.8], np.float32) * 5
    return np.asarray(np.clip(frame + wave[..., None] * tint, 0, 255), np.uint8)


def _glare(frame: Frame, view: View, rng: np.random.Generator) -> Frame:
    """A lamp's reflection that slides over the surface as it turns."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    middle = (view.x + view.yaw / 60 + 0.2) * WIDTH, (view.y - 0.25 + view.pitch / 60) * HEIGHT
    spot = np.exp(-(((x - middle[0]) / 60) ** 2) - ((y - middle[1]) / 45) ** 2) * rng.uniform(30, 90)
    return np.asarray(np.clip(frame + spot[..., None], 0, 255), np.uint8)
