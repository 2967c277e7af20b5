"""The access log: every identification of a payer, for that payer alone to read."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from facefare.ledger.ids import new_id
from facefare.wallet import tables


@dataclass(frozen=True)
class Access:
    """One use of a payer's face: who asked, what for, and what came of it.

    `tag`: the guardians' 64-bit tag of their answer. The xor of all of a row's tags is kept by the guardians, in
    shares, so who has all entries can find out that none is missing. None for payments by a device.
    """

    id: str
    at: datetime
    by: str
    purpose: str
    outcome: str
    tag: int | None = None


def record(
    connection: Connection,
    payer_id: str,
    *,
    by: str,
    outcome: str,
    purpose: str = "payment",
    tag: int | None = None,
) -> None:
    """Note that `by` (a terminal, or somebody of the staff) had to do with the payer, what for, and the outcome."""
    connection.execute(
        insert(tables.access_log).values(
            id=new_id("acl"),
            payer_id=payer_id,
            by=by,
            purpose=purpose,
            outcome=outcome,
            tag=None if tag is None else tag.to_bytes(8, "big"),
        )
    )


def of_payer(connection: Connection, payer_id: str, *, limit: int, before: str | None = None) -> list[Access]:
    """The payer's entries, newest first, at most `limit`, older than the entry `before`."""
    columns = tables.access_log.c
    query = select(tables.access_log).where(columns.payer_id == payer_id).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    return [
        Access(
            row.id,
            row.at,
            row.by,
            row.purpose,
            row.outcome,
            None if row.tag is None else int.from_bytes(row.tag, "big"),
        )
        for row in connection.execute(query)
    ]
