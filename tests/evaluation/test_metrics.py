import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.evaluation.metrics import Distances, Rate


@given(st.lists(st.floats(0, 3.9), min_size=1, max_size=200), st.floats(0, 1))
def test_a_threshold_keeps_the_rate_and_is_the_largest_that_does(values, rate):
    counted = Distances()
    counted.add(values)
    threshold = counted.threshold_at(rate)
    assert float(counted.share_below(threshold)) <= rate
    if rate < 1:
        assert float(counted.share_below(threshold + counted.width)) > rate or threshold >= max(values)


def test_whole_numbers_are_counted_exactly():
    counted = Distances(1.0, 100)
    counted.add([0, 1, 1, 2, 99, 5000])
    assert float(counted.share_below(1)) == pytest.approx(1 / 6)
    assert float(counted.share_below(2)) == pytest.approx(3 / 6)
    assert counted.total == 6
    assert counted.threshold_at(0.5) == 2


def test_no_error_means_at_most_three_in_as_many_people():
    rate = Rate.over_people(np.zeros(900), np.ones(900))
    assert rate.value == 0
    assert rate.high == pytest.approx(3 / 900)


def test_an_interval_is_wider_when_the_errors_are_one_persons():
    spread = Rate.over_people(np.repeat([1, 0], [10, 90]), np.full(100, 10))
    one = Rate.over_people(np.repeat([10, 0], [1, 99]), np.full(100, 10))
    assert spread.value == one.value == 0.01
    assert one.high - one.low > spread.high - spread.low


def test_the_interval_covers_the_true_rate_most_of_the_time():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        rate = Rate.over_people(rng.binomial(20, 0.1, 200), np.full(200, 20), seed=trial)
        covered += rate.low <= 0.1 <= rate.high
    assert covered >= 50


def test_impostor_pairs_are_rated_over_all_pairs_of_different_people():
    photos = np.array([2, 1, 3])
    rate = Rate.over_pairs(np.array([0]), np.array([2]), photos)
    assert rate.trials == 2 * 1 + 2 * 3 + 1 * 3
    assert rate.value == pytest.approx(1 / 11)
    assert Rate.over_pairs(np.array([], int), np.array([], int), photos).value == 0


def test_nobody_tried_says_nothing():
    rate = Rate.over_people([], [])
    assert (rate.low, rate.high) == (0, 1)
