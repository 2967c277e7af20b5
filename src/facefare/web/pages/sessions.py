"""Who is signed in: a random cookie of which only the hash is kept, ended by signing out or after 30 days."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from facefare.wallet import tables as wallet
from facefare.wallet.payers import Payer
from facefare.web.pages import tables

LASTS = timedelta(days=30)
PRESENT_FOR = timedelta(minutes=10)
"""How long a session counts as its payer being there, after the passkey that began it was used."""


def begin(connection: Connection, payer_id: str, *, present: bool) -> str:
    """A new session's token, shown this once; sessions that have ended are forgotten.

    `present`: it begins with a passkey that vouches for its payer.
    """
    now = datetime.now(UTC)
    connection.execute(delete(tables.session).where(tables.session.c.expires_at < now))
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(tables.session).values(
            token_sha256=hashed(token),
            payer_id=payer_id,
            expires_at=now + LASTS,
            passkey_at=now if present else None,
        )
    )
    return token


def payer_of(connection: Connection, token: str) -> Payer | None:
    """Whose session this is; None where it is not known or has ended, or the account is closed."""
    columns = tables.session.c
    row = connection.execute(
        select(wallet.payer)
        .join(tables.session, columns.payer_id == wallet.payer.c.id)
        .where(
            columns.token_sha256 == hashed(token),
            columns.expires_at > datetime.now(UTC),
            wallet.payer.c.closed_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else Payer(row.id, row.currency, row.account_id, row.daily_limit)


def is_present(connection: Connection, token: str) -> bool:
    """Whether the session began with its payer's passkey a moment ago."""
    columns = tables.session.c
    since = datetime.now(UTC) - PRESENT_FOR
    query = select(columns.payer_id).where(columns.token_sha256 == hashed(token), columns.passkey_at > since)
    return connection.execute(query).one_or_none() is not None


def end(connection: Connection, token: str) -> None:
    """Sign out."""
    connection.execute(delete(tables.session).where(tables.session.c.token_sha256 == hashed(token)))


def end_all(connection: Connection, payer_id: str) -> None:
    """Sign out everywhere."""
    connection.execute(delete(tables.session).where(tables.session.c.payer_id == payer_id))


def hashed(token: str) -> bytes:
    """What is kept of a token; it has 256 random bits, so its plain hash can't be guessed back."""
    return hashlib.sha256(token.encode()).digest()
