from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from facefare.cli import command_line
from facefare.evaluation import commands
from facefare.evaluation.calibrating import Site
from facefare.evaluation.errors import EvaluationError, TooFewPeopleError
from facefare.evaluation.metrics import Distances
from facefare.evaluation.thresholds import (
    ImpostorCurve,
    calibration_document,
    integer,
    moved_rows,
    new_calibration,
    rounding,
    squared_distance,
)
from facefare.identification.calibration import Calibration
from facefare.identification.quantise import quantise


def counted(scale=1.0, n=2_000_000):
    distances = Distances()
    distances.add(scale * 0.3 * np.random.default_rng(0).uniform(size=n) ** 0.1)  # a power: a line in log and log
    return distances


@pytest.fixture(scope="module")
def curve():
    return ImpostorCurve.of(counted())


def test_the_curve_gives_the_distance_of_a_rate_that_was_measured(curve):
    for fmr in (1e-3, 1e-4):
        assert curve.distance(fmr) == pytest.approx(0.3 * fmr**0.1, rel=0.03)


def test_the_curve_carries_on_as_a_line_and_says_from_where(curve):
    assert curve.distance(1e-8) == pytest.approx(0.3 * 1e-8**0.1, rel=0.15)
    assert curve.measured_fmr == pytest.approx(30 / 2_000_000)
    rows = curve.table(Calibration.default(), lambda _: 0.0)
    assert {row["extrapolated"] for row in rows if row["payers"] == 100_000} == {True}


def test_a_threshold_is_never_looser_than_one_in_a_thousand(curve):
    rows = [row for row in curve.table(Calibration.default(), lambda _: 0.0) if row["payers"] == 1]
    assert len({row["threshold"] for row in rows}) == 1


def test_a_calibration_file_is_read_back_with_its_curve(curve):
    default = Calibration.default()
    rows = curve.table(default, lambda _: 0.0)
    text = calibration_document(
        default, curve, rows, ["made up"], verification=curve.distance(1e-4), currency="EUR", volunteers=3
    )
    back = Calibration.from_json(text)
    assert back.mean == pytest.approx(default.mean, abs=1e-6)
    assert back.directions == pytest.approx(default.directions, abs=1e-4)
    assert back.threshold(100, 0.001) == next(
        row["threshold"]
        for row in curve.table(Calibration.default(), lambda _: 0.0)
        if (row["payers"], row["fpir"]) == (100, 0.001)
    )
    assert back.verification is not None
    assert back.verification_threshold == integer(curve.distance(1e-4), default)
    assert back.face_alone(100, 0.001) == {}  # no amounts, no payment by face alone
    assert ImpostorCurve.read(text) == curve


def test_a_calibration_file_without_a_curve_is_refused():
    with pytest.raises(EvaluationError, match="no impostor curve"):
        ImpostorCurve.read("{}")


def site(volunteers, scale):
    rng = np.random.default_rng(3)
    distances = scale * 0.3 * rng.uniform(size=(volunteers, volunteers, 2)) ** 0.1
    distances[np.arange(volunteers), np.arange(volunteers)] = 0.02
    distances[0, 0, 1] = np.nan
    return Site(distances, 0)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
def test_a_site_moves_the_curve_by_how_near_its_strangers_come(curve, scale):
    _, factor, cautious = site(40, scale).factor(curve)
    assert factor == pytest.approx(scale, rel=0.05)
    assert cautious <= factor
    assert curve.moved(cautious).distance(1e-5) == pytest.approx(cautious * curve.distance(1e-5))


def test_a_cameras_genuine_walks_are_counted_without_missing_ones():
    assert len(site(20, 1.0).genuine()) == 39


def test_too_few_volunteers_cannot_move_a_curve(curve):
    with pytest.raises(TooFewPeopleError):
        site(4, 1.0).factor(curve)


def test_another_embedder_gets_a_centre_and_the_largest_scale_that_fits():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(50), 4)
    vectors = rng.normal(size=(50, 1, 64)) + 0.4 * rng.normal(size=(50, 4, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).reshape(-1, 64).astype(np.float32)
    made = new_calibration("other", vectors, people)
    assert 60 <= made.scale <= 90  # unit vectors around zero: sqrt(8191) less a twentieth
    assert quantise(vectors, made).shape == (200, 64)
    assert made.dimensions == 64
    assert made.directions is None


def test_another_embedders_directions_are_found_and_rounding_goes_across_them():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(64, 24)))[0].T
    vectors = 0.2 + 0.1 * rng.normal(size=(2000, 24)) @ axes + 1e-4 * rng.normal(size=(2000, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    made = new_calibration("other", vectors, np.repeat(np.arange(500), 4))
    assert made.directions is not None
    assert 23 <= len(made.directions) <= 25  # the common part of all may count as one, or one less
    plain = replace(made, directions=None)
    exact = ((vectors[:1000] - vectors[1000:]).astype(np.float64) ** 2).sum(axis=1) * made.scale**2
    added = [
        ((quantise(vectors[:1000], one) - quantise(vectors[1000:], one)) ** 2).sum(axis=1) - exact
        for one in (plain, made)
    ]
    assert added[1].std() < 0.8 * added[0].std()
    for one, more in zip((plain, made), added, strict=True):
        assert rounding(one) == pytest.approx(more.mean(), abs=4 * more.std() / np.sqrt(len(more)))


def test_the_command_writes_a_calibration_for_the_site(tmp_path, monkeypatch, models_dir):
    monkeypatch.setattr(commands, "measure_site", lambda *_: site(40, 0.2))
    out = tmp_path / "site.json"
    arguments = ["calibrate", str(tmp_path), "--out", str(out), "--cache-dir", str(models_dir.parent)]
    result = CliRunner().invoke(command_line(), arguments)
    assert result.exit_code == 0, result.output
    made, default = Calibration.from_file(out), Calibration.default()
    assert made.model == default.model
    assert made.mean == pytest.approx(default.mean, abs=1e-6)
    assert made.threshold(100, 0.001) > default.threshold(100, 0.001)  # strangers come nearer: stricter
    assert "40 volunteers" in out.read_text()
    assert made.face_alone(100, 0.001) == {"EUR": 50_00}
    assert made.face_alone(10_000, 0.001) == default.face_alone(10_000, 0.001)  # the shape of the tail is the base's
    assert made.verification_threshold > default.verification_threshold


def test_a_site_keeps_the_rates_of_the_thresholds_it_builds_upon():
    default = Calibration.default()
    same, nearer = (moved_rows(default, factor, lambda _: 0.0) for factor in (1.0, 0.5))
    for row, moved, was in zip(same, nearer, default.thresholds, strict=True):
        assert abs(row["threshold"] - was.threshold) <= 1
        assert (moved["payers"], moved["fpir"], moved["fpir_high"]) == (was.payers, was.fpir, was.fpir_high)
        assert squared_distance(moved["threshold"], default) == pytest.approx(
            squared_distance(was.threshold, default) / 2, abs=1e-4
        )


def test_the_command_refuses_a_calibration_of_another_embedder(tmp_path, models_dir):
    base = tmp_path / "base.json"
    base.write_text(Calibration.default_text().replace("dlib-resnet-v1", "another"))
    arguments = ["calibrate", str(tmp_path), "--out", str(tmp_path / "out.json"), "--calibration", str(base)]
    result = CliRunner().invoke(command_line(), [*arguments, "--cache-dir", str(models_dir.parent)])
    assert result.exit_code == 1
    assert not (tmp_path / "out.json").exists()
