"""The posted price: what a gate may say a passage costs before it knows who comes.

For an adult who has not travelled yet: concessions, transfers and caps can only make it less. Where leaving is
tapped, the other end is not known, so the price is a range over all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from facefare.fares.errors import UnknownFare
from facefare.fares.journeys import Tap, TapKind
from facefare.fares.pricing import price_week
from facefare.fares.tariff import Tariff, TariffVersion

_MOMENT = timedelta(seconds=1)  # between the two taps of a ride that is only thought of


@dataclass(frozen=True)
class Posted:
    """Minor units; `least` and `most` are equal where the price is known. It may be another one from `until` on."""

    least: int
    most: int
    until: datetime


def posted(tariff: Tariff, stop: str, kind: TapKind, network: str, at: datetime) -> Posted:
    """What a tap here comes to at this moment; raises UnknownFare, TariffError.

    `most` is what a ride whose other end is never tapped costs.
    """
    version = tariff.version_on(tariff.fare_day(at))
    here = Tap("here", at, stop, kind, network)
    most = _cost(tariff, here)
    if network not in tariff.tap_out_networks(tariff.fare_day(at)):
        return Posted(most, most, _next_change(tariff, version, at))
    costs = list(_costs_of_rides(tariff, version, here))
    if not costs:
        raise UnknownFare(f"No rule of tariff {tariff.id} prices a ride by {stop}.")
    return Posted(min(costs), max(most, *costs), _next_change(tariff, version, at))


def _costs_of_rides(tariff: Tariff, version: TariffVersion, here: Tap) -> Iterator[int]:
    for other in _other_ends(version, here.stop):
        there = Tap("there", here.at, other, TapKind.ENTRY, here.network)
        if here.kind is TapKind.ENTRY:
            taps = here, Tap("there", here.at + _MOMENT, other, TapKind.EXIT, here.network)
        else:
            taps = there, Tap("here", here.at + _MOMENT, here.stop, TapKind.EXIT, here.network)
        try:
            yield _cost(tariff, *taps)
        except UnknownFare:
            continue  # nobody can ride there


def _other_ends(version: TariffVersion, stop: str) -> Iterator[str]:
    """Stops that a ride may lead to: where distance doesn't count, one of each set of zones is enough."""
    by_distance = any(band.up_to_metres is not None for rule in version.rules for band in rule.bands)
    seen: set[frozenset[str]] = set()
    for name, known in version.stops.items():
        if name == stop or (not by_distance and known.areas in seen):
            continue
        seen.add(known.areas)
        yield name
    if not version.stops:
        yield ""  # a tariff that knows no stops charges the same everywhere


def _cost(tariff: Tariff, *taps: Tap) -> int:
    (charge,) = price_week(taps, tariff, tariff.fare_week(taps[0].at), now=taps[-1].at)
    return charge.amount or charge.reserve


def _next_change(tariff: Tariff, version: TariffVersion, at: datetime) -> datetime:
    """The next moment at which another timeframe, weekday, fare day or version may begin."""
    frames = [frame for group in version.timeframes.values() for frame in group]
    clocks = {time(0), time(tariff.day_starts_at), *(frame.start for frame in frames)}
    clocks |= {frame.end for frame in frames if frame.end is not None}
    local = tariff.local(at)
    moments = (
        datetime.combine(local.date() + timedelta(days=day), clock, local.tzinfo).astimezone(UTC)
        for day in (0, 1)
        for clock in clocks
    )
    return min(moment for moment in moments if moment > at)
