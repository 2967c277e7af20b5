"""Paying without a face: the terminal shows a code, the payer reads it and says yes in the app."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from facefare.client import ApiError, Payment
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.ledger import verify
from facefare.payments import intents, retention, tariffs
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
    seen = ada.asked_by_code(code.id)
    assert (seen["amount"], seen["at_most"]) == (150, 150)  # before anybody says yes to it
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


# --- a code beside a face: whichever is first ---

SALE, NEXT = "0a" * 16, "0b" * 16


def at_the_till(world: Any, label: str, purchase: str | None, amount: int = 350, **more: Any) -> Any:
    search = world.requests.search(label, terminal="trm_till", **more).to_bytes()
    return world.till.attempt(amount=amount, currency="EUR", search=search, purchase=purchase)


@pytest.mark.parametrize("code_first", [True, False])
def test_of_a_look_and_a_code_at_one_purchase_one_is_charged_whoever_is_first(world: Any, code_first: bool) -> None:
    ada = world.payer("ada")
    code = shown(world, 350, purchase=SALE)
    ways = [lambda: ada.pay_by_code(code.id), lambda: at_the_till(world, "ada", SALE)]
    outcomes = [way().outcome for way in (ways if code_first else reversed(ways))]
    assert outcomes == ["accepted", "already_paid"]
    assert ada.account().available == 650
    assert verify(world.engine, INVARIANTS) == []


def test_two_coffees_are_two_payments_and_one_purchase_is_one_also_for_two_people(world: Any) -> None:
    ada, ben = world.payer("ada", funds=2000), world.payer("ben")
    assert [at_the_till(world, "ada", sale).outcome for sale in (SALE, NEXT, None, None)] == ["accepted"] * 4
    assert ada.account().available == 2000 - 4 * 350
    assert at_the_till(world, "ben", SALE).outcome == "already_paid"
    assert ben.account().available == 1000


def test_many_ways_at_once_to_pay_for_one_purchase_charge_once(world: Any) -> None:
    riders = {label: world.payer(label) for label in ("ada", "ben", "eve")}
    codes = [shown(world, 350, f"k{number}", purchase=SALE) for number in range(3)]
    ways = [lambda label=label: at_the_till(world, label, SALE).outcome for label in riders]
    ways += [
        lambda rider=rider, code=code: rider.pay_by_code(code.id).outcome
        for rider, code in zip(riders.values(), codes, strict=True)
    ]
    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(pool.map(lambda way: way(), ways))
    assert outcomes == ["accepted"] + ["already_paid"] * 5
    assert sum(rider.account().available for rider in riders.values()) == 3000 - 350
    assert verify(world.engine, INVARIANTS) == []


def test_a_code_whose_answer_was_lost_is_taken_back_by_its_key_read_or_not(world: Any) -> None:
    ada = world.payer()
    for paid in (False, True):
        code = shown(world, 350, f"key {paid}")
        if paid:
            ada.pay_by_code(code.id)
        for _ in range(2):
            undone = world.till.undo(world.till.query_of(f"key {paid}"))
        assert (undone.id, undone.refunded) == (code.id, 350 * paid)
        assert refused(lambda code=code: ada.asked_by_code(code.id)) == "unknown-payment"
    assert ada.account().available == 1000
    assert refused(lambda: world.till.undo(world.till.query_of("never sent"))) == "unknown-payment"


def test_a_lost_answer_by_which_the_next_attempt_opened_the_gate_is_not_given_back(world: Any) -> None:
    ada, lost = world.payer("ada"), bytes(range(16))
    world.look("ada", query_id=lost)
    code = world.gate.by_code(amount=280, currency="EUR", idempotency_key="k")
    assert ada.pay_by_code(code.id).outcome == "already_paid"
    assert world.gate.undo(lost).refunded == 0
    assert ada.account().available == 720
    # Nobody passed by the code either: then the first one goes back after all, once.
    for _ in range(2):
        world.gate.undo(world.gate.query_of("k"))
        assert ada.account().available == 1000
    assert verify(world.engine, INVARIANTS) == []


def test_a_look_that_was_paid_as_the_code_is_withdrawn_stays_paid(world: Any) -> None:
    ada = world.payer("ada")
    code = world.gate.by_code(amount=280, currency="EUR", idempotency_key="k")
    ada.pay_by_code(code.id)
    assert world.look("ada").outcome == "already_paid"  # the gate hears this first, and opens
    assert world.gate.undo(world.gate.query_of("k")).refunded == 0
    assert ada.account().available == 720


def test_a_code_is_short_lived_also_when_nothing_tidies_up(world: Any) -> None:
    ada, code = world.payer(), shown(world)
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '3 minutes'"))
    assert refused(lambda: ada.asked_by_code(code.id)) == "unknown-payment"
    assert refused(lambda: ada.pay_by_code(code.id)) == "wrong-state"
    assert ada.account().available == 1000


def test_codes_that_nobody_read_are_no_news_and_are_forgotten_the_next_day(world: Any) -> None:
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO webhook_endpoint (id, merchant_id, url, secret)"
                " SELECT 'whe_1', id, 'https://x.example', 'x' FROM merchant"
            )
        )
    voided, late = shown(world), shown(world, key="late")
    world.till.void(voided.id)
    ada = world.payer()
    kept = shown(world, key="kept")
    ada.pay_by_code(kept.id)
    tomorrow = datetime.now(UTC) + timedelta(days=1, minutes=1)
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '1 hour'"))
        intents.expire(connection, Rules())
        assert connection.execute(text("SELECT body::jsonb->>'type' FROM webhook_event")).scalars().all() == [
            "payment_intent.succeeded"
        ]
        assert retention.forget(connection, tomorrow)["codes that nobody read"] == 2
    assert refused(lambda: world.till.payment(late.id)) == "unknown-payment"
    assert world.till.payment(kept.id).state == "succeeded"
