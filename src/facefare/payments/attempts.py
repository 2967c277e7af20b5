"""A payment by face: begun before the guardians are asked, decided by their answer, once for each query.

Between the two stands the intent in state `processing`; a crash there leaves it so, nothing charged, and
the terminal's next try is told to use a card. The decision, the ledger's hold and capture, the receipt and
the entry in the payer's access log are one transaction.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.ledger import Transfer, balance_of, post
from facefare.ledger.currency import check_amount, check_currency
from facefare.ledger.ids import new_id
from facefare.mpc.answers import Answer, Match, NoMatch, Several
from facefare.payments import merchants, receipts, tables
from facefare.payments.decision import Decision, Outcome, Reason, Rules, Situation, decide
from facefare.payments.errors import AttemptUnderWay, QueryReused, UnknownIntent
from facefare.payments.merchants import Terminal
from facefare.wallet import access, faces, payers
from facefare.wallet.payers import Payer

_HOLD_FOR = timedelta(minutes=10)
_ABANDONED_AFTER = timedelta(seconds=30)
"""No search takes this long: an attempt still open then was left behind by a crash."""


@dataclass(frozen=True)
class Asked:
    """What a terminal asks for: an amount in minor units, by one query to the guardians.

    `query_id` (16 bytes) and `request_sha256` (32 bytes) name the sealed request, which is not kept.
    """

    amount: int
    currency: str
    query_id: bytes
    request_sha256: bytes


@dataclass(frozen=True)
class Reply:
    """What the terminal is told. `receipt` is there when money moved, now or moments ago."""

    outcome: Outcome
    reason: Reason | None
    amount: int
    currency: str
    payment_intent: str
    receipt: str | None


def begin(connection: Connection, terminal: Terminal, asked: Asked) -> Reply | str:
    """Write the intent down before the guardians are asked; its id.

    The same query sent again gets the reply it got before, instead of an id. Raises UnknownCurrency,
    InvalidAmount, QueryReused, AttemptUnderWay.
    """
    check_currency(asked.currency)
    check_amount(asked.amount)
    id = new_id("pi")
    new = connection.execute(
        upsert(tables.intent)
        .values(
            id=id,
            merchant_id=terminal.merchant_id,
            terminal_id=terminal.id,
            place=terminal.place,
            state="processing",
            **vars(asked),
        )
        .on_conflict_do_nothing(index_elements=["query_id"])
        .returning(tables.intent.c.id)
    ).one_or_none()
    if new is not None:
        return id
    columns = tables.intent.c
    row = connection.execute(select(tables.intent).where(columns.query_id == asked.query_id).with_for_update()).one()
    if (row.terminal_id, row.amount, row.currency, row.request_sha256) != (
        terminal.id,
        asked.amount,
        asked.currency,
        asked.request_sha256,
    ):
        raise QueryReused("This query was used for another payment; take a new picture.")
    if row.state == "processing":
        if datetime.now(UTC) - row.created_at < _ABANDONED_AFTER:
            raise AttemptUnderWay("This payment is being answered right now; ask again in a moment.")
        return _close(connection, row, None, Decision(Outcome.USE_CARD, Reason.IDENTIFICATION_UNAVAILABLE))
    return _told(connection, row)


def conclude(connection: Connection, intent_id: str, gallery_id: str, answer: Answer | None, rules: Rules) -> Reply:
    """Decide by the guardians' answer (None: they gave none), move the money, and say so.

    Raises UnknownIntent.
    """
    intent = _locked(connection, intent_id)
    if intent.state != "processing":
        return _told(connection, intent)
    match answer:
        case None:
            decision = Decision(Outcome.USE_CARD, Reason.IDENTIFICATION_UNAVAILABLE)
        case NoMatch():
            decision = Decision(Outcome.USE_CARD, Reason.NOT_RECOGNISED)
        case Several():
            decision = Decision(Outcome.USE_CARD, Reason.SEVERAL_MATCH)
        case Match(row):
            face = faces.active_at(connection, gallery_id, row)
            if face is not None:
                return _charge(connection, intent, face.payer_id, rules)
            decision = Decision(Outcome.USE_CARD, Reason.NOT_RECOGNISED)
    return _close(connection, intent, None, decision)


def _charge(connection: Connection, intent: Row[tuple[object, ...]], payer_id: str, rules: Rules) -> Reply:
    payer = payers.locked(connection, payer_id)
    paid_before = _last_paid(connection, payer.id, intent.terminal_id)
    situation = Situation(
        now=datetime.now(UTC),
        holds_currency=payer.currency,
        available=balance_of(connection, payer.account_id).available,
        last_paid=paid_before and paid_before.decided_at,
    )
    decision = decide(intent.amount, intent.currency, situation, rules)
    access.record(connection, payer.id, by=intent.terminal_id, outcome=decision.outcome.value)
    if decision.outcome is Outcome.ACCEPTED:
        _move(connection, intent, payer)
    covered_by = paid_before.id if paid_before and decision.outcome is Outcome.ALREADY_PAID else None
    return _close(connection, intent, payer, decision, covered_by)


def _move(connection: Connection, intent: Row[tuple[object, ...]], payer: Payer) -> None:
    hold = Transfer.hold(
        f"{intent.id}.hold",
        debit=payer.account_id,
        credit=merchants.account_of(connection, intent.merchant_id, intent.currency),
        amount=intent.amount,
        currency=intent.currency,
        reason="payment",
        expires_at=datetime.now(UTC) + _HOLD_FOR,
    )
    capture = hold.capture(f"{intent.id}.capture")
    post(connection, [hold, capture])
    receipts.write(
        connection,
        payer,
        kind="payment",
        amount=intent.amount,
        transfer_id=capture.id,
        intent_id=intent.id,
        place=intent.place,
    )


_STATE = {
    Outcome.ACCEPTED: "succeeded",
    Outcome.ALREADY_PAID: "canceled",
    Outcome.USE_CARD: "refused",
    Outcome.REFUSED: "refused",
}


def _close(
    connection: Connection,
    intent: Row[tuple[object, ...]],
    payer: Payer | None,
    decision: Decision,
    covered_by: str | None = None,
) -> Reply:
    row = connection.execute(
        update(tables.intent)
        .where(tables.intent.c.id == intent.id)
        .values(
            state=_STATE[decision.outcome],
            reason=decision.reason,
            payer_id=payer and payer.id,
            already_paid_by=covered_by,
            decided_at=func.clock_timestamp(),
        )
        .returning(tables.intent)
    ).one()
    return _told(connection, row)


def _told(connection: Connection, intent: Row[tuple[object, ...]]) -> Reply:
    """What the terminal is told of an intent that was decided, now or when it asks again."""
    reason = None if intent.reason is None else Reason(intent.reason)
    if intent.state == "succeeded":
        outcome = Outcome.ACCEPTED
    elif intent.already_paid_by is not None:
        outcome = Outcome.ALREADY_PAID
    else:
        outcome = Outcome.REFUSED if intent.payer_id is not None else Outcome.USE_CARD
    paid = intent.already_paid_by or (intent.id if intent.state == "succeeded" else None)
    return Reply(
        outcome=outcome,
        reason=reason,
        amount=intent.amount,
        currency=intent.currency,
        payment_intent=intent.id,
        receipt=paid and receipts.of_transfer(connection, f"{paid}.capture"),
    )


def _locked(connection: Connection, intent_id: str) -> Row[tuple[object, ...]]:
    row = connection.execute(
        select(tables.intent).where(tables.intent.c.id == intent_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    return row


def _last_paid(connection: Connection, payer_id: str, terminal_id: object) -> Row[tuple[object, ...]] | None:
    columns = tables.intent.c
    return connection.execute(
        select(tables.intent)
        .where(columns.payer_id == payer_id, columns.terminal_id == terminal_id, columns.state == "succeeded")
        .order_by(columns.decided_at.desc())
        .limit(1)
    ).one_or_none()
