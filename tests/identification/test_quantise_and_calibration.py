"""Templates as integers, and the threshold for the current number of payers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.identification.calibration import Calibration, Threshold
from facefare.identification.errors import CalibrationError, TemplateOutOfRange
from facefare.identification.quantise import quantise

D = 128
CENTRE = np.full(D, 0.91 / np.sqrt(D), np.float32)
CALIBRATION = Calibration("m", CENTRE, 160.0, 200, 8191, ())


def templates(seed: int, spread: float) -> np.ndarray:
    away = np.random.default_rng(seed).normal(size=(2, D))
    away *= spread / np.linalg.norm(away, axis=1, keepdims=True)
    return CENTRE + away


@given(st.integers(0, 10_000), st.floats(0.25, 0.5))
def test_the_integer_score_follows_the_distance_of_unit_vectors(seed: int, spread: float) -> None:
    first, second = templates(seed, spread)
    w1, w2 = quantise(first, CALIBRATION), quantise(second, CALIBRATION)
    units = [t / np.linalg.norm(t) for t in (first, second)]
    exact = 160.0**2 * ((units[0] - units[1]) ** 2).sum()
    # each coordinate is off by at most one in the difference: the distance moves by at most sqrt(D)
    assert abs(np.sqrt(((w1 - w2) ** 2).sum()) - np.sqrt(exact)) <= np.sqrt(D)


@given(st.integers(0, 1000), st.floats(0.01, 1000))
def test_the_length_of_a_template_does_not_matter(seed: int, length: float) -> None:
    template = templates(seed, 0.4)[0]
    assert np.abs(quantise(template, CALIBRATION) - quantise(template * length, CALIBRATION)).max() <= 1


def few_directions(count: int = 70) -> Calibration:
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(D, count)))[0].T.astype(np.float32)
    return replace(CALIBRATION, directions=axes)


@pytest.mark.parametrize("seed", [0, 1000, 2000])
def test_rounding_errors_go_where_templates_do_not_differ(seed: int) -> None:
    calibration = few_directions()
    assert calibration.directions is not None
    many = np.concatenate([templates(seed + 7 * k, 0.4) for k in range(20)])
    exact = 160 * (many / np.linalg.norm(many, axis=1, keepdims=True) - CENTRE)
    inside = [
        (((quantise(many, one) - exact) @ calibration.directions.T) ** 2).mean() for one in (CALIBRATION, calibration)
    ]
    assert inside[1] < 0.7 * inside[0]
    assert np.abs(quantise(many, calibration) - exact).max() < 10


def test_one_template_is_rounded_as_it_is_among_others() -> None:
    many = np.concatenate([templates(seed, 0.4) for seed in range(4)])
    together = quantise(many, few_directions())
    assert all(np.array_equal(quantise(one, few_directions()), row) for one, row in zip(many, together, strict=True))


@pytest.mark.parametrize(
    "directions",
    [np.eye(D), np.zeros((0, D)), np.eye(D - 1), 2 * np.eye(D)[:3], np.full((2, D), np.nan), np.ones(D)],
)
def test_what_are_no_directions_is_refused(directions: np.ndarray) -> None:
    with pytest.raises(CalibrationError):
        replace(CALIBRATION, directions=directions.astype(np.float32))


def test_the_default_calibration_knows_that_its_embedder_uses_fewer_directions_than_numbers() -> None:
    directions = Calibration.default().directions
    assert directions is not None
    assert directions.shape == (77, D)


@pytest.mark.parametrize(
    "template",
    [np.zeros(D), np.full(D, np.nan), np.full(D, np.inf), np.ones(D - 1), np.ones((1, 1, D)), np.float64(1)],
)
def test_what_is_no_template_is_refused(template: np.ndarray) -> None:
    with pytest.raises(CalibrationError):
        quantise(template, CALIBRATION)


@pytest.mark.parametrize("template", [CENTRE, -CENTRE, np.eye(D)[0]], ids=["centre", "opposite", "axis"])
def test_a_template_unlike_any_face_is_refused_before_it_leaves_the_terminal(template: np.ndarray) -> None:
    with pytest.raises(TemplateOutOfRange):
        quantise(template, CALIBRATION)


def test_thresholds_follow_the_number_of_payers_and_end_where_nothing_was_measured() -> None:
    table = (
        Threshold(10, 1e-2, -3000),
        Threshold(10, 1e-3, -2500),
        Threshold(1000, 1e-2, -2400),
        Threshold(1000, 1e-3, -2000),
    )
    calibration = Calibration("m", CENTRE, 160.0, 200, 8191, table)
    assert calibration.threshold(10, 1e-2) == -3000
    assert calibration.threshold(11, 1e-2) == -2400
    assert calibration.threshold(10, 1e-3) == -2500
    assert calibration.threshold(500, 5e-3) == -2000
    for payers, fpir in ((1001, 1e-2), (10, 1e-4)):
        with pytest.raises(CalibrationError):
            calibration.threshold(payers, fpir)


def test_the_default_calibration_gets_stricter_with_more_payers() -> None:
    calibration = Calibration.default()
    assert calibration.dimensions == D
    assert 0.8 < np.linalg.norm(calibration.mean) < 1
    thresholds = [calibration.threshold(payers, 1e-3) for payers in (1, 10, 100, 1000, 10_000, 100_000)]
    assert thresholds == sorted(thresholds)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.0] * 127},
        {"mean": ["x"] * 128},
        {"scale": 0},
        {"min_squared_norm": 0},
        {"max_squared_norm": 8192},
        {"thresholds": [{"payers": 1, "fpir": 0.1, "threshold": 1}]},
        {"thresholds": [{"payers": 1}]},
        {"model": None, "mean": None},
    ],
)
def test_a_broken_calibration_file_is_refused(change: dict[str, object]) -> None:
    good = {
        "model": "m",
        "mean": [0.0] * 128,
        "scale": 160,
        "min_squared_norm": 1,
        "max_squared_norm": 8191,
        "thresholds": [],
    }
    Calibration.from_json(json.dumps(good))
    with pytest.raises(CalibrationError):
        Calibration.from_json(json.dumps({**good, **change}))
