"""Posting transfers: all of a batch or none, each at most once by its id."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

import psycopg
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from facefare.ledger import tables
from facefare.ledger.currency import check_amount, check_currency
from facefare.ledger.errors import (
    HoldEnded,
    InsufficientFunds,
    InvalidTransfer,
    TransferConflict,
    UnknownAccount,
)


@dataclass(frozen=True)
class Transfer:
    """One movement of `amount` minor units from the debited to the credited account.

    Make one with `Transfer.now`, `.hold`, or from a hold with `.capture` and `.void`. The id is the
    caller's: the same id with the same contents is posted once, however often it is sent.
    """

    id: str
    kind: str
    debit_account: str
    credit_account: str
    currency: str
    amount: int
    reason: str
    hold_id: str | None = None
    reverses_id: str | None = None
    expires_at: datetime | None = None

    @classmethod
    def now(
        cls,
        id: str,
        *,
        debit: str,
        credit: str,
        amount: int,
        currency: str,
        reason: str,
        reverses_id: str | None = None,
    ) -> "Transfer":
        """A movement at once; `reverses_id` names the posted or captured transfer it gives back from."""
        return cls(id, "posted", debit, credit, currency, amount, reason, reverses_id=reverses_id)

    @classmethod
    def hold(
        cls,
        id: str,
        *,
        debit: str,
        credit: str,
        amount: int,
        currency: str,
        reason: str,
        expires_at: datetime,
    ) -> "Transfer":
        """Money set aside until captured, voided or expired (31 days at most)."""
        return cls(id, "hold", debit, credit, currency, amount, reason, expires_at=expires_at)

    def capture(self, id: str, amount: int | None = None) -> "Transfer":
        """Take all or part of this hold; the rest is free again."""
        return self._ending(id, "capture", self.amount if amount is None else amount)

    def void(self, id: str) -> "Transfer":
        """Let go of this hold."""
        return self._ending(id, "void", self.amount)

    def _ending(self, id: str, kind: str, amount: int) -> "Transfer":
        return Transfer(id, kind, self.debit_account, self.credit_account, self.currency, amount, self.reason, self.id)


_COLUMNS = (
    "id",
    "kind",
    "debit_account",
    "credit_account",
    "currency",
    "amount",
    "reason",
    "hold_id",
    "reverses_id",
    "expires_at",
)
_INSERT = text(
    f"INSERT INTO ledger_transfer ({', '.join(_COLUMNS)})"  # noqa: S608  only the names above
    " SELECT * FROM unnest(CAST(:id AS text[]), CAST(:kind AS text[]), CAST(:debit_account AS text[]),"
    " CAST(:credit_account AS text[]), CAST(:currency AS text[]), CAST(:amount AS bigint[]),"
    " CAST(:reason AS text[]), CAST(:hold_id AS text[]), CAST(:reverses_id AS text[]),"
    " CAST(:expires_at AS timestamptz[]))"
    " ON CONFLICT (id) DO NOTHING RETURNING id"
)


def post(connection: Connection, transfers: Sequence[Transfer]) -> frozenset[str]:
    """Post the batch in the caller's transaction; returns the ids that were new.

    A transfer whose id was posted before with the same contents is left alone. Any error means that none
    of the batch was posted and that the transaction must be rolled back (or its savepoint, where the
    caller made one).

    Raises UnknownCurrency, InvalidAmount, UnknownAccount (also for an account in another currency),
    InsufficientFunds, HoldEnded, InvalidTransfer, TransferConflict.
    """
    if not transfers:
        return frozenset()
    if len({transfer.id for transfer in transfers}) < len(transfers):
        raise TransferConflict("Two transfers of one batch have the same id; give each its own.")
    for transfer in transfers:
        check_amount(transfer.amount)
        check_currency(transfer.currency)
    arrays = {name: [getattr(transfer, name) for transfer in transfers] for name in _COLUMNS}
    try:
        new = frozenset(connection.execute(_INSERT, arrays).scalars())
    except DBAPIError as error:
        _raise_ours(error)
    if len(new) < len(transfers):
        _check_same(connection, [transfer for transfer in transfers if transfer.id not in new])
    return new


def expire_holds(connection: Connection, *, limit: int = 1000) -> int:
    """End holds whose time is over, oldest first; returns how many. Safe to run twice at once."""
    rows = connection.execute(
        text(
            "SELECT h.* FROM ledger_transfer h WHERE h.kind = 'hold' AND h.expires_at <= clock_timestamp()"
            " AND NOT EXISTS (SELECT 1 FROM ledger_transfer e WHERE e.hold_id = h.id)"
            " ORDER BY h.expires_at LIMIT :limit FOR NO KEY UPDATE OF h SKIP LOCKED"
        ),
        {"limit": limit},
    ).all()
    return len(
        post(
            connection,
            [
                Transfer(
                    f"{row.id}.expiry",
                    "expiry",
                    row.debit_account,
                    row.credit_account,
                    row.currency,
                    row.amount,
                    row.reason,
                    row.id,
                )
                for row in rows
            ],
        )
    )


def _check_same(connection: Connection, repeated: Sequence[Transfer]) -> None:
    columns = [tables.transfer.c[name] for name in _COLUMNS]
    wanted = {transfer.id: transfer for transfer in repeated}
    rows = connection.execute(select(*columns).where(tables.transfer.c.id.in_(wanted)))
    for row in rows:
        # A retried hold may carry a later expiry: the first one counts.
        names = [name for name in _COLUMNS if name != "expires_at"]
        if any(getattr(row, name) != getattr(wanted[row.id], name) for name in names):
            raise TransferConflict(
                f"Transfer {row.id} was posted before with other contents; use a new id for a new transfer."
            )


def _raise_ours(error: DBAPIError) -> NoReturn:
    """Turn the database's refusal into this room's error."""
    original = error.orig
    if isinstance(original, psycopg.Error):
        constraint = original.diag.constraint_name
        match original.sqlstate, constraint:
            case "23514", "floor_kept":
                raise InsufficientFunds("There is not enough money in the account.") from error
            case "23505", "hold_ends_once":
                raise HoldEnded("The hold was captured, voided or expired before.") from error
            case "FF003", _:
                raise UnknownAccount("One of the accounts does not exist in this currency.") from error
            case (("23514" | "FF001"), _):
                raise InvalidTransfer(original.diag.message_primary or "The ledger refused it.") from error
    raise error
