"""The empty place that a fixed camera knows: what it tells apart, how slowly it learns, what a person leaves in it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefare.biometrics.backdrop import COLUMNS, FIRST, PACE, ROWS, STALE, Backdrop, Behind
from facefare.evaluation.heads import HEIGHT, WIDTH, View, expose
from facefare.evaluation.rooms import Place, Stand, peopled


class Camera:
    """A backdrop, and a clock that goes half a second with each frame without a face."""

    def __init__(self):
        self.now = 100.0
        self.said = []
        self.backdrop = Backdrop(clock=lambda: self.now, on_change=self.said.append)

    def sees(self, frame, seconds):
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            self.backdrop.learn(frame)

    def behind(self, place, view=View(), crowd=0, seed=1):  # noqa: B008 (immutable)
        """Somebody in the place: the body below a face that is seen so."""
        frame = expose(next(peopled(place, [view], crowd, seed)), view, np.random.default_rng(seed))
        x, y, width = view.x * WIDTH, view.y * HEIGHT, view.face_width
        return self.backdrop.behind(frame, SimpleNamespace(box=(x - width / 2, y - width / 2, width, width)))

    @property
    def grid(self):
        return self.backdrop._known.copy()


@pytest.fixture(scope="module")
def places():
    return [Place(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def empty(places):
    return [place.seen() for place in places]


@pytest.fixture
def camera(empty):
    camera = Camera()
    camera.sees(empty[0], 2 * FIRST)
    return camera


def test_a_place_is_known_when_it_was_empty_and_still_for_long_enough(empty):
    camera = Camera()
    camera.sees(empty[0], FIRST - 1)
    assert camera.behind(empty[0]) is camera.behind(empty[1]) is Behind.UNKNOWN
    camera.sees(empty[0], 3)
    assert camera.behind(empty[0]) is Behind.SAME
    assert camera.behind(empty[1]) is Behind.OTHER
    assert camera.said == [True]


@pytest.mark.parametrize("width", [110, 150, 190])
def test_a_picture_of_another_place_is_told_from_the_place_itself(camera, empty, width):
    for x in (0.35, 0.5, 0.65):
        assert camera.behind(empty[0], View(face_width=width, x=x)) is Behind.SAME
        assert camera.behind(empty[1], View(face_width=width, x=x)) is Behind.OTHER
        assert camera.behind(empty[2], View(face_width=width, x=x)) is Behind.OTHER


def test_the_place_filmed_from_elsewhere_is_another_place(camera, places):
    assert camera.behind(places[0].seen(Stand(0.8, 0, -20))) is Behind.OTHER


@pytest.mark.parametrize("light", [0.5, 0.8, 1.4])
def test_another_exposure_is_the_same_place(camera, empty, light):
    assert camera.behind(empty[0], View(light=light, side_light=0.3)) is Behind.SAME


def test_with_other_lamps_and_a_crowd_behind_enough_of_the_place_is_left(camera, places):
    other = places[0].seen(lamps=(0.1, 1, 0.3, 1))
    assert all(camera.behind(other, crowd=6, seed=seed) is Behind.SAME for seed in range(5))


def test_a_face_so_large_that_nothing_is_seen_behind_does_not_count_as_here(camera, empty):
    assert camera.behind(empty[0], View(face_width=620)) is Behind.OTHER


def test_a_plain_wall_says_nothing_rather_than_anything(empty):
    camera = Camera()
    camera.sees(np.full((HEIGHT, WIDTH, 3), 120, np.uint8), 2 * FIRST)
    assert camera.behind(empty[0]) is Behind.UNKNOWN


def test_what_moves_all_the_time_is_never_known(empty):
    camera = Camera()
    for number in range(4 * int(FIRST)):
        frame = empty[0].copy()
        frame[:200, :200] = 30 + 180 * (number // 2 % 2)
        camera.sees(frame, 0.5)
    assert np.isnan(camera.grid[:9, :9]).all()
    assert not np.isnan(camera.grid[11:, 11:]).any()


def test_an_empty_scene_on_a_screen_teaches_nothing_in_a_minute(camera, empty):
    before = camera.grid
    camera.sees(empty[1], 60)
    assert np.abs(camera.grid - before).max() <= 60 * PACE + 1e-4
    assert camera.behind(empty[1]) is Behind.OTHER
    assert camera.behind(empty[0]) is Behind.SAME


def test_nor_where_something_moved_ever_since(empty):
    camera = Camera()
    for number in range(4 * int(FIRST)):
        frame = empty[0].copy()
        frame[:, :240] = 30 + 180 * (number // 2 % 2)
        camera.sees(frame, 0.5)
    camera.sees(empty[1], 60)
    assert np.isnan(camera.grid[:, :11]).all()
    assert camera.behind(empty[1]) is Behind.OTHER
    assert camera.behind(empty[0]) is Behind.SAME


@pytest.mark.parametrize("shade", [3, 120])
def test_a_hand_before_the_camera_for_three_minutes_does_not_make_it_forget(camera, empty, shade):
    camera.sees(np.full((HEIGHT, WIDTH, 3), shade, np.uint8), 180)
    assert camera.behind(empty[1]) is Behind.OTHER


def test_a_camera_that_was_knocked_learns_its_new_view_while_nobody_is_there(camera, places):
    knocked = places[0].seen(Stand(turned=20))
    assert camera.behind(knocked) is Behind.OTHER
    camera.sees(knocked, 900)
    assert camera.behind(knocked) is Behind.SAME


def test_after_half_an_hour_that_was_never_empty_it_says_nothing_more(camera, empty):
    camera.backdrop.somebody()
    camera.now += STALE + 1
    assert camera.behind(empty[1]) is Behind.UNKNOWN
    assert camera.said == [True, False]
    camera.sees(empty[0], 2 * FIRST)
    assert camera.behind(empty[1]) is Behind.OTHER


# --- what a person leaves in it ---


def passing(empty, steps):
    """Frames of somebody who crosses the view and whose face is not found: turned away, say."""
    for step in range(steps):
        view = View(face_width=150, x=step / steps)
        frame = next(peopled(empty, [view], 0, 3))
        cv2.ellipse(frame, (round(view.x * WIDTH), 216), (75, 100), 0, 0, 360, (90, 120, 170), -1)
        yield frame


def test_who_passes_by_leaves_nothing(camera, empty):
    before = camera.grid
    for frame in passing(empty[0], 12):
        camera.sees(frame, 0.5)
    camera.sees(empty[0], 5)
    assert np.abs(camera.grid - before).max() < 0.005


def test_who_stands_there_turned_away_leaves_less_than_a_shade_and_it_goes(camera, empty):
    before = camera.grid
    camera.sees(list(passing(empty[0], 9))[4], 60)
    left = np.abs(camera.grid - before).max()
    assert 0.02 < left <= 60 * PACE + 1e-4  # a twentieth of a cell's brightness
    camera.sees(empty[0], 90)
    assert np.abs(camera.grid - before).max() < 0.005


def test_nothing_is_learned_from_the_two_seconds_after_a_face(camera, empty):
    before = camera.grid
    for frame in passing(empty[0], 9):
        camera.backdrop.somebody()
        camera.sees(frame, 1.5)
    assert np.array_equal(camera.grid, before)


FRAMES = [np.random.default_rng(seed).integers(0, 256, (ROWS, COLUMNS, 3), np.uint8) for seed in range(3)]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([*FRAMES, None]), st.floats(0, 40)), max_size=12))
def test_whatever_is_seen_a_known_cell_moves_no_faster_than_its_pace(steps):
    camera, started = Camera(), None
    for frame, passed in steps:
        camera.now += passed
        if frame is None:
            camera.backdrop.somebody()
        else:
            camera.sees(np.repeat(np.repeat(frame, 10, 0), 10, 1), 11)
        known = camera.backdrop._known
        if known is None or np.isnan(known).all():
            continue
        if started is None:
            started = camera.now, known.copy()
        seen = ~np.isnan(started[1])
        assert (np.abs(known - started[1])[seen] <= PACE * (camera.now - started[0]) + 1e-4).all()
