from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facefare.fares.errors import UnknownFare
from facefare.fares.journeys import Tap, TapKind
from facefare.fares.posted import posted
from facefare.fares.pricing import price_week
from facefare.fares.tariff import Band, LegRule, Network, Product, Stop, Tariff, TariffVersion

MONDAY_RUSH = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MONDAY_NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_a_flat_fare_is_posted_as_one_price(city, flat):
    price = posted(city, "A", TapKind.ENTRY, "bus", MONDAY_NOON)
    assert (price.least, price.most) == (150, 150)
    assert posted(flat, "anywhere", TapKind.ENTRY, "", MONDAY_NOON).least == 100


@pytest.mark.parametrize(
    ("at", "kind", "expected"),
    [
        (MONDAY_NOON, TapKind.ENTRY, (200, 300)),
        (MONDAY_RUSH, TapKind.ENTRY, (200, 380)),
        (MONDAY_NOON, TapKind.EXIT, (200, 300)),
    ],
)
def test_where_leaving_is_tapped_the_range_over_all_rides_is_posted(city, at, kind, expected):
    price = posted(city, "A", kind, "metro", at)
    assert (price.least, price.most) == expected


def test_a_price_ends_when_the_next_one_may_begin(city):
    assert posted(city, "A", TapKind.ENTRY, "metro", MONDAY_RUSH).until == MONDAY_RUSH.replace(hour=9)
    assert posted(city, "A", TapKind.ENTRY, "metro", MONDAY_NOON).until == datetime(2026, 3, 3, tzinfo=UTC)


def test_every_stop_counts_where_fares_go_by_distance():
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="near", amounts={"": 100}), Product(id="far", amounts={"": 900})),
        rules=(LegRule(id="km", bands=(Band(up_to_metres=5_000, product="near"), Band(product="far"))),),
        networks={"": Network(tap_out=True)},
        stops={
            name: Stop(latitude=0.0, longitude=east) for name, east in (("A", 0.0), ("B", 0.01), ("C", 0.02), ("D", 1))
        },
    )
    tariff = Tariff(id="km", currency="EUR", versions=(version,))
    assert (posted(tariff, "A", TapKind.ENTRY, "", MONDAY_NOON).least) == 100
    assert (posted(tariff, "D", TapKind.ENTRY, "", MONDAY_NOON).least) == 900


def test_nothing_is_posted_where_no_rule_prices_a_ride(city):
    with pytest.raises(UnknownFare):
        posted(city, "A", TapKind.ENTRY, "ferry", MONDAY_NOON)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    begin=st.sampled_from("ABCD"),
    end=st.sampled_from("ABCD"),
    minute=st.integers(0, 7 * 1440 - 300),
    ride=st.integers(1, 200),
    tapped=st.booleans(),
)
def test_no_adults_first_ride_costs_more_than_was_posted(city, begin, end, minute, ride, tapped):
    at = MONDAY_RUSH + timedelta(minutes=minute)
    price = posted(city, begin, TapKind.ENTRY, "metro", at)
    taps = [Tap("1", at, begin, TapKind.ENTRY, "metro")]
    if tapped:
        taps.append(Tap("2", at + timedelta(minutes=ride), end, TapKind.EXIT, "metro"))
    (charge,) = price_week(taps, city, city.fare_week(at), now=at + timedelta(days=2))
    assert charge.amount <= price.most
