"""Accounts: opened once, closed never; their balances are the database's to change."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from facefare.ledger import tables
from facefare.ledger.currency import check_currency
from facefare.ledger.errors import AccountConflict, UnknownAccount


class Kind(StrEnum):
    """Which side of the books an account is on."""

    ASSET = "asset"
    LIABILITY = "liability"
    INCOME = "income"
    EXPENSE = "expense"


@dataclass(frozen=True)
class Account:
    """An account in one currency.

    `floor` is the lowest credit balance (credits - debits - debits on hold) it may reach, in minor units;
    0 for a payer's prepaid money, None for no limit.
    """

    id: str
    currency: str
    kind: Kind
    floor: int | None


@dataclass(frozen=True)
class Balance:
    """What an account holds, seen from the credit side, in minor units."""

    currency: str
    posted: int
    on_hold: int
    arriving: int

    @property
    def available(self) -> int:
        """What may still be taken from the account."""
        return self.posted - self.on_hold


def open_account(connection: Connection, account: Account) -> None:
    """Open the account; opening the same one again does nothing.

    Raises UnknownCurrency, and AccountConflict where it exists with another currency, kind or floor.
    """
    check_currency(account.currency)
    columns = tables.account.c
    there = select(columns.currency, columns.kind, columns.floor).where(columns.id == account.id)
    row = connection.execute(there).one_or_none()  # most are asked for often and opened once
    if row is None:
        connection.execute(
            insert(tables.account)
            .values(id=account.id, currency=account.currency, kind=account.kind.value, floor=account.floor)
            .on_conflict_do_nothing(index_elements=["id"])
        )
        row = connection.execute(there).one()
    if (row.currency, row.kind, row.floor) != (account.currency, account.kind.value, account.floor):
        raise AccountConflict(f"Account {account.id} exists with another currency, kind or floor.")


def lock_accounts(connection: Connection, account_ids: Collection[str]) -> None:
    """Lock accounts until the transaction ends, in the order in which the ledger itself does.

    For a transaction that posts more than once: two that meet the same accounts in another order would wait for
    each other. Accounts that don't exist are passed over.
    """
    columns = tables.account.c
    connection.execute(
        select(columns.id).where(columns.id.in_(account_ids)).order_by(columns.id).with_for_update(key_share=True)
    ).all()


def balance_of(connection: Connection, account_id: str) -> Balance:
    """The account's balance now; raises UnknownAccount."""
    columns = tables.account.c
    row = connection.execute(select(tables.account).where(columns.id == account_id)).one_or_none()
    if row is None:
        raise UnknownAccount(f"There is no account {account_id}.")
    return Balance(
        currency=row.currency,
        posted=row.credits_posted - row.debits_posted,
        on_hold=row.debits_pending,
        arriving=row.credits_pending,
    )
