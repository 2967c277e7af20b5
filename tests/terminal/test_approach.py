import cv2
import numpy as np
import pytest

from demo.faces import View
from facefare.biometrics import Hint, fuse
from facefare.evaluation.attacks import Species, present
from facefare.evaluation.heads import walk
from facefare.terminal.approach import Approach, Lane, SomeoneElseTooClose


@pytest.fixture
def approach(pipeline):
    return Approach(pipeline, Lane())


@pytest.fixture
def embedded(pipeline, monkeypatch):
    """The boxes of all faces that were embedded."""
    boxes = []
    embed = pipeline.embed

    def watched(frame, face):
        boxes.append(face.box)
        return embed(frame, face)

    monkeypatch.setattr(pipeline, "embed", watched)
    return boxes


def beside(frame, other, left, top, size):
    """The frame with a smaller picture of somebody pasted in."""
    small = cv2.resize(other[40:440, 120:520], (size, size), interpolation=cv2.INTER_AREA)
    together = frame.copy()
    together[top : top + size, left : left + size] = small
    return together


def until_ready(approach, frames):
    for frame in frames:
        approach.offer(frame)
        if approach.ready:
            return approach.probe()
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_walk_up_gives_a_probe_of_that_person(pipeline, approach, collins, hopper, seed):
    probe = until_ready(approach, collins.walk_up(seed))
    assert probe is not None
    own, other = (
        fuse([pipeline.embed(frame, pipeline.observe(frame)) for frame in sitter.enrolment_views()]).vector
        for sitter in (collins, hopper)
    )
    assert ((probe.vector - own) ** 2).sum() < 0.04 < 0.15 < ((probe.vector - other) ** 2).sum()
    assert not approach.somebody_near


def test_people_in_the_background_are_neither_embedded_nor_kept(approach, embedded, collins, hopper):
    background = hopper.view(View())
    frames = [beside(frame, background, 440, 20, 150) for frame in collins.walk_up(2)]
    frames = [beside(frame, background, 20, 40, 150) for frame in frames]
    alone = Approach(approach._pipeline, Lane())
    together = until_ready(approach, frames)
    assert len(embedded) == Approach.VIEWS
    assert all(box[2] > 90 and 0.3 < (box[0] + box[2] / 2) / 640 < 0.7 for box in embedded)
    assert together.vector @ until_ready(alone, collins.walk_up(2)).vector > 0.985
    assert approach._views == []
    assert approach._last is None


def test_somebody_outside_the_lane_is_not_followed(approach, embedded, collins):
    for x in (0.1, 0.12, 0.9, 0.88):
        approach.offer(collins.view(View(x=x)))
        assert not approach.somebody_near
        assert approach._views == []
    assert embedded == []


def test_two_people_side_by_side_stop_the_attempt_and_what_was_gathered_is_dropped(approach, embedded, collins, hopper):
    approach.offer(collins.view(View()))
    assert approach._views
    left, right = collins.view(View(face_width=150)), hopper.view(View(face_width=150))
    with pytest.raises(SomeoneElseTooClose):
        approach.offer(np.hstack([left[:, 170:490], right[:, 170:490]]))
    assert approach._views == []
    assert embedded == []


def test_thirty_faces_at_once_are_refused_calmly(approach, hopper):
    face = cv2.resize(hopper.view(View(face_width=240, y=0.5))[60:420, 140:500], (160, 160))
    crowd = np.tile(face, (5, 6, 1))
    with pytest.raises(SomeoneElseTooClose):
        approach.offer(crowd)
    assert approach._views == []


def test_who_looks_aside_does_not_want_to_pay(approach, collins):
    approach.offer(collins.view(View(yaw=38)))
    assert not approach.wants_to_pay
    approach.offer(collins.view(View()))
    assert approach.wants_to_pay


def test_who_is_far_away_does_not_want_to_pay(approach, collins):
    approach.offer(collins.view(View(face_width=80)))
    assert not approach.wants_to_pay


def test_another_face_in_another_place_starts_anew(approach, collins, hopper):
    approach.offer(collins.view(View(x=0.3, face_width=120)))
    approach.offer(hopper.view(View(x=0.7, face_width=120)))
    assert len(approach._views) == 1


def test_an_empty_lane_forgets_everything(approach, collins):
    approach.offer(collins.view(View()))
    approach.offer(np.full((480, 640, 3), 90, np.uint8))
    assert approach._views == []
    assert not approach.somebody_near


def test_no_more_than_eight_frames_are_held(approach, collins):
    for number in range(12):
        approach.offer(collins.view(View(yaw=number / 2), number))
    assert len(approach._views) == 8


def test_who_stands_stock_still_is_asked_to_turn_a_little_and_nothing_is_embedded(approach, embedded, collins):
    hints = [approach.offer(collins.view(View(), seed)) for seed in range(4)]
    assert hints[-1] is Hint.TURN_A_LITTLE
    assert not approach.ready
    assert embedded == []


PASSES = (Species.LARGE_SCREEN, Species.PHOTO_MASK)
"""Not found, and said so: what moves with the depth of a head and shows neither edge nor grid."""


@pytest.mark.parametrize("species", [s for s in Species if s not in PASSES])
@pytest.mark.parametrize("sitter", ["collins", "hopper"])
def test_a_picture_that_is_moved_like_a_head_is_never_embedded(approach, embedded, request, sitter, species):
    for frame in present(request.getfixturevalue(sitter), species, walk(7), 7):
        approach.offer(frame)
        assert not approach.ready
    assert embedded == []


def test_what_once_looked_like_a_screen_gets_no_probe_until_it_is_gone(approach, collins):
    for frame in present(collins, Species.SCREEN_VIDEO, walk(11), 11):
        approach.offer(frame)
    assert approach.wants_to_pay
    for frame in collins.walk_up(seed=4)[-3:]:
        approach.offer(frame)
        assert not approach.ready
    approach.offer(np.full((480, 640, 3), 90, np.uint8))
    assert until_ready(approach, collins.walk_up(seed=4)) is not None
