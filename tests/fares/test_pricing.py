from datetime import UTC, date, datetime, timedelta

import pytest

from facefare.fares.errors import BadTap, UnknownFare
from facefare.fares.explain import render
from facefare.fares.journeys import LegState, Tap
from facefare.fares.pricing import price_day, price_week, quote
from facefare.fares.tariff import Band, LegRule, Product, Stop, Tariff, TariffVersion

MONDAY = date(2026, 3, 2)
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LATER = START + timedelta(days=30)


def total(charges):
    return sum(charge.amount for charge in charges)


def codes(charge):
    return [line.code for line in charge.lines]


def ride_all_day(rider, count, day=0):
    return [rider.enter("A", 24 * 60 * day + 20 * n, network="") for n in range(count)]


def test_thirteen_trips_in_a_day_cost_the_day_cap(rider, flat):
    charges = price_day(ride_all_day(rider, 13), flat, MONDAY, now=LATER)
    assert [charge.amount for charge in charges] == [100] * 10 + [0] * 3
    capped = charges[-1].lines[-1]
    assert render(capped, "EUR") == "capped: 1.00 saved (no more than 10.00 a day)"


def test_thirty_trips_in_a_week_cost_the_week_cap_and_the_receipt_says_so(rider, flat):
    taps = [tap for day in range(6) for tap in ride_all_day(rider, 5, day)]
    charges = price_week(taps, flat, MONDAY, now=LATER)
    assert total(charges) == 2500
    assert {line.code for charge in charges[25:] for line in charge.lines} == {"fare.leg", "fare.capped.week"}


def test_a_new_week_starts_a_new_cap(rider, flat):
    taps = [tap for day in range(8) for tap in ride_all_day(rider, 5, day)]
    assert total(price_week(taps, flat, MONDAY + timedelta(days=7), now=LATER)) == 500


def test_a_night_out_is_one_fare_day(rider, flat):
    before_four = rider.enter("A", 19 * 60 + 30, network="")  # 03:30 on Tuesday
    after_four = rider.enter("A", 20 * 60 + 30, network="")
    assert flat.fare_day(before_four.at) == MONDAY
    assert flat.fare_day(after_four.at) == MONDAY + timedelta(days=1)


def test_the_fare_week_follows_the_operators_clock_across_a_change_of_time():
    tariff = Tariff(
        id="cet",
        currency="EUR",
        timezone="Europe/Madrid",
        versions=(TariffVersion(effective_from=date(2026, 1, 1), products=(), rules=()),),
    )
    start, end = tariff.history_window(date(2026, 3, 23))  # summer time begins on the 29th
    assert end - start == timedelta(days=7, hours=-1) + timedelta(hours=8)
    assert tariff.fare_week(datetime(2026, 3, 30, 1, 59, tzinfo=UTC)) == date(2026, 3, 23)
    assert tariff.fare_week(datetime(2026, 3, 30, 2, 0, tzinfo=UTC)) == date(2026, 3, 30)


def test_a_zone_fare_is_known_at_the_exit_and_held_for_at_the_entry(rider, city):
    entry, leaving = rider.enter("A", 120), rider.leave("B", 140)
    at_entry = quote(entry, [], city, charged=0, now=entry.at)
    assert (at_entry.charge, at_entry.reserve) == (0, 300)
    at_exit = quote(leaving, [entry], city, charged=0, now=leaving.at)
    assert (at_exit.charge, at_exit.refund, at_exit.reserve) == (200, 0, 0)


def test_the_reserve_is_no_more_than_what_the_cap_leaves(rider, city):
    history = [tap for n in range(3) for tap in (rider.enter("A", 120 + 40 * n), rider.leave("C", 130 + 40 * n))]
    entry = rider.enter("A", 300)
    assert quote(entry, history, city, charged=800, now=entry.at).reserve == 0


def test_peak_costs_more_and_only_then(rider, city):
    peak = [rider.enter("A", 30), rider.leave("C", 80)]
    off_peak = [rider.enter("A", 60), rider.leave("C", 80)]
    saturday = [rider.enter("A", 5 * 1440 + 30), rider.leave("C", 5 * 1440 + 80)]
    assert total(price_week(peak, city, MONDAY, now=LATER)) == 380
    assert total(price_week(off_peak, city, MONDAY, now=LATER)) == 300
    assert total(price_week(saturday, city, MONDAY, now=LATER)) == 300


def test_a_transfer_within_its_window_is_free_and_afterwards_is_not(rider, city):
    metro = [rider.enter("A", 120), rider.leave("B", 140)]
    in_time, too_late = rider.enter("B", 209, "bus"), rider.enter("B", 211, "bus")
    first = price_week([*metro, in_time], city, MONDAY, now=LATER)
    assert [charge.amount for charge in first] == [200, 0]
    assert codes(first[1]) == ["fare.leg", "fare.transfer"]
    assert [c.amount for c in price_week([*metro, too_late], city, MONDAY, now=LATER)] == [200, 150]


def test_a_transfer_rule_covers_only_its_count_of_changes(rider, city):
    buses = [rider.enter("B", minute, "bus") for minute in (120, 130, 140)]
    assert [c.amount for c in price_week(buses, city, MONDAY, now=LATER)] == [150, 0, 150]


def test_a_concession_has_its_own_price_else_a_percentage_and_its_own_cap(rider, city):
    trip = [rider.enter("A", 120), rider.leave("C", 140)]
    assert total(price_week(trip, city, MONDAY, now=LATER, category="child")) == 75
    senior = price_week(trip, city, MONDAY, now=LATER, category="senior")
    assert total(senior) == 150
    assert render(senior[0].lines[1], "EUR") == "senior: 1.50 saved"
    many = [tap for n in range(4) for tap in (rider.enter("A", 120 + 60 * n), rider.leave("C", 130 + 60 * n))]
    assert total(price_week(many, city, MONDAY, now=LATER, category="child")) == 200


def test_a_missing_exit_is_completed_from_where_the_rider_boards_next(rider, city):
    taps = [rider.enter("A", 120), rider.enter("B", 180), rider.leave("C", 200)]
    first, second = price_week(taps, city, MONDAY, now=LATER)
    assert (first.amount, second.amount) == (200, 300)
    assert first.leg.state is LegState.COMPLETED
    assert "fare.completed.exit" in codes(first)


def test_a_missing_entry_is_completed_from_where_the_rider_left_last(rider, city):
    taps = [rider.enter("A", 120), rider.leave("B", 140), rider.leave("C", 200)]
    _, second = price_week(taps, city, MONDAY, now=LATER)
    assert (second.amount, codes(second)[-1]) == (300, "fare.completed.entry")


def test_a_journey_no_evidence_completes_costs_the_maximum_fare(rider, city):
    (lost,) = price_week([rider.enter("A", 0)], city, MONDAY, now=LATER)
    assert (lost.amount, codes(lost)) == (350, ["fare.leg", "fare.incomplete.exit"])
    (appeared,) = price_week([rider.leave("C", 0)], city, MONDAY, now=LATER)
    assert (appeared.amount, codes(appeared)) == (350, ["fare.leg", "fare.incomplete.entry"])
    same_stop = price_week([rider.enter("A", 120), rider.enter("A", 130)], city, MONDAY, now=LATER)
    assert same_stop[0].leg.state is LegState.INCOMPLETE


def test_the_maximum_fare_is_the_dearest_rule_that_fits_when_that_is_less(rider, city):
    (lost,) = price_week([rider.enter("C", 120)], city, MONDAY, now=LATER)
    assert lost.amount == 300


def test_an_exit_that_comes_in_late_gives_the_difference_back(rider, city):
    entry, leaving, bus = rider.enter("A", 0), rider.leave("B", 20), rider.enter("A", 400, "bus")
    first = quote(bus, [entry], city, charged=0, now=bus.at)
    assert first.charge == 350 + 150
    late = quote(leaving, [entry, bus], city, charged=first.charge, now=bus.at)
    assert (late.charge, late.refund, late.week_total) == (0, 150, 350)
    assert render(late.lines[-1], "EUR").startswith("1.50 back")


def test_a_journey_over_the_weeks_start_belongs_to_the_week_it_began_in(rider, city):
    entry, leaving = rider.enter("A", 7 * 1440 - 250), rider.leave("B", 7 * 1440 - 220)  # 03:50 to 04:20 on Monday
    at_exit = quote(leaving, [entry], city, charged=0, now=leaving.at)
    assert (at_exit.week, at_exit.charge) == (MONDAY, 200)
    start, end = city.history_window(MONDAY)
    assert start < entry.at < leaving.at < end
    assert price_week([entry, leaving], city, MONDAY + timedelta(days=7), now=LATER) == []


def test_the_same_tap_sent_twice_costs_nothing_more(rider, flat):
    tap = rider.enter("A", 0, network="")
    assert quote(tap, [tap], flat, charged=100, now=LATER).charge == 0


def test_two_taps_under_one_id_and_a_tap_without_a_zone_are_refused(flat):
    taps = [Tap("x", START, "A"), Tap("x", START, "B")]
    with pytest.raises(BadTap):
        price_week(taps, flat, MONDAY, now=LATER)
    with pytest.raises(BadTap):
        Tap("x", datetime(2026, 3, 2, 8), "A")


def test_a_leg_no_rule_prices_is_refused_rather_than_guessed(rider, city):
    with pytest.raises(UnknownFare):
        quote(rider.enter("A", 0, "ferry"), [], city, charged=0, now=START)
    trip = [rider.enter("A", 0), rider.leave("nowhere", 10)]
    with pytest.raises(UnknownFare):
        price_week(trip, city, MONDAY, now=LATER)


def test_a_version_applies_from_its_fare_day_on(rider, flat):
    dearer = flat.versions[0].model_copy(
        update={
            "effective_from": date(2026, 3, 3),
            "products": (Product(id="single", amounts={"": 120}),),
        }
    )
    tariff = flat.with_version(dearer)
    taps = [rider.enter("A", 0, ""), rider.enter("A", 19 * 60, ""), rider.enter("A", 21 * 60, "")]
    assert [charge.amount for charge in price_week(taps, tariff, MONDAY, now=LATER)] == [100, 100, 120]


def test_a_fare_by_distance_goes_by_the_great_circle(rider):
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="short", amounts={"": 100}), Product(id="long", amounts={"": 400})),
        rules=(LegRule(id="d", bands=(Band(up_to_metres=5000, product="short"), Band(product="long"))),),
        networks={"metro": {"tap_out": True}},
        stops={
            "A": Stop(latitude=0, longitude=0),
            "B": Stop(latitude=0, longitude=0.04),
            "C": Stop(latitude=0, longitude=1),
        },
    )
    assert version.distance_m("A", "C") == pytest.approx(111_195, abs=5)
    tariff = Tariff(id="d", currency="EUR", versions=(version,))
    assert total(price_week([rider.enter("A", 0), rider.leave("B", 5)], tariff, MONDAY, now=LATER)) == 100
    assert total(price_week([rider.enter("A", 0), rider.leave("C", 5)], tariff, MONDAY, now=LATER)) == 400
    assert total(price_week([rider.enter("A", 0)], tariff, MONDAY, now=LATER)) == 400
