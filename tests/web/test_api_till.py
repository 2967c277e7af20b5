"""A till's payments over HTTP: second factor, capture with a tip, void, refund, dispute, limits."""

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from facefare.client import ApiError, TerminalClient
from facefare.identification.calibration import Threshold
from facefare.ledger import verify
from facefare.payments import intents, merchants
from facefare.payments.decision import Stated
from facefare.payments.merchants import Terminal
from facefare.payments.verify import INVARIANTS
from facefare.wallet.carrying import Changes


def pay(world: Any, amount: int, label: str = "ada", **more: Any) -> Any:
    search = world.requests.search(label, terminal="trm_till").to_bytes()
    return world.till.attempt(amount=amount, currency="EUR", search=search, **more)


def refused(call: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(ApiError) as caught:
        call(*arguments, **more)
    assert 400 <= caught.value.status < 500
    return caught.value.code


# --- second factor ---


def test_more_than_fifty_takes_the_pin(world: Any) -> None:
    ada = world.payer("ada", funds=20_000)
    ada.set_pin("2580")
    assert pay(world, 50_00).outcome == "accepted"
    asked = pay(world, 50_01)
    assert (asked.outcome, asked.reason, asked.opens) == ("confirmation_required", "second_factor", False)
    assert ada.account().available == 15_000
    wrong = world.till.confirm(asked.payment_intent, "2581")
    assert (wrong.outcome, wrong.reason) == ("confirmation_required", "pin_wrong")
    assert world.till.confirm(asked.payment_intent, "2580").outcome == "accepted"
    assert ada.account().available == 9_999
    assert refused(world.till.confirm, asked.payment_intent, "2580") == "wrong-state"


@pytest.mark.parametrize("way", ["pause", "pause and resume", "dispute", "delete", "dispute, guardian away"])
@pytest.mark.parametrize("by", ["pin", "app"])
def test_what_waits_for_a_second_factor_is_over_once_the_face_is_stopped(
    world: Any, guardians: Any, way: str, by: str
) -> None:
    ada = world.payer("ada", funds=20_000)
    ada.set_pin("2580")
    paid = world.look("ada")
    asked = pay(world, 60_00)
    assert asked.outcome == "confirmation_required"
    guardians.down = way == "dispute, guardian away"
    if way.startswith("pause"):
        ada.pause_face()
        if way == "pause and resume":
            ada.resume_face()
    elif way == "delete":
        ada.delete_face()
    else:
        ada.dispute(paid.payment_intent)
    before = ada.account().available
    if by == "pin":
        told = world.till.confirm(asked.payment_intent, "2580")
        assert (told.outcome, told.reason) == ("use_card", "not_recognised")
    else:
        ada.confirm(asked.payment_intent)
    assert ada.account().available == before
    assert refused(world.till.confirm, asked.payment_intent, "2580") == "wrong-state"


def measured(world: Any, *rows: Threshold, stated: Stated = Stated()) -> None:  # noqa: B008 (immutable)
    """The calibration measured these amounts, the operator states those."""
    services = world.app.state.services
    risk = replace(services.calibration, thresholds=rows, currency="EUR")
    world.app.state.services = replace(services, risk=risk, stated=stated)


def test_above_what_the_measured_risk_allows_the_pin_is_asked_for_and_more_payers_allow_less(world: Any) -> None:
    ada = world.payer("ada", funds=20_000)
    ada.set_pin("2580")
    measured(world, Threshold(1, 0.001, -3000, face_alone=40_00), Threshold(3, 0.001, -2000, face_alone=10_00))
    assert pay(world, 40_00).outcome == "accepted"
    asked = pay(world, 40_01)
    assert asked.reason == "second_factor"
    assert world.till.confirm(asked.payment_intent, "2580").outcome == "accepted"  # and in a row begins anew
    world.payer("ben")
    assert pay(world, 10_00).outcome == "accepted"
    asked = pay(world, 10_01)
    assert (asked.outcome, asked.reason) == ("confirmation_required", "second_factor")
    assert world.till.confirm(asked.payment_intent, "2580").outcome == "accepted"


def test_where_nothing_was_measured_for_so_many_payers_every_payment_at_a_till_takes_the_pin(world: Any) -> None:
    world.payer("ada", funds=20_000)
    measured(world, Threshold(3, 0.001, -2000))
    assert pay(world, 1).reason == "second_factor"


def test_an_operator_states_less_but_more_only_in_writing(world: Any) -> None:
    world.payer("ada", funds=60_000)
    risk = Threshold(3, 0.001, -2000, face_alone=40_00)
    measured(world, risk, stated=Stated({"EUR": 5_00}))
    assert pay(world, 5_01).reason == "second_factor"
    measured(world, risk, stated=Stated({"EUR": 45_00}))
    assert pay(world, 40_01).reason == "second_factor"
    measured(world, risk, stated=Stated({"EUR": 45_00}, "A. Example, 2026-11-20"))
    assert pay(world, 45_00).outcome == "accepted"
    assert pay(world, 45_01).reason == "second_factor"


def test_three_wrong_pins_lock_it_until_a_new_one_is_set(world: Any) -> None:
    ada = world.payer("ada", funds=20_000)
    ada.set_pin("2580")
    asked = pay(world, 60_00)
    outcomes = [world.till.confirm(asked.payment_intent, pin) for pin in ("1111", "2222", "3333")]
    assert [reply.reason for reply in outcomes] == ["pin_wrong", "pin_wrong", "pin_locked"]
    assert outcomes[-1].outcome == "refused"
    again = pay(world, 61_00)
    assert world.till.confirm(again.payment_intent, "2580").reason == "pin_locked"
    assert ada.account().available == 20_000
    ada.set_pin("1357")
    third = pay(world, 62_00)
    assert world.till.confirm(third.payment_intent, "1357").outcome == "accepted"


def test_a_payer_without_a_pin_confirms_in_the_app(world: Any) -> None:
    ada, ben = world.payer("ada", funds=20_000), world.payer("ben", funds=20_000)
    search = world.requests.search("ada", terminal="trm_till").to_bytes()
    asked = world.till.attempt(amount=60_00, currency="EUR", search=search)
    assert refused(ben.confirm, asked.payment_intent) == "unknown-payment"
    assert ada.confirm(asked.payment_intent).outcome == "accepted"
    assert world.till.attempt(amount=60_00, currency="EUR", search=search).outcome == "accepted"
    assert ada.account().available == 14_000


def test_a_pin_never_chooses_among_several(world: Any) -> None:
    for payer in (world.payer("twin", funds=20_000), world.payer("twin", funds=20_000)):
        payer.set_pin("2580")
    reply = pay(world, 60_00, "twin")
    assert reply.outcome == "use_card"
    assert refused(world.till.confirm, reply.payment_intent, "2580") == "wrong-state"


def test_the_sixth_payment_in_a_row_takes_a_second_factor_and_starts_the_count_anew(world: Any) -> None:
    ada = world.payer("ada", funds=20_000)
    for amount in range(1, 6):
        assert pay(world, amount).outcome == "accepted"
    sixth = pay(world, 6)
    assert sixth.outcome == "confirmation_required"
    assert ada.confirm(sixth.payment_intent).outcome == "accepted"
    assert pay(world, 7).outcome == "accepted"


def test_a_hundred_and_fifty_in_total_takes_a_second_factor(world: Any) -> None:
    world.payer("ada", funds=20_000)
    for amount in (50_00, 49_99, 49_98):
        assert pay(world, amount).outcome == "accepted"
    assert pay(world, 4).outcome == "confirmation_required"
    assert pay(world, 3).outcome == "accepted"


def test_gates_are_exempt_from_the_second_factor(world: Any) -> None:
    world.payer("ada", funds=20_000)
    assert world.look("ada", amount=60_00).outcome == "accepted"


def test_a_till_cannot_confirm_another_terminals_payment(world: Any) -> None:
    world.payer("ada", funds=20_000).set_pin("2580")
    asked = pay(world, 60_00)
    assert refused(world.gate.confirm, asked.payment_intent, "2580") == "unknown-payment"


@pytest.mark.parametrize("pin", ["", "123", "123456789", "1111", "12a4", "１２３４"])
def test_a_pin_that_is_no_pin_is_refused_and_not_quoted(world: Any, pin: str) -> None:
    ada = world.payer()
    with pytest.raises(ApiError) as caught:
        ada.set_pin(pin)
    assert caught.value.status == 422
    assert not pin or pin not in caught.value.detail


def test_no_pin_is_kept_in_the_clear(world: Any) -> None:
    world.payer().set_pin("2580")
    with world.engine.connect() as connection:
        kept = connection.execute(text("SELECT hash FROM payer_pin")).scalar_one()
    assert kept.startswith("$argon2id$")
    assert "2580" not in kept.split("$")[-1]


# --- passback at a till ---


def test_a_till_takes_one_purchase_once_and_the_same_amount_anew_at_once(world: Any) -> None:
    ada = world.payer("ada")
    sales = ("0a" * 16, "0a" * 16, "0b" * 16)
    outcomes = [pay(world, 300, purchase=sale).outcome for sale in sales]
    assert outcomes == ["accepted", "already_paid", "accepted"]
    assert ada.account().available == 400


# --- capture, void, refund ---


def test_a_held_bill_is_captured_with_a_tip_and_the_rest_is_free(world: Any) -> None:
    ada = world.payer("ada")
    held = pay(world, 600, capture_later=True)
    assert (held.outcome, held.receipt) == ("accepted", None)
    assert (ada.account().available, ada.account().on_hold) == (400, 600)
    for _ in range(2):
        payment = world.till.capture(held.payment_intent, 550, tip=50)
        assert (payment.state, payment.captured, payment.tip) == ("succeeded", 550, 50)
    assert (ada.account().available, ada.account().on_hold) == (450, 0)
    assert refused(world.till.capture, held.payment_intent, 551) == "wrong-state"
    assert verify(world.engine, INVARIANTS) == []


def test_a_capture_of_more_than_the_hold_is_refused(world: Any) -> None:
    world.payer("ada")
    held = pay(world, 600, capture_later=True)
    for amount, tip in ((601, 0), (0, 0), (-1, 0), (500, 500), (500, -1)):
        assert refused(world.till.capture, held.payment_intent, amount, tip=tip) == "invalid-amount"


def test_a_void_frees_the_hold_and_what_was_paid_is_not_voided(world: Any) -> None:
    ada = world.payer("ada")
    held = pay(world, 600, capture_later=True)
    assert world.till.void(held.payment_intent).state == "canceled"
    assert world.till.void(held.payment_intent).state == "canceled"
    assert ada.account().available == 1000
    paid = pay(world, 300)
    assert refused(world.till.void, paid.payment_intent) == "wrong-state"
    assert refused(world.till.capture, held.payment_intent, 600) == "wrong-state"


def test_refunds_in_parts_and_in_full_once_for_each_key(world: Any) -> None:
    ada = world.payer("ada")
    paid = pay(world, 600)
    for _ in range(2):
        assert world.till.refund(paid.payment_intent, "a", 200).refunded == 200
    assert ada.account().available == 600
    assert refused(world.till.refund, paid.payment_intent, "a", 201) == "idempotency-conflict"
    assert refused(world.till.refund, paid.payment_intent, "b", 401) == "invalid-amount"
    assert world.till.refund(paid.payment_intent, "c").refunded == 600
    assert world.till.refund(paid.payment_intent, "c").refunded == 600
    assert ada.account().available == 1000
    assert refused(world.till.refund, paid.payment_intent, "d", 1) == "invalid-amount"
    assert [receipt["kind"] for receipt in ada._call("GET", "/v1/payers/me/receipts")["data"]] == [
        "refund",
        "refund",
        "payment",
        "top_up",
    ]
    assert verify(world.engine, INVARIANTS) == []


def test_a_strangers_attempt_cannot_be_captured_voided_or_refunded(world: Any) -> None:
    reply = pay(world, 600, "stranger")
    assert refused(world.till.capture, reply.payment_intent, 600) == "unknown-payment"
    assert refused(world.till.void, reply.payment_intent) == "unknown-payment"
    assert refused(world.till.refund, reply.payment_intent, "k") == "unknown-payment"


def test_another_merchants_terminal_cannot_read_end_or_give_back_a_payment(world: Any) -> None:
    ada, key = world.payer("ada", funds=20_000), Ed25519PrivateKey.generate()
    ada.set_pin("2580")
    with world.engine.begin() as connection:
        rival = merchants.register_merchant(connection, "Rival")
        public = key.public_key().public_bytes_raw()
        merchants.register_terminal(connection, Terminal("trm_rival", rival, "Rival's shop", public, "till"))
    stranger = TerminalClient(world.http, "trm_rival", key)
    query = os.urandom(16)
    search = world.requests.search("ada", terminal="trm_till", query_id=query).to_bytes()
    paid = world.till.attempt(amount=100, currency="EUR", search=search).payment_intent
    held, asked = pay(world, 600, capture_later=True).payment_intent, pay(world, 60_00).payment_intent
    for id in (paid, held, asked):
        assert {
            refused(stranger.payment, id),
            refused(stranger.confirm, id, "1111"),
            refused(stranger.capture, id, 100),
            refused(stranger.void, id),
            refused(stranger.refund, id, "k"),
        } == {"unknown-payment"}
    assert refused(stranger.undo, query) == "unknown-payment"
    assert (ada.account().available, ada.account().on_hold) == (20_000 - 100 - 600, 600)
    assert [(one["state"], one["refunded"]) for one in ada.payments()] == [
        ("requires_confirmation", 0), ("requires_capture", 0), ("succeeded", 0),
    ]  # fmt: skip
    with world.engine.connect() as connection:
        assert connection.execute(text("SELECT wrong_tries FROM payer_pin")).scalar_one() == 0
    assert world.till.confirm(asked, "2580").outcome == "accepted"


def test_what_waited_too_long_ends_and_frees_the_money(world: Any) -> None:
    ada = world.payer("ada", funds=20_000)
    held, asked = pay(world, 600, capture_later=True), pay(world, 60_00)
    rules = world.app.state.services.rules
    with world.engine.begin() as connection:
        assert intents.expire(connection, rules) == 0
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '3 minutes'"))
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE ledger_transfer SET expires_at = now() WHERE kind = 'hold'"))
    with world.engine.begin() as connection:
        assert intents.expire(connection, rules) == 2
    assert ada.account().available == 20_000
    assert refused(world.till.capture, held.payment_intent, 600) == "wrong-state"
    assert refused(ada.confirm, asked.payment_intent) == "wrong-state"
    assert {payment["state"] for payment in ada.payments()} == {"canceled", "refused"}
    assert verify(world.engine, INVARIANTS) == []


# --- limits and disputes ---


def test_the_payers_daily_limit_holds_and_a_refund_makes_room(world: Any) -> None:
    ada = world.payer("ada")
    ada.set_daily_limit(500)
    paid = pay(world, 400)
    assert pay(world, 101).reason == "daily_limit"
    assert pay(world, 100, capture_later=True).outcome == "accepted"
    assert pay(world, 1).reason == "daily_limit"
    world.till.refund(paid.payment_intent, "k", 1)
    assert pay(world, 1).outcome == "accepted"
    ada.set_daily_limit(None)
    assert pay(world, 2).outcome == "accepted"


def test_this_was_not_me_gives_the_money_back_and_pauses_the_face(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    paid = world.look("ada")
    assert refused(ben.dispute, paid.payment_intent) == "unknown-payment"
    assert [ada.dispute(paid.payment_intent), ada.dispute(paid.payment_intent)] == ["refunded", "refunded"]
    account = ada.account()
    assert (account.available, account.faces[0].state) == (1000, "paused")
    assert world.look("ada").outcome == "use_card"
    assert ben.account().faces[0].state == "active"
    assert verify(world.engine, INVARIANTS) == []


@pytest.fixture
def stopped(world: Any) -> Any:
    """Ada, who disputed a payment while a guardian was away and Ben's pause waited for it; now it is back."""
    ada, ben = world.payer("ada"), world.payer("ben")
    paid = world.look("ada")
    world.guardians.down = True
    with pytest.raises(ApiError, match="Not all guardians"):
        ben.pause_face()
    assert ada.dispute(paid.payment_intent) == "refunded"
    world.guardians.down = False
    assert (ada.account().faces[0].state, world.guardians.paused) == ("paused", set())
    return ada


def test_this_was_not_me_holds_though_the_guardians_could_not_be_told(world: Any, stopped: Any) -> None:
    assert world.look("ada").outcome == "use_card"
    assert stopped.account().available == 1000
    asyncio.run(Changes(world.engine, world.guardians).finish_all_pending())
    assert world.guardians.paused == {("gal_town", 0), ("gal_town", 1)}
    assert world.look("ada").outcome == "use_card"
    assert stopped.resume_face()[0].state == "active"
    asyncio.run(Changes(world.engine, world.guardians).finish_all_pending())
    assert world.look("ada").outcome == "accepted"


def test_a_face_is_resumed_that_the_guardians_never_had_paused(world: Any, stopped: Any) -> None:
    assert stopped.resume_face()[0].state == "active"
    asyncio.run(Changes(world.engine, world.guardians).finish_all_pending())
    assert world.guardians.paused == {("gal_town", 1)}
    assert world.look("ada").outcome == "accepted"


def test_a_large_dispute_is_looked_at_first_but_the_face_is_paused_at_once(world: Any) -> None:
    ada = world.payer("ada", funds=20_000)
    paid = world.look("ada", amount=60_00)
    assert ada.dispute(paid.payment_intent) == "under_review"
    assert ada.account().available == 14_000
    assert ada.account().faces[0].state == "paused"


def test_another_payer_learns_nothing_of_a_payment_by_confirming_it(world: Any) -> None:
    world.payer("ada", funds=20_000)
    ben = world.payer("ben")
    for amount in (600, 60_00):  # paid, and waiting for a yes
        assert refused(ben.confirm, pay(world, amount).payment_intent) == "unknown-payment"


def test_the_fourth_dispute_in_thirty_days_is_looked_at_first(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    paid = [pay(world, amount).payment_intent for amount in (10, 20, 30, 40, 50)]
    bens = pay(world, 60, "ben").payment_intent
    assert [ada.dispute(id) for id in paid[:4]] == ["refunded", "refunded", "refunded", "under_review"]
    assert ada.account().available == 1000 - 40 - 50
    assert ben.dispute(bens) == "refunded"  # each payer's own
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE dispute SET created_at = created_at - interval '31 days'"))
    assert ada.dispute(paid[4]) == "refunded"


def test_what_took_no_money_cannot_be_disputed(world: Any) -> None:
    ada = world.payer("ada", funds=0)
    assert refused(ada.dispute, world.look("ada").payment_intent) == "wrong-state"


@pytest.mark.parametrize(("days", "answer"), [(394, "refunded"), (396, "wrong-state")])
def test_a_payment_can_be_disputed_for_thirteen_months(world: Any, days: int, answer: str) -> None:
    ada, paid = world.payer("ada"), world.look("ada")
    with world.engine.begin() as connection:
        connection.execute(
            text("UPDATE payment_intent SET created_at = created_at - make_interval(days => :days)"), {"days": days}
        )
    said = ada.dispute(paid.payment_intent) if answer == "refunded" else refused(ada.dispute, paid.payment_intent)
    assert said == answer
    assert (ada.account().faces[0].state == "paused") == (answer == "refunded")
