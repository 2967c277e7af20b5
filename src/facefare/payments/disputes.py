"""'This wasn't me': the payer says so once, and up to a limit the money is back at once.

The evidence is what the payment left: when, where, how much. There is no picture, and none is asked for.
In the same transaction the payer's face, and the device if one paid, stop paying until the payer resumes them; the
caller has the guardians pause the face too.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, func, insert, or_, select

from facefare.ledger.ids import new_id
from facefare.payments import intents, tables
from facefare.payments.decision import Rules
from facefare.payments.errors import UnknownIntent, WrongState
from facefare.payments.held_tables import held_payment
from facefare.wallet import devices, faces, payers
from facefare.wallet.payers import Payer

WINDOW = timedelta(days=395)
"""Thirteen months, as for unauthorised payments in the EU (Directive 2015/2366, article 71)."""

_AT_ONCE_A_MONTH = 3
"""More disputes than this within 30 days are looked at before money goes back."""


@dataclass(frozen=True)
class Dispute:
    """A payment that its payer says was someone else's; refunded, under_review or declined.

    `face_paused`, `device_paused`: what pays nothing any more until the payer resumes it.
    """

    id: str
    payment_intent: str
    state: str
    created_at: datetime
    face_paused: bool
    device_paused: bool


def open_dispute(connection: Connection, payer: Payer, intent_id: str, rules: Rules) -> Dispute:
    """Dispute a payment; asked again, it is the same dispute. Raises UnknownIntent, WrongState."""
    payer = payers.locked(connection, payer.id)
    intent = intents.locked(connection, intent_id)
    if intent.payer_id != payer.id:
        raise UnknownIntent("You have no such payment.")
    columns = tables.dispute.c
    if (
        known := connection.execute(select(tables.dispute).where(columns.intent_id == intent_id)).one_or_none()
    ) is not None:
        return _stopping(connection, known)
    left = intent.captured - intent.refunded
    if left == 0:
        raise WrongState("This payment took no money, or it was given back already.")
    if datetime.now(UTC) - intent.created_at > WINDOW:
        raise WrongState("A payment can be disputed for thirteen months.")
    lately = connection.execute(
        select(func.count()).where(
            columns.payer_id == payer.id, columns.created_at > datetime.now(UTC) - timedelta(days=30)
        )
    ).scalar_one()
    at_once = left <= rules.disputes_refunded_at_once.get(intent.currency, 0) and lately < _AT_ONCE_A_MONTH
    if at_once:
        intents.give_back(connection, intent, payer, left, key="dispute")
    row = connection.execute(
        insert(tables.dispute)
        .values(
            id=new_id("dsp"),
            intent_id=intent_id,
            payer_id=payer.id,
            state="refunded" if at_once else "under_review",
        )
        .returning(tables.dispute)
    ).one()
    return _stopping(connection, row)


def _stopping(connection: Connection, row: Row[tuple[object, ...]]) -> Dispute:
    """The dispute, with all stopped that could pay so again; also when it is asked again."""
    paid = select(held_payment.c.device_id).where(
        or_(held_payment.c.intent_id == row.intent_id, held_payment.c.settled_by == row.intent_id)
    )
    device_id = connection.execute(paid).scalar_one_or_none()
    return Dispute(
        row.id,
        row.intent_id,
        row.state,
        row.created_at,
        face_paused=faces.stop(connection, row.payer_id),
        device_paused=device_id is not None
        and devices.pause(connection, row.payer_id, device_id).state in (devices.State.PAUSED, devices.State.OWING),
    )
