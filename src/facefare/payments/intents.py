"""What has become of payments: read by their payer, ended by the merchant who took them.

Captures, voids and refunds are posted under ids made from the intent's own, so the same request is carried
out once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Row, and_, exists, or_, select, update

from facefare.fares.explain import Line
from facefare.ledger import Transfer, expire_holds, post
from facefare.ledger.currency import check_amount
from facefare.ledger.errors import InvalidAmount
from facefare.ledger.tables import transfer as ledger_transfer
from facefare.payments import receipts, tables, webhooks
from facefare.payments.decision import Outcome, Reason, Rules
from facefare.payments.errors import UnknownIntent, WrongState
from facefare.payments.merchants import Terminal
from facefare.wallet import payers
from facefare.wallet.payers import Payer

_NOBODY_YET = "requires_identification"


@dataclass(frozen=True)
class Intent:
    """A payment or an attempt at one; amounts in minor units, `reason` where no money moved."""

    id: str
    state: str
    amount: int
    captured: int
    tip: int
    refunded: int
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
    return [shown(row) for row in connection.execute(query)]


def capture(connection: Connection, terminal: Terminal, intent_id: str, amount: int, tip: int = 0) -> Intent:
    """Take `amount` (tip included) of what is on hold; the rest is free again.

    Raises UnknownIntent, WrongState, InvalidAmount where it is more than the hold or less than the tip.
    """
    row, payer = _of_merchant(connection, terminal, intent_id)
    if row.state == "succeeded" and (row.captured, row.tip) == (amount, tip):
        return shown(row)
    if row.state != "requires_capture" or row.fare:  # what a ride costs is for the tariff to say
        raise WrongState("This payment holds no money to capture.")
    check_amount(amount)
    if amount > row.amount or not 0 <= tip < amount:
        raise InvalidAmount("A capture is at most what is on hold, and more than the tip in it.")
    return take(connection, row, payer, amount, tip=tip, place=row.place)


def take(
    connection: Connection,
    row: Row[tuple[object, ...]],
    payer: Payer,
    amount: int,
    *,
    place: str,
    tip: int = 0,
    lines: Sequence[Line] = (),
) -> Intent:
    """Capture of a hold whose intent's row and payer the caller has locked."""
    ending = _hold(connection, row).capture(f"{row.id}.capture", amount)
    post(connection, [ending])
    receipts.write(
        connection,
        payer,
        kind="payment",
        amount=amount,
        transfer_id=ending.id,
        intent_id=row.id,
        place=place,
        lines=lines,
    )
    return _changed(connection, row.id, "succeeded", state="succeeded", captured=amount, tip=tip)


def void(connection: Connection, terminal: Terminal, intent_id: str) -> Intent:
    """Let go of what is on hold, or of a payer or a confirmation that is awaited; raises UnknownIntent, WrongState."""
    row, payer = locked_with_payer(connection, intent_id)
    if row.merchant_id != terminal.merchant_id or (payer is None and row.state not in (_NOBODY_YET, "canceled")):
        raise UnknownIntent(f"There is no payment {intent_id}.")
    if row.state == "canceled":
        return shown(row)
    if row.state == _NOBODY_YET:
        return _changed(connection, row.id, "canceled", state="canceled")
    if row.state not in ("requires_capture", "requires_confirmation") or row.fare:
        raise WrongState("This payment was decided already; refund it instead.")
    if row.state == "requires_capture":
        return let_go(connection, row)
    return _changed(connection, row.id, "canceled", state="canceled")


def let_go(connection: Connection, row: Row[tuple[object, ...]]) -> Intent:
    """Void of a hold whose intent's row the caller has locked."""
    post(connection, [_hold(connection, row).void(f"{row.id}.void")])
    return _changed(connection, row.id, "canceled", state="canceled")


def refund(
    connection: Connection, terminal: Terminal, intent_id: str, amount: int | None, *, idempotency_key: str
) -> Intent:
    """Give back `amount`, or all that is left, once for each key.

    Raises UnknownIntent, WrongState, InvalidAmount, TransferConflict for the same key with another amount.
    """
    row, payer = _of_merchant(connection, terminal, intent_id)
    return give_back(connection, row, payer, amount, key=idempotency_key)


def give_back(
    connection: Connection, row: Row[tuple[object, ...]], payer: Payer, amount: int | None, *, key: str
) -> Intent:
    """Refund of an intent whose row and payer the caller has locked; see `refund`."""
    if row.captured == 0:
        raise WrongState("This payment took no money that could be given back.")
    id = f"{row.id}.refund.{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    columns = ledger_transfer.c
    done = connection.execute(select(columns.amount).where(columns.id == id)).scalar_one_or_none()
    given = check_amount(amount if amount is not None else done or row.captured - row.refunded or 1)
    if done is None and given > row.captured - row.refunded:
        raise InvalidAmount("That is more than is left of this payment.")
    hold = _hold(connection, row)
    back = Transfer.now(
        id,
        debit=hold.credit_account,
        credit=hold.debit_account,
        amount=given,
        currency=row.currency,
        reason="refund",
        reverses_id=f"{row.id}.capture",
    )
    if back.id not in post(connection, [back]):
        return shown(row)
    receipts.write(
        connection,
        payer,
        kind="refund",
        amount=given,
        transfer_id=back.id,
        intent_id=row.id,
        place=row.place,
    )
    return _changed(connection, row.id, "refunded", refunded=row.refunded + given)


def expire(connection: Connection, rules: Rules) -> int:
    """End what waited too long: holds never captured, codes never read, confirmations never given, searches never
    answered.

    Returns how many payments ended; those that had a payer are told to their merchant.
    """
    expire_holds(connection)
    columns, now = tables.intent.c, datetime.now(UTC)
    lapsed = exists().where(ledger_transfer.c.kind == "expiry", ledger_transfer.c.hold_id == columns.id + ".hold")
    ended = connection.execute(
        select(columns.id, columns.state)
        .where(
            or_(
                and_(columns.state == "requires_capture", lapsed),
                and_(
                    columns.state.in_((_NOBODY_YET, "requires_confirmation", "processing")),
                    columns.created_at < now - rules.confirm_within,
                ),
            )
        )
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    for row in ended:
        if row.state == "requires_capture":
            _changed(connection, row.id, "canceled", state="canceled")
        else:
            asked = row.state != "processing"
            outcome = Outcome.REFUSED if asked else Outcome.USE_CARD
            reason = Reason.CONFIRMATION_TIMED_OUT if asked else Reason.IDENTIFICATION_UNAVAILABLE
            _changed(connection, row.id, "refused", state="refused", outcome=outcome.value, reason=reason.value)
    return len(ended)


def locked(connection: Connection, intent_id: str) -> Row[tuple[object, ...]]:
    """The intent's row, locked until the transaction ends; raises UnknownIntent."""
    row = connection.execute(
        select(tables.intent).where(tables.intent.c.id == intent_id).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    return row


def looked_at(connection: Connection, intent_id: str) -> Row[tuple[object, ...]]:
    """The intent's row, not locked: only what never changes of it counts. Raises UnknownIntent."""
    row = connection.execute(select(tables.intent).where(tables.intent.c.id == intent_id)).one_or_none()
    if row is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    return row


def locked_with_payer(connection: Connection, intent_id: str) -> tuple[Row[tuple[object, ...]], Payer | None]:
    """The intent's row and its payer, both locked; no payer where nobody was recognised (yet).

    The payer first: that is the order for everything that moves a payer's money, since a ride changes the payments
    of earlier ones. Raises UnknownIntent.
    """
    while True:
        owner = connection.execute(
            select(tables.intent.c.payer_id).where(tables.intent.c.id == intent_id)
        ).one_or_none()
        if owner is not None and owner.payer_id is not None:
            payer = payers.locked(connection, owner.payer_id)  # a payment never changes its payer
            return locked(connection, intent_id), payer
        with connection.begin_nested() as attempt:
            row = locked(connection, intent_id)
            if row.payer_id is None:
                return row, None
            attempt.rollback()  # charged in this moment: let go of the intent, and lock the payer first


def _of_merchant(connection: Connection, terminal: Terminal, intent_id: str) -> tuple[Row[tuple[object, ...]], Payer]:
    row, payer = locked_with_payer(connection, intent_id)
    if row.merchant_id != terminal.merchant_id or payer is None:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    return row, payer


def _hold(connection: Connection, intent: Row[tuple[object, ...]]) -> Transfer:
    row = connection.execute(select(ledger_transfer).where(ledger_transfer.c.id == f"{intent.id}.hold")).one()
    return Transfer.hold(
        row.id,
        debit=row.debit_account,
        credit=row.credit_account,
        amount=row.amount,
        currency=row.currency,
        reason=row.reason,
        expires_at=row.expires_at,
    )


def _changed(connection: Connection, intent_id: str, event: str, **values: object) -> Intent:
    row = connection.execute(
        update(tables.intent).where(tables.intent.c.id == intent_id).values(**values).returning(tables.intent)
    ).one()
    if row.payer_id is not None:  # what nobody answered is no news
        webhooks.emit(connection, row, event)
    return shown(row)


def shown(row: Row[tuple[object, ...]]) -> Intent:
    """A row of the table as others may see it."""
    return Intent(
        row.id,
        row.state,
        row.amount,
        row.captured,
        row.tip,
        row.refunded,
        row.currency,
        row.place,
        row.reason,
        row.created_at,
    )
