"""Travel periods: many small rides, few captures.

As card schemes have it for transit, rides are gathered from the first one on for a travel period (24 hours)
and captured together when it ends, or earlier whenever they reach the spend limit. The grouping depends only
on when the rides were made, not on when they came in.

Invariants: every ride is in exactly one capture; the captures' sum is the rides' sum; a capture exceeds the
limit only if a single ride does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

PERIOD = timedelta(hours=24)


@dataclass(frozen=True, repr=False)
class Ride:
    """What one leg came to. `amount` in minor units, not negative."""

    id: str
    at: datetime
    amount: int


@dataclass(frozen=True, repr=False)
class Capture:
    """Rides to be captured together at `due`; `amount` in minor units."""

    opened: datetime
    due: datetime
    rides: tuple[Ride, ...]

    @property
    def amount(self) -> int:
        """The rides' sum."""
        return sum(ride.amount for ride in self.rides)


def captures_of(rides: Iterable[Ride], *, spend_limit: int, period: timedelta = PERIOD) -> list[Capture]:
    """Gather rides into captures, in order of travel.

    A capture is due when its period ends, or at the ride that would have taken it over `spend_limit`.
    """
    captures: list[Capture] = []
    opened: datetime | None = None
    gathered: list[Ride] = []
    for ride in sorted(rides, key=lambda ride: (ride.at, ride.id)):
        if opened is None or ride.at >= opened + period:
            if opened is not None:
                captures.append(Capture(opened, opened + period, tuple(gathered)))
            opened, gathered = ride.at, [ride]
        elif sum(earlier.amount for earlier in gathered) + ride.amount > spend_limit:
            captures.append(Capture(opened, ride.at, tuple(gathered)))
            gathered = [ride]  # the period itself runs on
        else:
            gathered.append(ride)
    if opened is not None:
        captures.append(Capture(opened, opened + period, tuple(gathered)))
    return captures
