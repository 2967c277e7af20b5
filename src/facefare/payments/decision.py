"""The rule that turns an answer into a payment or not: a pure function, no database, no clock.

Whoever isn't exactly one enrolled payer is asked for a card and told no more: an answer never says whether
a face is known, paused or like another's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal


class Outcome(StrEnum):
    """What the terminal does."""

    ACCEPTED = "accepted"
    ALREADY_PAID = "already_paid"
    CONFIRMATION_REQUIRED = "confirmation_required"
    USE_CARD = "use_card"
    REFUSED = "refused"


class Reason(StrEnum):
    """Why it isn't a fresh payment."""

    NOT_RECOGNISED = "not_recognised"
    SEVERAL_MATCH = "several_match"
    IDENTIFICATION_UNAVAILABLE = "identification_unavailable"
    PAID_MOMENTS_AGO = "paid_moments_ago"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    CURRENCY_NOT_HELD = "currency_not_held"
    DAILY_LIMIT = "daily_limit"
    SECOND_FACTOR = "second_factor"
    PIN_WRONG = "pin_wrong"
    PIN_LOCKED = "pin_locked"
    CONFIRMATION_TIMED_OUT = "confirmation_timed_out"
    FARE_UNKNOWN = "fare_unknown"
    OWING = "owing"


SecondFactor = Literal["pin", "app", "device"]
"""What a payer showed beside the face: a PIN, a yes in the app, or a device that a station has attested."""


UNTIL_FACTOR = 3
"""Single payments that a face alone may make in total until a second factor is asked for."""


@dataclass(frozen=True)
class FaceAlone:
    """What may be paid without a second factor, in minor units.

    The defaults are those of the EU's rules for contactless payments (Delegated Regulation 2018/389,
    article 11): 50.00 a payment, and since the last second factor 150.00 in total or five payments.
    """

    single: int = 50_00
    total: int = UNTIL_FACTOR * 50_00
    in_a_row: int = 5


class Law(StrEnum):
    """Whose rules for payments without a second factor hold; under each, gates are exempt (see `Rules`)."""

    EU = "eu"
    ELSEWHERE = "elsewhere"


_AT_MOST = {Law.EU: {"EUR": FaceAlone().single}, Law.ELSEWHERE: dict[str, int]()}


@dataclass(frozen=True)
class Stated:
    """What the operator says a face alone may pay, in minor units by currency; None: what was measured.

    `accepted`: who accepts, and when, to bear more than was measured; None: the lower of both counts. Above what the
    `law` allows nobody can accept anything.
    """

    amounts: Mapping[str, int] | None = None
    accepted: str | None = None
    law: Law = Law.EU


def face_alone(measured: Mapping[str, int], stated: Stated) -> dict[str, FaceAlone]:
    """The limits by currency; a currency that is not in them always takes a second factor.

    `measured`: the amount that the measured risk allows (`Calibration.face_alone`); a currency that is not in it: none.
    """
    if stated.amounts is None:
        amounts = dict(measured)
    elif stated.accepted:
        amounts = dict(stated.amounts)
    else:
        amounts = {one: min(amount, measured.get(one, 0)) for one, amount in stated.amounts.items()}
    most = _AT_MOST[stated.law]
    amounts = {one: min(amount, most.get(one, amount)) for one, amount in amounts.items()}
    return {one: FaceAlone(amount, UNTIL_FACTOR * amount) for one, amount in amounts.items() if amount > 0}


@dataclass(frozen=True)
class Rules:
    """What the operator sets.

    `passback`: how long a payment at a gate covers the same payer there.
    `face_alone`: by currency; at a till a currency that is not in it always takes a second factor. Gates
    are unattended transport terminals, which article 12 of the same regulation exempts.
    `confirm_within`: how long a payment waits for PIN or app.
    `disputes_refunded_at_once`: up to how much, by currency; more is looked at first.
    `ride_risk`: how much travel whose money is not there yet the operator risks for a payer who owes nothing, by
    currency; what comes of it and isn't paid is owed, and the payer is denied at gates until it is.
    `identified_a_day`: how often a face is named in 24 hours; after that the answer is as for a stranger.
    `travel_on_account`: up to how much, by currency, who has a card on file rides without money before the card is
    charged, which is after 24 hours at the latest; a currency that is not in it: nobody does.
    """

    passback: timedelta = timedelta(seconds=60)
    face_alone: Mapping[str, FaceAlone] = field(default_factory=lambda: {"EUR": FaceAlone()})
    confirm_within: timedelta = timedelta(minutes=2)
    disputes_refunded_at_once: Mapping[str, int] = field(default_factory=lambda: {"EUR": 50_00})
    ride_risk: Mapping[str, int] = field(default_factory=dict)
    travel_on_account: Mapping[str, int] = field(default_factory=dict)
    identified_a_day: int = 40


@dataclass(frozen=True)
class Paid:
    """A payment before this one: at a gate the payer's last one there, at a till one of the very same purchase."""

    at: datetime
    amount: int


@dataclass(frozen=True)
class Situation:
    """What is known of the one payer who matched, at `now`; amounts in minor units.

    `at_gate`: the terminal is an unattended transport gate. `confirmed`: this payment has a second factor.
    `alone_total`, `alone_in_a_row`: paid at tills by face alone since the last second factor.
    """

    now: datetime
    at_gate: bool
    holds_currency: str
    available: int
    last_paid: Paid | None
    spent_today: int
    daily_limit: int | None
    alone_total: int
    alone_in_a_row: int
    confirmed: bool


@dataclass(frozen=True)
class Decision:
    """What the terminal is told; a reason unless accepted."""

    outcome: Outcome
    reason: Reason | None


def decide(amount: int, currency: str, situation: Situation, rules: Rules) -> Decision:
    """Whether `amount` minor units of `currency` are charged to the one payer who matched."""
    if _covered(situation, rules):
        return Decision(Outcome.ALREADY_PAID, Reason.PAID_MOMENTS_AGO)
    if currency != situation.holds_currency:
        return Decision(Outcome.REFUSED, Reason.CURRENCY_NOT_HELD)
    if situation.available < amount:
        return Decision(Outcome.REFUSED, Reason.INSUFFICIENT_FUNDS)
    if situation.daily_limit is not None and situation.spent_today + amount > situation.daily_limit:
        return Decision(Outcome.REFUSED, Reason.DAILY_LIMIT)
    if not (situation.confirmed or situation.at_gate or _may_face_alone(amount, currency, situation, rules)):
        return Decision(Outcome.CONFIRMATION_REQUIRED, Reason.SECOND_FACTOR)
    return Decision(Outcome.ACCEPTED, None)


def _covered(situation: Situation, rules: Rules) -> bool:
    paid = situation.last_paid
    return paid is not None and (not situation.at_gate or situation.now - paid.at < rules.passback)


def _may_face_alone(amount: int, currency: str, situation: Situation, rules: Rules) -> bool:
    limits = rules.face_alone.get(currency)
    return (
        limits is not None
        and amount <= limits.single
        and situation.alone_total + amount <= limits.total
        and situation.alone_in_a_row < limits.in_a_row
    )
