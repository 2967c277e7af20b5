"""Each named invariant between payments and the ledger finds what breaks it, and which row it is."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from facefare.ledger import Account, Kind, Transfer, open_account, post, verify
from facefare.payments import card_top_ups, merchants, receipts, settlements
from facefare.payments.verify import INVARIANTS
from facefare.wallet import payers

_INTENTS = """
    INSERT INTO payment_intent (id, merchant_id, payer_id, place, at_gate, currency, capture_later, request_sha256,
      query_id, state, fare, amount, captured, refunded)
    SELECT one.id, :merchant, CASE WHEN one.state LIKE 'requires_id%' THEN NULL ELSE :payer END, 'here', false, 'EUR',
      false, '', convert_to(one.id, 'UTF8'), one.state, one.fare, one.amount, one.captured, one.refunded
    FROM (VALUES ('paid', 'succeeded', false, 300, 300, 100), ('held', 'requires_capture', false, 50, 0, 0),
      ('ride', 'succeeded', true, 0, 0, 0), ('code', 'requires_identification', false, 70, 0, 0),
      ('asked', 'requires_confirmation', false, 6000, 0, 0), ('no', 'refused', false, 9000, 0, 0))
      AS one (id, state, fare, amount, captured, refunded)"""

_REST = """
    INSERT INTO tariff (id, terms) VALUES ('bus', '{}');
    INSERT INTO card_top_up (id, payer_id, amount, currency, automatic, state, refunded)
      SELECT one.id, payer.id, one.amount, 'EUR', false, one.state, one.refunded FROM payer,
      (VALUES ('top', 1000, 'succeeded', 200), ('period_top', 150, 'succeeded', 0), ('failed', 90, 'failed', 0))
      AS one (id, amount, state, refunded);
    INSERT INTO card_refund (id, top_up_id, amount, state)
      VALUES ('back', 'top', 200, 'succeeded'), ('not_back', 'top', 10, 'failed');
    INSERT INTO travel_period (id, payer_id, opened_at, due_at, ends_at, top_up_id)
      SELECT 'period', id, now(), now(), now(), 'period_top' FROM payer;
    INSERT INTO tap (intent_id, payer_id, tariff_id, at, week, cost, reserve, unsecured, debt, lines, period_id)
      SELECT 'ride', id, 'bus', now(), now(), 150, 0, 150, 150, '[]', 'period' FROM payer"""

_SOMEBODY_ELSE = (
    "INSERT INTO payer (id, token_sha256, currency, account_id) VALUES ('other', '', 'EUR', 'acc_other'); UPDATE "
)

CASES: dict[str, tuple[str, set[str]]] = {
    "a payment that succeeded took exactly what it says, once": (
        "UPDATE payment_intent SET captured = 299 WHERE id = 'paid'",
        {"paid"},
    ),
    "a payment took money from its payer's account only": (
        _SOMEBODY_ELSE + "payment_intent SET payer_id = 'other' WHERE id = 'held'",
        {"held"},
    ),
    "a payment on hold has its hold": ("DELETE FROM ledger_transfer WHERE id = 'held.hold'", {"held"}),
    "a payment that was refused or canceled took nothing": (
        "UPDATE payment_intent SET state = 'canceled' WHERE id = 'paid'",
        {"paid"},
    ),
    "a payment gave back exactly what it says": (
        "UPDATE payment_intent SET refunded = 0 WHERE id = 'paid'",
        {"paid"},
    ),
    "money that moved for a payer has a receipt": ("DELETE FROM receipt WHERE transfer_id = 'top'", {"top"}),
    "a debt is what the ride it came from says": (
        "UPDATE ledger_transfer SET amount = 151 WHERE id = 'ride.debt'",
        {"ride"},
    ),
    "nobody has paid more than was owed": (
        "UPDATE ledger_account SET credits_posted = debits_posted + 1 WHERE id LIKE '%_debt'",
        {"payer"},
    ),
    "a travel period is charged no more than its rides left owing": (
        "UPDATE tap SET debt = 149",
        {"period"},
    ),
    "a ride is gathered in a period of its own payer": (
        _SOMEBODY_ELSE + "tap SET payer_id = 'other'",
        {"ride"},
    ),
    "a payment that waits for its payer holds nothing": (
        "UPDATE payment_intent SET state = 'requires_confirmation' WHERE id = 'held'",
        {"held"},
    ),
    "a top-up from a card is in the ledger exactly when it succeeded": (
        "UPDATE card_top_up SET state = CASE id WHEN 'top' THEN 'processing' ELSE 'succeeded' END"
        " WHERE id <> 'period_top'",
        {"top", "failed"},
    ),
    "a refund to a card took exactly what it says": ("UPDATE card_refund SET state = 'succeeded'", {"not_back"}),
    "a top-up gave back exactly what it says": (
        "UPDATE card_refund SET state = 'failed' WHERE id = 'back'",
        {"top"},
    ),
    "a settlement is the sum of its movements and pays out what it says": (
        "DELETE FROM settlement_line WHERE transfer_id = 'paid.capture'",
        {"settlement"},
    ),
    "a query paid for one payment only": (
        "ALTER TABLE payment_intent DROP CONSTRAINT uq_payment_intent_query_id;"
        " UPDATE payment_intent SET query_id = 'paid' WHERE id = 'held'",
        {r"\x70616964"},
    ),
}
"""Invariant -> what only somebody with the database in hand could do to it, and the ids that it must name then."""


@pytest.fixture
def books(engine: Engine) -> Engine:
    """One of everything: paid in part back, held, a ride owed for and charged, codes and questions that wait."""
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Shop")
        shop = merchants.account_of(connection, merchant, "EUR")
        open_account(connection, Account("acc_bank", "EUR", Kind.ASSET, None))
        payer, _ = payers.register(connection, "EUR")
        own, debt = payer.account_id, card_top_ups.debt_account(connection, payer)
        connection.execute(text(_INTENTS), {"merchant": merchant, "payer": payer.id})
        connection.execute(text(_REST))

        def moved(id: str, debit: str, credit: str, amount: int, reverses_id: str | None = None) -> Transfer:
            return Transfer.now(
                id, debit=debit, credit=credit, amount=amount, currency="EUR", reason="test", reverses_id=reverses_id
            )

        def hold(id: str, credit: str, amount: int) -> Transfer:
            expires_at = datetime.now(UTC) + timedelta(days=1)
            return Transfer.hold(
                id, debit=own, credit=credit, amount=amount, currency="EUR", reason="test", expires_at=expires_at
            )

        paid, back = hold("paid.hold", shop, 300), hold("back.hold", "acc_bank", 200)
        movements = [
            ("top_up", moved("top", "acc_bank", own, 1000)),
            ("payment", paid.capture("paid.capture")),
            ("refund", moved("paid.refund", shop, own, 100, "paid.capture")),
            ("card_refund", back.capture("back.capture")),
            ("top_up", moved("period_top", "acc_bank", own, 150)),
            ("debt", moved("debt_paid", own, debt, 150)),
        ]
        post(connection, [movements[0][1]])
        post(connection, [paid, back, hold("held.hold", shop, 50), moved("ride.debt", debt, shop, 150)])
        for kind, transfer in movements:
            post(connection, [transfer])
            receipts.write(connection, payer, kind=kind, amount=transfer.amount, transfer_id=transfer.id)
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text("UPDATE ledger_transfer SET created_at = created_at - interval '2 days' WHERE kind <> 'hold'")
        )
    with engine.begin() as connection:
        settlements.settle(connection, (datetime.now(UTC) - timedelta(days=1)).date())
    return engine


def test_every_invariant_names_what_breaks_it(books: Engine) -> None:
    assert verify(books, INVARIANTS) == []
    assert set(CASES) == set(INVARIANTS)
    with books.connect() as connection:
        names = {one: connection.execute(text(f"SELECT id FROM {one}")).scalar_one() for one in ("payer", "settlement")}
        connection.rollback()
        for invariant, (statement, ids) in CASES.items():
            with connection.begin() as undone:
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                connection.execute(text(statement))
                found = connection.execute(text(INVARIANTS[invariant])).scalars().all()
                assert (invariant, set(found)) == (invariant, {names.get(id, id) for id in ids})
                undone.rollback()
    assert verify(books, INVARIANTS) == []
