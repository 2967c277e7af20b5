import json
from dataclasses import replace

import numpy as np
import pytest

from facefare.evaluation.amounts import Attacks, Costs, describe
from facefare.evaluation.comparisons import Subjects, all_pairs, draw, fused_pairs, squared_distances
from facefare.evaluation.errors import TooFewPeopleError
from facefare.evaluation.report import render
from facefare.evaluation.study import Study, group_curves
from facefare.evaluation.thresholds import ImpostorCurve, worst_distance
from facefare.identification.calibration import Calibration


@pytest.fixture(scope="module")
def report(crowd):
    photos, extracted = crowd(group=lambda person: "even" if person % 2 == 0 else "odd")
    return Study(photos, extracted, Calibration.default()).run(lambda _: None)


def subjects(crowd, **options):
    photos, extracted = crowd(**options)
    people = np.array([photo.person for photo in photos])
    return Subjects(extracted.vectors, people, np.array([photo.session for photo in photos]))


def test_every_pair_is_compared_once(crowd):
    some = subjects(crowd, people=30, photos=4)
    compared = all_pairs(some)
    assert len(compared.genuine) == 30 * 6
    assert compared.impostor.total == 120 * 119 // 2 - 30 * 6
    by_hand = squared_distances(some.vectors, some.vectors)[tuple(compared.pairs.T)]
    assert compared.genuine == pytest.approx(by_hand, abs=1e-5)


def test_with_sessions_only_different_ones_are_compared_genuinely(crowd):
    some = subjects(crowd, people=20, photos=4, session=lambda photo: "morning" if photo < 2 else "evening")
    compared = all_pairs(some)
    assert len(compared.genuine) == 20 * 4
    assert (some.sessions[compared.pairs[:, 0]] != some.sessions[compared.pairs[:, 1]]).all()
    one = draw(some, 2, 2, seed=1, whole=True)
    assert (one.by >= 0).all()
    assert not (draw(some, 3, 1, seed=1, whole=True).by >= 0).any()


def test_a_probe_shares_no_view_with_its_reference(crowd):
    some = subjects(crowd, people=20, photos=8, noise=0.2)
    for seed in range(5):
        fused = fused_pairs([draw(some, 5, 3, seed, whole=True)])
        assert len(fused.genuine) == 20
        assert fused.genuine.min() > 1e-3
    too_few = draw(subjects(crowd, people=20, photos=4), 3, 3, 0, whole=True)
    assert (too_few.by < 0).all()
    assert len(fused_pairs([too_few]).genuine) == 0


def test_more_views_make_fewer_errors(report):
    missed = {(row["enrolled"], row["probe"]): row["at"][1]["fnmr"]["value"] for row in report["views"]}
    assert missed[5, 3] <= missed[3, 1] <= missed[1, 1]
    assert missed[1, 1] > 0


def test_a_search_among_more_payers_misses_more_at_the_same_fpir(report):
    single = [row for row in report["identification"] if (row["enrolled"], row["probe"]) == (1, 1)]
    assert [row["payers"] for row in single] == [60]
    for row in report["identification"]:
        fnir = [at["fnir"]["value"] for at in row["at"]]
        assert fnir == sorted(fnir)
        assert row["stranger_trials"] % 60 == 0


def test_integers_lose_next_to_nothing(report):
    for row in report["private"]:
        assert abs(row["integers"] - row["float"]) < 0.02
    together = report["private_pooled"]
    assert together["low"] <= together["relative_loss"] <= together["high"]
    assert together["errors"] == pytest.approx(sum(row["errors"] for row in report["private"]))


def test_groups_are_compared_at_one_threshold(report):
    assert [row["group"] for row in report["groups"]] == ["even", "odd"]
    assert all(row["fmr_times_all"] == pytest.approx(row["fmr"]["value"] / 1e-3) for row in report["groups"])
    assert all(row["people"] == 60 and row["fnmr"]["low"] <= row["fnmr"]["value"] for row in report["groups"])


def test_the_worst_groups_threshold_is_stricter_and_its_upper_end_meets_the_rate(report):
    held = report["recommended_for_groups"]
    over_all = {(row["payers"], row["fpir"]): row["threshold"] for row in report["recommended"]}
    assert held["too_small"] == []
    assert held["rows"]
    for row in held["rows"]:
        assert row["threshold"] >= over_all[row["payers"], row["fpir"]]
        assert row["fpir_high"] <= row["fpir"] * (1 + 1e-9)
        assert row["group"] in ("even", "odd")


def test_strangers_of_the_worst_group_are_held_to_the_rate_that_the_pooled_threshold_breaks(crowd):
    some = subjects(crowd)
    alike = some.people % 2 == 0
    centre = some.vectors[alike].mean(axis=0)
    vectors = np.where(alike[:, None], centre + 0.8 * (some.vectors - centre), some.vectors)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    draws = [draw(replace(some, vectors=vectors), 5, 3, seed, whole=True) for seed in range(30)]
    members = {"alike": np.arange(120) % 2 == 0, "apart": np.arange(120) % 2 == 1, "few": np.arange(120) < 8}
    groups = group_curves(draws[:20], members)
    assert [group.name for group in groups] == ["alike", "apart"]  # none pretends to hold for eight people
    held, worst = worst_distance(groups, 1e-3)
    pooled = ImpostorCurve.of(fused_pairs(draws[:20]).impostor).distance(1e-3)
    assert worst.name == "alike"
    inside = fused_pairs([one.only(members["alike"]) for one in draws[20:]]).impostor
    assert inside.share_below(pooled) > 1.3e-3
    assert inside.share_below(held) <= 1e-3


def test_thresholds_get_stricter_with_payers_and_say_where_they_are_extrapolated(report):
    rows = [row for row in report["recommended"] if row["fpir"] == 0.001]
    thresholds = [row["threshold"] for row in rows]
    assert thresholds == sorted(thresholds)
    assert rows[-1]["extrapolated"]
    assert not rows[0]["extrapolated"]


def test_a_recommended_threshold_says_within_which_rates_it_may_lie(report):
    for row in report["recommended"]:
        stated = row["payers"] * min(row["fpir"] / row["payers"], 1e-3)
        assert row["fpir_low"] < stated < row["fpir_high"]
    near, far = (
        next(row for row in report["recommended"] if (row["payers"], row["fpir"]) == (payers, 0.001))
        for payers in (10, 100_000)
    )
    assert far["fpir_high"] / far["fpir_low"] > near["fpir_high"] / near["fpir_low"]  # farther beyond the data


def test_the_rate_that_a_threshold_states_is_searched_for_by_strangers(report):
    assert {row["payers"] for row in report["stated_fpir"]} == {10, 30}
    for row in report["stated_fpir"]:
        assert row["fpir"]["trials"] > 1000
        assert row["fpir"]["low"] <= 3 * row["stated"]


def test_the_report_is_plain_numbers_and_one_page_without_anything_from_elsewhere(report):
    risk = describe(report["recommended"], Attacks.of([]), Costs())
    page = render({**json.loads(json.dumps(report)), "attacks": [], "face_alone": risk})
    assert "What a face alone may pay" in page
    assert "Too small" not in page
    assert "<svg" in page
    assert "<script" not in page
    for outside in ('src="', "@import", "url(http", '<link rel="stylesheet"'):
        assert outside not in page
    assert "0000/0.png" not in page


def test_neither_report_nor_repr_holds_a_template(crowd, report):
    photos, extracted = crowd()
    number = f"{extracted.vectors[0, 0]:.5f}"
    assert number not in json.dumps(report)
    assert "[" not in repr(extracted)
    assert "[" not in repr(Study(photos, extracted, Calibration.default()))


def test_photos_without_a_face_are_counted_and_not_compared(crowd):
    photos, extracted = crowd(people=20, photos=4, group=lambda person: "four" if person < 4 else "sixteen")
    failures = extracted.failures.copy()
    failures[::4] = 2
    study = Study(photos, replace(extracted, failures=failures), Calibration.default())
    figures = study.run(lambda _: None)
    assert figures["what"]["failure_to_acquire"]["no face"] == 20
    assert figures["verification"]["genuine"] == 20 * 3
    assert {row["views"] for row in figures["private"]} <= {"1 photo, 1 photo", "3 views, 1 view"}
    assert "recommended" not in figures
    assert [row["group"] for row in figures["groups"]] == ["sixteen"]  # the rates of four would be somebody's


def test_too_few_people_give_an_error_and_no_figures(crowd):
    photos, extracted = crowd(people=9)
    with pytest.raises(TooFewPeopleError):
        Study(photos, extracted, Calibration.default()).run(lambda _: None)
