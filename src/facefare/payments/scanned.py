"""Payments without a face: the terminal shows a code, the payer's app reads it, the payer says yes there.

    requires_identification --yes--> as by face, with the app as second factor
                            --void by the terminal--> canceled      --nobody in time--> refused

The code holds the payment's id and nothing else. Who reads it learns where it is and how much; saying yes to it pays
whoever stands there, so the payer is shown both before. Same price, same receipt, same limits of the payer's own.
A code is as short-lived as a confirmation, whether or not anything tidies up.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, Row, update

from facefare.payments import attempts, intents, tables, tariffs, travel
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Rules
from facefare.payments.errors import UnknownIntent, WrongState
from facefare.payments.intents import Intent
from facefare.payments.merchants import Terminal
from facefare.wallet import payers
from facefare.wallet.payers import Payer

_WAITS = "requires_identification"


@dataclass(frozen=True)
class Asks:
    """What a code asks for: the payment, and from `least` to `most` minor units where the rest of a ride decides."""

    intent: Intent
    least: int
    most: int


def begin(
    connection: Connection,
    terminal: Terminal,
    *,
    amount: int | None,
    currency: str,
    capture_later: bool,
    purchase: str | None,
    idempotency_key: str,
) -> Intent:
    """A payment for whoever reads its code, once for each key; `amount` in minor units, None: the fare there.

    Its query id, by which the terminal takes it back, is the first 16 bytes of the SHA-256 of "code", the terminal's
    id and the key, a line each. `purchase`: see `Asked`.

    Raises UnknownCurrency, InvalidAmount, QueryReused for the key with something else, NoFarePoint.
    """
    key = hashlib.sha256(f"code\n{terminal.id}\n{idempotency_key}".encode()).digest()
    asked = Asked(amount, currency, key[:16], request_sha256=key, capture_later=capture_later, purchase=purchase)
    return intents.shown(intents.looked_at(connection, attempts.written_down(connection, terminal, asked, _WAITS)))


def look(connection: Connection, intent_id: str, rules: Rules) -> Asks:
    """What the code on a terminal's screen asks for; raises UnknownIntent once it waits for nobody any more."""
    row, now = intents.looked_at(connection, intent_id), datetime.now(UTC)
    if not _waits(row, rules, now):
        raise UnknownIntent("This code is not waiting for anybody any more.")
    if row.fare:
        _, _, price = tariffs.posted_at(connection, str(row.terminal_id), now)
        return Asks(intents.shown(row), price.least, price.most)
    return Asks(intents.shown(row), row.amount, row.amount)


def _waits(row: Row[tuple[object, ...]], rules: Rules, now: datetime) -> bool:
    return bool(row.state == _WAITS and now - row.created_at < rules.confirm_within)


def pay(connection: Connection, payer: Payer, intent_id: str, rules: Rules) -> Reply:
    """The payer, signed in, says yes. Asked again by the same payer, the same answer.

    Raises UnknownIntent, AccountClosed, WrongState where somebody else was quicker, or it was voided.
    """
    payers.check_open(connection, payer.id)
    payer = payers.locked(connection, payer.id)
    row = intents.locked(connection, intent_id)
    if _waits(row, rules, datetime.now(UTC)):
        connection.execute(update(tables.intent).where(tables.intent.c.id == intent_id).values(state="processing"))
    elif row.payer_id != payer.id:
        raise WrongState("This code is not waiting for anybody any more; ask for a new one.")
    return attempts.charge(connection, intent_id, payer.id, rules, second_factor="app")


def state_of(connection: Connection, terminal: Terminal, intent_id: str) -> Intent:
    """What has become of a payment of this terminal, of a ride with what it cost; raises UnknownIntent."""
    row = intents.looked_at(connection, intent_id)
    if row.terminal_id != terminal.id:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    cost = travel.cost_of(connection, intent_id) if row.fare else None
    return intents.shown(row) if cost is None else replace(intents.shown(row), amount=cost)
