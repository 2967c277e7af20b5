"""API keys of merchants' own systems: shown once, kept as a hash, allowed what their scopes say and no more."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select, update

from facefare.ledger.ids import new_id
from facefare.payments import tables
from facefare.payments.errors import ScopeMissing, UnknownApiKey, UnknownMerchant
from facefare.payments.operator_tables import api_key


class Scope(StrEnum):
    """What a key may do."""

    PAYMENTS_READ = "payments:read"
    PAYMENTS_REFUND = "payments:refund"
    DISPUTES_READ = "disputes:read"
    DISPUTES_DECIDE = "disputes:decide"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    TERMINALS_WRITE = "terminals:write"
    SETTLEMENTS_READ = "settlements:read"
    LEDGER_VERIFY = "ledger:verify"


AUDITOR = frozenset({Scope.SETTLEMENTS_READ, Scope.LEDGER_VERIFY})
"""For who checks the books and sees no single payment of a day before it is settled."""


@dataclass(frozen=True)
class ApiKey:
    """A key of one merchant; `prefix` is the part of it that may be shown."""

    id: str
    merchant_id: str
    name: str
    prefix: str
    scopes: frozenset[Scope]
    created_at: datetime
    revoked_at: datetime | None

    def check(self, scope: Scope) -> None:
        """Raises ScopeMissing."""
        if scope not in self.scopes:
            raise ScopeMissing(f"This needs an API key with the scope {scope.value}.")


def create(connection: Connection, merchant_id: str, name: str, scopes: Collection[Scope]) -> tuple[ApiKey, str]:
    """A new key, and its text (fsk_…), which is shown this once; raises UnknownMerchant."""
    known = select(tables.merchant.c.id).where(tables.merchant.c.id == merchant_id)
    if connection.execute(known).one_or_none() is None:
        raise UnknownMerchant(f"There is no merchant {merchant_id}.")
    key = "fsk_" + secrets.token_urlsafe(32)
    id = new_id("key")
    connection.execute(
        insert(api_key).values(
            id=id,
            merchant_id=merchant_id,
            name=name,
            prefix=key[:10],
            key_sha256=_hashed(key),
            scopes=sorted(scope.value for scope in scopes),
        )
    )
    return next(one for one in of_merchant(connection, merchant_id) if one.id == id), key


def by_key(connection: Connection, key: str) -> ApiKey:
    """Whose key this is; raises UnknownApiKey where it was never made, or was revoked."""
    row = connection.execute(
        select(api_key).where(api_key.c.key_sha256 == _hashed(key), api_key.c.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise UnknownApiKey("The API key is missing, not known or revoked.")
    return _shown(row)


def of_merchant(connection: Connection, merchant_id: str) -> list[ApiKey]:
    """All keys of the merchant, revoked ones too, oldest first."""
    rows = connection.execute(select(api_key).where(api_key.c.merchant_id == merchant_id).order_by(api_key.c.id))
    return [_shown(row) for row in rows]


def revoke(connection: Connection, key_id: str) -> None:
    """Refuse the key from now on; raises UnknownApiKey."""
    changed = connection.execute(
        update(api_key)
        .where(api_key.c.id == key_id)
        .values(revoked_at=func.coalesce(api_key.c.revoked_at, func.now()))
        .returning(api_key.c.id)
    )
    if changed.one_or_none() is None:
        raise UnknownApiKey(f"There is no API key {key_id}.")


def _hashed(key: str) -> bytes:
    # The key has 256 random bits, so a plain hash can't be guessed back.
    return hashlib.sha256(key.encode()).digest()


def _shown(row: object) -> ApiKey:
    fields = ("id", "merchant_id", "name", "prefix", "created_at", "revoked_at")
    return ApiKey(
        **{name: getattr(row, name) for name in fields},
        scopes=frozenset(Scope(scope) for scope in getattr(row, "scopes")),  # noqa: B009
    )
