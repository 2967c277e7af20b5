"""One order of locks everywhere (payer, consent, device, payment, accounts): nobody waits for each other in a ring."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text

from facefare.fares.errors import FaresError
from facefare.fares.tariff import Band, LegRule, Network, Product, Selector, Stop, Tariff, TariffVersion
from facefare.ledger import verify
from facefare.ledger.errors import InvalidAmount
from facefare.payments import (
    api_keys,
    attempts,
    disputes,
    intents,
    merchants,
    operators,
    tables,
    tariffs,
    top_ups,
    travel,
)
from facefare.payments.api_keys import ApiKey, Scope
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Rules
from facefare.payments.errors import PaymentsError
from facefare.payments.merchants import Terminal
from facefare.payments.tariffs import FarePoint
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS
from facefare.wallet import payers, pins
from facefare.wallet.payers import Payer

RULES = Rules(passback=timedelta(0), ride_risk={"EUR": 1000})


def zones() -> Tariff:
    """Two zones, the gates of each belong to another merchant; leaving is tapped."""
    ends = {
        (a, b): LegRule(
            id=a + b,
            bands=(Band(product="same" if a == b else "other"),),
            origin=Selector(only=frozenset({a})),
            destination=Selector(only=frozenset({b})),
        )
        for a in "ab"
        for b in "ab"
    }
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="same", amounts={"": 200}), Product(id="other", amounts={"": 300})),
        rules=tuple(ends.values()),
        networks={"": Network(tap_out=True)},
        stops={"A": Stop(areas=frozenset({"a"})), "B": Stop(areas=frozenset({"b"}))},
    )
    return Tariff(id="zones", currency="EUR", versions=(version,))


@dataclass
class Town:
    engine: Engine
    till: Terminal
    gates: list[Terminal]
    key: ApiKey
    riders: list[Payer] = field(default_factory=list)

    @property
    def payer(self) -> Payer:
        return self.riders[0]

    def pay(
        self, terminal: Terminal, payer: Payer, amount: int | None, factor: str | None = "app", **more: Any
    ) -> Reply:
        asked = Asked(amount, "EUR", os.urandom(16), b"r" * 32, **more)
        with self.engine.begin() as connection:
            begun = attempts.begin(connection, terminal, asked)
        with self.engine.begin() as connection:
            return attempts.charge(connection, str(begun), payer.id, RULES, second_factor=factor)

    def dispute(self, intent_id: str) -> str:
        with self.engine.begin() as connection:
            return disputes.open_dispute(connection, self.payer, intent_id, Rules(disputes_refunded_at_once={})).id

    def query_of(self, intent_id: str) -> bytes:
        with self.engine.connect() as connection:
            return connection.execute(
                select(tables.intent.c.query_id).where(tables.intent.c.id == intent_id)
            ).scalar_one()


@pytest.fixture
def town(engine: Engine) -> Iterator[Town]:
    with engine.begin() as connection:
        first, second = (merchants.register_merchant(connection, name) for name in ("First", "Second"))
        till = Terminal("trm_till", first, "Till", bytes(32), "till")
        gates = [
            Terminal(f"trm_{stop}_{kind}", merchant, stop, bytes(32))
            for stop, merchant in (("A", first), ("B", second))
            for kind in ("entry", "exit")
        ]
        tariffs.import_tariff(connection, zones())
        for terminal in (till, *gates):
            merchants.register_terminal(connection, terminal)
        for gate in gates:
            tariffs.assign(connection, gate.id, FarePoint("zones", gate.place, gate.id.rpartition("_")[2]))
        key, _ = api_keys.create(connection, first, "test", set(Scope))
        town = Town(engine, till, gates, key)
        for _ in range(4):
            payer, _ = payers.register(connection, "EUR")
            pins.set_pin(connection, payer.id, "1234")
            top_ups.from_test_funds(connection, payer, 50_000, funding=Funding.TEST, idempotency_key="first")
            town.riders.append(payer)
    yield town
    assert verify(engine, INVARIANTS) == []


def paid(town: Town) -> str:
    return town.pay(town.till, town.payer, 500).payment_intent


def held(town: Town) -> str:
    return town.pay(town.till, town.payer, 500, capture_later=True).payment_intent


def waiting(town: Town) -> str:
    return town.pay(town.till, town.payer, 60_00, factor=None).payment_intent


def disputed(town: Town) -> str:
    intent_id = paid(town)
    town.dispute(intent_id)
    return intent_id


def _decided(connection: Connection, town: Town, intent_id: str) -> Any:
    dispute = connection.execute(
        select(tables.dispute.c.id).where(tables.dispute.c.intent_id == intent_id)
    ).scalar_one()
    return operators.decide(connection, town.key, dispute, give_back=True)


ACTS: dict[str, tuple[Callable[[Town], str], Callable[[Connection, Town, str], Any]]] = {
    "dispute": (paid, lambda c, t, id: disputes.open_dispute(c, t.payer, id, Rules())),
    "the till's refund": (paid, lambda c, t, id: intents.refund(c, t.till, id, None, idempotency_key="k")),
    "the merchant's refund": (paid, lambda c, t, id: operators.refund(c, t.key, id, None, idempotency_key="k")),
    "the merchant's decision": (disputed, _decided),
    "capture": (held, lambda c, t, id: intents.capture(c, t.till, id, 500)),
    "void": (held, lambda c, t, id: intents.void(c, t.till, id)),
    "PIN": (waiting, lambda c, t, id: attempts.confirm_by_pin(c, t.till, id, "1234", RULES)),
    "app": (waiting, lambda c, t, id: attempts.confirm_in_app(c, t.payer, id, RULES)),
    "undo": (paid, lambda c, t, id: attempts.undo(c, t.till, t.query_of(id))),
}


@pytest.mark.parametrize("name", ACTS)
def test_who_holds_the_payer_finds_the_payment_free(town: Town, name: str) -> None:
    """A ride holds the payer and goes on to earlier payments; whoever else wants both waits with empty hands."""
    make, act = ACTS[name]
    intent_id = make(town)

    def other() -> None:
        with town.engine.begin() as connection:
            connection.execute(text("SET application_name = 'other'"))
            act(connection, town, intent_id)

    with ThreadPoolExecutor(1) as pool:
        with town.engine.begin() as ride:
            payers.locked(ride, town.payer.id)
            done = pool.submit(other)
            until = time.monotonic() + 10
            while not _waits(town.engine):
                assert time.monotonic() < until, "it never asked for the payer"
                assert not done.done()
            ride.execute(text("SET LOCAL lock_timeout = '3s'"))
            intents.locked(ride, intent_id)
        done.result(10)


def _waits(engine: Engine) -> bool:
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'other' AND wait_event_type = 'Lock'"
        return connection.execute(text(query)).scalar_one() > 0


def test_a_payment_that_is_charged_while_it_is_looked_at_is_locked_after_its_payer(town: Town) -> None:
    with town.engine.begin() as connection:
        asked = Asked(500, "EUR", os.urandom(16), b"r" * 32)
        intent_id = str(attempts.begin(connection, town.till, asked))
    looked, charged = threading.Event(), threading.Event()

    def look() -> Any:
        with town.engine.begin() as connection:
            connection.execute(text("SET application_name = 'other'"))
            looked.set()
            return intents.locked_with_payer(connection, intent_id)

    with ThreadPoolExecutor(1) as pool:
        with town.engine.begin() as connection:
            attempts.charge(connection, intent_id, town.payer.id, RULES, second_factor="app")
            found = pool.submit(look)
            looked.wait(10)
            while not _waits(town.engine):
                assert not found.done()
        charged.set()
        row, payer = found.result(10)
    assert (row.state, payer) == ("succeeded", town.payer)


def test_riders_tills_disputes_and_sweeps_at_once_neither_block_each_other_nor_lose_money(town: Town) -> None:
    """Rides end at gates of two merchants in either order, while everything else happens to the same payers."""
    until = time.monotonic() + 4
    done: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            payer = chance.choice(town.riders)
            kind = chance.choice(["ride", "ride", "ride", "pay", "dispute", "refund", "sweep"])
            try:
                if kind == "ride":
                    town.pay(chance.choice(town.gates), payer, None)
                elif kind == "pay":
                    town.pay(town.till, payer, 100)
                elif kind == "sweep":
                    travel.complete(town.engine, datetime.now(UTC) + timedelta(hours=5 * chance.randint(0, 1)), {})
                else:
                    _act_on_one(town, payer, kind, chance)
            except (PaymentsError, FaresError, InvalidAmount):
                continue  # it was refused, which is fine
            done.append(kind)

    with ThreadPoolExecutor(8) as pool:
        for outcome in [pool.submit(work, seed) for seed in range(8)]:
            outcome.result()
    assert {"ride", "pay", "dispute", "refund", "sweep"} <= set(done)


def _act_on_one(town: Town, payer: Payer, kind: str, chance: random.Random) -> None:
    with town.engine.begin() as connection:
        mine = intents.of_payer(connection, payer.id, limit=5)
    if not mine:
        return
    one = chance.choice(mine).id
    with town.engine.begin() as connection:
        if kind == "dispute":
            disputes.open_dispute(connection, payer, one, RULES)
        else:
            operators.refund(connection, town.key, one, None, idempotency_key=str(chance.random()))
