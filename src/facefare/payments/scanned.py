"""Payments without a face: the terminal shows a code, the payer's app reads it, the payer says yes there.

    requires_identification --yes--> as by face, with the app as second factor
                            --void by the terminal--> canceled      --nobody in time--> refused

The code holds the payment's id and nothing else. Who reads it learns where it is and how much; saying yes to it pays
whoever stands there, so the payer is shown both before. Same price, same receipt, same limits of the payer's own.
"""

import hashlib

from sqlalchemy import Connection, update

from facefare.payments import attempts, intents, tables
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Rules
from facefare.payments.errors import UnknownIntent, WrongState
from facefare.payments.intents import Intent
from facefare.payments.merchants import Terminal
from facefare.wallet import payers
from facefare.wallet.payers import Payer

_WAITS = "requires_identification"


def begin(
    connection: Connection,
    terminal: Terminal,
    *,
    amount: int | None,
    currency: str,
    capture_later: bool,
    idempotency_key: str,
) -> Intent:
    """A payment for whoever reads its code, once for each key; `amount` in minor units, None: the fare there.

    Raises UnknownCurrency, InvalidAmount, QueryReused for the key with something else, NoFarePoint.
    """
    key = hashlib.sha256(f"code\n{terminal.id}\n{idempotency_key}".encode()).digest()
    asked = Asked(amount, currency, query_id=key[:16], request_sha256=key, capture_later=capture_later)
    return intents.shown(intents.looked_at(connection, attempts.written_down(connection, terminal, asked, _WAITS)))


def look(connection: Connection, intent_id: str) -> Intent:
    """What the code on a terminal's screen asks for; raises UnknownIntent once it waits for nobody any more."""
    row = intents.looked_at(connection, intent_id)
    if row.state != _WAITS:
        raise UnknownIntent("This code is not waiting for anybody any more.")
    return intents.shown(row)


def pay(connection: Connection, payer: Payer, intent_id: str, rules: Rules) -> Reply:
    """The payer, signed in, says yes. Asked again by the same payer, the same answer.

    Raises UnknownIntent, AccountClosed, WrongState where somebody else was quicker, or it was voided.
    """
    payers.check_open(connection, payer.id)
    payer = payers.locked(connection, payer.id)
    row = intents.locked(connection, intent_id)
    if row.state == _WAITS:
        connection.execute(update(tables.intent).where(tables.intent.c.id == intent_id).values(state="processing"))
    elif row.payer_id != payer.id:
        raise WrongState("This code is not waiting for anybody any more; ask for a new one.")
    return attempts.charge(connection, intent_id, payer.id, rules, second_factor="app")


def state_of(connection: Connection, terminal: Terminal, intent_id: str) -> Intent:
    """What has become of a payment of this terminal; raises UnknownIntent."""
    row = intents.looked_at(connection, intent_id)
    if row.terminal_id != terminal.id:
        raise UnknownIntent(f"There is no payment {intent_id}.")
    return intents.shown(row)
