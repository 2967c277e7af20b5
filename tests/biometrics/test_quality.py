"""Measures of pictures whose values are known, and each refused view's one hint."""

from dataclasses import replace

import numpy as np
import pytest

from facefare.biometrics import landmarks as mesh
from facefare.biometrics.landmarks import FaceMesh
from facefare.biometrics.quality import ENROLMENT, GATE, HeadPose, Hint, Quality, measure

AHEAD = HeadPose(0, 0, 0)
GOOD = Quality(
    inter_eye_distance=80,
    eyes_open=0.1,
    eyes_visible=0.9,
    mouth_visible=0.15,
    mouth_closed=0.02,
    sharpness=0.2,
    luminance_mean=0.5,
    luminance_variance=0.02,
    under_exposure=0.0,
    over_exposure=0.0,
    illumination_uniformity=0.8,
    dynamic_range=7.0,
)


def measured(grey):
    """Of a crop of this luminance (192, 192), with a plain face in its middle."""
    points = np.zeros((mesh.COUNT, 3), np.float32) + np.float32(96)
    places = {
        **dict(zip(mesh.RIGHT_EYE_CORNERS, ((60, 80), (80, 80)), strict=True)),
        **dict(zip(mesh.LEFT_EYE_CORNERS, ((132, 80), (112, 80)), strict=True)),
        **dict(zip(mesh.MOUTH_CORNERS, ((80, 120), (112, 120)), strict=True)),
        **dict(zip(mesh.RIGHT_CHEEK, ((70, 95), (70, 105)), strict=True)),
        **dict(zip(mesh.LEFT_CHEEK, ((122, 95), (122, 105)), strict=True)),
        **dict(zip(mesh.INNER_LIPS, ((96, 119), (96, 121)), strict=True)),
        mesh.NOSE_BASE: (96, 105),
        mesh.CHIN: (96, 145),
    }
    for point, place in places.items():
        points[point, :2] = place
    crop = np.repeat(np.asarray(grey, np.uint8)[..., np.newaxis], 3, axis=2)
    return measure(FaceMesh(points, 1.0, crop, points[:, :2]), AHEAD)


def test_of_an_even_grey_nothing_varies():
    even = measured(np.full((192, 192), 102))
    assert even.luminance_mean == pytest.approx(0.4)
    varying = (even.luminance_variance, even.dynamic_range, even.sharpness, even.mouth_visible)
    assert varying == pytest.approx((0, 0, 0, 0), abs=1e-6)
    assert (even.under_exposure, even.over_exposure) == (0, 0)
    assert (even.illumination_uniformity, even.eyes_visible) == (1, 1)
    assert even.inter_eye_distance == 52


def test_of_two_halves_each_measure_is_what_can_be_counted():
    halves = np.full((192, 192), 250)
    halves[:, :96] = 10
    seen = measured(halves)
    assert seen.luminance_mean == pytest.approx(130 / 255)
    assert seen.luminance_variance == pytest.approx((120 / 255) ** 2, rel=1e-5)
    assert (seen.under_exposure, seen.over_exposure) == (0.5, 0.5)
    assert seen.dynamic_range == 1
    assert seen.illumination_uniformity == 0


def test_a_slope_from_nose_to_chin_is_no_mouth_and_a_dark_line_is():
    slope = np.tile(np.linspace(50, 200, 192)[:, np.newaxis], (1, 192))
    assert measured(slope).mouth_visible < 0.005
    lips = np.full((192, 192), 100)
    lips[118:122] = 60
    rows = np.where(np.isin(np.arange(105, 132), range(118, 122)), 60.0, 100.0)  # to half-way between mouth and chin
    at = np.arange(len(rows)) - rows.size // 2
    flat = rows - rows.mean() - at * (at @ rows) / (at @ at)
    face = np.full((104, 96), 100.0)
    face[118 - 44 : 122 - 44] = 60
    assert measured(lips).mouth_visible == pytest.approx(flat.std() / face.mean(), rel=0.05)


@pytest.mark.parametrize("policy", [GATE, ENROLMENT])
@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"inter_eye_distance": 20}, Hint.COME_CLOSER),
        ({"luminance_mean": 0.05}, Hint.MORE_LIGHT),
        ({"under_exposure": 0.6}, Hint.MORE_LIGHT),
        ({"over_exposure": 0.4}, Hint.LESS_LIGHT),
        ({"illumination_uniformity": 0.1}, Hint.EVEN_LIGHT),
        ({"eyes_visible": 0.2}, Hint.TAKE_OFF_GLASSES),
        ({"mouth_visible": 0.02}, Hint.UNCOVER_THE_MOUTH),
        ({"sharpness": 0.03}, Hint.HOLD_STILL),
        ({"eyes_open": 0.01}, Hint.OPEN_YOUR_EYES),
    ],
)
def test_each_fault_has_its_one_hint(policy, change, hint):
    assert policy.hint(AHEAD, GOOD) is None
    assert policy.hint(AHEAD, replace(GOOD, **change)) is hint


@pytest.mark.parametrize("pose", [HeadPose(40, 0, 0), HeadPose(0, -30, 0), HeadPose(0, 0, 40)])
def test_who_looks_away_is_asked_to_look_at_the_camera_before_anything_finer(pose):
    assert ENROLMENT.hint(pose, replace(GOOD, sharpness=0.0)) is Hint.LOOK_AT_THE_CAMERA
