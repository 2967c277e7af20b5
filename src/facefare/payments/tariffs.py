"""Tariffs as versioned data with effective dates, and which stop of which tariff a terminal is.

Invariants: a version that was imported is never changed, a later one replaces it; what a tariff is besides its
versions (currency, clock, when days begin) stays as it was first imported.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.fares.errors import TariffError
from facefare.fares.journeys import TapKind
from facefare.fares.posted import Posted, posted
from facefare.fares.tariff import Tariff
from facefare.payments import tables, travel_tables
from facefare.payments.errors import NoFarePoint, UnknownTerminal


@dataclass(frozen=True)
class Listed:
    """One version of a tariff, and the fare day it takes effect."""

    tariff_id: str
    currency: str
    effective_from: date


@dataclass(frozen=True)
class FarePoint:
    """Where a terminal stands. `kind`: entry or exit of a network where leaving is tapped, or flat."""

    tariff_id: str
    stop: str
    kind: str
    network: str = ""

    @property
    def tap_kind(self) -> TapKind:
        """What a tap here is to the fare rules."""
        return TapKind.EXIT if self.kind == "exit" else TapKind.ENTRY


def import_tariff(connection: Connection, tariff: Tariff) -> list[date]:
    """Add the versions that are new; the days they take effect. Raises TariffError.

    A version known already must be the same as it was; a new one must take effect after all that are known.
    """
    terms = _canonical(tariff.model_dump(exclude={"versions"}))
    connection.execute(upsert(travel_tables.tariff).values(id=tariff.id, terms=terms).on_conflict_do_nothing())
    columns, versions = travel_tables.tariff.c, travel_tables.tariff_version.c
    known_terms = connection.execute(
        select(columns.terms).where(columns.id == tariff.id).with_for_update()
    ).scalar_one()
    if known_terms != terms:
        raise TariffError(f"Tariff {tariff.id} has another currency, clock or journey limit; give a new one a new id.")
    known: dict[date, bytes] = {
        row.effective_from: row.sha256
        for row in connection.execute(
            select(versions.effective_from, versions.sha256).where(versions.tariff_id == tariff.id)
        )
    }
    added = []
    for version in tariff.versions:
        document = _canonical(version.model_dump())
        digest = hashlib.sha256(document.encode()).digest()
        day = version.effective_from
        if day in known:
            if known[day] != digest:
                raise TariffError(f"The version of {day} is known with other contents; a version is never changed.")
            continue
        if known and day < max(known):
            raise TariffError(f"A version of {max(known)} is known; a new one must take effect after it.")
        connection.execute(
            insert(travel_tables.tariff_version).values(
                tariff_id=tariff.id, effective_from=day, document=document, sha256=digest
            )
        )
        known[day] = digest
        added.append(day)
    return added


def listed(connection: Connection) -> list[Listed]:
    """Every version of every tariff, by tariff and day."""
    columns, versions = travel_tables.tariff.c, travel_tables.tariff_version.c
    rows = connection.execute(
        select(columns.id, columns.terms, versions.effective_from)
        .join(travel_tables.tariff_version, versions.tariff_id == columns.id)
        .order_by(columns.id, versions.effective_from)
    )
    return [Listed(row.id, json.loads(row.terms)["currency"], row.effective_from) for row in rows]


def load(connection: Connection, tariff_id: str) -> Tariff:
    """The tariff with all its versions; raises TariffError where there is none."""
    versions = travel_tables.tariff_version.c
    digests = connection.execute(
        select(versions.sha256).where(versions.tariff_id == tariff_id).order_by(versions.effective_from)
    ).scalars()
    key = hashlib.sha256(tariff_id.encode() + b"".join(digests)).digest()
    if (known := _loaded.get(key)) is not None:
        return known
    terms = connection.execute(
        select(travel_tables.tariff.c.terms).where(travel_tables.tariff.c.id == tariff_id)
    ).scalar_one_or_none()
    if terms is None:
        raise TariffError(f"There is no tariff {tariff_id}.")
    documents = connection.execute(
        select(versions.document).where(versions.tariff_id == tariff_id).order_by(versions.effective_from)
    ).scalars()
    loaded = Tariff.model_validate({**json.loads(terms), "versions": [json.loads(document) for document in documents]})
    if len(_loaded) >= _KEEP_LOADED:
        _loaded.clear()
    _loaded[key] = loaded
    return loaded


def assign(connection: Connection, terminal_id: str, point: FarePoint) -> None:
    """Let the gate charge this tariff's fares at this stop from now on.

    Raises UnknownTerminal unless it is a registered gate, TariffError where the tariff does not know the place.
    """
    kind = connection.execute(
        select(tables.terminal.c.kind).where(
            tables.terminal.c.id == terminal_id, tables.terminal.c.revoked_at.is_(None)
        )
    ).scalar_one_or_none()
    if kind != "gate":
        raise UnknownTerminal(f"{terminal_id} is not a registered gate.")
    newest = load(connection, point.tariff_id).versions[-1]
    network = newest.networks.get(point.network)
    if network is None:
        raise TariffError(f"Tariff {point.tariff_id} has no network {point.network!r}.")
    if newest.stops and point.stop not in newest.stops:
        raise TariffError(f"Tariff {point.tariff_id} has no stop {point.stop}.")
    if point.kind not in ("entry", "exit", "flat") or network.tap_out != (point.kind != "flat"):
        raise TariffError("A gate is entry or exit where leaving is tapped too, and flat elsewhere.")
    connection.execute(
        upsert(travel_tables.fare_point)
        .values(terminal_id=terminal_id, **vars(point))
        .on_conflict_do_update(index_elements=["terminal_id"], set_=vars(point))
    )


def point_of(connection: Connection, terminal_id: object) -> FarePoint:
    """Where the terminal stands; raises NoFarePoint."""
    columns = travel_tables.fare_point.c
    row = connection.execute(select(travel_tables.fare_point).where(columns.terminal_id == terminal_id)).one_or_none()
    if row is None:
        raise NoFarePoint("This terminal was given no stop and tariff; it must ask for an amount.")
    return FarePoint(row.tariff_id, row.stop, row.kind, row.network)


def posted_at(connection: Connection, terminal_id: object, now: datetime) -> tuple[FarePoint, str, Posted]:
    """Where the terminal stands, the currency there, and what its screen may say a passage costs now.

    Raises NoFarePoint, TariffError, UnknownFare.
    """
    point = point_of(connection, terminal_id)
    tariff = load(connection, point.tariff_id)
    known = _posted.get(point)
    if known is None or known[0] is not tariff or not now < known[1].until:
        if len(_posted) >= _KEEP_POSTED:
            _posted.clear()
        known = _posted[point] = tariff, posted(tariff, point.stop, point.tap_kind, point.network, now)
    return point, tariff.currency, known[1]


def grant(connection: Connection, payer_id: str, tariff_id: str, category: str, through: date) -> None:
    """Give the payer a concession of this tariff up to and including a fare day.

    Raises TariffError where the tariff, or this category in all its versions, does not exist.
    """
    known = sorted({name for version in load(connection, tariff_id).versions for name in version.categories})
    if category not in known:
        raise TariffError(
            f"Tariff {tariff_id} has no rider category {category!r}; it has: {', '.join(known) or 'none'}."
        )
    values = {"category": category, "through": through}
    connection.execute(
        upsert(travel_tables.concession)
        .values(payer_id=payer_id, tariff_id=tariff_id, **values)
        .on_conflict_do_update(index_elements=["payer_id", "tariff_id"], set_=values)
    )


def category_of(connection: Connection, payer_id: str, tariff_id: str, day: date) -> str:
    """The payer's rider category on a fare day; "" for an adult."""
    columns = travel_tables.concession.c
    found = connection.execute(
        select(columns.category).where(
            columns.payer_id == payer_id, columns.tariff_id == tariff_id, columns.through >= day
        )
    ).scalar_one_or_none()
    return str(found or "")


_KEEP_LOADED, _KEEP_POSTED = 16, 10_000
_loaded: dict[bytes, Tariff] = {}
"""Parsed tariffs by what they are made of; a big feed takes a second to parse."""

_posted: dict[FarePoint, tuple[Tariff, Posted]] = {}
"""Each place's last posted price, and of which tariff it is."""


def _canonical(data: dict[str, object]) -> str:
    def plain(value: object) -> object:
        if isinstance(value, frozenset):
            return sorted(value)
        return str(value)  # dates and times, in ISO 8601

    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=plain)
