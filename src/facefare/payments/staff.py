"""What the operator's staff may see of a payer: what an open dispute needs, while it is open, and the payer sees it.

Every look is written into the payer's access log in the transaction that shows the details.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from facefare.payments import tables
from facefare.payments.errors import UnknownDispute, WrongState
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
