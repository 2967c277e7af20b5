"""Money from cards and back to them, through Stripe's own client, against localstripe: once, whatever happens."""

import hashlib
import hmac
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from demo import localstripe
from demo.localstripe import ASKED, DECLINED, GOOD
from facefare.ledger import Transfer, balance_of, post, verify
from facefare.ledger.errors import InsufficientFunds, InvalidAmount, TransferConflict
from facefare.payments import card_top_ups, cards, merchants, processor_events, receipts, reconciliation, top_ups
from facefare.payments.card_top_ups import TopUp
from facefare.payments.errors import (
    CardNotReady,
    EventForged,
    FundingClosed,
    NoCard,
    ProcessorDisagrees,
    ProcessorUnavailable,
    UnknownTopUp,
)
from facefare.payments.processor import Processor
from facefare.payments.reconciliation import What
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS
from facefare.wallet import payers
from facefare.wallet.payers import Payer

SECRET = "whsec_test"


@pytest.fixture(scope="module")
def stripe_url() -> Iterator[str]:
    try:
        with localstripe.running() as url:
            yield url
    except localstripe.Offline as error:
        pytest.skip(str(error))


@dataclass
class Bank:
    """The processor, a payer's browser at it, and what we hear of it."""

    engine: Engine
    processor: Processor
    http: httpx.Client
    payer: Payer

    def card(self, number: str = GOOD) -> None:
        """The payer fills in the processor's form with this card."""
        setup = cards.begin(self.engine, self.processor, self.payer)
        localstripe.fill_in(self.http, setup.id, setup.client_secret, number)
        cards.keep(self.engine, self.processor, self.payer, setup.id)

    def top_up(self, amount: int = 2000, key: str = "key") -> TopUp:
        return card_top_ups.charge(self.engine, self.processor, self.payer, amount, idempotency_key=key)

    def answer(self, top_up: TopUp, *, success: bool) -> None:
        """The payer answers the bank's question (3-D Secure)."""
        intent = self.row(top_up)["intent"]
        data = {"client_secret": top_up.client_secret, "success": str(success).lower()}
        self.http.post(f"/v1/payment_intents/{intent}/_authenticate", data=data).raise_for_status()

    def row(self, top_up: TopUp) -> dict[str, Any]:
        with self.engine.connect() as connection:
            row = connection.execute(text("SELECT * FROM card_top_up WHERE id = :id"), {"id": top_up.id}).one()
        return dict(row._mapping)

    def tell(self, kind: str, about: dict[str, Any], id: str = "evt_1") -> bool:
        return processor_events.take(self.engine, self.processor, *event(kind, about, id))

    def told_of(self, top_up: TopUp, kind: str = "payment_intent.succeeded", id: str = "evt_1") -> bool:
        return self.tell(kind, {"id": self.row(top_up)["intent"], "metadata": {"top_up": top_up.id}}, id)

    def available(self) -> int:
        with self.engine.connect() as connection:
            return balance_of(connection, self.payer.account_id).available

    def owed(self) -> int:
        with self.engine.begin() as connection:
            return -balance_of(connection, card_top_ups.debt_account(connection, self.payer)).posted

    def spend(self, amount: int) -> None:
        """Money that went to a merchant (with a receipt, as every movement of a payer's)."""
        with self.engine.begin() as connection:
            shop = merchants.account_of(connection, merchants.register_merchant(connection, "Shop"), "EUR")
            spent = Transfer.now(
                f"spent_{time.time_ns()}",
                debit=self.payer.account_id,
                credit=shop,
                amount=amount,
                currency="EUR",
                reason="payment",
            )
            post(connection, [spent])
            receipts.write(connection, self.payer, kind="payment", amount=amount, transfer_id=spent.id)

    def read(self, top_up: TopUp) -> TopUp:
        with self.engine.connect() as connection:
            return card_top_ups.read(connection, self.payer.id, top_up.id)


def event(kind: str, about: dict[str, Any], id: str, *, secret: str = SECRET, at: float | None = None) -> Any:
    body = json.dumps({"id": id, "object": "event", "type": kind, "data": {"object": about}}).encode()
    stamp = int(time.time() if at is None else at)
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return body, f"t={stamp},v1={mac}"


@pytest.fixture
def bank(engine: Engine, stripe_url: str) -> Iterator[Bank]:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
    with httpx.Client(base_url=stripe_url, auth=("sk_test_key", "")) as http:
        yield Bank(engine, Processor("sk_test_key", SECRET, api_base=stripe_url), http, payer)
    assert verify(engine, INVARIANTS) == []


# --- cards ---


def test_a_card_on_file_is_known_by_its_last_digits_only(bank: Bank) -> None:
    bank.card()
    with bank.engine.connect() as connection:
        kept = cards.on_file(connection, bank.payer.id)
        everything = str(connection.execute(text("SELECT * FROM card")).all())
    assert (kept.brand, kept.last4) == ("visa", "4242")
    assert GOOD not in everything


def test_an_unfinished_or_another_payers_setup_keeps_no_card(bank: Bank) -> None:
    with pytest.raises(NoCard):
        cards.keep(bank.engine, bank.processor, bank.payer, "seti_1")
    setup = cards.begin(bank.engine, bank.processor, bank.payer)
    with pytest.raises(CardNotReady):
        cards.keep(bank.engine, bank.processor, bank.payer, setup.id)
    with pytest.raises(CardNotReady):
        cards.keep(bank.engine, bank.processor, bank.payer, "seti_nothing")
    with bank.engine.begin() as connection:
        other, _ = payers.register(connection, "EUR")
    cards.begin(bank.engine, bank.processor, other)
    bank.card()
    with bank.engine.connect() as connection:
        finished = cards.begin(bank.engine, bank.processor, bank.payer)
        with pytest.raises(NoCard):
            cards.on_file(connection, other.id)
    bank.http.post(
        f"/v1/setup_intents/{finished.id}/confirm", data={"payment_method": "pm_card_visa"}
    ).raise_for_status()
    with pytest.raises(CardNotReady):
        cards.keep(bank.engine, bank.processor, other, finished.id)


def test_a_forgotten_card_charges_nothing(bank: Bank) -> None:
    bank.card()
    cards.forget(bank.engine, bank.processor, bank.payer)
    with pytest.raises(NoCard):
        bank.top_up()


# --- top-ups ---


def test_a_top_up_is_credited_once_for_its_key_with_a_receipt(bank: Bank) -> None:
    bank.card()
    first, second = bank.top_up(), bank.top_up()
    assert (first.state, first.receipt) == ("succeeded", second.receipt)
    assert bank.available() == 2000
    with pytest.raises(TransferConflict):
        bank.top_up(2001)
    with bank.engine.connect() as connection:
        assert receipts.read(connection, bank.payer.id, first.receipt or "").kind == "top_up"
    assert [bank.told_of(first), bank.told_of(first, id="evt_2")] == [True, True]
    assert bank.available() == 2000


def test_a_declined_card_brings_nothing_and_says_why(bank: Bank) -> None:
    bank.card(DECLINED)
    failed = bank.top_up()
    assert (failed.state, failed.reason, failed.receipt) == ("failed", "card_declined", None)
    assert bank.top_up().state == "failed"
    assert bank.available() == 0


@pytest.mark.parametrize("success", [True, False])
def test_where_the_bank_asks_the_money_comes_after_the_answer(bank: Bank, success: bool) -> None:
    bank.card(ASKED)
    asked = bank.top_up()
    assert (asked.state, bank.available()) == ("requires_action", 0)
    assert asked.client_secret
    assert asked.client_secret not in repr(asked)
    bank.answer(asked, success=success)
    bank.told_of(asked)
    assert bank.read(asked).state == ("succeeded" if success else "failed")
    assert bank.available() == (2000 if success else 0)


def test_an_event_says_only_where_to_look_so_an_early_or_false_one_credits_nothing(bank: Bank) -> None:
    bank.card(ASKED)
    asked = bank.top_up()
    bank.told_of(asked, "payment_intent.succeeded", "evt_early")
    assert (bank.read(asked).state, bank.available()) == ("requires_action", 0)
    bank.answer(asked, success=True)
    bank.told_of(asked, "payment_intent.succeeded", "evt_1")
    bank.told_of(asked, "payment_intent.payment_failed", "evt_0")  # older, but late
    assert bank.told_of(asked, "payment_intent.succeeded", "evt_1") is False
    assert (bank.read(asked).state, bank.available()) == ("succeeded", 2000)


def test_the_same_event_in_many_hands_at_once_credits_once(bank: Bank) -> None:
    bank.card(ASKED)
    asked = bank.top_up()
    bank.answer(asked, success=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: bank.told_of(asked, id=f"evt_{n % 2}"), range(8)))
    assert bank.available() == 2000


def test_an_answer_lost_after_the_charge_is_found_by_its_event(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank.card()
    real, lost = bank.processor.charge, []

    def loses(*arguments: Any, **more: Any) -> Any:
        lost.append(real(*arguments, **more))
        raise ProcessorUnavailable("The answer was lost.")

    monkeypatch.setattr(bank.processor, "charge", loses)
    with pytest.raises(ProcessorUnavailable):
        bank.top_up()
    (charged,) = lost
    assert bank.available() == 0
    assert bank.tell("payment_intent.succeeded", {"id": charged.intent, "metadata": {"top_up": charged.top_up}})
    assert bank.available() == 2000
    monkeypatch.undo()
    assert bank.top_up().state == "succeeded"
    assert bank.available() == 2000


def test_what_a_crash_left_open_is_asked_again_under_the_same_key(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank.card()
    keys: list[str] = []
    real = bank.processor._client.v1.payment_intents.create

    def away(parameters: Any, options: Any) -> Any:
        keys.append(options["idempotency_key"])
        if len(keys) == 1:
            raise sys.modules["stripe"].APIConnectionError("away")
        return real(parameters, options)

    intents = type(bank.processor._client.v1.payment_intents)
    monkeypatch.setattr(intents, "create", lambda self, parameters, options: away(parameters, options))
    with pytest.raises(ProcessorUnavailable):
        bank.top_up()
    assert card_top_ups.finish_left_behind(bank.engine, bank.processor) == 0
    with bank.engine.begin() as connection:
        connection.execute(text("UPDATE card_top_up SET created_at = created_at - interval '5 minutes'"))
    assert card_top_ups.finish_left_behind(bank.engine, bank.processor) == 1
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert bank.available() == 2000


def test_a_charge_of_another_amount_than_asked_credits_nothing(bank: Bank) -> None:
    bank.card(ASKED)
    asked = bank.top_up()
    with bank.engine.begin() as connection:
        connection.execute(text("UPDATE card_top_up SET amount = 1999"))
    bank.answer(asked, success=True)
    with pytest.raises(ProcessorDisagrees):
        bank.told_of(asked)
    assert bank.available() == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda body, signature: (body.replace(b"evt_1", b"evt_2"), signature),
        lambda body, signature: (body, ""),
        lambda body, signature: (body, "t=1,v1=00"),
        lambda body, signature: event("payment_intent.succeeded", {}, "evt_1", secret="whsec_other"),
        lambda body, signature: event("payment_intent.succeeded", {}, "evt_1", at=time.time() - 600),
        lambda body, signature: (b"\xff", signature),
    ],
)
def test_a_forged_altered_or_stale_event_is_refused(bank: Bank, damage: Any) -> None:
    with pytest.raises(EventForged):
        processor_events.take(bank.engine, bank.processor, *damage(*event("x", {}, "evt_1")))


def test_events_about_nothing_of_ours_are_let_go(bank: Bank) -> None:
    for kind in ("invoice.paid", "payment_intent.succeeded", "refund.updated"):
        assert bank.tell(kind, {"id": "x"}) is False
    dispute = {"id": "dp_1", "payment_intent": "pi_foreign", "amount": 1, "currency": "eur"}
    assert bank.tell("charge.dispute.funds_withdrawn", dispute) is False


# --- automatic top-ups ---


def set_auto(bank: Bank, below: int = 500, amount: int = 1000) -> None:
    with bank.engine.begin() as connection:
        cards.set_auto_top_up(connection, bank.payer.id, below=below, amount=amount)


def paused(bank: Bank) -> str | None:
    with bank.engine.connect() as connection:
        return cards.on_file(connection, bank.payer.id).auto_paused


def test_money_below_the_payers_mark_is_topped_up_while_nobody_is_there(bank: Bank) -> None:
    bank.card()
    set_auto(bank)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: card_top_ups.charge_those_below(bank.engine, bank.processor), range(4)))
    assert sum(taken) == 1
    assert bank.available() == 1000
    bank.spend(600)
    assert card_top_ups.charge_those_below(bank.engine, bank.processor) == 1
    assert bank.available() == 1400
    assert card_top_ups.charge_those_below(bank.engine, bank.processor) == 0


@pytest.mark.parametrize(("number", "why"), [(DECLINED, "card_declined"), (ASKED, "authentication_required")])
def test_a_card_that_refuses_while_nobody_is_there_is_not_tried_again(bank: Bank, number: str, why: str) -> None:
    bank.card(number)
    set_auto(bank)
    assert card_top_ups.charge_those_below(bank.engine, bank.processor) == 1
    assert card_top_ups.charge_those_below(bank.engine, bank.processor) == 0
    assert (paused(bank), bank.available()) == (why, 0)


@pytest.mark.parametrize(
    ("number", "why"), [(GOOD, None), (DECLINED, "card_declined"), (ASKED, "authentication_required")]
)
def test_a_bank_is_asked_whether_it_would_pay_and_nothing_is_charged(bank: Bank, number: str, why: str | None) -> None:
    bank.card(number)
    with bank.engine.connect() as connection:
        row = cards.row_on_file(connection, bank.payer.id)
    for _ in range(2):
        said = bank.processor.check_card(
            f"tpd_{bank.payer.id}", customer=row.customer, payment_method=row.payment_method, currency="EUR"
        )
        assert said == why
    charges = bank.http.get("/v1/charges").json()["data"]
    assert not [one for one in charges if one["customer"] == row.customer and one["captured"]]


# --- refunds to the card ---


def give_back(bank: Bank, top_up: TopUp, amount: int | None = None, key: str = "r") -> TopUp:
    return card_top_ups.refund(bank.engine, bank.processor, bank.payer, top_up.id, amount, idempotency_key=key)


def given_back(bank: Bank) -> tuple[TopUp, dict[str, Any]]:
    """A top-up of which 500 went back, and that refund as the processor's events name it."""
    bank.card()
    top_up = bank.top_up()
    give_back(bank, top_up, 500)
    with bank.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM card_refund")).one()
    return top_up, {"id": row.refund, "metadata": {"card_refund": row.id}}


def test_unspent_money_goes_back_to_its_card_once_for_each_key(bank: Bank) -> None:
    bank.card()
    top_up = bank.top_up()
    for _ in range(2):
        assert give_back(bank, top_up, 500).refunded == 500
    assert bank.available() == 1500
    with pytest.raises(TransferConflict):
        give_back(bank, top_up, 501)
    with pytest.raises(InvalidAmount):
        give_back(bank, top_up, 1501, key="s")
    bank.spend(1000)
    with pytest.raises(InsufficientFunds):
        give_back(bank, top_up, 501, key="t")
    assert give_back(bank, top_up, key="u").refunded == 1000
    assert bank.available() == 0
    sent = bank.http.get("/v1/refunds").json()["data"]
    assert sum(r["amount"] for r in sent if r["payment_intent"] == bank.row(top_up)["intent"]) == 1000


def test_another_payers_top_up_is_unknown(bank: Bank) -> None:
    bank.card()
    top_up = bank.top_up()
    with bank.engine.begin() as connection:
        other, _ = payers.register(connection, "EUR")
    with pytest.raises(UnknownTopUp), bank.engine.connect() as connection:
        card_top_ups.read(connection, other.id, top_up.id)


def test_a_refund_that_fails_later_is_credited_again(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    top_up, about = given_back(bank)
    monkeypatch.setattr(bank.processor, "look_up_refund", lambda id: card_top_ups.Progress.FAILED)
    for number in range(2):
        bank.tell("refund.failed", about, f"evt_{number}")
    assert (bank.available(), bank.read(top_up).refunded) == (2000, 0)


def test_what_is_said_of_a_refund_late_changes_nothing_that_was_settled(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hands look at once: the one that saw it still under way writes last; then the refund fails after all."""
    top_up, about = given_back(bank)
    for number, progress in enumerate(("SUCCEEDED", "PROCESSING", "SUCCEEDED", "PROCESSING", "FAILED", "SUCCEEDED")):
        told = card_top_ups.Progress[progress]
        monkeypatch.setattr(bank.processor, "look_up_refund", lambda id, told=told: told)
        bank.tell("refund.updated", about, f"evt_{number}")
    with bank.engine.connect() as connection:
        kinds = [receipt.kind for receipt in receipts.of_payer(connection, bank.payer.id, limit=9)]
    assert kinds == ["top_up", "card_refund", "top_up"]  # one for each movement
    assert (bank.available(), bank.read(top_up).refunded) == (2000, 0)


def test_what_goes_wrong_with_one_payers_card_keeps_nobody_else_waiting(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.card()
    asked = bank.processor.charge
    monkeypatch.setattr(bank.processor, "charge", lambda *_, **__: (_ for _ in ()).throw(ProcessorUnavailable("away")))
    for key in ("first", "second"):
        with pytest.raises(ProcessorUnavailable):
            bank.top_up(2000, key)
    monkeypatch.setattr(bank.processor, "charge", asked)
    with bank.engine.begin() as connection:
        forgetful, _ = payers.register(connection, "EUR")
        connection.execute(
            text(
                "UPDATE card_top_up SET created_at = created_at - interval '5 minutes', payer_id ="
                " CASE id WHEN (SELECT min(id) FROM card_top_up) THEN :payer ELSE payer_id END"
            ),
            {"payer": forgetful.id},
        )
    with pytest.raises(NoCard):
        card_top_ups.finish_left_behind(bank.engine, bank.processor)
    assert bank.available() == 2000


# --- chargebacks ---


def dispute(bank: Bank, top_up: TopUp, amount: int = 2000) -> dict[str, Any]:
    return {"id": "dp_1", "payment_intent": bank.row(top_up)["intent"], "amount": amount, "currency": "eur"}


def test_a_chargeback_takes_what_is_there_and_the_rest_is_owed_and_paid_first(bank: Bank) -> None:
    bank.card()
    top_up = bank.top_up()
    bank.spend(1500)
    for number in range(2):
        bank.tell("charge.dispute.funds_withdrawn", dispute(bank, top_up), f"evt_{number}")
    assert (bank.available(), bank.owed(), paused(bank)) == (0, 1500, "chargeback")
    bank.top_up(1000, "second")
    assert (bank.available(), bank.owed()) == (0, 500)
    bank.top_up(1000, "third")
    assert (bank.available(), bank.owed()) == (500, 0)


@pytest.mark.parametrize("order", [("withdrawn", "reinstated"), ("reinstated", "withdrawn")])
@pytest.mark.parametrize("spent", [0, 1500, 2000])
def test_a_chargeback_that_was_won_leaves_everything_as_before_in_any_order(
    bank: Bank, order: tuple[str, str], spent: int
) -> None:
    bank.card()
    top_up = bank.top_up()
    if spent:
        bank.spend(spent)
    for number, what in enumerate(order * 2):
        bank.tell(f"charge.dispute.funds_{what}", dispute(bank, top_up), f"evt_{number}")
    assert (bank.available(), bank.owed()) == (2000 - spent, 0)


def test_what_the_bank_took_back_is_not_given_back_to_the_card_a_second_time(bank: Bank) -> None:
    bank.card()
    top_up = bank.top_up()
    bank.top_up(2000, "second")
    bank.tell("charge.dispute.funds_withdrawn", dispute(bank, top_up, 1500))
    with pytest.raises(InvalidAmount):
        give_back(bank, top_up, 501)
    give_back(bank, top_up, None)
    assert bank.read(top_up).refunded == 500
    assert bank.available() == 2000


# --- the books beside the processor's report ---


def balance_report(bank: Bank, folder: Path, *others: tuple[str, str, int]) -> Path:
    """What the processor reports of this payer: charges and refunds as it has them, and what it said by events."""
    with bank.engine.connect() as connection:
        intents = connection.execute(text("SELECT intent FROM card_top_up ORDER BY id")).scalars().all()
    lines: list[tuple[str, str, str, int]] = []
    for name in intents:
        paid = bank.http.get(f"/v1/payment_intents/{name}").json()
        lines.append(("charge", f"ch_of_{name}", name, paid["amount"]))
    for back in bank.http.get("/v1/refunds").json()["data"]:
        if back["payment_intent"] in intents:
            lines.append(("refund", back["id"], back["payment_intent"], -back["amount"]))
    lines += [(category, name, "", amount) for category, name, amount in others]
    file = folder / "report.csv"
    head = "balance_transaction_id,created,currency,gross,fee,net,reporting_category,source_id,payment_intent_id"
    body = [
        f"txn_{number},x,eur,{amount / 100:.2f},0,{amount / 100:.2f},{category},{source},{intent}"
        for number, (category, source, intent, amount) in enumerate(lines)
    ]
    file.write_text("\n".join([head, *body]) + "\n")
    return file


def compared(bank: Bank, report: Path) -> tuple[int, set[tuple[What, str, str, int | None, int | None]]]:
    now, hour = datetime.now(UTC), timedelta(hours=1)
    with bank.engine.connect() as connection:
        found = reconciliation.reconcile(connection, report, since=now - hour, until=now + hour)
    return found.same, {(one.what, one.category, one.name, one.here, one.there) for one in found.differences}


def test_top_ups_refunds_and_chargebacks_as_they_came_about_are_those_of_the_processors_report(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, about = given_back(bank)  # 20.00, of which 5.00 went back
    won, lost = bank.top_up(1000, "won"), bank.top_up(1500, "lost")
    give_back(bank, kept, 300, key="fails")
    with bank.engine.connect() as connection:
        failing = connection.execute(
            text("SELECT id, refund FROM card_refund WHERE refund <> :other"), {"other": about["id"]}
        ).one()
    with monkeypatch.context() as patched:
        patched.setattr(bank.processor, "look_up_refund", lambda id: card_top_ups.Progress.FAILED)
        bank.tell("refund.failed", {"id": failing.refund, "metadata": {"card_refund": failing.id}}, "evt_0")
    bank.spend(3500)  # so that a part of what a chargeback takes is owed
    for number, (id, top_up, amount) in enumerate((("dp_won", won, 1000), ("dp_lost", lost, 1500)), 1):
        bank.tell("charge.dispute.funds_withdrawn", {**dispute(bank, top_up, amount), "id": id}, f"evt_{number}")
    bank.tell("charge.dispute.funds_reinstated", {**dispute(bank, won, 1000), "id": "dp_won"}, "evt_3")
    said = [
        ("refund_failure", failing.refund, 300),
        ("dispute", "dp_won", -1000),
        ("dispute", "dp_lost", -1500),
        ("dispute_reversal", "dp_won", 1000),
    ]
    assert compared(bank, balance_report(bank, tmp_path, *said)) == (9, set())
    withheld = [said[0], ("dispute", "dp_won", -1000), ("dispute", "dp_lost", -1499)]
    assert compared(bank, balance_report(bank, tmp_path, *withheld, ("dispute", "dp_other", -10))) == (
        7,
        {
            (What.AMOUNT_DIFFERS, "dispute", "dp_lost", -1500, -1499),
            (What.MISSING_THERE, "dispute_reversal", "dp_won", 1000, None),
            (What.MISSING_HERE, "dispute", "dp_other", None, -10),
        },
    )


# --- test money ---


@pytest.mark.parametrize("funding", [Funding.NONE, Funding.STRIPE])
def test_test_money_is_given_only_where_the_operator_chose_it(engine: Engine, funding: Funding) -> None:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        with pytest.raises(FundingClosed):
            top_ups.from_test_funds(connection, payer, 1000, funding=funding, idempotency_key="k")
        assert balance_of(connection, payer.account_id).available == 0
