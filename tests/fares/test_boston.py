"""A published tariff of a real agency, from a GTFS Fares v2 feed to what riders pay (see feeds/boston/README.md)."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.fares.explain import render
from facefare.fares.gtfs import read_gtfs
from facefare.fares.journeys import Tap, TapKind
from facefare.fares.posted import posted
from facefare.fares.pricing import price_week

MONDAY = date(2026, 3, 2)
MORNING = datetime(2026, 3, 4, 13, 0, tzinfo=UTC)  # eight o'clock in Boston
SINGLE = {"subway": 240, "local_bus": 170, "express_bus": 425}


@pytest.fixture(scope="module")
def boston():
    return read_gtfs(
        Path(__file__).parent / "feeds" / "boston",
        tariff_id="boston",
        effective_from=date(2026, 1, 1),
        fare_medium="stored_value",
    )


def charges(boston, *rides):
    taps = [
        Tap(f"t{number}", MORNING + timedelta(minutes=minute), "square", TapKind.ENTRY, network)
        for number, (minute, network) in enumerate(rides)
    ]
    return price_week(taps, boston, MONDAY, now=MORNING + timedelta(days=1))


def paid(boston, *rides):
    return [charge.amount for charge in charges(boston, *rides)]


def test_single_rides_cost_what_is_published_and_gates_say_so(boston):
    assert (boston.currency, boston.timezone) == ("USD", "America/New_York")
    for network, price in SINGLE.items():
        assert paid(boston, (0, network)) == [price]
        assert posted(boston, "square", TapKind.ENTRY, network, MORNING).most == price


@pytest.mark.parametrize(
    ("rides", "published"),
    [
        ([(0, "subway"), (30, "local_bus")], [240, 0]),
        ([(0, "subway"), (30, "local_bus"), (60, "local_bus")], [240, 0, 0]),
        ([(0, "local_bus"), (30, "subway")], [170, 70]),  # "pay the fare difference, up to 2.40 for the entire trip"
        ([(0, "local_bus"), (30, "subway"), (60, "local_bus")], [170, 70, 0]),
        ([(0, "local_bus"), (30, "local_bus"), (119, "local_bus")], [170, 0, 0]),
        ([(0, "local_bus"), (30, "local_bus"), (60, "local_bus"), (90, "local_bus")], [170, 0, 0, 170]),
        ([(0, "local_bus"), (40, "express_bus")], [170, 255]),
        ([(0, "subway"), (40, "express_bus")], [240, 185]),
        ([(0, "express_bus"), (40, "subway")], [425, 0]),
        ([(0, "local_bus"), (121, "local_bus")], [170, 170]),  # two hours after the first tap it is over
        ([(0, "local_bus"), (60, "local_bus"), (121, "local_bus")], [170, 0, 170]),
        ([(0, "subway"), (30, "subway")], [240, 240]),  # out through the gates and in again
    ],
)
def test_transfers_cost_what_is_published(boston, rides, published):
    assert paid(boston, *rides) == published


def test_the_receipt_says_what_a_transfer_saved(boston):
    last = charges(boston, (0, "local_bus"), (30, "subway"))[-1]
    assert [render(line, "USD") for line in last.lines] == ["fare: 2.40", "transfer: 1.70 saved"]


@given(rides=st.lists(st.tuples(st.integers(0, 600), st.sampled_from(sorted(SINGLE))), min_size=1, max_size=10))
def test_a_day_never_costs_more_than_its_single_rides_nor_less_than_the_dearest(boston, rides):
    total = sum(paid(boston, *rides))
    assert total <= sum(SINGLE[network] for _, network in rides)
    assert total >= max(SINGLE[network] for _, network in rides)
