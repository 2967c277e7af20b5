"""Payers: an id, a bearer token of which only the hash is kept, and a prepaid account in the ledger."""

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update

from facefare.ledger import Account, Kind, open_account
from facefare.ledger.currency import check_currency
from facefare.ledger.ids import new_id
from facefare.wallet import tables
from facefare.wallet.errors import AccountClosed, NotAuthenticated, UnknownPayer


@dataclass(frozen=True)
class Payer:
    """A person who may pay: no name, no address, only what payment needs.

    `daily_limit`: the most to be charged in a day (UTC), in minor units, as the payer set it.
    """

    id: str
    currency: str
    account_id: str
    daily_limit: int | None = None


def register(connection: Connection, currency: str) -> tuple[Payer, str]:
    """A new payer and the bearer token, which is shown this once; raises UnknownCurrency."""
    check_currency(currency)
    id = new_id("pay")
    payer = Payer(id=id, currency=currency, account_id=f"acc_{id}")
    token = "ptk_" + secrets.token_urlsafe(32)
    open_account(connection, Account(payer.account_id, currency, Kind.LIABILITY, floor=0))
    connection.execute(
        insert(tables.payer).values(id=id, token_sha256=_hashed(token), currency=currency, account_id=payer.account_id)
    )
    return payer, token


def ask_presence(connection: Connection, payer_id: str) -> None:
    """From now on this payer's face is enrolled only right after the payer proved to be there."""
    connection.execute(update(tables.payer).where(tables.payer.c.id == payer_id).values(presence_asked=True))


def by_token(connection: Connection, token: str) -> Payer:
    """The payer whose token this is; raises NotAuthenticated."""
    row = connection.execute(select(tables.payer).where(tables.payer.c.token_sha256 == _hashed(token))).one_or_none()
    if row is None:
        raise NotAuthenticated("The token is missing or not known; sign in again.")
    return _payer(row)


def locked(connection: Connection, payer_id: str) -> Payer:
    """The payer, with its row locked until the transaction ends; raises UnknownPayer.

    Everything that decides about a payer's money takes this lock first, so that decisions about one payer
    happen one after the other; then come the payer's consents, devices, payments and accounts, in this order.
    """
    row = connection.execute(
        select(tables.payer).where(tables.payer.c.id == payer_id).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise UnknownPayer(f"There is no payer {payer_id}.")
    return _payer(row)


def check_open(connection: Connection, payer_id: str) -> None:
    """Raises AccountClosed for a payer who closed the account."""
    columns = tables.payer.c
    if connection.execute(select(columns.closed_at).where(columns.id == payer_id)).scalar_one() is not None:
        raise AccountClosed("This account was closed; open a new one.")


def set_daily_limit(connection: Connection, payer_id: str, limit: int | None) -> None:
    """Charge no more than `limit` minor units a day; None: no limit."""
    connection.execute(update(tables.payer).where(tables.payer.c.id == payer_id).values(daily_limit=limit))


def _hashed(token: str) -> bytes:
    # The token has 256 random bits, so a plain hash can't be guessed back.
    return hashlib.sha256(token.encode()).digest()


def _payer(row: Row[tuple[object, ...]]) -> Payer:
    return Payer(id=row.id, currency=row.currency, account_id=row.account_id, daily_limit=row.daily_limit)
