"""A payer's passkeys: the payer's device is the only thing that can sign in.

A passkey vouches for its payer's presence if it is the first, or another that does was used just before it was
added: a session or token that somebody else came by makes none that does.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from facefare.wallet import payers
from facefare.web.pages import passkeys
from facefare.web.pages.passkeys import PAYERS, Begun, Ceremony, RelyingParty


@dataclass(frozen=True)
class Known:
    """Whose passkey answered, and whether it vouches for that payer's presence."""

    payer_id: str
    vouches: bool


def ask_to_register(connection: Connection, site: RelyingParty, payer_id: str | None) -> Begun:
    """Options for a new passkey, of a new payer or of one who is signed in; the account has no name to give away."""
    return passkeys.ask_to_register(connection, site, PAYERS, payer_id, f"{site.name} wallet")


def register(
    connection: Connection,
    site: RelyingParty,
    ceremony: Ceremony,
    answer: dict[str, Any],
    *,
    payer_id: str | None,
    present: bool,
    currency: str,
) -> Known:
    """Keep a new passkey; its payer is new unless `payer_id` is given. Raises PasskeyRefused.

    `present`: a passkey that vouches for the payer was used just now.
    """
    new = passkeys.made(site, ceremony, answer)
    if payer_id is None:
        # The account's bearer token is for programs; nobody keeps this one.
        payer_id = payers.register(connection, currency)[0].id
    payers.locked(connection, payer_id)  # two at once are not both the first
    vouches = present or not has_one(connection, payer_id)
    payers.ask_presence(connection, payer_id)
    passkeys.keep(connection, PAYERS, payer_id, {**new, "vouches": vouches})
    return Known(payer_id, vouches)


def has_one(connection: Connection, payer_id: str) -> bool:
    """Whether the payer has a passkey."""
    query = select(PAYERS.table.c.credential_id).where(PAYERS.owner == payer_id).limit(1)
    return connection.execute(query).one_or_none() is not None


def sign_in(connection: Connection, site: RelyingParty, ceremony: Ceremony, answer: dict[str, Any]) -> Known:
    """Whose passkey answered; raises PasskeyRefused."""
    row = passkeys.sign_in(connection, site, PAYERS, ceremony, answer)
    return Known(row.payer_id, row.vouches)
