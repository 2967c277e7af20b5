"""Signs of a screen or a sheet, on rendered heads and attacks."""

import cv2
import numpy as np
import pytest

from facefare.biometrics.screens import ScreenCheck, grid
from facefare.biometrics.views import View as Seen
from facefare.evaluation.attacks import Species, present
from facefare.evaluation.heads import View, room, walk


def seen(pipeline, frames):
    return [Seen(frame, pipeline.observe(frame)) for frame in frames]


def bona_fide(pipeline, sitter, seed):
    behind = room(np.random.default_rng(seed))
    views = list(walk(seed))[1::3]
    return seen(pipeline, [sitter.view(view, seed + number, behind) for number, view in enumerate(views)])


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
@pytest.mark.parametrize("seed", range(4))
def test_a_head_before_posts_and_doors_is_no_screen(pipeline, request, sitter, seed):
    views = bona_fide(pipeline, request.getfixturevalue(sitter), seed)
    assert not ScreenCheck().judge(views)


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
@pytest.mark.parametrize("species", [Species.SCREEN_VIDEO, Species.SCREEN_STILL, Species.PRINT, Species.BENT_PHOTO])
def test_an_edge_that_travels_with_the_face_is_a_screen_or_a_sheet(pipeline, request, sitter, species):
    views = seen(pipeline, list(present(request.getfixturevalue(sitter), species, walk(11), 11))[1::3])
    assert ScreenCheck().borders(views) >= 3
    assert ScreenCheck().judge(views)


def test_an_edge_that_stays_in_the_picture_is_a_wall(pipeline, collins):
    behind = room(np.random.default_rng(0))
    for x in (150, 490):
        cv2.rectangle(behind, (x, 0), (x + 12, 480), (0, 0, 0), -1)
    cv2.rectangle(behind, (0, 20), (640, 32), (0, 0, 0), -1)
    views = seen(pipeline, [collins.view(view, 1, behind) for view in list(walk(3))[1::3]])
    assert ScreenCheck().borders(views) < 3


def test_nobody_who_stands_still_before_a_frame_on_the_wall_is_a_screen(pipeline, collins):
    behind = room(np.random.default_rng(0))
    cv2.rectangle(behind, (120, 30), (520, 440), (0, 0, 0), 14)
    views = seen(pipeline, [collins.view(View(yaw=yaw), 1, behind) for yaw in (-8, 0, 8)])
    assert not ScreenCheck().judge(views)


def striped(view, period, strength):
    wave = np.sin(np.arange(view.frame.shape[1]) * 2 * np.pi / period) * strength
    frame = np.clip(view.frame + wave[:, None] * np.array([1.0, 0.6, -0.8]), 0, 255).astype(np.uint8)
    return Seen(frame, view.face)


@pytest.mark.parametrize("period", [3.3, 6, 11, 20])
def test_a_grid_over_the_face_is_heard(pipeline, collins, period):
    views = bona_fide(pipeline, collins, 5)
    assert (
        max(grid(view) for view in views) < ScreenCheck().peak < min(grid(striped(view, period, 3)) for view in views)
    )


def test_the_blocks_of_jpeg_are_no_grid(pipeline, collins):
    for view in bona_fide(pipeline, collins, 6):
        packed = cv2.imencode(".jpg", view.frame, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
        again = Seen(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8), view.face)
        assert grid(again) < ScreenCheck().peak


def test_a_face_at_the_rim_of_the_picture_has_no_grid_and_no_error(pipeline, collins):
    view = Seen(collins.view(View(x=0.5)), pipeline.observe(collins.view(View(x=0.5))))
    cut = Seen(view.frame[:, 320:], view.face)
    assert grid(cut) == 0
    assert not ScreenCheck().judge([cut, cut, cut])
