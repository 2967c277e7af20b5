"""What a payer's week of travel costs, and what one more tap adds to it.

Nothing is remembered between calls: a fare week is always priced as a whole, from its taps. So the order in
which taps arrive cannot change the total, and a tap that comes in late is simply part of the next
calculation. Each leg, in order of travel, goes through:

1. its own price: the rule that matches, in the rider's category; the maximum fare if a tap is missing;
2. the transfer rule from the leg before it, if that makes it cheaper;
3. each cap that covers it: what is left of the cap is the most it can cost.

A gate payment is the difference between this total and what was already charged for the week: a `charge`, or
a `refund` when a late tap made the week cheaper (an exit that closes a journey at less than the maximum
fare). It is never both and never negative. A leg under way costs nothing yet; `reserve` says what to hold for
it.

Invariants: a leg never costs more than the dearest rule nor less than nothing; no cap is ever exceeded; the
same taps cost the same, whenever and in whatever order they come (`now` matters only to a leg under way).

A leg belongs to the fare day and week it began in; transfers do not reach across the week's start. Near the
boundary, one tap can change the adjoining week too: price each week once more when it is closed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from facefare.fares.errors import UnknownFare
from facefare.fares.explain import Line
from facefare.fares.journeys import Leg, LegState, Tap, legs_of
from facefare.fares.tariff import (
    Cap,
    DurationType,
    LegRule,
    Period,
    Tariff,
    TariffVersion,
    TransferRule,
    TransferType,
)


@dataclass(frozen=True, repr=False)
class Charge:
    """What one leg costs. `amount` and `reserve` in minor units; one of them is always 0."""

    leg: Leg
    day: date
    amount: int
    reserve: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, repr=False)
class Quote:
    """What one more tap comes to. Minor units; `charge` and `refund` are never both positive."""

    charge: int
    refund: int
    reserve: int
    week: date
    week_total: int
    lines: tuple[Line, ...]


def quote(
    tap: Tap, history: Iterable[Tap], tariff: Tariff, *, charged: int, now: datetime, category: str = ""
) -> Quote:
    """Price one more tap.

    `history`: the payer's earlier taps within `tariff.history_window` of the week. `charged`: what was
    captured less what was refunded for that fare week so far (`Quote.week` names it). Raises UnknownFare
    where no rule prices a leg, so that a gate can say so before it opens.
    """
    taps = [*history, tap]
    week = next(tariff.fare_week(leg.began) for leg in legs_of(taps, tariff, now) if tap in leg.taps)
    charges = price_week(taps, tariff, week, now=now, category=category)
    total = sum(charge.amount for charge in charges)
    refund = max(0, charged - total)
    lines = next(charge.lines for charge in charges if tap in charge.leg.taps)
    if refund:
        lines = (*lines, Line("fare.refund", {"amount": refund}))
    reserve = sum(charge.reserve for charge in charges)
    return Quote(max(0, total - charged), refund, reserve, week, total, lines)


def price_day(taps: Iterable[Tap], tariff: Tariff, day: date, *, now: datetime, category: str = "") -> list[Charge]:
    """Price one fare day, in the light of the taps of its week that are given."""
    anchor = next((leg.began for leg in legs_of(taps, tariff, now) if tariff.fare_day(leg.began) == day), None)
    if anchor is None:
        return []
    charges = price_week(taps, tariff, tariff.fare_week(anchor), now=now, category=category)
    return [charge for charge in charges if charge.day == day]


def price_week(taps: Iterable[Tap], tariff: Tariff, week: date, *, now: datetime, category: str = "") -> list[Charge]:
    """Price every leg that began in a fare week, in order of travel.

    `taps` may reach beyond the week (see `Tariff.history_window`); `category` is the rider's concession, ""
    for an adult. Raises UnknownFare where no rule prices a leg.
    """
    charges: list[Charge] = []
    spent: dict[tuple[str, date], int] = {}
    journey: _Journey | None = None
    for leg in legs_of(taps, tariff, now):
        if tariff.fare_week(leg.began) != week:
            continue
        day = tariff.fare_day(leg.began)
        version = tariff.version_on(day)
        price = _price(leg, version, tariff, category)
        lines = list(price.lines)
        due = price.amount
        if leg.state in (LegState.COMPLETE, LegState.COMPLETED):
            journey, due = _transfer(journey, leg, price, version, category)
            if due < price.amount:
                lines.append(Line("fare.transfer", {"saved": price.amount - due}))
        else:
            journey = None
        caps = [cap for cap in version.caps if cap.networks is None or leg.network in cap.networks]
        for cap in caps:
            left = max(0, cap.amount(category) - spent.get(_key(cap, day, week), 0))
            if left < due:
                saved = {"saved": due - left, "cap": cap.amount(category)}
                lines.append(Line(f"fare.capped.{cap.period}", saved))
                due = left
        if leg.state is LegState.OPEN:
            lines.append(Line("fare.open", {"reserve": due}))
            charges.append(Charge(leg, day, 0, due, tuple(lines)))
            continue
        for cap in caps:
            key = _key(cap, day, week)
            spent[key] = spent.get(key, 0) + due
        charges.append(Charge(leg, day, due, 0, tuple(lines)))
    return charges


def _key(cap: Cap, day: date, week: date) -> tuple[str, date]:
    return cap.id, day if cap.period is Period.DAY else week


@dataclass(frozen=True)
class _Price:
    amount: int
    group: str
    lines: tuple[Line, ...]


def _price(leg: Leg, version: TariffVersion, tariff: Tariff, category: str) -> _Price:
    """Price a leg by itself: the matching rule, or the maximum fare."""
    reasons: list[Line] = []
    found = None
    entered = leg.taps[0].stop == leg.origin
    if leg.state in (LegState.COMPLETE, LegState.COMPLETED):
        found = _best(_matching(leg, version, tariff, whole=True), leg, version, category)
        if found is None and leg.state is LegState.COMPLETE:
            raise UnknownFare(f"No rule of tariff {tariff.id} prices the leg from {leg.origin}.")
        if found is not None and leg.state is LegState.COMPLETED:
            end, stop = ("exit", leg.destination) if entered else ("entry", leg.origin)
            reasons.append(Line(f"fare.completed.{end}", {"stop": stop or ""}))
    if found is None:
        found = _maximum(leg, version, tariff, category)
        if leg.state is not LegState.OPEN:
            reasons.append(Line(f"fare.incomplete.{'exit' if entered else 'entry'}", {}))
    full = version.amount(found.product, "")
    if full is not None and full > found.amount:
        reasons.append(Line("fare.concession", {"category": category, "saved": full - found.amount}))
    else:
        full = found.amount
    return _Price(found.amount, found.group, (Line("fare.leg", {"amount": full}), *reasons))


@dataclass(frozen=True)
class _Fare:
    amount: int
    product: str
    group: str


def _matching(leg: Leg, version: TariffVersion, tariff: Tariff, *, whole: bool) -> list[LegRule]:
    """Return the rules that fit; unless `whole`, an end that isn't known fits every rule.

    Of a whole leg with one tap only, both ends are taken to have the time of that tap.
    """
    began, ended = tariff.local(leg.began), tariff.local(leg.ended)

    def fits(rule: LegRule) -> bool:
        if not rule.network.matches(frozenset({leg.network})):
            return False
        for selector, stop in ((rule.origin, leg.origin), (rule.destination, leg.destination)):
            if stop is None and not whole:
                continue
            areas = version.stops[stop].areas if stop in version.stops else frozenset[str]()
            if not selector.matches(areas):
                return False
        for name, moment, stop in (
            (rule.from_timeframe, began, leg.origin),
            (rule.to_timeframe, ended, leg.destination),
        ):
            if not name or (stop is None and not whole):
                continue
            if not any(frame.contains(moment) for frame in version.timeframes[name]):
                return False
        return True

    return [rule for rule in version.rules if fits(rule)]


def _best(rules: Sequence[LegRule], leg: Leg, version: TariffVersion, category: str) -> _Fare | None:
    priced = []
    for rule in rules:
        product = _product(rule, leg, version)
        amount = None if product is None else version.amount(product, category)
        if product is not None and amount is not None:
            priced.append((-rule.priority, amount, rule.id, _Fare(amount, product, rule.group)))
    return min(priced, key=lambda entry: entry[:3])[-1] if priced else None


def _product(rule: LegRule, leg: Leg, version: TariffVersion) -> str | None:
    if len(rule.bands) == 1 and rule.bands[0].up_to_metres is None:
        return rule.bands[0].product
    if leg.origin is None or leg.destination is None:
        return None
    distance = version.distance_m(leg.origin, leg.destination)
    if distance is None:
        return None
    for band in rule.bands:
        if band.up_to_metres is None or distance <= band.up_to_metres:
            return band.product
    return None


def _maximum(leg: Leg, version: TariffVersion, tariff: Tariff, category: str) -> _Fare:
    """Return what a leg with a missing end costs at most: the dearest rule that fits the end there is."""
    if leg.state is LegState.COMPLETED:  # the evidence leads nowhere the tariff knows
        entered = leg.taps[0].stop == leg.origin
        origin, destination = (leg.origin, None) if entered else (None, leg.destination)
        leg = Leg(leg.taps, LegState.INCOMPLETE, origin, destination)
    products = {band.product for rule in _matching(leg, version, tariff, whole=False) for band in rule.bands}
    amounts = {product: version.amount(product, category) for product in products}
    fares = [_Fare(amount, product, "") for product, amount in amounts.items() if amount is not None]
    if not fares:
        raise UnknownFare(f"No rule of tariff {tariff.id} prices a leg at {leg.taps[0].stop}.")
    dearest = max(fares, key=lambda fare: (fare.amount, fare.product))
    limit = version.amount(version.maximum_product, category) if version.maximum_product else None
    if limit is not None and limit < dearest.amount:
        return _Fare(limit, version.maximum_product, "")
    return dearest


@dataclass(frozen=True)
class _Journey:
    """Legs joined by transfers: where it began, how many changes, what it costs before caps."""

    first: Leg
    changes: int
    group: str
    total: int


def _transfer(
    journey: _Journey | None, leg: Leg, price: _Price, version: TariffVersion, category: str
) -> tuple[_Journey, int]:
    """Return the journey this leg is part of, and what the leg adds to it (never more than its own price)."""
    alone = _Journey(leg, 0, price.group, price.amount)
    if journey is None:
        return alone, price.amount
    rule = _transfer_rule(journey, leg, price.group, version)
    if rule is None:
        return alone, price.amount
    change = version.amount(rule.product, category)
    if change is None:
        return alone, price.amount
    match rule.type:
        case TransferType.TRANSFER_ONLY:
            added = change
        case TransferType.TRANSFER_AND_LEG:
            added = change + price.amount
        case TransferType.INSTEAD:
            # What was paid stays paid: a transfer cheaper than the first leg makes the next one free.
            added = max(0, change - journey.total) if journey.changes == 0 else change
    if added > price.amount:
        return alone, price.amount
    return _Journey(journey.first, journey.changes + 1, price.group, journey.total + added), added


def _transfer_rule(journey: _Journey, leg: Leg, group: str, version: TariffVersion) -> TransferRule | None:
    """Return the rule that fits with the smallest count, as GTFS says."""
    fitting = [
        rule
        for rule in version.transfers
        if rule.origin.matches(frozenset({journey.group}))
        and rule.destination.matches(frozenset({group}))
        and (rule.count == -1 or journey.changes < rule.count)
        and _in_time(rule, journey.first, leg)
    ]
    return min(fitting, key=lambda rule: (rule.count == -1, rule.count), default=None)


def _in_time(rule: TransferRule, first: Leg, leg: Leg) -> bool:
    if rule.within_s is None:
        return True
    from_departure = rule.within in (DurationType.DEPARTURE_TO_ARRIVAL, DurationType.DEPARTURE_TO_DEPARTURE)
    to_arrival = rule.within in (DurationType.DEPARTURE_TO_ARRIVAL, DurationType.ARRIVAL_TO_ARRIVAL)
    start = first.began if from_departure else first.ended
    end = leg.ended if to_arrival else leg.began
    return (end - start).total_seconds() <= rule.within_s
