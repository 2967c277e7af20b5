from itertools import pairwise
from random import Random

import cv2
import numpy as np
import pytest

from demo.faces import View
from facefare.biometrics.pad import (
    Challenge,
    Direction,
    Motion,
    MotionCheck,
    Move,
    Turn,
    TurnCheck,
    blinked,
    parallax,
)


def held_up(frame, yaw):
    """The frame as a print, turned by `yaw` degrees in front of the camera."""
    height, width = frame.shape[:2]
    focal, turn, middle = 1.5 * width, np.radians(yaw), np.array([width / 2, height / 2])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    x, y = (corners - middle).T
    depth = focal / (focal + x * np.sin(turn))
    moved = np.column_stack([x * np.cos(turn) * depth, y * depth]) + middle
    warp = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(frame, warp, (width, height), borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
@pytest.mark.parametrize("yaw", [-21, -18, 18, 21])
def test_a_live_turn_has_depth(pipeline, request, sitter, yaw):
    sitter = request.getfixturevalue(sitter)
    before, after = (pipeline.observe(sitter.view(View(yaw=angle))) for angle in (0, yaw))
    asked = Direction.LEFT if yaw > 0 else Direction.RIGHT
    other = Direction.RIGHT if yaw > 0 else Direction.LEFT
    assert TurnCheck(asked).judge(before, after) is Turn.LIVE
    assert TurnCheck(other).judge(before, after) is Turn.WRONG_WAY


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
@pytest.mark.parametrize("yaw", [-40, -20, 20, 40])
def test_a_turned_photo_is_never_live(pipeline, request, sitter, yaw):
    frame = request.getfixturevalue(sitter).view(View())
    before, after = pipeline.observe(frame), pipeline.observe(held_up(frame, yaw))
    for direction in Direction:
        assert TurnCheck(direction).judge(before, after) is not Turn.LIVE
    assert parallax(before.landmarks, after.landmarks) < TurnCheck(Direction.LEFT).threshold


def test_a_still_photo_is_a_turn_too_little(pipeline, collins):
    before, after = (pipeline.observe(collins.view(View(), seed)) for seed in (0, 1))
    assert TurnCheck(Direction.LEFT).judge(before, after) is Turn.TOO_LITTLE
    assert parallax(before.landmarks, after.landmarks) < 0.01


def test_landmarks_that_moved_as_a_plane_have_no_parallax(pipeline, astronaut):
    points = pipeline.observe(astronaut).landmarks
    warp = np.array([[0.9, 0.1, 20], [-0.05, 1.1, 3], [1e-4, 2e-4, 1]])
    moved = points.copy()
    moved[:, :2] = cv2.perspectiveTransform(points[None, :, :2].astype(np.float64), warp)[0]
    assert parallax(points, moved) < 1e-4


def test_landmarks_without_extent_have_no_parallax():
    nothing = np.zeros((468, 3), np.float32)
    assert parallax(nothing, nothing) == 0


SHOWN = {Move.LEFT: (16, 0), Move.RIGHT: (-16, 0), Move.UP: (1, -9), Move.DOWN: (-1, 9)}


def answer(challenge, frames=40):
    """Do what is asked until nothing more is."""
    moves = []
    for _ in range(frames):
        if challenge.asked is None:
            break
        moves.append(challenge.asked)
        if challenge.shows(*SHOWN[challenge.asked]):
            challenge.answered()
    return moves


def test_who_makes_every_move_that_is_asked_for_passes():
    for seed in range(200):
        challenge = Challenge(Random(seed))
        moves = answer(challenge)
        assert len(moves) == Challenge.MOVES
        assert set(moves) == set(Move)
        assert all(one is not after for one, after in pairwise(moves))
        assert not challenge.lost


def test_which_moves_are_asked_for_cannot_be_foreseen():
    asked = {tuple(answer(Challenge())) for _ in range(200)}
    assert len(asked) > 100


def test_between_two_moves_the_head_may_stay_where_it_was_and_pass_the_middle():
    challenge = Challenge(Random(1))
    while challenge.asked is not None:
        before = SHOWN[challenge.asked]
        assert challenge.shows(*before)
        challenge.answered()
        for share in (1, 0.7, 0.3, 0):
            assert challenge.asked is None or not challenge.shows(before[0] * share, before[1] * share)
    assert not challenge.lost


def test_a_move_that_was_not_asked_for_is_a_mistake_and_another_move_is_drawn():
    challenge = Challenge(Random(2))
    asked = challenge.asked
    wrong = next(move for move in Move if move is not asked)
    assert not challenge.shows(*SHOWN[wrong])
    assert challenge.asked not in (asked, wrong)
    assert answer(challenge)
    assert not challenge.lost


def test_more_mistakes_than_people_make_end_the_challenge():
    challenge = Challenge(Random(3))
    for _ in range(Challenge.MISTAKES + 1):
        assert not challenge.lost
        wrong = next(move for move in Move if move not in (challenge.asked, challenge._before))
        challenge.shows(*SHOWN[wrong])
    assert challenge.lost
    assert challenge.asked is None
    assert not challenge.shows(*SHOWN[Move.LEFT])


def test_who_does_nothing_for_too_long_is_asked_for_something_else_and_then_no_more():
    challenge = Challenge(Random(4))
    frames = 0
    while not challenge.lost:
        challenge.shows(0, 0)
        frames += 1
    assert frames == (Challenge.MISTAKES + 1) * (Challenge.PATIENCE + 1)


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
def test_a_walk_moves_with_the_depth_of_a_head(pipeline, request, sitter):
    frames = request.getfixturevalue(sitter).walk_up(seed=4)
    assert MotionCheck().judge([pipeline.observe(frame) for frame in frames]) is Motion.LIVE


def test_a_photo_that_moves_as_a_head_moves_is_flat_or_cannot_be_told(pipeline, collins):
    frame = collins.view(View())
    seen = [pipeline.observe(held_up(frame, yaw)) for yaw in (-15, 0, 15)]
    assert MotionCheck().judge(seen) is not Motion.LIVE


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_or_equal_views_cannot_be_told(pipeline, collins, count):
    seen = [pipeline.observe(collins.view(View()))] * count
    assert MotionCheck().judge(seen) is Motion.TOO_LITTLE


@pytest.mark.parametrize(
    ("eyes", "answer"),
    [
        ([0.1, 0.1, 0.04, 0.1], True),
        ([0.1, 0.1, 0.05, 0.05, 0.1, 0.1], True),
        ([0.1, 0.099, 0.101, 0.098], False),
        ([0.1, 0.1, 0.1, 0.04], False),  # closed, and not open again
        ([0.04, 0.1, 0.1, 0.1], False),
        ([0.1, 0.04], False),
        ([], False),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_a_blink_is_open_closed_open(eyes, answer):
    assert blinked(eyes) is answer


def test_painted_lids_are_seen_as_a_blink(pipeline, hopper):
    views = [View(face_width=220, closed=closed) for closed in (False, True, False)]
    assert blinked([pipeline.observe(hopper.view(view)).quality.eyes_open for view in views])
