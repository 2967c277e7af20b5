from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facefare.fares.journeys import Tap, TapKind
from facefare.fares.pricing import price_day, price_week, quote
from facefare.fares.tariff import Period

MONDAY = date(2026, 3, 2)
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LATER = START + timedelta(days=30)
CATEGORIES = st.sampled_from(["", "child", "senior"])
# The fixtures are constant data, so sharing them between examples is safe.
example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)


@st.composite
def weeks(draw, most=24):
    """Taps of all kinds in one fare week, physically possible or not."""
    count = draw(st.integers(1, most))
    spots = st.tuples(st.sampled_from(["metro", "bus"]), st.sampled_from("ABCD"), st.sampled_from(TapKind))
    # Days are few and close so that caps and transfers come into play.
    minutes = st.integers(0, 3 * 1440)
    taps = []
    for number in range(count):
        network, stop, kind = draw(spots)
        kind = TapKind.ENTRY if network == "bus" else kind
        taps.append(Tap(f"t{number}", START + timedelta(minutes=draw(minutes)), stop, kind, network))
    return taps


@example
@given(taps=weeks(), category=CATEGORIES, data=st.data())
def test_the_order_of_arrival_does_not_change_a_days_total(city, taps, category, data):
    shuffled = data.draw(st.permutations(taps))
    for day in {city.fare_day(tap.at) for tap in taps}:
        one = price_day(taps, city, day, now=LATER, category=category)
        other = price_day(shuffled, city, day, now=LATER, category=category)
        assert [(c.leg.id, c.amount, c.lines) for c in one] == [(c.leg.id, c.amount, c.lines) for c in other]


@example
@given(taps=weeks(12), category=CATEGORIES, data=st.data())
def test_charges_less_refunds_come_to_the_weeks_total_in_any_order(city, taps, category, data):
    charged = 0
    history: list[Tap] = []
    for tap in data.draw(st.permutations(taps)):
        now = max(known.at for known in [*history, tap])
        step = quote(tap, history, city, charged=charged, now=now, category=category)
        assert step.charge >= 0
        assert step.refund >= 0
        assert not (step.charge and step.refund)
        charged += step.charge - step.refund
        assert charged == step.week_total >= 0
        history.append(tap)
    closing = sum(c.amount for c in price_week(taps, city, MONDAY, now=LATER, category=category))
    under_way = sum(c.reserve for c in price_week(taps, city, MONDAY, now=now, category=category))
    assert charged <= closing <= charged + under_way


@example
@given(taps=weeks(40), category=CATEGORIES)
def test_a_cap_is_never_exceeded_and_nobody_pays_more_than_the_dearest_rule(city, taps, category):
    version = city.versions[0]
    dearest = max(version.amount(product.id, category) for product in version.products)
    charges = price_week(taps, city, MONDAY, now=LATER, category=category)
    assert all(0 <= charge.amount <= dearest for charge in charges)
    for cap in version.caps:
        covered = [c for c in charges if cap.networks is None or c.leg.network in cap.networks]
        spans = {c.day for c in covered} if cap.period is Period.DAY else {MONDAY}
        for span in spans:
            spent = sum(c.amount for c in covered if cap.period is Period.WEEK or c.day == span)
            assert spent <= cap.amount(category)


@example
@given(taps=weeks(), category=CATEGORIES)
def test_the_receipt_adds_up(city, taps, category):
    for charge in price_week(taps, city, MONDAY, now=LATER, category=category):
        full = charge.lines[0].params["amount"]
        saved = sum(line.params.get("saved", 0) for line in charge.lines)
        assert full - saved == charge.amount


@example
@given(taps=weeks())
def test_every_tap_is_in_exactly_one_leg_and_legs_are_in_order(city, taps):
    charges = price_week(taps, city, MONDAY, now=LATER)
    seen = [tap.id for charge in charges for tap in charge.leg.taps]
    assert sorted(seen) == sorted(tap.id for tap in taps)
    assert all(a.leg.began <= b.leg.began for a, b in pairwise(charges))


@example
@given(taps=weeks(40))
def test_pricing_again_gives_the_same(city, taps):
    once = price_week(taps, city, MONDAY, now=LATER)
    again = price_week(taps, city, MONDAY, now=LATER + timedelta(days=400))
    assert [(c.amount, c.lines) for c in once] == [(c.amount, c.lines) for c in again]
