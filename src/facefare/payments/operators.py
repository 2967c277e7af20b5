"""What a merchant's own staff and systems see and do of its payments.

They never see who paid: a payer is a pseudonym that is another one tomorrow. Deciding about a dispute, they see
the payment and not the person; the payer reads of the decision in the access log.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from facefare.ledger.tables import transfer
from facefare.payments import intents, tables
from facefare.payments.api_keys import ApiKey
from facefare.payments.errors import UnknownDispute, UnknownIntent, WrongState
from facefare.payments.intents import Intent
from facefare.wallet import access, payers, pseudonyms


@dataclass(frozen=True)
class Refunded:
    """Money given back of a payment, in minor units."""

    id: str
    amount: int
    at: datetime


@dataclass(frozen=True)
class Seen:
    """A payment as its merchant sees it; `payer` is a pseudonym of the day, none when that can't be told any more.

    `refunds` and `dispute` are there where they were asked for.
    """

    intent: Intent
    payer: str | None
    refunds: tuple[Refunded, ...] | None
    dispute: str | None


@dataclass(frozen=True)
class Dispute:
    """A payment that its payer says was someone else's: refunded, under_review or declined."""

    id: str
    payment_intent: str
    state: str
    amount: int
    currency: str
    created_at: datetime


def payments(
    connection: Connection, key: ApiKey, *, limit: int, before: str | None, state: str | None, expand: Collection[str]
) -> list[Seen]:
    """The merchant's payments, newest first, at most `limit`, older than the payment `before`.

    `expand`: any of "refunds" and "dispute".
    """
    columns = tables.intent.c
    query = select(tables.intent).where(columns.merchant_id == key.merchant_id).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    if state is not None:
        query = query.where(columns.state == state)
    return [_seen(connection, row, expand) for row in connection.execute(query).all()]


def payment(connection: Connection, key: ApiKey, intent_id: str, expand: Collection[str]) -> Seen:
    """One payment; raises UnknownIntent, also for another merchant's."""
    return _seen(connection, _intent(connection, key, intent_id), expand)


def refund(connection: Connection, key: ApiKey, intent_id: str, amount: int | None, *, idempotency_key: str) -> Intent:
    """Give back `amount`, or all that is left, once for each idempotency key.

    Raises UnknownIntent, WrongState, InvalidAmount, TransferConflict.
    """
    _intent(connection, key, intent_id)
    row, payer = intents.locked_with_payer(connection, intent_id)
    if payer is None:
        raise WrongState("This payment took no money that could be given back.")
    return intents.give_back(connection, row, payer, amount, key=f"{key.merchant_id} {idempotency_key}")


def disputes(connection: Connection, key: ApiKey, *, limit: int, before: str | None) -> list[Dispute]:
    """The disputes about the merchant's payments, newest first."""
    columns = tables.dispute.c
    query = _disputes(key).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    return [_dispute(row) for row in connection.execute(query)]


def decide(connection: Connection, key: ApiKey, dispute_id: str, *, give_back: bool) -> Dispute:
    """End a dispute: what is left of the payment goes back, or it stays; raises UnknownDispute, WrongState."""
    row = _open_dispute(connection, key, dispute_id)
    payer = payers.locked(connection, row.payer_id)
    intent = intents.locked(connection, row.intent_id)
    row = _open_dispute(connection, key, dispute_id)  # nobody else decided in the meantime
    if give_back and intent.captured > intent.refunded:
        intents.give_back(connection, intent, payer, intent.captured - intent.refunded, key="dispute")
    state = "refunded" if give_back else "declined"
    connection.execute(update(tables.dispute).where(tables.dispute.c.id == dispute_id).values(state=state))
    access.record(connection, payer.id, by=key.id, purpose="dispute", outcome=state)
    return _dispute(connection.execute(_disputes(key).where(tables.dispute.c.id == dispute_id)).one())


def _intent(connection: Connection, key: ApiKey, intent_id: str) -> Row[tuple[object, ...]]:
    columns = tables.intent.c
    row = connection.execute(
        select(tables.intent).where(columns.id == intent_id, columns.merchant_id == key.merchant_id)
    ).one_or_none()
    if row is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    return row


def _seen(connection: Connection, row: Row[tuple[object, ...]], expand: Collection[str]) -> Seen:
    payer = row.payer_id and pseudonyms.of(connection, row.payer_id, row.merchant_id, row.created_at)
    refunds = dispute = None
    if "refunds" in expand:
        found = connection.execute(
            select(transfer.c.id, transfer.c.amount, transfer.c.created_at)
            .where(transfer.c.reverses_id == f"{row.id}.capture")
            .order_by(transfer.c.seq)
        )
        refunds = tuple(Refunded(*one) for one in found)
    if "dispute" in expand:
        dispute = connection.execute(
            select(tables.dispute.c.state).where(tables.dispute.c.intent_id == row.id)
        ).scalar_one_or_none()
    return Seen(intents.shown(row), payer, refunds, dispute)


def _disputes(key: ApiKey) -> Select[Any]:
    return (
        select(tables.dispute, tables.intent.c.captured, tables.intent.c.currency)
        .join(tables.intent, tables.intent.c.id == tables.dispute.c.intent_id)
        .where(tables.intent.c.merchant_id == key.merchant_id)
    )


def _open_dispute(connection: Connection, key: ApiKey, dispute_id: str) -> Row[tuple[object, ...]]:
    row: Row[tuple[object, ...]] | None = connection.execute(
        _disputes(key).where(tables.dispute.c.id == dispute_id)
    ).one_or_none()
    if row is None:
        raise UnknownDispute("There is no such dispute.")
    if row.state != "under_review":
        raise WrongState("This dispute was decided already.")
    return row


def _dispute(row: Row[tuple[object, ...]]) -> Dispute:
    return Dispute(row.id, row.intent_id, row.state, row.captured, row.currency, row.created_at)
