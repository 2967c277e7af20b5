"""What has become of payments, for the payer who made them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from facefare.payments import tables


@dataclass(frozen=True)
class Intent:
    """A payment or an attempt at one; `amount` in minor units, `reason` where no money moved."""

    id: str
    state: str
    amount: int
    currency: str
    place: str
    reason: str | None
    created_at: datetime


def of_payer(connection: Connection, payer_id: str, *, limit: int, before: str | None = None) -> list[Intent]:
    """The payer's payments, newest first, at most `limit`, older than the payment `before`."""
    columns = tables.intent.c
    query = select(tables.intent).where(columns.payer_id == payer_id).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    return [
        Intent(row.id, row.state, row.amount, row.currency, row.place, row.reason, row.created_at)
        for row in connection.execute(query)
    ]
