"""Tells payers of each payment, where they asked to be told: written with the receipt, sent after it.

Invariants:
  - nobody is told anything who did not ask, and an e-mail address is written to only after its owner typed the code
    that was sent there;
  - a message says kind, amount and time, and nothing of where the payer was;
  - what was sent is deleted; what can't be sent for a day is given up and deleted too.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from facefare.ledger.ids import new_id
from facefare.payments.errors import AddressUnconfirmed, TooManyAddresses, UnknownAddress
from facefare.payments.notification_tables import outbox, target

MOST = 6
"""Addresses of one payer."""
CODE_GOOD_FOR = timedelta(minutes=30)
_PAUSES = (30, 300, 1800, 7200, 21600, 43200)
"""Seconds after each try that failed."""
_LEASE = timedelta(seconds=60)


class Undeliverable(Exception):
    """There is nobody at this address any more: it is forgotten. Raised by what sends."""


class NotNow(Exception):
    """It could not be sent now; it is tried again. Raised by what sends."""


@dataclass(frozen=True, repr=False)
class Address:
    """Where a payer is told: an e-mail address, or a browser's push endpoint with its `keys` (p256dh, auth)."""

    id: str
    kind: str
    address: str
    keys: Mapping[str, str] | None
    language: str
    confirmed: bool


Message = Mapping[str, Any]
"""`kind`, and for money `amount` (minor units), `currency`, `at` (ISO 8601); for kind `confirm` the `code`."""


def add_email(connection: Connection, payer_id: str, address: str, language: str) -> str:
    """Send a code to this address; it is told of payments once the code came back. Raises TooManyAddresses."""
    code = f"{secrets.randbelow(1_000_000):06}"
    id = _add(connection, payer_id, kind="email", address=address, language=language, code=code)
    connection.execute(insert(outbox).values(id=new_id("ntf"), target_id=id, message={"kind": "confirm", "code": code}))
    return id


def confirm_email(connection: Connection, payer_id: str, address_id: str, code: str) -> None:
    """Tell this address of payments from now on; the caller counts tries. Raises UnknownAddress, AddressUnconfirmed."""
    row = _mine(connection, payer_id, address_id)
    late = row.created_at + CODE_GOOD_FOR < datetime.now(UTC)
    if late or row.code_sha256 is None or not hmac.compare_digest(row.code_sha256, _hashed(code)):
        raise AddressUnconfirmed("This is not the code that was sent to this address, or it is too old.")
    connection.execute(
        update(target).where(target.c.id == address_id).values(confirmed_at=func.now(), code_sha256=None)
    )


def add_push(connection: Connection, payer_id: str, endpoint: str, keys: Mapping[str, str], language: str) -> str:
    """Tell this browser of payments; one that is known is replaced. Raises TooManyAddresses."""
    connection.execute(delete(target).where(target.c.kind == "push", target.c.address == endpoint))
    id = _add(connection, payer_id, kind="push", address=endpoint, keys=dict(keys), language=language)
    connection.execute(update(target).where(target.c.id == id).values(confirmed_at=func.now()))
    return id


def of_payer(connection: Connection, payer_id: str) -> list[Address]:
    """Where the payer is told, oldest first."""
    rows = connection.execute(select(target).where(target.c.payer_id == payer_id).order_by(target.c.id))
    return [_address(row) for row in rows]


def remove(connection: Connection, payer_id: str, address_id: str) -> None:
    """Tell nothing there any more, also what is waiting. Raises UnknownAddress."""
    _mine(connection, payer_id, address_id)
    connection.execute(delete(target).where(target.c.id == address_id))


def remove_all(connection: Connection, payer_id: str) -> None:
    """Tell the payer nothing any more."""
    connection.execute(delete(target).where(target.c.payer_id == payer_id))


def tell(connection: Connection, payer_id: str, *, kind: str, amount: int, currency: str) -> None:
    """Put a message in the outbox for each confirmed address of the payer."""
    columns = target.c
    ids = connection.execute(
        select(columns.id).where(columns.payer_id == payer_id, columns.confirmed_at.is_not(None))
    ).scalars()
    message = {"kind": kind, "amount": amount, "currency": currency, "at": datetime.now(UTC).isoformat()}
    waiting = [{"id": new_id("ntf"), "target_id": id, "message": message} for id in ids]
    if waiting:
        connection.execute(insert(outbox), waiting)


def deliver_due(engine: Engine, send: Callable[[Address, Message], None], *, limit: int = 50) -> int:
    """Send what is due; returns how many were taken. Safe to run in several processes at once."""
    with engine.begin() as connection:
        due = connection.execute(
            select(outbox.c.id.label("message_id"), outbox.c.message, outbox.c.tries, target)
            .join(target, target.c.id == outbox.c.target_id)
            .where(outbox.c.due_at <= func.now())
            .order_by(outbox.c.due_at)
            .limit(limit)
            .with_for_update(of=outbox, skip_locked=True)
        ).all()
        taken = outbox.c.id.in_([row.message_id for row in due])
        connection.execute(update(outbox).where(taken).values(due_at=func.now() + _LEASE))
    for row in due:
        ended = _sent(send, row)
        with engine.begin() as connection:
            ended(connection)
    return len(due)


def _sent(send: Callable[[Address, Message], None], row: Row[tuple[object, ...]]) -> Callable[[Connection], object]:
    mine = outbox.c.id == row.message_id
    try:
        send(_address(row), row.message)
    except Undeliverable:
        return lambda connection: connection.execute(delete(target).where(target.c.id == row.id))
    except NotNow:
        if row.tries < len(_PAUSES):
            again = func.now() + timedelta(seconds=_PAUSES[row.tries])
            later = update(outbox).where(mine).values(tries=row.tries + 1, due_at=again)
            return lambda connection: connection.execute(later)
    return lambda connection: connection.execute(delete(outbox).where(mine))


def _add(
    connection: Connection,
    payer_id: str,
    *,
    kind: str,
    address: str,
    language: str,
    keys: dict[str, str] | None = None,
    code: str | None = None,
) -> str:
    if len(of_payer(connection, payer_id)) >= MOST:
        raise TooManyAddresses(f"You can be told in at most {MOST} places; remove one first.")
    id = new_id("nty")
    connection.execute(
        insert(target).values(
            id=id,
            payer_id=payer_id,
            kind=kind,
            address=address,
            keys=keys,
            language=language,
            code_sha256=None if code is None else _hashed(code),
        )
    )
    return id


def _mine(connection: Connection, payer_id: str, address_id: str) -> Row[tuple[object, ...]]:
    row = connection.execute(
        select(target).where(target.c.id == address_id, target.c.payer_id == payer_id)
    ).one_or_none()
    if row is None:
        raise UnknownAddress("There is no such address.")
    return row


def _address(row: Row[tuple[object, ...]]) -> Address:
    return Address(row.id, row.kind, row.address, row.keys, row.language, row.confirmed_at is not None)


def _hashed(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
