import cv2
import numpy as np
import pytest

from demo.faces import View
from facefare.biometrics import Hint
from facefare.biometrics.errors import SeveralFacesError
from facefare.biometrics.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from facefare.biometrics.pad import Challenge
from facefare.evaluation.attacks import Species, present
from facefare.terminal.station import Ask, Capture, NotLiveError, NotOnePersonError


@pytest.fixture
def capture(pipeline):
    return Capture(pipeline)


def follow(capture, sitter, moves=12):
    """Obey so many times, or to the end."""
    for _ in range(moves):
        if capture.asked is None:
            return
        for frame in sitter.obey(capture.asked):
            capture.offer(frame)


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
def test_who_does_what_is_asked_gets_a_reference_of_five_views_or_more(capture, request, sitter):
    follow(capture, request.getfixturevalue(sitter))
    assert capture.complete
    assert len(capture._templates) >= 5
    assert np.linalg.norm(capture.reference().vector) == pytest.approx(1, abs=1e-6)
    assert capture._templates == []


def test_what_comes_first_cannot_be_foreseen(pipeline, collins):
    (ahead,) = collins.obey(Ask.LOOK_AHEAD)
    asked = set()
    for _ in range(40):
        capture = Capture(pipeline)
        capture._ahead = pipeline.observe(ahead)
        asked.add(capture.asked)
    assert asked == {Ask.TURN_LEFT, Ask.TURN_RIGHT, Ask.TILT_UP, Ask.TILT_DOWN}


MOVES = (Ask.TURN_LEFT, Ask.TURN_RIGHT, Ask.TILT_UP, Ask.TILT_DOWN)


def test_a_turn_that_was_not_asked_for_is_not_taken(capture, collins):
    follow(capture, collins, moves=1)
    for frame in collins.obey(next(ask for ask in MOVES if ask is not capture.asked)):
        assert capture.offer(frame).views == 1


def recording(capture, sitter):
    """Show moves that are neither what is asked for nor what was just shown."""
    shown = None
    for _ in range(8):
        shown = next(ask for ask in MOVES if ask not in (capture.asked, shown))
        for frame in sitter.obey(shown):
            capture.offer(frame)


def test_a_recording_of_other_moves_ends_the_capture(capture, collins):
    follow(capture, collins, moves=1)
    with pytest.raises(NotLiveError):
        recording(capture, collins)
    assert capture._templates == []
    assert capture.asked is Ask.LOOK_AHEAD


def test_the_same_view_again_is_not_taken(capture, collins):
    follow(capture, collins, moves=1)
    assert capture.offer(collins.view(View(face_width=170))).views == 1


def test_a_reference_is_not_made_before_the_end(capture, collins):
    follow(capture, collins, moves=1 + Challenge.MOVES)
    assert capture.asked is Ask.BLINK
    with pytest.raises(ValueError, match="not complete"):
        capture.reference()


def test_without_a_blink_the_capture_does_not_end(capture, collins):
    follow(capture, collins, moves=1 + Challenge.MOVES)
    assert capture.asked is Ask.BLINK
    for seed in range(8):
        capture.offer(collins.view(View(face_width=220), seed))
    assert capture.asked is Ask.BLINK


@pytest.mark.parametrize("species", [Species.PRINT, Species.SCREEN_STILL, Species.CUT_OUT])
def test_a_turned_picture_never_ends_in_a_reference(pipeline, collins, species):
    capture = Capture(pipeline)
    capture.offer(collins.view(View(face_width=170)))
    motion = [View(yaw=sign * yaw, face_width=170, noise=1.5) for yaw in (20, 30, 40) for sign in (-1, 1)] * 2
    try:
        for frame in present(collins, species, motion, seed=1):
            capture.offer(frame)
    except NotLiveError:
        assert capture._templates == []
    assert not capture.complete
    assert len(capture._templates) <= 1


def test_another_persons_face_for_one_view_ends_the_capture(capture, collins, hopper):
    follow(capture, collins, moves=3)
    (frame,) = hopper.obey(capture.asked)
    with pytest.raises(NotOnePersonError):
        capture.offer(frame)
    assert capture._templates == []


def test_two_faces_are_refused(capture, collins, hopper):
    both = np.hstack([collins.view(View())[:, 170:490], hopper.view(View())[:, 170:490]])
    with pytest.raises(SeveralFacesError):
        capture.offer(both)


@pytest.mark.parametrize(
    ("view", "hint"),
    [
        (View(face_width=80), Hint.COME_CLOSER),
        (View(face_width=170, light=0.12), Hint.MORE_LIGHT),
        (View(face_width=170, blur=5.0), Hint.HOLD_STILL),
    ],
)
def test_a_view_is_refused_with_the_one_thing_to_change(capture, hopper, view, hint):
    taken = capture.offer(hopper.view(view))
    assert (taken.views, taken.hint, taken.asked) == (0, hint, Ask.LOOK_AHEAD)


@pytest.mark.parametrize("grey", [40, 150, 215])
@pytest.mark.parametrize("sitter", ["collins", "hopper"])
def test_a_mask_has_to_be_taken_off(pipeline, capture, request, sitter, grey):
    frame = request.getfixturevalue(sitter).view(View(face_width=170))
    rim = [132, 58, 136, 149, 152, 378, 365, 288, 361, 280, 197, 50]  # along the jaw, and over the nose
    points = pipeline.observe(frame).landmarks[rim, :2]
    cv2.fillPoly(frame, [np.rint(points).astype(np.int32)], (grey, grey, grey), cv2.LINE_AA)
    assert capture.offer(frame).hint is Hint.UNCOVER_THE_MOUTH


@pytest.mark.parametrize("sitter", ["collins", "hopper"])
def test_sunglasses_have_to_be_taken_off(pipeline, capture, request, sitter):
    frame = request.getfixturevalue(sitter).view(View(face_width=170))
    points = pipeline.observe(frame).landmarks
    for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS):
        centre, width = points[list(corners), :2].mean(axis=0), np.ptp(points[list(corners), 0])
        size = (round(width), round(0.75 * width))
        cv2.ellipse(
            frame, (tuple(np.rint(centre).astype(int).tolist()), (2 * size[0], 2 * size[1]), 0), (18, 16, 15), -1
        )
    assert capture.offer(frame).hint is Hint.TAKE_OFF_GLASSES
