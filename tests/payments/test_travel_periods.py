"""Travel on account: rides first, one charge of the card for a travel period, owed where the card says no."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text

from facefare.fares.tariff import Band, LegRule, Network, Product, Selector, Tariff, TariffVersion
from facefare.ledger import balance_of, verify
from facefare.payments import attempts, card_top_ups, closing, merchants, tariffs, top_ups, travel, travel_periods
from facefare.payments.attempts import Asked, Reply
from facefare.payments.card_tables import card
from facefare.payments.decision import Rules
from facefare.payments.errors import ProcessorUnavailable, WrongState
from facefare.payments.merchants import Terminal
from facefare.payments.processor import Charge, Progress
from facefare.payments.tariffs import FarePoint
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS
from facefare.wallet import payers
from facefare.wallet.payers import Payer

START = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1)
RULES = Rules(travel_on_account={"EUR": 500}, passback=timedelta(0))
FARES = {"short": 150, "long": 240}


def buses() -> Tariff:
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=tuple(Product(id=name, amounts={"": amount}) for name, amount in FARES.items()),
        rules=tuple(
            LegRule(id=name, bands=(Band(product=name),), network=Selector(only=frozenset({name}))) for name in FARES
        ),
        networks={name: Network() for name in FARES},
    )
    return Tariff(id="bus", currency="EUR", versions=(version,))


class Clock(datetime):
    """The time that rides are decided at."""

    at = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.at


@dataclass
class Bank:
    """A card processor whose bank says what the test wants."""

    says: Progress = Progress.SUCCEEDED
    refuses_check: str | None = None
    away: bool = False
    checked: list[str] = field(default_factory=list)
    charged: dict[str, int] = field(default_factory=dict)

    def check_card(self, check: str, **_: Any) -> str | None:
        if self.away:
            raise ProcessorUnavailable("away")
        self.checked.append(check)
        return self.refuses_check

    def charge(self, top_up: str, *, amount: int, currency: str, **_: Any) -> Charge:
        if self.away:
            raise ProcessorUnavailable("away")
        if self.says is Progress.SUCCEEDED:
            self.charged[top_up] = amount
        reason = "card_declined" if self.says is Progress.FAILED else None
        return Charge(f"pi_{top_up}", top_up, amount, currency, self.says, None, reason)


@dataclass
class Town:
    engine: Engine
    buses: dict[str, Terminal]
    payer: Payer
    bank: Any = field(default_factory=Bank)

    def ride(self, fare: str = "short", hours: float = 0) -> Reply:
        Clock.at += timedelta(hours=hours)
        with self.engine.begin() as connection:
            asked = Asked(None, "EUR", os.urandom(16), b"r" * 32)
            begun = attempts.begin(connection, self.buses[fare], asked)
        with self.engine.begin() as connection:
            return attempts.charge(connection, str(begun), self.payer.id, RULES, second_factor=None)

    def tick(self, hours: float = 0) -> int:
        """What the wallet does every few seconds."""
        Clock.at += timedelta(hours=hours)
        travel_periods.check_cards(self.engine, self.bank)
        return travel_periods.charge_due(self.engine, self.bank, Clock.at)

    @property
    def standing(self) -> tuple[str, int, int]:
        """Whether gates open, what is owed, what is on account."""
        with self.engine.connect() as connection:
            standing = travel.standing_of(connection, self.payer)
            assert travel_periods.owing(connection) == ([self.payer.id] if standing.owed else [])
        return standing.state.value, standing.owed, standing.at_risk

    @property
    def available(self) -> int:
        with self.engine.connect() as connection:
            return balance_of(connection, self.payer.account_id).available

    def top_up(self, amount: int) -> None:
        with self.engine.begin() as connection:
            top_ups.from_test_funds(
                connection, self.payer, amount, funding=Funding.TEST, idempotency_key=os.urandom(4).hex()
            )


def with_card(engine: Engine) -> Payer:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        connection.execute(
            insert(card).values(
                payer_id=payer.id, customer=f"cus_{payer.id}", payment_method="pm_1", brand="v", last4="1"
            )
        )
    return payer


@pytest.fixture
def town(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setattr(attempts, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", START)
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Buses")
        tariffs.import_tariff(connection, buses())
        stops = {name: Terminal(f"trm_{name}", merchant, name, bytes(32)) for name in FARES}
        for name, bus in stops.items():
            merchants.register_terminal(connection, bus)
            tariffs.assign(connection, bus.id, FarePoint("bus", "Stop", "flat", name))
    yield Town(engine, stops, with_card(engine))
    assert verify(engine, INVARIANTS) == []


def test_rides_of_a_day_are_charged_to_the_card_at_once_when_it_is_over(town: Town) -> None:
    assert [town.ride().outcome, town.ride(hours=2).outcome] == ["accepted", "accepted"]
    assert (town.standing, town.tick(), town.bank.charged) == (("good", 0, 300), 0, {})
    assert len(town.bank.checked) == 1  # after the first ride, the bank is asked whether it would pay
    assert town.tick(hours=23) == 1
    assert list(town.bank.charged.values()) == [300]
    assert (town.standing, town.available) == (("good", 0, 0), 0)
    assert town.tick(hours=30) == 0


def test_at_the_spend_limit_the_card_is_charged_before_the_day_is_over(town: Town) -> None:
    for _ in range(3):
        assert town.ride().outcome == "accepted"
    assert town.ride().outcome == "accepted"  # would take it to 6.00
    assert town.ride().reason == "insufficient_funds"  # not before the card has paid
    assert town.tick() == 1
    assert list(town.bank.charged.values()) == [450]
    assert (town.ride().outcome, town.standing) == ("accepted", ("good", 0, 300))
    assert town.tick(hours=24) == 1
    assert list(town.bank.charged.values()) == [450, 300]


def test_money_in_the_account_is_used_first(town: Town) -> None:
    town.top_up(200)
    town.ride()
    assert (town.standing, town.available) == (("good", 0, 0), 50)
    town.ride()
    assert (town.standing, town.available) == (("good", 0, 100), 0)


def test_a_first_ride_on_a_card_that_its_bank_refuses_is_the_operators_risk_and_then_owed(town: Town) -> None:
    town.bank.refuses_check = "card_declined"
    assert town.ride().outcome == "accepted"
    assert town.standing == ("good", 0, 150)
    town.tick()
    assert town.standing == ("denied", 150, 0)
    assert town.ride().reason == "owing"
    town.top_up(100)
    assert town.ride().reason == "owing"  # and what there was went towards it
    assert town.standing == ("denied", 50, 0)
    town.top_up(500)
    assert (town.ride().outcome, town.standing, town.available) == ("accepted", ("good", 0, 0), 300)
    assert town.tick(hours=30) == 0
    assert town.bank.charged == {}


def test_a_refused_card_takes_nobody_on_account_until_there_is_another(town: Town) -> None:
    town.bank.refuses_check = "card_declined"
    town.ride()
    town.tick()
    town.top_up(150)
    assert town.ride().reason == "insufficient_funds"
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE card SET auto_paused = NULL"))  # as a new card does
    assert town.ride().outcome == "accepted"


@pytest.mark.parametrize("says", [Progress.FAILED, Progress.REQUIRES_ACTION])
def test_a_charge_that_the_bank_refuses_is_owed_and_paying_opens_gates_at_once(town: Town, says: Progress) -> None:
    town.ride()
    town.bank.says = says
    town.tick(hours=25)
    assert town.standing == ("denied", 150, 0)
    assert town.ride().reason == "owing"
    town.top_up(150)
    with town.engine.begin() as connection:
        travel.recover(connection, payers.locked(connection, town.payer.id))
    assert town.standing == ("good", 0, 0)


def test_what_was_paid_by_another_way_is_not_charged(town: Town) -> None:
    town.ride()
    town.top_up(100)
    with town.engine.begin() as connection:
        assert travel.recover(connection, payers.locked(connection, town.payer.id)) == 50
    town.tick(hours=25)
    assert list(town.bank.charged.values()) == [50]
    town.ride()
    town.top_up(150)
    with town.engine.begin() as connection:
        travel.recover(connection, payers.locked(connection, town.payer.id))
    assert town.tick(hours=25) == 0


def test_while_the_processor_is_away_nothing_is_lost_and_nothing_charged_twice(town: Town) -> None:
    town.ride()
    town.bank.away = True
    for _ in range(2):
        with pytest.raises(ProcessorUnavailable):
            town.tick(hours=13)
    town.bank.away = False
    town.tick()
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE card_top_up SET created_at = created_at - interval '5 minutes'"))
    card_top_ups.finish_left_behind(town.engine, town.bank)
    town.tick()
    assert list(town.bank.charged.values()) == [150]
    assert town.standing == ("good", 0, 0)


def test_without_a_card_or_where_the_operator_has_no_travel_on_account_nobody_rides_without_money(town: Town) -> None:
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE card SET payment_method = NULL"))
    assert town.ride().reason == "insufficient_funds"


def test_an_account_is_not_closed_while_travel_is_on_account(town: Town) -> None:
    town.ride()
    with pytest.raises(WrongState), town.engine.begin() as connection:
        closing.close(connection, town.payer)
    town.tick(hours=25)
    with town.engine.begin() as connection:
        assert closing.close(connection, town.payer) is None


RIDES = st.lists(
    st.tuples(st.sampled_from(sorted(FARES)), st.integers(1, 20 * 60)),  # fare, minutes since the last ride
    min_size=1,
    max_size=10,
)


def expected_charges(rides: list[tuple[datetime, int]], limit: int) -> list[int]:
    """What the card is charged for rides in order of travel: the rule, said a second time without a database."""
    charges, opened = [], None
    for at, amount in rides:
        if opened is None or at >= opened + timedelta(hours=24):
            opened = at
            charges.append(amount)
        elif charges[-1] + amount > limit:
            charges.append(amount)
        else:
            charges[-1] += amount
    return charges


@given(rides=RIDES)
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_card_is_charged_once_for_each_period_and_before_a_ride_that_would_pass_the_limit(
    town: Town, rides: list[tuple[str, int]]
) -> None:
    town.payer, town.bank, Clock.at = with_card(town.engine), Bank(), START
    made = []
    for fare, minutes in rides:
        town.tick(hours=minutes / 60)  # the wallet never sleeps
        assert town.ride(fare).outcome == "accepted"
        made.append((Clock.at, FARES[fare]))
        town.tick()
    town.tick(hours=30)
    assert list(town.bank.charged.values()) == expected_charges(made, RULES.travel_on_account["EUR"])
    assert town.standing == ("good", 0, 0)
