"""Receipts: written in the transaction that moves the money, read by their payer alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, insert, select

from facefare.fares.explain import Line, render
from facefare.ledger import balance_of
from facefare.ledger.ids import new_id
from facefare.payments import notifications, tables
from facefare.payments.errors import UnknownReceipt
from facefare.wallet.payers import Payer

_TOLD = {"payment", "refund", "debt", "chargeback"}
"""What a payer who asked for it is told of."""


@dataclass(frozen=True)
class Receipt:
    """What moved, where and when, and what was left; amounts in minor units.

    `kind` is payment, refund, top_up, debt (something owed was paid), card_refund (back to the card), chargeback
    (taken back by the card's bank), chargeback_returned or pay_out; `place` and `payment_intent` are there for
    payments and refunds only. `lines` say how a fare came about.
    """

    id: str
    kind: str
    amount: int
    currency: str
    place: str | None
    payment_intent: str | None
    balance_after: int
    at: datetime
    lines: tuple[Line, ...] = ()

    @property
    def explained(self) -> list[str]:
        """The lines as English sentences."""
        return [render(line, self.currency) for line in self.lines]


def write(
    connection: Connection,
    payer: Payer,
    *,
    kind: str,
    amount: int,
    transfer_id: str,
    intent_id: str | None = None,
    place: str | None = None,
    lines: Sequence[Line] = (),
) -> str:
    """Write the receipt of a transfer just posted in this transaction; returns its id."""
    id = new_id("rcp")
    connection.execute(
        insert(tables.receipt).values(
            id=id,
            payer_id=payer.id,
            intent_id=intent_id,
            transfer_id=transfer_id,
            kind=kind,
            amount=amount,
            currency=payer.currency,
            place=place,
            balance_after=balance_of(connection, payer.account_id).available,
            lines=stored(lines),
        )
    )
    if kind in _TOLD:
        notifications.tell(connection, payer.id, kind=kind, amount=amount, currency=payer.currency)
    return id


def read(connection: Connection, payer_id: str, receipt_id: str) -> Receipt:
    """The payer's receipt; raises UnknownReceipt, also for another payer's."""
    columns = tables.receipt.c
    row = connection.execute(
        select(tables.receipt).where(columns.id == receipt_id, columns.payer_id == payer_id)
    ).one_or_none()
    if row is None:
        raise UnknownReceipt("You have no such receipt.")
    return _receipt(row)


def stored(lines: Iterable[Line]) -> list[list[object]]:
    """Lines as they are kept in JSON."""
    return [[line.code, dict(line.params)] for line in lines]


def lines_of(kept: list[tuple[str, dict[str, int | str]]]) -> tuple[Line, ...]:
    """Lines as they were kept in JSON."""
    return tuple(Line(code, params) for code, params in kept)


def of_transfer(connection: Connection, transfer_id: str) -> str:
    """The id of the receipt for this transfer; raises UnknownReceipt."""
    columns = tables.receipt.c
    found = connection.execute(select(columns.id).where(columns.transfer_id == transfer_id)).scalar_one_or_none()
    if found is None:
        raise UnknownReceipt("There is no receipt for this transfer.")
    return str(found)


def if_any(connection: Connection, transfer_id: str) -> str | None:
    """The id of the receipt for this transfer, or None where nothing was taken."""
    columns = tables.receipt.c
    return connection.execute(select(columns.id).where(columns.transfer_id == transfer_id)).scalar_one_or_none()


def of_payer(connection: Connection, payer_id: str, *, limit: int, before: str | None = None) -> list[Receipt]:
    """The payer's receipts, newest first, at most `limit`, older than the receipt `before`."""
    columns = tables.receipt.c
    query = select(tables.receipt).where(columns.payer_id == payer_id).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    return [_receipt(row) for row in connection.execute(query)]


def _receipt(row: Row[tuple[object, ...]]) -> Receipt:
    return Receipt(
        id=row.id,
        kind=row.kind,
        amount=row.amount,
        currency=row.currency,
        place=row.place,
        payment_intent=row.intent_id,
        balance_after=row.balance_after,
        at=row.at,
        lines=lines_of(row.lines),
    )
