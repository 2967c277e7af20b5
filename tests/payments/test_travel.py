"""Fares at gates: priced from the payer's own taps, held, capped, completed, owed and paid."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text

from facefare.fares.errors import TariffError
from facefare.fares.journeys import Tap, TapKind
from facefare.fares.pricing import price_week
from facefare.fares.tariff import (
    Band,
    Cap,
    LegRule,
    Network,
    Period,
    Product,
    Selector,
    Stop,
    Tariff,
    TariffVersion,
)
from facefare.ledger import balance_of, verify
from facefare.ledger.errors import InvalidAmount
from facefare.mpc.answers import Match
from facefare.payments import attempts, disputes, intents, merchants, receipts, scanned, tariffs, top_ups, travel
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Outcome, Rules
from facefare.payments.errors import NoFarePoint, WrongState
from facefare.payments.merchants import Terminal
from facefare.payments.tariffs import FarePoint
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS
from facefare.wallet import access, consents, galleries, payers
from facefare.wallet import tables as wallet
from facefare.wallet.consents import Notice
from facefare.wallet.payers import Payer

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)
_TODAY = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
START = _TODAY + timedelta(days=(1 - _TODAY.weekday()) % 7 + 1)  # a Wednesday soon: holds expire by the real clock
MONDAY = (START - timedelta(days=2)).date()


def only(*names: str) -> Selector:
    return Selector(only=frozenset(names))


def metro(first: date = date(2026, 1, 1), short: int = 200) -> Tariff:
    """Zones A and B with tap-out, a flat bus, 5.00 a day."""
    version = TariffVersion(
        effective_from=first,
        products=(
            Product(id="short", amounts={"": short, "child": 50}),
            Product(id="long", amounts={"": 300}),
            Product(id="bus", amounts={"": 150}),
        ),
        rules=(
            LegRule(
                id="aa", bands=(Band(product="short"),), network=only("metro"), origin=only("a"), destination=only("a")
            ),
            LegRule(
                id="ab", bands=(Band(product="long"),), network=only("metro"), origin=only("a"), destination=only("b")
            ),
            LegRule(
                id="ba", bands=(Band(product="long"),), network=only("metro"), origin=only("b"), destination=only("a")
            ),
            LegRule(
                id="bb", bands=(Band(product="short"),), network=only("metro"), origin=only("b"), destination=only("b")
            ),
            LegRule(id="bus", bands=(Band(product="bus"),), network=only("bus")),
        ),
        caps=(Cap(id="day", period=Period.DAY, amounts={"": 500}),),
        networks={"metro": Network(tap_out=True), "bus": Network()},
        stops={
            "Arena": Stop(areas=frozenset({"a"})),
            "Abbey": Stop(areas=frozenset({"a"})),
            "Beach": Stop(areas=frozenset({"b"})),
        },
    )
    return Tariff(id="metro", currency="EUR", versions=(version,))


GATES = {
    "trm_arena_in": FarePoint("metro", "Arena", "entry", "metro"),
    "trm_abbey_in": FarePoint("metro", "Abbey", "entry", "metro"),
    "trm_abbey_out": FarePoint("metro", "Abbey", "exit", "metro"),
    "trm_beach_out": FarePoint("metro", "Beach", "exit", "metro"),
    "trm_beach_in": FarePoint("metro", "Beach", "entry", "metro"),
    "trm_bus": FarePoint("metro", "Arena", "flat", "bus"),
}


class Clock(datetime):
    """The time that payments/attempts go by."""

    at = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.at


@dataclass
class Town:
    engine: Engine
    gates: dict[str, Terminal]
    payer: Payer
    rules: Rules

    def tap(self, gate: str, minutes: float = 0) -> Reply:
        """Someone looks at a gate's camera some minutes after the last time."""
        Clock.at += timedelta(minutes=minutes)
        with self.engine.begin() as connection:
            asked = Asked(None, "EUR", os.urandom(16), b"r" * 32, gallery_id="gal_town", issued_at=1)
            begun = attempts.begin(connection, self.gates[gate], asked)
            assert isinstance(begun, str)
        with self.engine.begin() as connection:
            return attempts.conclude(connection, begun, Match(3, 77), self.rules)

    def sweep(self, hours: float) -> int:
        Clock.at += timedelta(hours=hours)
        return travel.complete(self.engine, Clock.at, self.rules.travel_on_account)

    def ask(self, what: Callable[..., Any], *more: Any) -> Any:
        with self.engine.begin() as connection:
            return what(connection, *more)

    def money(self) -> tuple[int, int, int]:
        """Available, on hold, owed."""
        balance = self.ask(balance_of, self.payer.account_id)
        return balance.available, balance.on_hold, self.ask(travel.owed_by, self.payer)

    def top_up(self, amount: int) -> None:
        self.ask(
            lambda c: top_ups.from_test_funds(
                c, self.payer, amount, funding=Funding.TEST, idempotency_key=os.urandom(4).hex()
            )
        )


@pytest.fixture
def town(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A metro, and one payer with 20.00, enrolled in row 3."""
    monkeypatch.setattr(attempts, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", START)
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Metro")
        tariffs.import_tariff(connection, metro())
        gates = {id: Terminal(id, merchant, point.stop, bytes(32)) for id, point in GATES.items()}
        gates["trm_kiosk"] = Terminal("trm_kiosk", merchant, "Kiosk", bytes(32), "till")
        gates["trm_plain"] = Terminal("trm_plain", merchant, "Plain", bytes(32))
        for gate in gates.values():
            merchants.register_terminal(connection, gate)
        for id, point in GATES.items():
            tariffs.assign(connection, id, point)
        galleries.open_gallery(connection, "gal_town", kind="live")
        payer, _ = payers.register(connection, "EUR")
        consent = consents.give(connection, payer.id, NOTICE, Ed25519PrivateKey.generate())
        connection.execute(
            insert(wallet.face).values(
                id="fac_1", payer_id=payer.id, gallery_id="gal_town", consent_id=consent.id, row=3, state="active"
            )
        )
        top_ups.from_test_funds(connection, payer, 2000, funding=Funding.TEST, idempotency_key="first")
    town = Town(engine, gates, payer, Rules())
    yield town
    assert verify(engine, INVARIANTS) == []


def test_a_ride_holds_the_most_it_can_cost_and_takes_what_it_does(town: Town) -> None:
    came_in = town.tap("trm_arena_in")
    assert (came_in.outcome, came_in.amount, town.money()) == ("accepted", 300, (1700, 300, 0))
    left = town.tap("trm_abbey_out", 20)
    assert (left.outcome, left.amount, town.money()) == ("accepted", 200, (1800, 0, 0))
    receipt = town.ask(receipts.read, town.payer.id, left.receipt)
    assert (receipt.amount, receipt.place, receipt.explained) == (200, "Arena – Abbey", ["fare: 2.00"])


def test_a_cap_ends_the_days_paying_and_the_receipt_says_so(town: Town) -> None:
    for _ in range(2):
        town.tap("trm_arena_in", 5)
        capped = town.tap("trm_beach_out", 20)
    receipt = town.ask(receipts.read, town.payer.id, capped.receipt)
    assert (capped.amount, receipt.amount) == (200, 200)
    assert receipt.explained == ["fare: 3.00", "capped: 1.00 saved (no more than 5.00 a day)"]
    for gate in ("trm_bus", "trm_arena_in", "trm_abbey_out"):
        free = town.tap(gate, 5)
        assert (free.outcome, free.amount, free.receipt) == ("accepted", 0, None)
    assert town.money() == (1500, 0, 0)
    assert town.ask(lambda c: travel.rides(c, town.payer.id, limit=1))[0].lines[-1].code == "fare.capped.day"


def test_a_second_look_at_the_same_gate_is_the_same_tap(town: Town) -> None:
    first = town.tap("trm_bus")
    again = town.tap("trm_bus", 0.5)
    assert (again.outcome, again.receipt, town.money()) == ("already_paid", first.receipt, (1850, 0, 0))
    assert town.tap("trm_arena_in", 5).outcome == "accepted"
    assert town.tap("trm_arena_in", 0.5).outcome == "already_paid"
    assert town.money() == (1550, 300, 0)


def test_a_missing_exit_is_completed_from_where_the_rider_boards_next(town: Town) -> None:
    town.tap("trm_arena_in")
    town.tap("trm_abbey_in", 40)
    assert town.money() == (1500, 300, 0)  # 2.00 for Arena to Abbey, 3.00 on hold
    town.tap("trm_beach_out", 20)
    assert town.money() == (1500, 0, 0)


def test_a_ride_nobody_ended_is_ended_by_the_sweep_at_the_maximum_once(town: Town) -> None:
    town.tap("trm_arena_in")
    assert town.sweep(1) == 0
    assert town.sweep(4) == 1
    assert town.sweep(1) == 0
    assert town.money() == (1700, 0, 0)
    ride = town.ask(lambda c: travel.rides(c, town.payer.id, limit=5))[0]
    assert [line.code for line in ride.lines] == ["fare.leg", "fare.incomplete.exit"]


def test_a_payer_whose_rides_cannot_be_priced_keeps_nobody_elses_from_being_ended(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    with town.engine.begin() as connection:
        ben, _ = payers.register(connection, "EUR")
        top_ups.from_test_funds(connection, ben, 2000, funding=Funding.TEST, idempotency_key="first")
        code = scanned.begin(
            connection,
            town.gates["trm_arena_in"],
            amount=None,
            currency="EUR",
            capture_later=False,
            purchase=None,
            idempotency_key="k",
        )
        assert scanned.pay(connection, ben, code.id, town.rules).outcome is Outcome.ACCEPTED
    town.tap("trm_arena_in", 1)
    priced = travel._priced

    def not_bens(connection: Any, payer: Payer, *more: Any) -> Any:
        if payer.id == ben.id:
            raise NoFarePoint("Ben's tariff is broken.")
        return priced(connection, payer, *more)

    monkeypatch.setattr(travel, "_priced", not_bens)
    with pytest.raises(NoFarePoint):
        town.sweep(5)
    assert town.money() == (1700, 0, 0)


def test_a_ride_left_open_into_the_next_week_is_charged_in_its_own(town: Town) -> None:
    Clock.at = START + timedelta(days=5, hours=-4, minutes=-5)  # Monday, and the week begins at four
    town.tap("trm_arena_in")
    town.tap("trm_abbey_in", 20)
    assert town.money() == (1500, 300, 0)
    weeks = town.ask(lambda c: c.execute(text("SELECT week FROM tap ORDER BY at")).scalars().all())
    assert weeks == [MONDAY, MONDAY + timedelta(days=7)]


def test_without_money_nobody_gets_in_unless_the_operator_takes_the_risk(town: Town) -> None:
    for _ in range(2):  # leaves 15.00
        town.tap("trm_arena_in", 5)
        town.tap("trm_beach_out", 20)
    spend(town, 1450)
    Clock.at += timedelta(days=1)
    assert town.tap("trm_arena_in").reason == "insufficient_funds"
    town.rules = Rules(ride_risk={"EUR": 500})
    assert town.tap("trm_arena_in", 5).outcome == "accepted"
    assert town.money() == (0, 50, 0)
    out = town.tap("trm_beach_out", 20)
    assert (out.outcome, town.money()) == ("accepted", (0, 0, 250))
    # Denied at gates until it is paid; a top-up ends it at once.
    assert town.tap("trm_arena_in", 5).reason == "owing"
    standing = town.ask(travel.standing_of, town.payer)
    assert (standing.state.value, standing.owed) == ("denied", 250)
    town.top_up(1000)
    assert town.tap("trm_arena_in", 5).outcome == "accepted"
    assert town.money() == (550, 200, 0)  # the cap leaves 2.00 for this ride
    kinds = [receipt.kind for receipt in town.ask(lambda c: receipts.of_payer(c, town.payer.id, limit=2))]
    assert kinds == ["debt", "top_up"]


def spend(town: Town, amount: int) -> None:
    """At a till, before anything else."""
    with town.engine.begin() as connection:
        begun = attempts.begin(connection, town.gates["trm_kiosk"], Asked(amount, "EUR", os.urandom(16), b"r" * 32))
        reply = attempts.charge(connection, str(begun), town.payer.id, Rules(), second_factor="app")
        assert reply.outcome == "accepted"


def test_the_exit_opens_for_whoever_is_inside_and_what_is_missing_is_owed(town: Town) -> None:
    spend(town, 1900)
    out = town.tap("trm_beach_out")  # came in behind somebody
    assert (out.outcome, town.money()) == ("accepted", (0, 0, 200))


def test_a_disputed_ride_is_not_charged_again_by_the_next_tap(town: Town) -> None:
    ride = town.tap("trm_bus")
    town.ask(disputes.open_dispute, town.payer, ride.payment_intent, Rules())
    assert town.money() == (2000, 0, 0)
    town.ask(lambda connection: connection.execute(text("UPDATE face SET stopped = false")))  # the payer resumes it
    town.tap("trm_bus", 5)
    assert town.money() == (1850, 0, 0)


def test_a_merchant_can_neither_take_nor_free_what_is_held_for_a_ride(town: Town) -> None:
    ride = town.tap("trm_arena_in")
    for act in (
        lambda c: intents.capture(c, town.gates["trm_arena_in"], ride.payment_intent, 300),
        lambda c: intents.void(c, town.gates["trm_arena_in"], ride.payment_intent),
    ):
        with pytest.raises(WrongState):
            town.ask(act)
    town.tap("trm_abbey_out", 5)


def test_a_concession_holds_for_the_weeks_it_was_given_for(town: Town) -> None:
    town.ask(tariffs.grant, town.payer.id, "metro", "child", START.date())
    town.tap("trm_arena_in")
    assert town.tap("trm_abbey_out", 5).amount == 50
    Clock.at += timedelta(days=7)
    town.tap("trm_arena_in")
    assert town.tap("trm_abbey_out", 5).amount == 200


def test_the_same_query_sent_again_gets_the_same_answer(town: Town) -> None:
    query = os.urandom(16)
    asked = Asked(None, "EUR", query, b"r" * 32, gallery_id="gal_town", issued_at=1)
    begun = town.ask(attempts.begin, town.gates["trm_bus"], asked)
    reply = town.ask(attempts.conclude, begun, Match(3), Rules())
    assert town.ask(attempts.begin, town.gates["trm_bus"], asked) == reply
    assert town.money() == (1850, 0, 0)


def test_a_gate_without_a_stop_or_in_another_currency_asks_for_no_fare(town: Town) -> None:
    with pytest.raises(NoFarePoint):
        town.ask(attempts.begin, town.gates["trm_plain"], Asked(None, "EUR", os.urandom(16), b"r" * 32))
    with pytest.raises(InvalidAmount):
        town.ask(attempts.begin, town.gates["trm_bus"], Asked(None, "USD", os.urandom(16), b"r" * 32))


def test_the_access_log_keeps_the_guardians_tag(town: Town) -> None:
    town.tap("trm_bus")
    (entry,) = town.ask(lambda c: access.of_payer(c, town.payer.id, limit=5))
    assert entry.found is not None
    assert (entry.found.tag, entry.found.gallery_id, entry.found.issued_at) == (77, "gal_town", 1)


# --- tariffs as data ---


def test_a_version_is_imported_once_and_never_changed(town: Town) -> None:
    assert town.ask(tariffs.import_tariff, metro()) == []
    with pytest.raises(TariffError, match="never changed"):
        town.ask(tariffs.import_tariff, metro(short=250))
    later = metro(date(2099, 1, 1), short=250)
    assert town.ask(tariffs.import_tariff, later) == [date(2099, 1, 1)]
    with pytest.raises(TariffError, match="after it"):
        town.ask(tariffs.import_tariff, metro(date(2098, 6, 1)))
    assert [known.effective_from.year for known in town.ask(tariffs.listed)] == [2026, 2099]
    assert town.ask(tariffs.load, "metro").versions == (*metro().versions, *later.versions)
    with pytest.raises(TariffError, match="another currency"):
        town.ask(tariffs.import_tariff, metro().model_copy(update={"currency": "USD"}))


def test_prices_change_on_the_day_a_version_takes_effect(town: Town) -> None:
    town.ask(tariffs.import_tariff, metro(START.date() + timedelta(days=1), short=250))
    town.tap("trm_arena_in")
    assert town.tap("trm_abbey_out", 5).amount == 200
    Clock.at = START + timedelta(days=1)
    town.tap("trm_arena_in")
    assert town.tap("trm_abbey_out", 5).amount == 250


@pytest.mark.parametrize(
    "point",
    [
        FarePoint("metro", "Arena", "flat", "metro"),
        FarePoint("metro", "Arena", "entry", "bus"),
        FarePoint("metro", "Nowhere", "entry", "metro"),
        FarePoint("metro", "Arena", "entry", "tram"),
        FarePoint("none", "Arena", "entry", "metro"),
    ],
)
def test_a_gate_stands_only_where_the_tariff_knows(town: Town, point: FarePoint) -> None:
    with pytest.raises(TariffError):
        town.ask(tariffs.assign, "trm_bus", point)


# --- whatever is tapped ---

RIDERS = st.lists(
    st.tuples(st.sampled_from(sorted(GATES)), st.integers(1, 400), st.booleans()),  # gate, minutes since, sweep after
    min_size=1,
    max_size=12,
)


@given(taps=RIDERS, funds=st.sampled_from([100, 450, 20_000]))
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_is_tapped_a_week_costs_what_its_taps_say_and_no_money_is_lost(
    town: Town, taps: list[tuple[str, int, bool]], funds: int
) -> None:
    with town.engine.begin() as connection:
        town.payer, _ = payers.register(connection, "EUR")
        connection.execute(text("UPDATE face SET payer_id = :payer"), {"payer": town.payer.id})
    town.top_up(funds)
    town.rules = Rules(ride_risk={"EUR": 500}, passback=timedelta(0))
    Clock.at = START
    for gate, minutes, sweep in taps:
        reply = town.tap(gate, minutes)
        assert reply.outcome == "accepted" or reply.reason in ("insufficient_funds", "owing")
        if sweep:
            town.sweep(0)
    town.sweep(6)
    available, on_hold, owed = town.money()
    assert on_hold == 0
    tariff = town.ask(tariffs.load, "metro")
    weeks: dict[date, list[Tap]] = {}
    with town.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM tap WHERE payer_id = :payer"), {"payer": town.payer.id}).all()
        charged = {row.week: travel._charged(connection, town.payer.id, "metro", row.week) for row in rows}
    known = [Tap(row.intent_id, row.at.astimezone(UTC), row.stop, TapKind(row.kind), row.network) for row in rows]
    for row in rows:
        weeks.setdefault(row.week, known)
    for week, of_payer in weeks.items():
        priced = price_week(of_payer, tariff, week, now=Clock.at)
        assert sum(charge.amount for charge in priced) == charged[week]
    assert available - owed == funds - sum(charged.values())
    assert available >= 0
    assert owed == 0 or available == 0
    assert verify(town.engine, INVARIANTS) == []
