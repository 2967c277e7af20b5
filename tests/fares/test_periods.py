from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from facefare.fares.periods import Ride, captures_of

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

rides = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 900)), max_size=30).map(
    lambda drawn: [Ride(f"r{n}", START + timedelta(minutes=m), amount) for n, (m, amount) in enumerate(drawn)]
)


def ride(minute, amount=300):
    return Ride(f"r{minute}", START + timedelta(minutes=minute), amount)


def test_a_days_rides_are_captured_together_when_its_period_ends():
    (capture,) = captures_of([ride(0), ride(600), ride(1439)], spend_limit=5000)
    assert (capture.amount, capture.due) == (900, START + timedelta(hours=24))


def test_the_next_period_opens_with_the_first_ride_after_it():
    first, second = captures_of([ride(0), ride(1500), ride(1600)], spend_limit=5000)
    assert (first.amount, second.amount) == (300, 600)
    assert second.opened == START + timedelta(minutes=1500)


def test_the_spend_limit_brings_a_capture_forward():
    first, second = captures_of([ride(0), ride(10), ride(20)], spend_limit=700)
    assert (first.amount, first.due) == (600, START + timedelta(minutes=20))
    assert (second.amount, second.due) == (300, START + timedelta(hours=24))


@given(rides, st.integers(1, 2000), st.data())
def test_every_ride_is_captured_once_within_its_limit_and_period_in_any_order(taken, limit, data):
    captures = captures_of(data.draw(st.permutations(taken)), spend_limit=limit)
    assert captures == captures_of(taken, spend_limit=limit)
    assert sorted(r.id for c in captures for r in c.rides) == sorted(r.id for r in taken)
    for capture in captures:
        assert capture.amount <= limit or len([r for r in capture.rides if r.amount]) == 1
        assert all(capture.opened <= r.at < capture.opened + timedelta(hours=24) for r in capture.rides)
