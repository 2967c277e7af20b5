"""An attempt from the guardians' answer to the ledger: once, under concurrency and after a crash."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, insert, text

from facefare.ledger import balance_of, verify
from facefare.mpc.answers import Answer, Match, NoMatch, Several
from facefare.payments import attempts, intents, merchants, receipts, top_ups
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Outcome, Rules
from facefare.payments.errors import AttemptUnderWay, QueryReused
from facefare.payments.merchants import Terminal
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS
from facefare.wallet import consents, galleries, payers
from facefare.wallet import tables as wallet
from facefare.wallet.consents import Notice
from facefare.wallet.payers import Payer

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)


@dataclass
class Town:
    engine: Engine
    gates: list[Terminal]
    payer: Payer

    def ask(self, gate: int = 0, amount: int = 280, query_id: bytes | None = None) -> Reply | str:
        query_id = query_id or os.urandom(16)
        with self.engine.begin() as connection:
            return attempts.begin(
                connection,
                self.gates[gate],
                Asked(amount, "EUR", query_id, b"r" * 32, gallery_id="gal_town", issued_at=1),
            )

    def answer(self, begun: Reply | str, answer: Answer | None) -> Reply:
        assert isinstance(begun, str)
        with self.engine.begin() as connection:
            return attempts.conclude(connection, begun, answer, Rules())

    def available(self) -> int:
        with self.engine.connect() as connection:
            return balance_of(connection, self.payer.account_id).available


@pytest.fixture
def town(engine: Engine) -> Town:
    """Four gates and one payer with 10.00, enrolled in row 3."""
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Example Transit")
        gates = [Terminal(f"trm_{number}", merchant, f"Gate {number}", bytes(32)) for number in range(4)]
        for gate in gates:
            merchants.register_terminal(connection, gate)
        galleries.open_gallery(connection, "gal_town", kind="live")
        payer, _ = payers.register(connection, "EUR")
        consent = consents.give(connection, payer.id, NOTICE, Ed25519PrivateKey.generate())
        connection.execute(
            insert(wallet.face).values(
                id="fac_1",
                payer_id=payer.id,
                gallery_id="gal_town",
                consent_id=consent.id,
                row=3,
                state="active",
            )
        )
        top_ups.from_test_funds(connection, payer, 1000, funding=Funding.TEST, idempotency_key="first")
    return Town(engine, gates, payer)


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def test_four_gates_at_once_never_overdraw_the_payer(town: Town) -> None:
    begun = [town.ask(gate, amount=400) for gate in range(4)]
    replies = at_once([lambda one=one: town.answer(one, Match(3)) for one in begun])  # type: ignore[misc]
    assert sorted(reply.outcome for reply in replies) == ["accepted", "accepted", "refused", "refused"]
    assert town.available() == 200
    assert verify(town.engine, INVARIANTS) == []


def test_eight_looks_at_one_gate_at_once_are_one_payment(town: Town) -> None:
    begun = [town.ask() for _ in range(8)]
    replies = at_once([lambda one=one: town.answer(one, Match(3)) for one in begun])  # type: ignore[misc]
    assert sorted(reply.outcome for reply in replies) == ["accepted"] + ["already_paid"] * 7
    assert len({reply.receipt for reply in replies}) == 1
    assert town.available() == 720


def test_one_query_sent_eight_times_at_once_is_begun_once(town: Town) -> None:
    query = os.urandom(16)

    def work() -> Any:
        try:
            return town.ask(query_id=query)
        except AttemptUnderWay:
            return None

    begun = [one for one in at_once([work] * 8) if one is not None]
    assert len(begun) == 1


def test_an_answer_concluded_twice_charges_once_and_says_the_same(town: Town) -> None:
    begun = town.ask()
    assert town.answer(begun, Match(3)) == town.answer(begun, Match(3)) == town.answer(begun, NoMatch())
    assert town.available() == 720


def test_an_attempt_left_by_a_crash_charges_nothing_and_is_told_to_use_a_card(town: Town) -> None:
    query = os.urandom(16)
    town.ask(query_id=query)
    with pytest.raises(AttemptUnderWay):
        town.ask(query_id=query)
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '1 minute'"))
    for _ in range(2):
        told = town.ask(query_id=query)
        assert isinstance(told, Reply)
        assert (told.outcome, told.reason) == ("use_card", "identification_unavailable")
    assert town.available() == 1000


def test_a_late_answer_does_not_undo_what_the_terminal_was_told(town: Town) -> None:
    query = os.urandom(16)
    begun = town.ask(query_id=query)
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '1 minute'"))
    town.ask(query_id=query)
    assert town.answer(begun, Match(3)).outcome is Outcome.USE_CARD
    assert town.available() == 1000


@pytest.mark.parametrize("answer", [None, NoMatch(), Several(), Match(2)])
def test_nobody_is_charged_unless_exactly_one_active_face_matched(town: Town, answer: Answer | None) -> None:
    reply = town.answer(town.ask(), answer)
    assert (reply.outcome, reply.receipt) == (Outcome.USE_CARD, None)
    with town.engine.connect() as connection:
        assert connection.execute(text("SELECT payer_id FROM payment_intent")).scalar() is None
        assert intents.of_payer(connection, town.payer.id, limit=10) == []
    assert town.available() == 1000


def test_a_query_serves_one_terminal_and_one_amount(town: Town) -> None:
    query = os.urandom(16)
    town.ask(query_id=query)
    for gate, amount in ((1, 280), (0, 281)):
        with pytest.raises(QueryReused):
            town.ask(gate, amount, query)


def test_pages_of_receipts_and_payments_are_whole_and_in_order(town: Town) -> None:
    for gate in range(4):
        town.answer(town.ask(gate, 10), Match(3))
    with town.engine.connect() as connection:
        for read in (receipts.of_payer, intents.of_payer):
            everything = read(connection, town.payer.id, limit=100)
            paged, before = [], None
            while page := read(connection, town.payer.id, limit=2, before=before):
                paged += page
                before = page[-1].id
            assert paged == everything
            assert [item.id for item in everything] == sorted((item.id for item in everything), reverse=True)


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Etc/GMT-14"])
def test_a_daily_limit_counts_from_midnight_utc_wherever_the_database_stands(town: Town, zone: str) -> None:
    for gate in range(2):
        town.answer(town.ask(gate, 100 + gate), Match(3))
    with town.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE payment_intent SET created_at = date_trunc('day', now(), 'UTC')"
            " - CASE amount WHEN 100 THEN interval '1 second' ELSE interval '0' END"
        )
        connection.exec_driver_sql(f"SET LOCAL TIME ZONE '{zone}'")
        assert attempts._spent_today(connection, town.payer.id) == 101
