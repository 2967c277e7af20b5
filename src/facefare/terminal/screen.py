"""What a gate or a till shows to the person in front of it, and to nobody else.

A screen never shows a name, a score or a picture.
"""

import enum
from dataclasses import dataclass
from typing import Protocol


class State(enum.Enum):
    """One full-screen state, readable from three metres."""

    IDLE = "idle"
    LOOK_HERE = "look_here"
    WAIT = "wait"
    ACCEPTED = "accepted"
    ALREADY_PAID = "already_paid"
    USE_CARD = "use_card"
    REFUSED = "refused"
    OUT_OF_SERVICE = "out_of_service"


@dataclass(frozen=True)
class Shown:
    """A state with what it says.

    Attributes:
        state: which of the full-screen states.
        amount: minor units, of the fare or the till's amount.
        currency: ISO 4217.
        reason: a code from the wallet, such as "insufficient_funds"; None where there is nothing to explain.
        hint: the one thing to change, such as "come closer"; None where there is none.
    """

    state: State
    amount: int
    currency: str
    reason: str | None = None
    hint: str | None = None


class Screen(Protocol):
    """Where a terminal shows its state."""

    def show(self, shown: Shown) -> None:
        """Show it until the next call; returns at once."""
