"""The rule that turns an answer into a payment or not: a pure function, no database, no clock.

Whoever isn't exactly one enrolled payer is asked for a card and told no more: an answer never says whether
a face is known, paused or like another's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Outcome(StrEnum):
    """What the terminal does."""

    ACCEPTED = "accepted"
    ALREADY_PAID = "already_paid"
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


@dataclass(frozen=True)
class Rules:
    """What the operator sets. `passback` is how long a payment at one terminal covers the same payer."""

    passback: timedelta = timedelta(seconds=60)


@dataclass(frozen=True)
class Situation:
    """What is known of the one payer who matched, at `now`.

    `available` is in minor units of `holds_currency`; `last_paid` is when this payer last paid at this
    terminal, if ever.
    """

    now: datetime
    holds_currency: str
    available: int
    last_paid: datetime | None


@dataclass(frozen=True)
class Decision:
    """What the terminal is told; a reason unless accepted."""

    outcome: Outcome
    reason: Reason | None


def decide(amount: int, currency: str, situation: Situation, rules: Rules) -> Decision:
    """Whether `amount` minor units of `currency` are charged to the one payer who matched."""
    if situation.last_paid is not None and situation.now - situation.last_paid < rules.passback:
        return Decision(Outcome.ALREADY_PAID, Reason.PAID_MOMENTS_AGO)
    if currency != situation.holds_currency:
        return Decision(Outcome.REFUSED, Reason.CURRENCY_NOT_HELD)
    if situation.available < amount:
        return Decision(Outcome.REFUSED, Reason.INSUFFICIENT_FUNDS)
    return Decision(Outcome.ACCEPTED, None)
