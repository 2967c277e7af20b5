"""The PIN, a second factor for the one payer who was recognised: never a way to choose among several.

Kept as an argon2id hash. After `TRIES` wrong ones in a row it is locked until the payer, signed in, sets a
new one.
"""

import re
from enum import Enum, auto

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from facefare.wallet import tables
from facefare.wallet.errors import InvalidPin

TRIES = 3

# RFC 9106's second recommended option (64 MiB), with one lane: a till waits for it.
_hasher = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)


class Checked(Enum):
    """What a PIN check came to."""

    RIGHT = auto()
    WRONG = auto()
    LOCKED = auto()


def set_pin(connection: Connection, payer_id: str, pin: str) -> None:
    """Set or replace the PIN and unlock it; raises InvalidPin unless it is 4 to 8 digits, not all equal."""
    if not re.fullmatch(r"[0-9]{4,8}", pin) or len(set(pin)) == 1:
        raise InvalidPin("A PIN has 4 to 8 digits that are not all the same.")
    values = {"hash": _hasher.hash(pin), "wrong_tries": 0}
    connection.execute(
        insert(tables.pin)
        .values(payer_id=payer_id, **values)
        .on_conflict_do_update(index_elements=["payer_id"], set_=values)
    )


def check(connection: Connection, payer_id: str, pin: str) -> Checked:
    """Try a PIN and count it; the caller must commit. A payer without a PIN is as locked."""
    columns = tables.pin.c
    row = connection.execute(select(tables.pin).where(columns.payer_id == payer_id).with_for_update()).one_or_none()
    if row is None or row.wrong_tries >= TRIES:
        return Checked.LOCKED
    try:
        _hasher.verify(row.hash, pin)
    except VerifyMismatchError:
        wrong = row.wrong_tries + 1
    else:
        wrong = 0
    connection.execute(update(tables.pin).where(columns.payer_id == payer_id).values(wrong_tries=wrong))
    if wrong == 0:
        return Checked.RIGHT
    return Checked.WRONG if wrong < TRIES else Checked.LOCKED
