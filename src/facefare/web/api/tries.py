"""How often something may be asked for, by whom: counted in the database, for all processes of a wallet together.

Invariants:
  - fails closed: where the count can't be taken, what was asked for is not done;
  - a process takes a share of a limit at a time, and spends it before it asks the database for the next: what all of
    them let through is never more than the limit;
  - an address is kept only as a keyed hash, and for a day at most.

The table is not written to the log of the database (UNLOGGED), so a count costs no wait for the disk; after a crash of
the database counting begins anew.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Column, Connection, DateTime, Engine, Integer, LargeBinary, Table, case, delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from facefare.ledger.tables import metadata
from facefare.web.api.errors import CannotCount, TooManyTries

_SHARES = 20
"""Into how many shares a limit is divided."""
_KEPT = timedelta(days=1)
_REMEMBERED = 10_000
"""Shares that are kept in memory before those that ended are dropped."""

tries = Table(
    "tries",
    metadata,
    Column("bucket", LargeBinary, primary_key=True),
    Column("window_start", DateTime(timezone=True), nullable=False),
    Column("count", Integer, nullable=False),
    prefixes=["UNLOGGED"],
)


@dataclass
class _Share:
    """What this process may still let through until the window ends (monotonic seconds), and whether that was all."""

    ends: float
    left: int = 0
    was_all: bool = False


class Tries:
    """Counts tries; `secret` is a key of the operator's, from which the key of the hashes is derived."""

    def __init__(self, engine: Engine, secret: Ed25519PrivateKey) -> None:
        self._engine = engine
        derive = HKDF(SHA256(), 32, salt=None, info=b"facefare pages: tries")
        self._key = derive.derive(secret.private_bytes_raw())
        self._shares: dict[bytes, _Share] = {}
        self._lock = threading.Lock()

    def count(self, what: str, who: str, *, most: int, within: timedelta) -> None:
        """Count one try of `what` by `who`. Raises TooManyTries beyond `most` in a window of `within`, which is a day
        at most, and CannotCount.
        """
        bucket = self._bucket(what, who)
        if not self._spend(bucket):
            self._take(bucket, most, within)

    async def count_without_waiting(self, what: str, who: str, *, most: int, within: timedelta) -> None:
        """The same from the event loop: the database is asked in a thread."""
        bucket = self._bucket(what, who)
        if not self._spend(bucket):
            await asyncio.to_thread(self._take, bucket, most, within)

    def _bucket(self, what: str, who: str) -> bytes:
        return hmac.digest(self._key, f"{what}\n{who}".encode(), hashlib.sha256)

    def _spend(self, bucket: bytes) -> bool:
        """Whether this process had one left; raises TooManyTries where it is known that nobody has."""
        with self._lock:
            share = self._shares.get(bucket)
            if share is None or share.ends <= time.monotonic():
                return False
            if share.left:
                share.left -= 1
                return True
            if share.was_all:
                raise _too_many(share.ends)
            return False

    def _take(self, bucket: bytes, most: int, within: timedelta) -> None:
        """Take the next share from the database, and spend one of it."""
        wanted = max(1, most // _SHARES)
        try:
            with self._engine.begin() as connection:
                taken, lasts = _added(connection, bucket, within, wanted)
        except SQLAlchemyError as error:
            raise CannotCount("It can't be counted how often this was tried, so it is refused for now.") from error
        granted, now = wanted - max(0, taken - most), time.monotonic()
        with self._lock:
            if len(self._shares) > _REMEMBERED:
                self._shares = {bucket: share for bucket, share in self._shares.items() if share.ends > now}
            share = self._shares.get(bucket)
            if share is None or share.ends <= now:
                share = self._shares[bucket] = _Share(now + lasts)
            share.was_all = granted < wanted
            share.left += max(0, granted - 1)
        if granted <= 0:
            raise _too_many(now + lasts)


def address(connection: HTTPConnection) -> str:
    """Where a request comes from: an IPv4 address, or the network of one site (/64) of IPv6.

    Behind a proxy that the operator trusts this is the address that the proxy saw (uvicorn puts it there).
    """
    host = connection.client.host if connection.client else "unknown"
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else host


def forget_old(connection: Connection) -> None:
    """Delete what was counted more than a day ago."""
    connection.execute(delete(tries).where(tries.c.window_start < func.now() - _KEPT))


def _added(connection: Connection, bucket: bytes, within: timedelta, wanted: int) -> tuple[int, float]:
    """The count with `wanted` more, and the seconds that its window still lasts, by the database's clock.

    Who waited here into the next window is counted in that one.
    """
    columns, width = tries.c, within.total_seconds()
    now = func.extract("epoch", func.clock_timestamp())
    added = insert(tries).values(
        bucket=bucket, window_start=func.to_timestamp(func.floor(now / width) * width), count=wanted
    )
    start = added.excluded.window_start
    row = connection.execute(
        added.on_conflict_do_update(
            index_elements=["bucket"],
            set_={
                "count": case((columns.window_start >= start, columns.count + wanted), else_=wanted),
                "window_start": func.greatest(columns.window_start, start),
            },
        ).returning(columns.count, func.extract("epoch", columns.window_start) + width - now)
    ).one()
    return row[0], float(row[1])


def _too_many(ends: float) -> TooManyTries:
    wait = max(1, round(ends - time.monotonic()))
    return TooManyTries("Too many tries. Please wait a few minutes, then try again.", wait)
