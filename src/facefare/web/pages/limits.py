"""How often something may be tried from one place: counted in the database, so several processes count together.

Fails closed: where the count can't be taken, the try is not made. An address is kept only as a keyed hash, and
for a day at most.
"""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Engine, case, delete
from sqlalchemy.dialects.postgresql import insert

from facefare.web.pages import tables
from facefare.web.pages.errors import TooManyTries


class Tries:
    """Counts tries; `secret` is a key of the operator's, from which the key of the hashes is derived."""

    def __init__(self, engine: Engine, secret: Ed25519PrivateKey) -> None:
        self._engine = engine
        derive = HKDF(SHA256(), 32, salt=None, info=b"facefare pages: tries")
        self._key = derive.derive(secret.private_bytes_raw())

    def count(self, what: str, who: str, *, most: int, within: timedelta) -> None:
        """Count one try of `what` by `who`; raises TooManyTries beyond `most` in a window of `within`."""
        now = datetime.now(UTC)
        start = now - timedelta(seconds=now.timestamp() % within.total_seconds())
        columns = tables.tries.c
        added = insert(tables.tries).values(
            bucket=hmac.digest(self._key, f"{what}\n{who}".encode(), hashlib.sha256), window_start=start, count=1
        )
        same_window = columns.window_start == added.excluded.window_start
        with self._engine.begin() as connection:
            connection.execute(delete(tables.tries).where(columns.window_start < now - timedelta(days=1)))
            count = connection.execute(
                added.on_conflict_do_update(
                    index_elements=["bucket"],
                    set_={
                        "count": case((same_window, columns.count + 1), else_=1),
                        "window_start": added.excluded.window_start,
                    },
                ).returning(columns.count)
            ).scalar_one()
        if count > most:
            raise TooManyTries("Too many tries. Please wait a few minutes, then try again.")
