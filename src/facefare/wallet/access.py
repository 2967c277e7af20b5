"""The access log: every identification of a payer, for that payer alone to read."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from facefare.ledger.ids import new_id
from facefare.wallet import tables


@dataclass(frozen=True)
class Access:
    """One use of a payer's face: who asked, what for, and what came of it."""

    id: str
    at: datetime
    by: str
    purpose: str
    outcome: str


def record(connection: Connection, payer_id: str, *, by: str, outcome: str) -> None:
    """Note that `by` (a terminal's id) had the payer identified for a payment, and the outcome."""
    connection.execute(
        insert(tables.access_log).values(id=new_id("acl"), payer_id=payer_id, by=by, purpose="payment", outcome=outcome)
    )


def of_payer(connection: Connection, payer_id: str, *, limit: int, before: str | None = None) -> list[Access]:
    """The payer's entries, newest first, at most `limit`, older than the entry `before`."""
    columns = tables.access_log.c
    query = select(tables.access_log).where(columns.payer_id == payer_id).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    return [Access(row.id, row.at, row.by, row.purpose, row.outcome) for row in connection.execute(query)]
