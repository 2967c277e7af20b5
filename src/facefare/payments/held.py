"""Payments by a device's code, as terminals report them: at once, or later if they had no network.

    record of a terminal -> whose device, is it good -> intent -> the same decision, ledger and receipt as by face

Invariants:
  - a device's counter pays once, whoever reports it and however often;
  - online, a counter below one that was seen pays nothing; what was accepted offline may come late and in
    any order, but each terminal numbers its records upwards and none twice;
  - what was accepted offline is owed even if the money isn't there: the device is denied until it is paid; a fare
    is priced at the time of the tap, and owed as travel (see `travel`);
  - no record holds anything that was derived from the probe.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from facefare.identification.held import documents
from facefare.identification.held.code import CLOCK_SKEW, LIFETIME
from facefare.identification.held.documents import Announcement, PaymentRecord, Signed
from facefare.identification.held.errors import (
    CodeExpired,
    CodeTooLongLived,
    CounterUsed,
    OverSelfMadeLimit,
    SequenceUsed,
    TakenTooLongAgo,
    WrongOperator,
    WrongTerminalKey,
)
from facefare.ledger import lock_accounts
from facefare.payments import attempts, merchants, tables
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Outcome, Rules, SecondFactor
from facefare.payments.errors import QueryReused
from facefare.payments.held_tables import held_payment, terminal_opening_key
from facefare.payments.merchants import Terminal
from facefare.wallet import devices, payers
from facefare.wallet.devices import Known
from facefare.wallet.errors import UnknownDevice

_HAND_IN = timedelta(seconds=90)
"""How long after it was taken a terminal with a network reports a payment."""


@dataclass(frozen=True)
class HeldRules:
    """What the operator sets for payers who hold their own reference.

    `self_made_limit`: up to how many minor units a reference pays that no station attested; 0: nothing.
    `forward_within`: how long a terminal may keep what it accepted offline.
    `opening_key_for`: how long a terminal's announced key is good, at most.
    """

    self_made_limit: int = 10_00
    forward_within: timedelta = timedelta(hours=72)
    opening_key_for: timedelta = timedelta(days=7)


def announce(
    connection: Connection,
    terminal: Terminal,
    public_key: bytes,
    valid_for: timedelta,
    *,
    model: str,
    operator_key: Ed25519PrivateKey,
    rules: HeldRules,
) -> Signed:
    """Vouch for a terminal's new X25519 key, for as long as it asks for and the operator allows."""
    now = datetime.now(UTC)
    not_after = now + min(valid_for, rules.opening_key_for)
    announced = Signed.sign(
        Announcement(
            v=1,
            kind="terminal-key",
            operator=documents.operator_id(operator_key.public_key()),
            terminal=terminal.id,
            model=model,
            public_key=public_key,
            not_before=documents.seconds(now),
            not_after=documents.seconds(not_after),
        ),
        operator_key,
    )
    try:
        with connection.begin_nested():
            connection.execute(
                insert(terminal_opening_key).values(
                    key_id=documents.key_id(public_key),
                    terminal_id=terminal.id,
                    announcement=announced.to_bytes(),
                    not_after=not_after,
                )
            )
    except IntegrityError as error:
        raise WrongTerminalKey("This key was announced before; make a new one.") from error
    return announced


@dataclass(frozen=True)
class Announced:
    """A terminal's newest announcement (bytes of `Signed`), and where the terminal stands."""

    terminal: str
    place: str
    announcement: bytes


def announced(connection: Connection, *, limit: int, after: str = "") -> list[Announced]:
    """Each terminal's newest valid key, by terminal id, at most `limit`, after the terminal `after`."""
    keys, columns = terminal_opening_key.c, tables.terminal.c
    rows = connection.execute(
        select(columns.id, columns.place, keys.announcement)
        .ext(distinct_on(columns.id))
        .join(terminal_opening_key, keys.terminal_id == columns.id)
        .where(columns.revoked_at.is_(None), keys.not_after > datetime.now(UTC), columns.id > after)
        .order_by(columns.id, keys.created_at.desc())
        .limit(limit)
    )
    return [Announced(row.id, row.place, row.announcement) for row in rows]


def pay(
    connection: Connection,
    terminal: Terminal,
    signed: Signed,
    *,
    operator_key: Ed25519PublicKey,
    rules: Rules,
    held: HeldRules,
) -> Reply:
    """Charge the payer whose device signed for this payment; the same payment again gets the same reply.

    An error must end the transaction: by then, something may have been charged in it.

    A terminal that did not hear the answer accepts offline and reports once more, with another number.

    Raises:
        MalformedCode, BadSignature, WrongOperator, WrongTerminalKey, CodeExpired, CodeTooLongLived,
        TakenTooLongAgo, CounterUsed, SequenceUsed, DeviceDenied, OverSelfMadeLimit, UnknownDevice,
        UnknownCurrency, InvalidAmount; for a fare NoFarePoint.
    """
    record = signed.verified(PaymentRecord, Ed25519PublicKey.from_public_bytes(terminal.public_key))
    taken_at = datetime.fromtimestamp(record.taken_at / 1000, UTC)
    _check_form(connection, terminal, record, documents.operator_id(operator_key))
    _check_times(record, taken_at, held)
    device = devices.presented(connection, record.device_key, record.commitment, at=taken_at)
    before = _recorded(connection, device.id, record.counter)
    if before is None and not record.offline and record.counter <= device.counter:
        raise CounterUsed("This code was shown before, or an older one than shown before.")
    passed = taken_at if record.offline and record.amount is None else None
    reply = _charge(connection, terminal, record, device, _at_its_time(rules, record), passed)
    if device.self_made and reply.amount > held.self_made_limit:
        # Known for a fare only now; nothing of this transaction stays.
        raise OverSelfMadeLimit("A reference that no station attested pays small amounts only.")
    if before is None or (record.offline and not before.offline):
        _remember(connection, device, record, signed.payload, taken_at, reply)
    return reply


def settle(connection: Connection, payer_id: str, device_id: str, rules: Rules) -> list[Reply]:
    """Pay what was accepted offline and could not be charged then; the device pays again once all is paid.

    Raises UnknownDevice for another payer's device too.
    """
    if device_id not in {device.id for device in devices.of_payer(connection, payer_id)}:
        raise UnknownDevice("There is no such device.")
    columns, payer = held_payment.c, payers.locked(connection, payer_id)
    rows = connection.execute(
        select(held_payment, tables.intent.c.merchant_id)
        .join(tables.intent, tables.intent.c.id == columns.intent_id)
        .where(columns.device_id == device_id, columns.owing)
        .order_by(columns.taken_at)
        .with_for_update(of=held_payment)
    ).all()
    owed_to = {merchants.account_of(connection, row.merchant_id, payer.currency) for row in rows}
    lock_accounts(connection, {payer.account_id, *owed_to})
    replies = [_settle_one(connection, payer_id, row, rules) for row in rows]
    if all(reply.outcome is Outcome.ACCEPTED for reply in replies):
        devices.owes_no_more(connection, device_id)
    return replies


def owed(connection: Connection, device_id: str) -> int:
    """Minor units that the device's payer owes for what was accepted offline."""
    columns = held_payment.c
    rows = connection.execute(
        select(tables.intent.c.amount)
        .join(held_payment, columns.intent_id == tables.intent.c.id)
        .where(columns.device_id == device_id, columns.owing)
    )
    return sum(rows.scalars())


def _check_form(connection: Connection, terminal: Terminal, record: PaymentRecord, operator: bytes) -> None:
    if record.operator != operator:
        raise WrongOperator("This payment was taken for another operator.")
    columns = terminal_opening_key.c
    owner = connection.execute(select(columns.terminal_id).where(columns.key_id == record.key_id)).scalar_one_or_none()
    if not record.terminal == terminal.id == owner:
        raise WrongTerminalKey("The code was made for another terminal than the one that reports it.")
    record.check_device()


def _check_times(record: PaymentRecord, taken_at: datetime, held: HeldRules) -> None:
    late = timedelta(seconds=record.taken_at // 1000 - record.expires)
    if late > timedelta(0):
        raise CodeExpired("The code had run out when the payment was taken.")
    if -late > LIFETIME + CLOCK_SKEW:
        raise CodeTooLongLived("The code was good for longer than any code may be.")
    age = datetime.now(UTC) - taken_at
    if not -CLOCK_SKEW <= age <= (held.forward_within if record.offline else _HAND_IN):
        raise TakenTooLongAgo("The payment was reported too late, or its time lies in the future.")


def _at_its_time(rules: Rules, record: PaymentRecord) -> Rules:
    # The terminal covered a second passage itself; here, both may arrive in the same second.
    return replace(rules, passback=timedelta(0)) if record.offline else rules


def _charge(
    connection: Connection,
    terminal: Terminal,
    record: PaymentRecord,
    device: Known,
    rules: Rules,
    passed: datetime | None,
) -> Reply:
    asked = Asked(
        amount=record.amount,
        currency=record.currency,
        query_id=documents.query_id(documents.PAYMENT, device.id, record.counter),
        request_sha256=hashlib.sha256(record.device_signature).digest(),
    )
    try:
        begun = attempts.begin(connection, terminal, asked)
    except QueryReused as error:
        raise CounterUsed("This code paid for something else already.") from error
    if isinstance(begun, Reply):
        return begun
    # The device is something the payer has, beside the face; a self-made reference counts as the face alone.
    factor: SecondFactor | None = None if device.self_made else "device"
    return attempts.charge(connection, begun, device.payer_id, rules, second_factor=factor, passed=passed)


def _remember(
    connection: Connection, device: Known, record: PaymentRecord, payload: bytes, taken_at: datetime, reply: Reply
) -> None:
    paid = reply.outcome in (Outcome.ACCEPTED, Outcome.ALREADY_PAID)
    owing = record.offline and not paid and reply.amount > 0  # a fare that nothing prices is the operator's loss
    try:
        with connection.begin_nested():
            report = {
                "sequence": record.sequence,
                "record": payload,
                "offline": record.offline,
                "owing": owing,
                "taken_at": taken_at,
            }
            connection.execute(
                upsert(held_payment)
                .values(
                    device_id=device.id,
                    counter=record.counter,
                    terminal_id=record.terminal,
                    intent_id=reply.payment_intent,
                    **report,
                )
                .on_conflict_do_update(constraint="pk_held_payment", set_=report)
            )
    except IntegrityError as error:
        raise SequenceUsed("The terminal gave this number to another payment before.") from error
    devices.saw_counter(connection, device.id, record.counter)
    if owing:
        devices.owes(connection, device.id)


def _settle_one(connection: Connection, payer_id: str, row: Row[tuple[object, ...]], rules: Rules) -> Reply:
    first = connection.execute(select(tables.intent).where(tables.intent.c.id == row.intent_id)).one()
    place = connection.execute(select(tables.terminal).where(tables.terminal.c.id == row.terminal_id)).one()
    tried = row.settled_by or row.intent_id
    asked = Asked(
        amount=first.amount,
        currency=first.currency,
        query_id=documents.query_id(f"settlement of {tried}", row.device_id, row.counter),
        request_sha256=hashlib.sha256(row.record).digest(),
    )
    terminal = Terminal(place.id, place.merchant_id, place.place, place.public_key, place.kind)
    begun = attempts.begin(connection, terminal, asked)
    if isinstance(begun, Reply):
        reply = begun
    else:
        # Signed in, the payer says yes to what was taken: a second factor.
        at_once = replace(rules, passback=timedelta(0))
        reply = attempts.charge(connection, begun, payer_id, at_once, second_factor="app")
    connection.execute(
        update(held_payment)
        .where(held_payment.c.device_id == row.device_id, held_payment.c.counter == row.counter)
        .values(settled_by=reply.payment_intent, owing=reply.outcome is not Outcome.ACCEPTED)
    )
    return reply


def _recorded(connection: Connection, device_id: str, counter: int) -> Row[tuple[object, ...]] | None:
    columns = held_payment.c
    return connection.execute(
        select(held_payment).where(columns.device_id == device_id, columns.counter == counter)
    ).one_or_none()
