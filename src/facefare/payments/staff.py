"""What the operator's staff may see and do of payments, and of a payer: what an open dispute needs, while it is open.

Payments are listed by time and terminal, never by payer, and no list says who paid. Every look at a payer's details,
and whatever staff do to a payer's payment, is written into that payer's access log in the same transaction.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Row, Select, select

from facefare.payments import intents, operators, tables
from facefare.payments.api_keys import ApiKey
from facefare.payments.errors import UnknownDispute, UnknownIntent, WrongState
from facefare.payments.intents import Intent
from facefare.payments.operators import Dispute, Refunded
from facefare.wallet import access


@dataclass(frozen=True, repr=False)
class Details:
    """A disputed payment and whose it is; minor units."""

    dispute: str
    payer: str
    payment_intent: str
    place: str
    amount: int
    currency: str
    second_factor: str | None
    taken_at: datetime
    disputed_at: datetime


def details(connection: Connection, dispute_id: str, *, staff: str, why: str) -> Details:
    """The details of a dispute that is under review, shown to one named person of the staff.

    Raises UnknownDispute, WrongState once it is decided.
    """
    disputes, intents = tables.dispute.c, tables.intent.c
    row = connection.execute(
        select(
            disputes.state,
            disputes.payer_id,
            disputes.intent_id,
            disputes.created_at.label("disputed_at"),
            intents.place,
            intents.captured,
            intents.currency,
            intents.second_factor,
            intents.decided_at,
        )
        .join(tables.intent, intents.id == disputes.intent_id)
        .where(disputes.id == dispute_id)
        .with_for_update(of=tables.dispute)
    ).one_or_none()
    if row is None:
        raise UnknownDispute("There is no such dispute.")
    if row.state != "under_review":
        raise WrongState("This dispute is decided; a payer's details are shown while one is open only.")
    access.record(connection, row.payer_id, by=f"staff: {staff}", purpose=f"dispute: {why}", outcome="details_read")
    return Details(
        dispute=dispute_id,
        payer=row.payer_id,
        payment_intent=row.intent_id,
        place=row.place,
        amount=row.captured,
        currency=row.currency,
        second_factor=row.second_factor,
        taken_at=row.decided_at,
        disputed_at=row.disputed_at,
    )


@dataclass(frozen=True)
class Taken:
    """A payment at a terminal, for a merchant; nothing of it says who paid."""

    intent: Intent
    terminal: str | None
    merchant: str
    second_factor: str | None


def payments(
    connection: Connection, *, limit: int, before: str | None, state: str | None, terminal: str | None
) -> list[Taken]:
    """Payments of all merchants, newest first, at most `limit`, older than the payment `before`."""
    columns = tables.intent.c
    query = _payments().order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    if state is not None:
        query = query.where(columns.state == state)
    if terminal is not None:
        query = query.where(columns.terminal_id == terminal)
    return [_taken(row) for row in connection.execute(query)]


def payment(connection: Connection, intent_id: str) -> tuple[Taken, tuple[Refunded, ...], str | None]:
    """A payment, what was given back of it, and how a dispute about it stands; raises UnknownIntent."""
    row = connection.execute(_payments().where(tables.intent.c.id == intent_id)).one_or_none()
    if row is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    seen = operators.payment(connection, _as(row.merchant_id, staff=""), intent_id, frozenset({"refunds", "dispute"}))
    return _taken(row), seen.refunds or (), seen.dispute


def refund(connection: Connection, intent_id: str, amount: int | None, *, staff: str, idempotency_key: str) -> Intent:
    """Give back `amount` minor units, or all that is left, once for each key; the payer reads by whom.

    Raises UnknownIntent, WrongState, InvalidAmount, TransferConflict.
    """
    columns = tables.intent.c
    merchant = connection.execute(select(columns.merchant_id).where(columns.id == intent_id)).scalar_one_or_none()
    if merchant is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    given = operators.refund(connection, _as(merchant, staff), intent_id, amount, idempotency_key=idempotency_key)
    payer = connection.execute(select(columns.payer_id).where(columns.id == intent_id)).scalar_one()
    access.record(connection, payer, by=_as(merchant, staff).id, purpose="refund", outcome="refunded")
    return given


def disputes(connection: Connection, *, limit: int) -> list[Dispute]:
    """The newest disputes of all merchants, open ones first."""
    disputed, paid = tables.dispute.c, tables.intent.c
    rows = connection.execute(
        select(tables.dispute, paid.captured, paid.currency)
        .join(tables.intent, paid.id == disputed.intent_id)
        .order_by(disputed.state != "under_review", disputed.id.desc())
        .limit(limit)
    )
    return [Dispute(row.id, row.intent_id, row.state, row.captured, row.currency, row.created_at) for row in rows]


def decide(connection: Connection, dispute_id: str, *, staff: str, give_back: bool) -> Dispute:
    """End a dispute, for its merchant; the payer reads by whom. Raises UnknownDispute, WrongState."""
    merchant = connection.execute(
        select(tables.intent.c.merchant_id)
        .join(tables.dispute, tables.dispute.c.intent_id == tables.intent.c.id)
        .where(tables.dispute.c.id == dispute_id)
    ).scalar_one_or_none()
    if merchant is None:
        raise UnknownDispute("There is no such dispute.")
    return operators.decide(connection, _as(merchant, staff), dispute_id, give_back=give_back)


def _as(merchant_id: str, staff: str) -> ApiKey:
    """Staff go through the door of the merchant's own systems, under their own name."""
    return ApiKey(f"staff: {staff}", merchant_id, staff, "", frozenset(), datetime.now(UTC), None)


def _payments() -> Select[tuple[object, ...]]:
    name = tables.merchant.c.name.label("merchant_name")
    return select(tables.intent, name).join(tables.merchant, tables.merchant.c.id == tables.intent.c.merchant_id)


def _taken(row: Row[tuple[object, ...]]) -> Taken:
    return Taken(intents.shown(row), row.terminal_id, row.merchant_name, row.second_factor)
