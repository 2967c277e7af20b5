"""Read a tariff from the plain files of a GTFS feed with Fares v2 (gtfs.org/documentation/schedule/reference).

Read: agency (time zone), rider_categories, fare_products, fare_leg_rules (with or without rule_priority),
fare_transfer_rules, timeframes with calendar and calendar_dates, areas, stop_areas, networks and
routes.network_id, stops (places, parent stations). Only fare_products and fare_leg_rules must be there.

Not read, because nothing of it can be told from a tap or the format leaves it to the reader:
fare_leg_join_rules (interchange inside the gates needs no second tap here), agencies' own columns
(transfer_only rows are left out; they describe the transfer, which we have), locations without stops.

Differences to know: a transfer's time is counted from the journey's first leg; a transfer that costs less
than the leg before it (type 2) makes the next leg free and returns nothing; negative products (discounts)
are refused. Caps are not part of GTFS: add them to the version.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from pathlib import Path

from pydantic import ValidationError

from facefare.fares.errors import TariffError
from facefare.fares.tariff import (
    Band,
    DurationType,
    LegRule,
    Network,
    Product,
    Selector,
    Stop,
    Tariff,
    TariffVersion,
    Timeframe,
    TransferRule,
    TransferType,
    minor_units,
)

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Row = Mapping[str, str]


def read_gtfs(
    folder: Path,
    *,
    tariff_id: str,
    effective_from: date,
    fare_medium: str = "",
    tap_out: frozenset[str] = frozenset(),
) -> Tariff:
    """Return the feed's fares as a tariff of one version.

    `fare_medium`: take the prices of this fare_media_id, and those tied to no medium. `tap_out`: the networks
    where leaving is tapped too, which the format does not say. Raises TariffError with the file and what is
    wrong in it.
    """
    try:
        products, currency = _products(folder, fare_medium)
        version = TariffVersion(
            effective_from=effective_from,
            products=products,
            rules=_leg_rules(folder, frozenset(product.id for product in products)),
            transfers=_transfer_rules(folder),
            timeframes=_timeframes(folder),
            networks={name: Network(tap_out=name in tap_out) for name in _networks(folder) | tap_out | {""}},
            stops=_stops(folder),
        )
        zone = next((row["agency_timezone"] for row in _rows(folder, "agency.txt")), "UTC")
        return Tariff(id=tariff_id, currency=currency, versions=(version,), timezone=zone)
    except ValidationError as error:
        problems = "; ".join(problem["msg"] for problem in error.errors())
        raise TariffError(f"The feed in {folder.name} contradicts itself: {problems}.") from error
    except KeyError as error:
        raise TariffError(f"The feed in {folder.name} lacks the column {error}.") from error
    except ValueError as error:
        raise TariffError(f"The feed in {folder.name} has a malformed field: {error}.") from error


def _rows(folder: Path, name: str) -> Iterator[Row]:
    path = folder / name
    if not path.exists():
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield {key.strip(): (value or "").strip() for key, value in row.items() if isinstance(key, str)}


def _products(folder: Path, medium: str) -> tuple[tuple[Product, ...], str]:
    adult = {
        row["rider_category_id"]
        for row in _rows(folder, "rider_categories.txt")
        if row.get("is_default_fare_category") == "1"
    }
    amounts: dict[str, dict[str, int]] = {}
    names: dict[str, str] = {}
    currencies: set[str] = set()
    for row in _rows(folder, "fare_products.txt"):
        if row.get("fare_media_id", "") not in ("", medium):
            continue
        product, category = row["fare_product_id"], row.get("rider_category_id", "")
        amount = minor_units(row["amount"], row["currency"])
        if amount < 0:
            raise TariffError(f"Product {product} has a negative amount; discounts can't be imported.")
        # Of the same product tied to no medium and to ours, the cheaper is what the rider is owed.
        known = amounts.setdefault(product, {})
        category = "" if category in adult else category
        known[category] = min(amount, known.get(category, amount))
        names[product] = row.get("fare_product_name", "")
        currencies.add(row["currency"])
    if len(currencies) != 1:
        raise TariffError(f"fare_products.txt must have products of one currency, it has {len(currencies)}.")
    products = tuple(Product(id=name, amounts=by, name=names[name]) for name, by in amounts.items())
    return products, currencies.pop()


def _leg_rules(folder: Path, products: frozenset[str]) -> tuple[LegRule, ...]:
    rows = [row for row in _rows(folder, "fare_leg_rules.txt") if row.get("transfer_only", "") != "1"]
    prioritised = any("rule_priority" in row for row in rows)

    def selector(row: Row, column: str) -> Selector:
        if row.get(column):
            return Selector(only=frozenset({row[column]}))
        # With priorities an empty field matches all; without them, all that no other row names.
        return Selector() if prioritised else Selector(excluding=_named(rows, column))

    return tuple(
        LegRule(
            id=f"leg-{number}",
            bands=(Band(product=row["fare_product_id"]),),
            network=selector(row, "network_id"),
            origin=selector(row, "from_area_id"),
            destination=selector(row, "to_area_id"),
            from_timeframe=row.get("from_timeframe_group_id", ""),
            to_timeframe=row.get("to_timeframe_group_id", ""),
            group=row.get("leg_group_id", ""),
            priority=int(row.get("rule_priority") or 0),
        )
        for number, row in enumerate(rows)
        if row["fare_product_id"] in products  # not sold on this medium
    )


def _transfer_rules(folder: Path) -> tuple[TransferRule, ...]:
    rows = list(_rows(folder, "fare_transfer_rules.txt"))

    def selector(row: Row, column: str) -> Selector:
        if row.get(column):
            return Selector(only=frozenset({row[column]}))
        return Selector(excluding=_named(rows, column))

    return tuple(
        TransferRule(
            origin=selector(row, "from_leg_group_id"),
            destination=selector(row, "to_leg_group_id"),
            count=int(row.get("transfer_count") or -1),
            within_s=int(row["duration_limit"]) if row.get("duration_limit") else None,
            within=DurationType(int(row.get("duration_limit_type") or 1)),
            type=TransferType(int(row["fare_transfer_type"])),
            product=row.get("fare_product_id", ""),
        )
        for row in rows
    )


def _named(rows: Iterable[Row], column: str) -> frozenset[str]:
    return frozenset(row[column] for row in rows if row.get(column))


def _timeframes(folder: Path) -> dict[str, tuple[Timeframe, ...]]:
    regular = {row["service_id"]: row for row in _rows(folder, "calendar.txt")}
    exceptions: dict[str, dict[str, set[date]]] = {}
    for row in _rows(folder, "calendar_dates.txt"):
        kinds = exceptions.setdefault(row["service_id"], {"1": set(), "2": set()})
        kinds[row["exception_type"]].add(_date(row["date"]))
    frames: dict[str, tuple[Timeframe, ...]] = {}
    for row in _rows(folder, "timeframes.txt"):
        days = regular.get(row["service_id"])
        changed = exceptions.get(row["service_id"], {"1": set(), "2": set()})
        weekdays = (number for number, name in enumerate(_WEEKDAYS) if days and days[name] == "1")
        frame = Timeframe(
            weekdays=frozenset(weekdays),
            valid_from=_date(days["start_date"]) if days else date.min,
            valid_to=_date(days["end_date"]) if days else date.max,
            start=_time(row.get("start_time", "")) or time(0),
            end=_time(row.get("end_time", "")),
            added=frozenset(changed["1"]),
            removed=frozenset(changed["2"]),
        )
        group = row["timeframe_group_id"]
        frames[group] = (*frames.get(group, ()), frame)
    return frames


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError as error:
        raise TariffError(f"{text!r} is not a date of the form YYYYMMDD.") from error


def _time(text: str) -> time | None:
    """Return a time of day; None for an empty field or 24:00:00, which both mean the day's end."""
    if text in ("", "24:00:00"):
        return None
    try:
        hours, minutes, seconds = (int(part) for part in text.split(":"))
        return time(hours, minutes, seconds)
    except ValueError as error:
        raise TariffError(f"{text!r} is not a time of day of the form HH:MM:SS.") from error


def _networks(folder: Path) -> set[str]:
    listed = {row["network_id"] for row in _rows(folder, "networks.txt")}
    return listed | {row["network_id"] for row in _rows(folder, "routes.txt") if row.get("network_id")}


def _stops(folder: Path) -> dict[str, Stop]:
    areas: dict[str, set[str]] = {}
    for row in _rows(folder, "stop_areas.txt"):
        areas.setdefault(row["stop_id"], set()).add(row["area_id"])
    stops: dict[str, Stop] = {stop: Stop(areas=frozenset(names)) for stop, names in areas.items()}
    for row in _rows(folder, "stops.txt"):
        stop = row["stop_id"]
        # A platform is where its station is unless it has areas of its own.
        of_station = areas.get(row.get("parent_station", ""), set())
        stops[stop] = Stop(
            areas=frozenset(areas.get(stop, of_station)),
            latitude=float(row["stop_lat"]) if row.get("stop_lat") else None,
            longitude=float(row["stop_lon"]) if row.get("stop_lon") else None,
        )
    return stops
