"""A payment by face: begun before the guardians are asked, decided by their answer, once for each query.

Between the two stands the intent in state `processing`; a crash there leaves it so, nothing charged, and
the terminal's next try is told to use a card. A decision, the ledger's hold and capture, the receipt and
the entry in the payer's access log are one transaction, under a lock on the payer's row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.fares.errors import FaresError
from facefare.fares.explain import Line
from facefare.fares.standing import State
from facefare.ledger import Transfer, balance_of, post
from facefare.ledger.currency import check_amount, check_currency
from facefare.ledger.errors import InvalidAmount
from facefare.ledger.ids import new_id
from facefare.mpc.answers import Answer, Match, NoMatch, Several
from facefare.payments import intents, merchants, receipts, tables, tariffs, travel, travel_periods, webhooks
from facefare.payments.decision import Decision, Outcome, Paid, Reason, Rules, SecondFactor, Situation, decide
from facefare.payments.errors import AttemptUnderWay, NoFarePoint, QueryReused, UnknownIntent, WrongState
from facefare.payments.held_tables import held_payment
from facefare.payments.intents import Intent
from facefare.payments.merchants import Terminal
from facefare.payments.travel import Due
from facefare.wallet import access, devices, faces, payers, pins
from facefare.wallet.access import Identification
from facefare.wallet.payers import Payer
from facefare.wallet.pins import Checked

_HOLD_FOR = timedelta(days=7)
"""How long a till may take to capture."""

_ABANDONED_AFTER = timedelta(seconds=30)
"""No search takes this long: an attempt still open then was left behind by a crash."""

_Intent = Row[tuple[object, ...]]


@dataclass(frozen=True)
class Asked:
    """What a terminal asks for: an amount in minor units (None: the fare), by one query to the guardians.

    `query_id` (16 bytes) and `request_sha256` (32 bytes) name the sealed request, which is not kept.
    `capture_later`: hold the amount only; the terminal captures all or part of it (a tip, say) later.
    `gallery_id`, `issued_at` (ms since 1970): of a search, as signed; None where no guardian is asked.
    `purchase`: a till's own name for what it sells now; of all attempts at one purchase, one is charged.
    """

    amount: int | None
    currency: str
    query_id: bytes
    request_sha256: bytes
    capture_later: bool = False
    gallery_id: str | None = None
    issued_at: int | None = None
    purchase: str | None = None


@dataclass(frozen=True)
class Reply:
    """What the terminal is told. `receipt` is there when money moved, now or moments ago."""

    outcome: Outcome
    reason: Reason | None
    amount: int
    currency: str
    payment_intent: str
    receipt: str | None


def begin(connection: Connection, terminal: Terminal, asked: Asked) -> Reply | str:
    """Write the intent down before the guardians are asked; its id.

    The same query sent again gets the reply it got before, instead of an id. Raises UnknownCurrency,
    InvalidAmount, QueryReused, AttemptUnderWay; for a fare NoFarePoint, and InvalidAmount in another currency than
    the tariff's.
    """
    new = _new(connection, terminal, asked, "processing")
    if new is not None:
        return new
    columns = tables.intent.c
    row = connection.execute(select(tables.intent).where(columns.query_id == asked.query_id).with_for_update()).one()
    _check_same(row, terminal, asked)
    if row.state == "processing":
        if datetime.now(UTC) - row.created_at < _ABANDONED_AFTER:
            raise AttemptUnderWay("This payment is being answered right now; ask again in a moment.")
        return _close(connection, row, None, Decision(Outcome.USE_CARD, Reason.IDENTIFICATION_UNAVAILABLE))
    return _told(connection, row)


def written_down(connection: Connection, terminal: Terminal, asked: Asked, state: str) -> str:
    """Write an intent down that waits in `state`, once for the query's id; its id. Raises as `begin` does."""
    if (new := _new(connection, terminal, asked, state)) is not None:
        return new
    row = connection.execute(select(tables.intent).where(tables.intent.c.query_id == asked.query_id)).one()
    _check_same(row, terminal, asked)
    return str(row.id)


def _check_same(row: _Intent, terminal: Terminal, asked: Asked) -> None:
    same = (row.terminal_id, row.currency, row.request_sha256, row.fare, row.purchase)
    if same != (terminal.id, asked.currency, asked.request_sha256, asked.amount is None, asked.purchase) or (
        asked.amount is not None and (row.amount, row.capture_later) != (asked.amount, asked.capture_later)
    ):
        raise QueryReused("This was used for another payment; take a new picture, or a new key.")


def _new(connection: Connection, terminal: Terminal, asked: Asked, state: str) -> str | None:
    """The id of a new intent; None where the query has one."""
    check_currency(asked.currency)
    if asked.amount is not None:
        check_amount(asked.amount)
    else:
        _check_fare(connection, terminal, asked)
    return connection.execute(
        upsert(tables.intent)
        .values(
            id=new_id("pi"),
            merchant_id=terminal.merchant_id,
            terminal_id=terminal.id,
            place=terminal.place,
            at_gate=terminal.kind == "gate",
            state=state,
            **{**vars(asked), "amount": asked.amount or 0, "fare": asked.amount is None},
        )
        .on_conflict_do_nothing(index_elements=["query_id"])
        .returning(tables.intent.c.id)
    ).scalar_one_or_none()


def conclude(connection: Connection, intent_id: str, answer: Answer | None, rules: Rules) -> Reply:
    """Decide by the guardians' answer (None: they gave none), move the money, and say so.

    An answer that comes too late decides nothing, but whom it names finds it in the access log; so with a face that
    was found too often in a day, which is how somebody would feel the way to a template by its matches.
    Raises UnknownIntent.
    """
    if isinstance(answer, Match):
        asked = intents.looked_at(connection, intent_id)
        if face := faces.in_row(connection, asked.gallery_id, answer.row):
            payer, intent = payers.locked(connection, face.payer_id), intents.locked(connection, intent_id)
            face = faces.owned(connection, payer.id, face.id)  # a dispute may have stopped it meanwhile
            found = Identification(
                face.id, face.gallery_id, answer.tag, intent.issued_at, intent.query_id, intent.request_sha256
            )
            used = access.uses_of_face(connection, face.id, datetime.now(UTC) - timedelta(days=1))
            if intent.state == "processing" and face.state == "active" and used < rules.identified_a_day:
                if face.lookalike:
                    return _ask_for_more(connection, intent, payer, found)
                return _charge(connection, intent, payer, rules, second_factor=None, found=found, passed=None)
            if not access.recorded(connection, found):  # twice, and the two tags would cancel out
                outcome = Outcome.USE_CARD.value
                access.record(connection, payer.id, by=str(intent.terminal_id), outcome=outcome, found=found)
    intent = intents.locked(connection, intent_id)
    if intent.state != "processing":
        return _told(connection, intent)
    match answer:
        case None:
            reason = Reason.IDENTIFICATION_UNAVAILABLE
        case Several():
            reason = Reason.SEVERAL_MATCH
        case NoMatch() | Match():
            reason = Reason.NOT_RECOGNISED
    return _close(connection, intent, None, Decision(Outcome.USE_CARD, reason))


def charge(
    connection: Connection,
    intent_id: str,
    payer_id: str,
    rules: Rules,
    *,
    second_factor: SecondFactor | None,
    found: Identification | None = None,
    passed: datetime | None = None,
) -> Reply:
    """Decide about the payer who was identified, by the guardians or by a device of theirs, and say so.

    `found`: the guardians' answer, for the payer's access log. `passed`: when a gate without a network let the payer
    through for the fare, which is owed then. Raises UnknownIntent, UnknownPayer.
    """
    payer, intent = payers.locked(connection, payer_id), intents.locked(connection, intent_id)
    if intent.state != "processing":
        return _told(connection, intent)
    return _charge(connection, intent, payer, rules, second_factor=second_factor, found=found, passed=passed)


def undo(connection: Connection, terminal: Terminal, query_id: bytes) -> Intent:
    """Take back whatever came of a query whose answer the terminal never heard, so that nobody passed; once.

    A ride that ended here was ridden, so it stays. A payment by which a later attempt counted as paid already stays
    too, for there somebody did pass, until that attempt is taken back as well. Raises UnknownIntent.
    """
    columns = tables.intent.c
    intent_id = connection.execute(
        select(columns.id).where(columns.query_id == query_id, columns.terminal_id == terminal.id)
    ).scalar_one_or_none()
    if intent_id is None:
        raise UnknownIntent("There is no payment by this query.")
    intent, payer = intents.locked_with_payer(connection, intent_id)
    connection.execute(update(tables.intent).where(columns.id == intent_id).values(unheard=True))
    if intent.state == "processing":
        _close(connection, intent, None, Decision(Outcome.USE_CARD, Reason.IDENTIFICATION_UNAVAILABLE))
    elif intent.state == "requires_identification":
        intents.void(connection, terminal, intent_id)
    elif payer is not None:
        _take_back(connection, terminal, intent, payer)
        if intent.outcome == Outcome.ALREADY_PAID and intent.already_paid_by:
            paid, payer = intents.locked_with_payer(connection, str(intent.already_paid_by))
            if paid.unheard and payer is not None:
                _take_back(connection, terminal, paid, payer)
    return intents.shown(intents.locked(connection, intent_id))


def _take_back(connection: Connection, terminal: Terminal, intent: _Intent, payer: Payer) -> None:
    columns = tables.intent.c
    heard_later = select(columns.id).where(
        columns.already_paid_by == intent.id, columns.outcome == Outcome.ALREADY_PAID.value, ~columns.unheard
    )
    if intent.state not in ("requires_confirmation", "requires_capture", "succeeded"):
        return
    if connection.execute(heard_later.limit(1)).first() is not None:
        return
    if intent.fare and not travel.forget(connection, intent.id):
        return
    if intent.state == "succeeded" and intent.captured > intent.refunded:
        intents.give_back(connection, intent, payer, None, key="undo")
    elif intent.state == "requires_capture":
        intents.let_go(connection, intent)
    elif intent.state == "requires_confirmation":
        intents.void(connection, terminal, str(intent.id))


def confirm_by_pin(connection: Connection, terminal: Terminal, intent_id: str, pin: str, rules: Rules) -> Reply:
    """The second factor, typed at the terminal where exactly one payer was recognised.

    A wrong PIN is counted in this transaction, so it must be committed. Raises UnknownIntent, also for
    another terminal's payment, and WrongState.
    """
    intent, payer = _awaiting_confirmation(connection, intent_id, rules, terminal_id=terminal.id)
    if payer is None:
        return _told(connection, intent)
    match pins.check(connection, payer.id, pin):
        case Checked.RIGHT:
            return _decide(connection, intent, payer, rules, second_factor="pin")
        case Checked.WRONG:
            decision = Decision(Outcome.CONFIRMATION_REQUIRED, Reason.PIN_WRONG)
        case Checked.LOCKED:
            decision = Decision(Outcome.REFUSED, Reason.PIN_LOCKED)
    return _close(connection, intent, payer, decision)


def confirm_in_app(connection: Connection, payer: Payer, intent_id: str, rules: Rules) -> Reply:
    """The second factor, given by the payer where he or she is signed in.

    Raises UnknownIntent, also for another payer's payment, and WrongState.
    """
    intent, expected = _awaiting_confirmation(connection, intent_id, rules, payer_id=payer.id)
    if expected is None:
        return _told(connection, intent)
    return _decide(connection, intent, expected, rules, second_factor="app")


def _awaiting_confirmation(
    connection: Connection, intent_id: str, rules: Rules, **of: str
) -> tuple[_Intent, Payer | None]:
    """The intent and its payer, both locked; no payer where the time to confirm is over, or the face was stopped.

    Raises UnknownIntent unless it is `of` this terminal or payer, before anything can be learned of it.
    """
    intent, payer = intents.locked_with_payer(connection, intent_id)
    if any(getattr(intent, column) != id for column, id in of.items()):
        raise UnknownIntent(f"There is no payment {intent_id}.")
    if intent.state != "requires_confirmation" or payer is None:
        raise WrongState("This payment is not waiting for a confirmation.")
    if _stopped_since(connection, intent, payer):
        _close(connection, intent, payer, Decision(Outcome.USE_CARD, Reason.NOT_RECOGNISED))
    elif datetime.now(UTC) - intent.created_at >= rules.confirm_within:
        _close(connection, intent, payer, Decision(Outcome.REFUSED, Reason.CONFIRMATION_TIMED_OUT))
    else:
        return intent, payer
    return intents.locked(connection, intent_id), None


def _stopped_since(connection: Connection, intent: _Intent, payer: Payer) -> bool:
    """Whether the payer stopped what was shown (the face, or a phone) after it was, by a pause or a dispute."""
    by_phone = select(held_payment.c.device_id).where(held_payment.c.intent_id == intent.id)
    device_id = connection.execute(by_phone).scalar_one_or_none()
    if device_id is not None:
        return devices.stopped_since(connection, device_id, intent.created_at)
    columns = tables.dispute.c
    disputed = select(columns.id).where(columns.payer_id == payer.id, columns.created_at > intent.created_at).limit(1)
    return (
        faces.stopped_since(connection, payer.id, intent.created_at) or connection.execute(disputed).first() is not None
    )


def _charge(
    connection: Connection,
    intent: _Intent,
    payer: Payer,
    rules: Rules,
    *,
    second_factor: SecondFactor | None,
    found: Identification | None,
    passed: datetime | None,
) -> Reply:
    def log(outcome: Outcome) -> None:
        access.record(connection, payer.id, by=str(intent.terminal_id), outcome=outcome.value, found=found)

    if not intent.fare:
        return _decide(connection, intent, payer, rules, second_factor=second_factor, log=log)
    reply = _ride(connection, intent, payer, rules, passed)
    log(reply.outcome)
    return reply


def _ask_for_more(connection: Connection, intent: _Intent, payer: Payer, found: Identification) -> Reply:
    """Of a payer who was taken for another at enrolment, the face alone pays nothing, and covers nothing.

    A till asks for the PIN or the app. A gate can't, so it asks for the phone's code, or a card.
    """
    outcome = Outcome.USE_CARD if intent.at_gate or intent.fare else Outcome.CONFIRMATION_REQUIRED
    reply = _close(connection, intent, payer, Decision(outcome, Reason.SECOND_FACTOR))
    access.record(connection, payer.id, by=str(intent.terminal_id), outcome=outcome.value, found=found)
    return reply


def _decide(
    connection: Connection,
    intent: _Intent,
    payer: Payer,
    rules: Rules,
    *,
    second_factor: SecondFactor | None,
    log: Callable[[Outcome], None] = lambda _: None,
) -> Reply:
    before = _last_paid(connection, payer.id, intent.terminal_id) if intent.at_gate else _bought(connection, intent)
    alone = None if intent.at_gate else _paid_by_face_alone(connection, payer.id)
    situation = Situation(
        now=datetime.now(UTC),
        at_gate=intent.at_gate,
        holds_currency=payer.currency,
        available=balance_of(connection, payer.account_id).available,
        last_paid=before and Paid(before.decided_at, before.amount),
        spent_today=0 if payer.daily_limit is None else _spent_today(connection, payer.id),
        daily_limit=payer.daily_limit,
        alone_total=0 if alone is None else alone.total,
        alone_in_a_row=0 if alone is None else alone.number,
        confirmed=second_factor is not None,
    )
    decision = decide(intent.amount, intent.currency, situation, rules)
    covered_by = before.id if before and decision.outcome is Outcome.ALREADY_PAID else None
    row = _written(connection, intent, payer, decision, covered_by=covered_by, second_factor=second_factor)
    log(decision.outcome)
    if decision.outcome is Outcome.ACCEPTED:
        # Last: from here to the end of the transaction every other payment to this merchant waits.
        _move(connection, row, payer)
    return _told(connection, row)


def _check_fare(connection: Connection, terminal: Terminal, asked: Asked) -> None:
    if asked.capture_later:
        raise InvalidAmount("A fare is held and taken as its tariff says.")
    currency = tariffs.load(connection, tariffs.point_of(connection, terminal.id).tariff_id).currency
    if asked.currency != currency:
        raise InvalidAmount(f"The fare here is in {currency}.")


def _ride(connection: Connection, intent: _Intent, payer: Payer, rules: Rules, passed: datetime | None) -> Reply:
    """Decide about a tap: what it costs comes from the payer's own taps."""
    now = passed or datetime.now(UTC)
    # A gate without a network covers a second passage itself; here, later taps may have come in before.
    before = None if passed else travel.last_tap(connection, payer.id, intent.terminal_id)
    try:
        due = travel.price(connection, payer, intent, now)
    except (FaresError, NoFarePoint):
        return _close(connection, intent, payer, Decision(Outcome.USE_CARD, Reason.FARE_UNKNOWN))
    travel.lock_accounts_of(connection, payer, due.tariff.id, (due.week,), str(intent.merchant_id))
    travel.recover(connection, payer)
    available = balance_of(connection, payer.account_id).available
    situation = Situation(
        now=now,
        at_gate=True,
        holds_currency=payer.currency,
        available=available,
        last_paid=before and Paid(before.at, 0),
        spent_today=_spent_today(connection, payer.id),
        daily_limit=payer.daily_limit,
        alone_total=0,
        alone_in_a_row=0,
        confirmed=False,
    )
    decision = decide(due.needed, intent.currency, situation, rules)
    if decision.outcome is Outcome.ALREADY_PAID and before:
        return _close(connection, intent, payer, decision, covered_by=before.intent_id)
    if passed is None:
        decision = _at_risk(connection, payer, due, decision, rules)
    elif decision.reason is not Reason.CURRENCY_NOT_HELD:
        decision = Decision(Outcome.ACCEPTED, None)  # the ride was made; what can't be taken is owed
    if decision.outcome is not Outcome.ACCEPTED:
        return _close(connection, intent, payer, decision)
    limit = rules.travel_on_account.get(payer.currency, 0)
    intent, covered_by = travel.begin(connection, payer, intent, due, spend_limit=limit)
    if intent.amount:
        _move(connection, intent, payer, due.lines)
    return _close(connection, intent, payer, decision, covered_by=None if intent.amount else covered_by)


def _at_risk(connection: Connection, payer: Payer, due: Due, decision: Decision, rules: Rules) -> Decision:
    """Let out whoever is inside; let in who owes nothing, where the operator takes the risk."""
    if decision.reason is Reason.CURRENCY_NOT_HELD:
        return decision
    if due.leaves:
        return Decision(Outcome.ACCEPTED, None)
    standing, limit = travel.standing_of(connection, payer), rules.ride_risk.get(payer.currency, 0)
    if (on_account := rules.travel_on_account.get(payer.currency, 0)) and travel_periods.may_ride(connection, payer):
        limit = max(limit, on_account)
    if standing.state is State.DENIED:
        return Decision(Outcome.REFUSED, Reason.OWING)
    if decision.reason is Reason.INSUFFICIENT_FUNDS and limit and standing.may_travel(limit):
        return Decision(Outcome.ACCEPTED, None)
    return decision


def _move(connection: Connection, intent: _Intent, payer: Payer, lines: Sequence[Line] = ()) -> None:
    hold = Transfer.hold(
        f"{intent.id}.hold",
        debit=payer.account_id,
        credit=merchants.account_of(connection, intent.merchant_id, intent.currency),
        amount=intent.amount,
        currency=intent.currency,
        reason="payment",
        expires_at=datetime.now(UTC) + _HOLD_FOR,
    )
    if intent.capture_later:
        post(connection, [hold])
        return
    capture = hold.capture(f"{intent.id}.capture")
    post(connection, [hold, capture])
    receipts.write(
        connection,
        payer,
        kind="payment",
        amount=intent.amount,
        transfer_id=capture.id,
        intent_id=intent.id,
        place=intent.place,
        lines=lines,
    )


def _state(decision: Decision, intent: _Intent) -> str:
    match decision.outcome:
        case Outcome.ACCEPTED:
            return "requires_capture" if intent.capture_later else "succeeded"
        case Outcome.CONFIRMATION_REQUIRED:
            return "requires_confirmation"
        case Outcome.ALREADY_PAID:
            return "canceled"
        case Outcome.USE_CARD | Outcome.REFUSED:
            return "refused"


def _close(
    connection: Connection,
    intent: _Intent,
    payer: Payer | None,
    decision: Decision,
    *,
    covered_by: str | None = None,
    second_factor: SecondFactor | None = None,
) -> Reply:
    row = _written(connection, intent, payer, decision, covered_by=covered_by, second_factor=second_factor)
    return _told(connection, row)


def _written(
    connection: Connection,
    intent: _Intent,
    payer: Payer | None,
    decision: Decision,
    *,
    covered_by: str | None,
    second_factor: SecondFactor | None,
) -> _Intent:
    """Write the decision down, and tell the merchant where money moves."""
    state = _state(decision, intent)
    row = connection.execute(
        update(tables.intent)
        .where(tables.intent.c.id == intent.id)
        .values(
            state=state,
            outcome=decision.outcome.value,
            reason=decision.reason,
            payer_id=payer and payer.id,
            already_paid_by=covered_by,
            second_factor=second_factor,
            captured=intent.amount if state == "succeeded" else 0,
            decided_at=func.clock_timestamp(),
        )
        .returning(tables.intent)
    ).one()
    if state in ("succeeded", "requires_capture"):
        webhooks.emit(connection, row, state)
    return row


def _told(connection: Connection, intent: _Intent) -> Reply:
    """What the terminal is told of an intent that was decided, now or when it asks again."""
    paid = intent.already_paid_by or (intent.id if intent.captured else None)
    cost = travel.cost_of(connection, intent.id) if intent.fare else None
    return Reply(
        outcome=Outcome(intent.outcome),
        reason=None if intent.reason is None else Reason(intent.reason),
        amount=intent.amount if cost is None else cost,
        currency=intent.currency,
        payment_intent=intent.id,
        receipt=paid and receipts.if_any(connection, f"{paid}.capture"),
    )


def _last_paid(connection: Connection, payer_id: str, terminal_id: object) -> _Intent | None:
    """The payer's last payment at this terminal that was charged and not given back."""
    columns = tables.intent.c
    return connection.execute(
        select(tables.intent)
        .where(
            columns.payer_id == payer_id,
            columns.terminal_id == terminal_id,
            columns.state == "succeeded",
            columns.refunded < columns.captured,
        )
        .order_by(columns.decided_at.desc())
        .limit(1)
    ).one_or_none()


def _bought(connection: Connection, intent: _Intent) -> _Intent | None:
    """What paid for a till's purchase, or holds its amount; other attempts at it wait until this one is decided."""
    if intent.purchase is None:
        return None
    name = func.hashtextextended(f"{intent.terminal_id} {intent.purchase}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(name)))
    columns = tables.intent.c
    return connection.execute(
        select(tables.intent)
        .where(
            columns.terminal_id == intent.terminal_id,
            columns.purchase == intent.purchase,
            columns.id != intent.id,
            or_(
                columns.state == "requires_capture",
                and_(columns.state == "succeeded", columns.refunded < columns.captured),
            ),
        )
        .limit(1)
    ).one_or_none()


def _spent_today(connection: Connection, payer_id: str) -> int:
    """Charged or on hold since midnight UTC, less what was given back."""
    columns = tables.intent.c
    held = func.sum(columns.amount).filter(columns.state == "requires_capture")
    kept = func.sum(columns.captured - columns.refunded).filter(columns.state == "succeeded")
    return int(
        connection.execute(
            select(func.coalesce(held, 0) + func.coalesce(kept, 0)).where(
                columns.payer_id == payer_id, columns.created_at >= func.date_trunc("day", func.now(), "UTC")
            )
        ).scalar_one()
    )


def _paid_by_face_alone(connection: Connection, payer_id: str) -> Row[tuple[int, int]]:
    """Total and number of payments at tills since the payer's last second factor."""
    columns = tables.intent.c
    paid = columns.state.in_(("succeeded", "requires_capture"))
    last = (
        select(func.max(columns.decided_at))
        .where(columns.payer_id == payer_id, columns.second_factor.is_not(None), paid)
        .scalar_subquery()
    )
    return connection.execute(
        select(
            func.coalesce(func.sum(columns.amount), 0).label("total"),
            func.count().label("number"),
        ).where(
            columns.payer_id == payer_id,
            columns.at_gate.is_(False),
            or_(last.is_(None), columns.decided_at > last),
            paid,
        )
    ).one()
