"""Merchants and the terminals that take payments for them."""

from collections.abc import Collection
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from facefare.ledger import Account, Kind, open_account
from facefare.ledger.ids import new_id
from facefare.payments import tables
from facefare.payments.errors import (
    NotYourTerminal,
    PaymentsError,
    ProofWrong,
    TerminalExists,
    UnknownMerchant,
    UnknownTerminal,
)
from facefare.publickeys import ed25519


@dataclass(frozen=True)
class Terminal:
    """Where it stands, whom it takes money for, its raw Ed25519 key (32 bytes).

    `kind`: gate (unattended transport) or till.
    """

    id: str
    merchant_id: str
    place: str
    public_key: bytes
    kind: str = "gate"


def register_merchant(connection: Connection, name: str) -> str:
    """A new merchant's id; raises PaymentsError where the name is empty."""
    if not name.strip():
        raise PaymentsError("A merchant has a name: receipts show it.")
    id = new_id("mer")
    connection.execute(insert(tables.merchant).values(id=id, name=name))
    return id


def account_of(connection: Connection, merchant_id: str, currency: str) -> str:
    """The ledger account of what is owed to the merchant in this currency, opened where it is new."""
    id = f"acc_{merchant_id}_{currency}"
    open_account(connection, Account(id, currency, Kind.LIABILITY, floor=None))
    return id


def register_terminal(connection: Connection, terminal: Terminal) -> None:
    """Let the terminal ask for payments; raises UnknownMerchant, TerminalExists."""
    known = select(tables.merchant.c.id).where(tables.merchant.c.id == terminal.merchant_id)
    if connection.execute(known).one_or_none() is None:
        raise UnknownMerchant(f"There is no merchant {terminal.merchant_id}.")
    try:
        connection.execute(insert(tables.terminal).values(**vars(terminal)))
    except IntegrityError as error:
        raise TerminalExists(f"Terminal {terminal.id} is registered already; revoke it first.") from error


def revoke_terminal(connection: Connection, terminal_id: str) -> None:
    """Refuse everything that the terminal asks from now on; raises UnknownTerminal where it was never registered."""
    known = update(tables.terminal).where(tables.terminal.c.id == terminal_id)
    if connection.execute(known.values(revoked_at=func.now())).rowcount == 0:
        raise UnknownTerminal(f"There is no terminal {terminal_id}.")


def revoke_terminal_of(connection: Connection, merchant_id: str, terminal_id: str) -> None:
    """The same for a merchant's own terminal; raises NotYourTerminal."""
    columns = tables.terminal.c
    own = select(columns.id).where(columns.id == terminal_id, columns.merchant_id == merchant_id)
    if connection.execute(own).one_or_none() is None:
        raise NotYourTerminal("There is no such terminal.")
    revoke_terminal(connection, terminal_id)


def terminal(connection: Connection, terminal_id: str) -> Terminal:
    """The terminal; raises UnknownTerminal where it was never registered or was revoked."""
    columns = tables.terminal.c
    row = connection.execute(
        select(tables.terminal).where(columns.id == terminal_id, columns.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise UnknownTerminal("This terminal is not registered, or was revoked.")
    return Terminal(row.id, row.merchant_id, row.place, row.public_key, row.kind)


def places(connection: Connection, terminal_ids: Collection[str]) -> dict[str, str]:
    """Terminal -> its place, of those that were ever registered."""
    columns = tables.terminal.c
    rows = connection.execute(select(columns.id, columns.place).where(columns.id.in_(terminal_ids)))
    return {row.id: row.place for row in rows}


def key_statement(merchant_id: str, terminal_id: str, public_key: bytes) -> bytes:
    """What a new key signs to show that it is in the terminal's hands, for this merchant's terminal only."""
    return f"facefare terminal key v1\n{merchant_id}\n{terminal_id}\n{public_key.hex()}".encode()


def check_proof(merchant_id: str, terminal_id: str, public_key: bytes, signature: bytes) -> None:
    """Raises ProofWrong unless `signature` is the new key's own over its `key_statement`."""
    try:
        ed25519(public_key).verify(signature, key_statement(merchant_id, terminal_id, public_key))
    except (InvalidSignature, ValueError) as error:
        raise ProofWrong("The key did not sign for itself, for this merchant and terminal.") from error


def rotate_key(connection: Connection, terminal: Terminal, public_key: bytes) -> None:
    """Take the new key in place of the old one at once.

    Records that the old key signed offline must be forwarded before; the guardians have a registry of their own.
    """
    connection.execute(update(tables.terminal).where(tables.terminal.c.id == terminal.id).values(public_key=public_key))


def take_nonce(connection: Connection, terminal_id: str, nonce: str) -> bool:
    """Whether the terminal never sent this nonce before; it is remembered."""
    taken = connection.execute(
        upsert(tables.terminal_nonce)
        .values(terminal_id=terminal_id, nonce=nonce)
        .on_conflict_do_nothing()
        .returning(tables.terminal_nonce.c.nonce)
    )
    return taken.one_or_none() is not None


def forget_nonces(connection: Connection, *, older_than_seconds: int) -> int:
    """Drop nonces whose requests would be stale anyway; returns how many."""
    return connection.execute(
        tables.terminal_nonce.delete().where(
            tables.terminal_nonce.c.seen_at
            < func.now() - text("make_interval(secs => :seconds)").bindparams(seconds=older_than_seconds)
        )
    ).rowcount
