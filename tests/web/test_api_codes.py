"""Paying without a face: the terminal shows a code, the payer reads it and says yes in the app."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from facefare.client import ApiError, Payment
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.ledger import verify
from facefare.payments import intents, tariffs
from facefare.payments.decision import Rules
from facefare.payments.tariffs import FarePoint
from facefare.payments.verify import INVARIANTS


def shown(world: Any, amount: int | None = 500, key: str = "k", **more: Any) -> Payment:
    """A till shows a code."""
    return world.till.by_code(amount=amount, currency="EUR", idempotency_key=key, **more)


def refused(call: Any) -> str:
    with pytest.raises(ApiError) as raised:
        call()
    return raised.value.code


def test_a_payer_without_a_face_reads_the_code_sees_the_amount_and_pays_it_once(world: Any) -> None:
    ada = world.payer()
    waiting = shown(world)
    assert shown(world) == waiting
    assert waiting.state == "requires_identification"
    seen = ada.asked_by_code(waiting.id)
    assert (seen["amount"], seen["currency"], seen["place"]) == (500, "EUR", "place of trm_till")
    paid = ada.pay_by_code(waiting.id)
    assert (paid.outcome, ada.pay_by_code(waiting.id)) == ("accepted", paid)
    assert (ada.account().available, ada.receipt(paid.receipt)["amount"]) == (500, 500)
    assert world.till.payment(waiting.id).state == "succeeded"
    assert world.guardians.searches == 0
    assert [(entry["by"], entry["identification"]) for entry in ada.access_log()] == [("trm_till", None)]
    assert verify(world.engine, INVARIANTS) == []


def test_it_costs_and_counts_the_same_as_with_a_face(world: Any) -> None:
    ada = world.payer("ada", funds=50_000)
    assert ada.pay_by_code(shown(world, 60_00, "large").id).outcome == "accepted"  # the app is the second factor
    ada.set_daily_limit(60_01)
    limited = ada.pay_by_code(shown(world, 200, "small").id)
    assert (limited.outcome, limited.reason) == ("refused", "daily_limit")
    held = shown(world, 1, "held", capture_later=True)
    ada.pay_by_code(held.id)
    assert world.till.payment(held.id).state == "requires_capture"
    assert world.till.capture(held.id, 1).state == "succeeded"
    ben = world.payer(funds=100)
    assert ben.pay_by_code(shown(world, 500, "poor").id).reason == "insufficient_funds"
    assert verify(world.engine, INVARIANTS) == []


def test_a_gate_lets_who_reads_its_code_through_for_the_fare(world: Any) -> None:
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="single", amounts={"": 150}),),
        rules=(LegRule(id="any", bands=(Band(product="single"),)),),
    )
    with world.engine.begin() as connection:
        tariffs.import_tariff(connection, Tariff(id="bus", currency="EUR", versions=(version,)))
        tariffs.assign(connection, "trm_gate", FarePoint("bus", "Market Square", "flat"))
    ada = world.payer()
    code = world.gate.by_code(amount=None, currency="EUR", idempotency_key="k")
    assert (ada.pay_by_code(code.id).amount, ada.rides()[0]["cost"]) == (150, 150)


def test_of_many_who_read_one_code_exactly_one_pays(world: Any) -> None:
    riders = [world.payer() for _ in range(6)]
    code = shown(world)

    def pay(payer: Any) -> str:
        try:
            outcome: str = payer.pay_by_code(code.id).outcome
        except ApiError as error:
            return error.code
        return outcome

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(pay, riders))
    assert answers == ["accepted"] + ["wrong-state"] * 5
    assert sorted(rider.account().available for rider in riders) == [500] + [1000] * 5
    assert verify(world.engine, INVARIANTS) == []


def test_a_code_that_was_voided_or_waited_too_long_pays_nothing(world: Any) -> None:
    ada = world.payer()
    voided, late = shown(world), shown(world, key="other")
    assert world.till.void(voided.id).state == world.till.void(voided.id).state == "canceled"
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '1 hour'"))
        assert intents.expire(connection, Rules(confirm_within=timedelta(minutes=2))) == 1
    assert world.till.payment(late.id).reason == "confirmation_timed_out"
    for code in (voided, late):
        assert refused(lambda code=code: ada.asked_by_code(code.id)) == "unknown-payment"
        assert refused(lambda code=code: ada.pay_by_code(code.id)) == "wrong-state"
    assert ada.account().available == 1000


def test_a_code_belongs_to_its_terminal_and_a_key_to_one_code(world: Any) -> None:
    code = shown(world)
    assert refused(lambda: world.gate.payment(code.id)) == "unknown-payment"
    assert refused(lambda: shown(world, 501)) == "query-reused"
    assert world.gate.by_code(amount=501, currency="EUR", idempotency_key="k").id != code.id
    for amount in (0, -1):
        assert refused(lambda amount=amount: shown(world, amount, f"k{amount}")) == "invalid-amount"
    assert refused(lambda: shown(world, None, "fare")) == "no-fare-point"


def test_who_closed_the_account_pays_by_no_code(world: Any) -> None:
    ada = world.payer(funds=0)
    ada.close()
    assert refused(lambda: ada.pay_by_code(shown(world).id)) == "account-closed"
