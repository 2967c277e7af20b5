"""From a payer's taps to the legs they travelled.

Taps are sorted by the time they were made, so the order in which gates got around to sending them has no
effect. Where leaving is tapped, an entry is paired with the next exit within the tariff's longest journey.
A tap that is missing is filled in where the evidence allows:

- exit missing, and the next boarding is elsewhere and soon enough: the rider left where they boarded next;
- entry missing, and the last exit was elsewhere and recent enough: they entered where they had left.

Otherwise the leg is incomplete. An entry still young enough to be under way is open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from facefare.fares.errors import BadTap
from facefare.fares.tariff import Tariff


class TapKind(StrEnum):
    """Whether a rider went in or out; a bus where only boarding is tapped has entries only."""

    ENTRY = "entry"
    EXIT = "exit"


@dataclass(frozen=True, repr=False)
class Tap:
    """One accepted reading at a gate or aboard. `at` has a time zone; `id` is unique."""

    id: str
    at: datetime
    stop: str
    kind: TapKind = TapKind.ENTRY
    network: str = ""

    def __post_init__(self) -> None:
        if self.at.utcoffset() is None:
            raise BadTap("A tap needs a time with its time zone.")


class LegState(StrEnum):
    """How well a leg is known."""

    COMPLETE = "complete"
    COMPLETED = "completed"  # one end filled in from evidence
    INCOMPLETE = "incomplete"
    OPEN = "open"  # still under way


@dataclass(frozen=True, repr=False)
class Leg:
    """One ride. `origin` or `destination` None: not known, or (boarding only) not asked."""

    taps: tuple[Tap, ...]
    state: LegState
    origin: str | None
    destination: str | None

    @property
    def id(self) -> str:
        """The id of its first tap."""
        return self.taps[0].id

    @property
    def network(self) -> str:
        """The network it began in."""
        return self.taps[0].network

    @property
    def began(self) -> datetime:
        """When it began, as far as is known."""
        return self.taps[0].at

    @property
    def ended(self) -> datetime:
        """When it ended, as far as is known."""
        return self.taps[-1].at


def legs_of(taps: Iterable[Tap], tariff: Tariff, now: datetime) -> list[Leg]:
    """Return the legs behind these taps, in order of travel.

    The same tap twice counts once. Raises BadTap if one id names two different taps.
    """
    legs: list[Leg] = []
    inside: Tap | None = None  # the entry that waits for its exit
    last_exit: Tap | None = None
    for tap in _in_order(taps):
        taps_out = tap.network in tariff.tap_out_networks(tariff.fare_day(tap.at))
        if tap.kind is TapKind.ENTRY:
            if inside is not None:
                legs.append(_without_exit(inside, tap, tariff))
            if taps_out:
                inside = tap
            else:
                inside = None
                legs.append(Leg((tap,), LegState.COMPLETE, tap.stop, None))
            continue
        if inside is not None and _seconds(inside, tap) <= tariff.longest_journey_s:
            legs.append(Leg((inside, tap), LegState.COMPLETE, inside.stop, tap.stop))
        else:
            if inside is not None:
                legs.append(Leg((inside,), LegState.INCOMPLETE, inside.stop, None))
            legs.append(_without_entry(tap, last_exit, tariff))
        inside, last_exit = None, tap
    if inside is not None:
        under_way = now - inside.at <= timedelta(seconds=tariff.longest_journey_s)
        legs.append(Leg((inside,), LegState.OPEN if under_way else LegState.INCOMPLETE, inside.stop, None))
    return legs


def _in_order(taps: Iterable[Tap]) -> list[Tap]:
    unique: dict[str, Tap] = {}
    for tap in taps:
        if unique.setdefault(tap.id, tap) != tap:
            raise BadTap("Two different taps have the same id.")
    # At one instant a rider leaves before they enter; ids make the order total.
    return sorted(unique.values(), key=lambda tap: (tap.at, tap.kind is TapKind.ENTRY, tap.id))


def _without_exit(entry: Tap, following: Tap, tariff: Tariff) -> Leg:
    if following.stop != entry.stop and _seconds(entry, following) <= tariff.completion_s:
        return Leg((entry,), LegState.COMPLETED, entry.stop, following.stop)
    return Leg((entry,), LegState.INCOMPLETE, entry.stop, None)


def _without_entry(leaving: Tap, previous: Tap | None, tariff: Tariff) -> Leg:
    if previous is not None and previous.stop != leaving.stop and _seconds(previous, leaving) <= tariff.completion_s:
        return Leg((leaving,), LegState.COMPLETED, previous.stop, leaving.stop)
    return Leg((leaving,), LegState.INCOMPLETE, None, leaving.stop)


def _seconds(earlier: Tap, later: Tap) -> float:
    return (later.at - earlier.at).total_seconds()
