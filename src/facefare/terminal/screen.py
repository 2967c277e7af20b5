"""What a gate or a till shows to the person in front of it, and to nobody else.

A screen never shows a name, a score or a picture.
"""

import enum
from dataclasses import dataclass
from typing import Protocol


class State(enum.Enum):
    """One full-screen state, readable from three metres. `AMOUNT`, `APPROVE`, `PIN` and `PHONE` are a till's only."""

    IDLE = "idle"
    AMOUNT = "amount"
    APPROVE = "approve"
    LOOK_HERE = "look_here"
    WAIT = "wait"
    PIN = "pin"
    PHONE = "phone"
    ACCEPTED = "accepted"
    ALREADY_PAID = "already_paid"
    USE_CARD = "use_card"
    SEVERAL = "several"
    REFUSED = "refused"
    NO_NETWORK = "no_network"
    OUT_OF_SERVICE = "out_of_service"


@dataclass(frozen=True)
class Shown:
    """A state with what it says.

    Attributes:
        state: which of the full-screen states.
        amount: minor units, of the fare or of what is paid at the till, tip included; once paid, what was charged.
        currency: ISO 4217.
        reason: a code from the wallet, such as "insufficient_funds"; None where there is nothing to explain.
        hint: the one thing to change, such as "come closer"; None where there is none.
        receipt: id of the receipt; None where there is none.
        at_most: minor units; where the other end of a ride decides, the fare is from `amount` to this.
        code: what the code for paying without a face leads to; None where none is offered.
    """

    state: State
    amount: int
    currency: str
    reason: str | None = None
    hint: str | None = None
    receipt: str | None = None
    at_most: int | None = None
    code: str | None = None


def state_of(outcome: str, reason: str | None) -> State:
    """What answers look like where nothing more can be asked for: a factor that is missing takes the card."""
    if reason == "several_match":
        return State.SEVERAL
    return State.USE_CARD if outcome == "confirmation_required" else State(outcome)


class Screen(Protocol):
    """Where a terminal shows its state."""

    def show(self, shown: Shown) -> None:
        """Show it until the next call; returns at once."""
