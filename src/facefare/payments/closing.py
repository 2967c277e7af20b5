"""Closing an account: nothing is left open, and what money is left is owed to the payer until it is paid out.

The caller has seen to it that no face is enrolled. What came back later (a refund, say) is paid out by closing
again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from facefare.ledger import Account, Kind, Transfer, balance_of, open_account, post
from facefare.ledger.ids import new_id
from facefare.payments import held, notifications, receipts, travel, travel_tables
from facefare.payments.card_tables import card
from facefare.payments.errors import UnknownPayOut, WrongState
from facefare.wallet import consents, devices, faces, payers
from facefare.wallet import tables as wallet
from facefare.wallet.payers import Payer


@dataclass(frozen=True)
class PayOut:
    """Money of a closed account on its way to the payer; minor units."""

    id: str
    amount: int
    currency: str
    created_at: datetime
    paid_at: datetime | None


def close(connection: Connection, payer: Payer) -> PayOut | None:
    """Close the account and set aside what is left in it; None where nothing was.

    Raises WrongState while a face is enrolled, a payment is on hold or something is owed, for travel or for what a
    device paid without a network.
    """
    payer = payers.locked(connection, payer.id)
    if faces.of_payer(connection, payer.id):
        raise WrongState("Delete your face first; then the account can be closed.")
    owed = travel.recover(connection, payer)
    balance = balance_of(connection, payer.account_id)
    offline = sum(held.owed(connection, device.id) for device in devices.of_payer(connection, payer.id))
    if balance.on_hold or owed or offline:
        raise WrongState("A payment has not ended yet, or something is owed; the account can be closed after that.")
    consents.withdraw(connection, payer.id)
    devices.end_all(connection, payer.id)
    notifications.remove_all(connection, payer.id)
    for table in (wallet.pin, travel_tables.concession, card):
        connection.execute(delete(table).where(table.c.payer_id == payer.id))
    connection.execute(
        update(wallet.payer)
        .where(wallet.payer.c.id == payer.id)
        .values(closed_at=func.coalesce(wallet.payer.c.closed_at, func.now()))
    )
    return _set_aside(connection, payer, balance.available) if balance.available else None


def of_payer(connection: Connection, payer_id: str) -> list[PayOut]:
    """The payer's pay-outs, oldest first."""
    columns = travel_tables.pay_out.c
    rows = connection.execute(select(travel_tables.pay_out).where(columns.payer_id == payer_id).order_by(columns.id))
    return [PayOut(row.id, row.amount, row.currency, row.created_at, row.paid_at) for row in rows]


def paid(connection: Connection, pay_out_id: str) -> None:
    """The bank says that the payer has the money; once. Raises UnknownPayOut."""
    columns = travel_tables.pay_out.c
    row = connection.execute(
        update(travel_tables.pay_out)
        .where(columns.id == pay_out_id, columns.paid_at.is_(None))
        .values(paid_at=datetime.now(UTC))
        .returning(travel_tables.pay_out)
    ).one_or_none()
    if row is None:
        raise UnknownPayOut("There is no such pay-out that is still to be paid.")
    bank = f"acc_bank_{row.currency}"
    open_account(connection, Account(bank, row.currency, Kind.ASSET, floor=None))
    post(
        connection,
        [
            Transfer.now(
                f"{row.id}.paid",
                debit=_account(connection, row.currency),
                credit=bank,
                amount=row.amount,
                currency=row.currency,
                reason="pay_out",
            )
        ],
    )


def _set_aside(connection: Connection, payer: Payer, amount: int) -> PayOut:
    moved = Transfer.now(
        new_id("out"),
        debit=payer.account_id,
        credit=_account(connection, payer.currency),
        amount=amount,
        currency=payer.currency,
        reason="pay_out",
    )
    post(connection, [moved])
    row = connection.execute(
        insert(travel_tables.pay_out)
        .values(id=moved.id, payer_id=payer.id, transfer_id=moved.id, amount=amount, currency=payer.currency)
        .returning(travel_tables.pay_out)
    ).one()
    receipts.write(connection, payer, kind="pay_out", amount=amount, transfer_id=moved.id)
    return PayOut(row.id, row.amount, row.currency, row.created_at, row.paid_at)


def _account(connection: Connection, currency: str) -> str:
    """What is owed to people who closed their accounts."""
    id = f"acc_pay_outs_{currency}"
    open_account(connection, Account(id, currency, Kind.LIABILITY, floor=0))
    return id
