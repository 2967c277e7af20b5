"""What a merchant may call a payer: a name that is another one tomorrow, and another one next door.

HMAC-SHA256 (RFC 2104) of merchant and payer under a random key of the day (UTC). Retention deletes keys of past
days; from then on nobody, the operator included, can tell whose a pseudonym was or join two days.
"""

import hashlib
import hmac
import secrets
from datetime import UTC, date, datetime

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from facefare.wallet import tables


def of(connection: Connection, payer_id: str, merchant_id: str, at: datetime) -> str | None:
    """The payer's pseudonym at this merchant on the day of `at`; None for a day whose key is gone."""
    day, today = at.astimezone(UTC).date(), datetime.now(UTC).date()
    columns = tables.pseudonym_key.c
    if day == today:
        connection.execute(
            insert(tables.pseudonym_key).values(day=day, key=secrets.token_bytes(32)).on_conflict_do_nothing()
        )
    key = connection.execute(select(columns.key).where(columns.day == day)).scalar_one_or_none()
    if key is None:
        return None
    said = hmac.digest(key, f"{merchant_id}\n{payer_id}".encode(), hashlib.sha256)
    return "psn_" + said[:13].hex()


def forget(connection: Connection, *, before: date) -> int:
    """Delete the keys of days before this one; returns how many."""
    return connection.execute(delete(tables.pseudonym_key).where(tables.pseudonym_key.c.day < before)).rowcount
