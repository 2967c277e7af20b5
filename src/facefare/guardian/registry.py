"""Whom this guardian knows: galleries, terminals and stations, as its own operator registered them.

Job: small tables in the guardian's one database file, written by the ceremony, read at each request, so
that a registration made while the service runs counts at once.
Invariant: nothing here comes from the relay or from another guardian.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from facefare.guardian.database import SHARES, open_database
from facefare.guardian.errors import CeremonyError, StoreError
from facefare.guardian.messages import MAX_DIMENSIONS, REGISTRY_IDS
from facefare.mpc.admission import InputRule
from facefare.publickeys import ed25519

GalleryKind = Literal["live", "demo"]
LEAST_RATE = 1 / 600
"""Searches a second of a terminal: a rested one may make one after ten minutes, which is as long as requests count."""


@dataclass(frozen=True)
class GalleryDefinition:
    """What all three guardians must agree on before a gallery has its first row; it never changes.

    Attributes:
        id: "gal_…".
        kind: "demo" galleries take references from stations that are for demos only.
        model: the embedder whose templates it holds.
        dimensions: D, even.
        min_squared_norm, max_squared_norm: the input rule for quantised templates.
        min_threshold, max_threshold: the thresholds a search may ask for (negative squared distances).
    """

    id: str
    kind: GalleryKind
    model: str
    dimensions: int
    min_squared_norm: int
    max_squared_norm: int
    min_threshold: int
    max_threshold: int

    def __post_init__(self) -> None:
        _checked_id("gallery", self.id)
        if self.kind not in ("live", "demo"):
            raise CeremonyError("A gallery is of kind live or demo.")
        if self.dimensions > MAX_DIMENSIONS:
            raise CeremonyError(f"A gallery has at most {MAX_DIMENSIONS} dimensions.")
        try:
            _ = self.rule
        except ValueError as error:
            raise CeremonyError(str(error)) from None
        if not -32_767 <= self.min_threshold <= self.max_threshold < 0:
            raise CeremonyError("Thresholds lie within -32,767 and -1, the smaller one first.")

    @property
    def rule(self) -> InputRule:
        """The input rule of the protocol."""
        return InputRule(self.dimensions, self.min_squared_norm, self.max_squared_norm)

    def to_json(self) -> str:
        """One exact text for one definition; its hash is where a gallery's history starts."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Terminal:
    """A gate or a till: it may search in these galleries, `rate` times a second and `daily` times a day at most."""

    id: str
    public_key: bytes
    galleries: tuple[str, ...]
    rate: float | None = None
    daily: int | None = None


@dataclass(frozen=True)
class Station:
    """An enrolment station: it may enrol into these galleries; `demo_only`: only into those made as demo."""

    id: str
    public_key: bytes
    galleries: tuple[str, ...]
    demo_only: bool


def _checked_id(kind: str, value: str) -> str:
    try:
        return cast(str, REGISTRY_IDS[kind](value))
    except ValueError as error:
        raise CeremonyError(f"The id of a {kind} {error}.") from None


class Registry:
    """The registrations in one guardian's database file."""

    def __init__(self, path: Path) -> None:
        self._database = open_database(path, SHARES)

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def add_gallery(self, definition: GalleryDefinition) -> None:
        """Make a gallery; the same one again is fine, a different one of that id is a `CeremonyError`."""
        self._add("galleries", "definition", definition.id, definition.to_json(), may_replace=False)

    def add_terminal(self, terminal: Terminal) -> None:
        """Register a terminal, or replace its registration (a new key, other galleries)."""
        _checked_id("terminal", terminal.id)
        if terminal.rate is not None and terminal.rate < LEAST_RATE:
            raise CeremonyError("A terminal's rate is at least one search in ten minutes.")
        if terminal.daily is not None and terminal.daily < 1:
            raise CeremonyError("A terminal makes at least one search a day.")
        limits = {name: most for name in ("rate", "daily") if (most := getattr(terminal, name)) is not None}
        text = json.dumps({"key": _key_hex(terminal.public_key), "galleries": terminal.galleries, **limits})
        self._add("terminals", "registration", terminal.id, text, may_replace=True)

    def add_station(self, station: Station) -> None:
        """Register an enrolment station, or replace its registration."""
        _checked_id("station", station.id)
        text = json.dumps(
            {
                "key": _key_hex(station.public_key),
                "galleries": station.galleries,
                "demo_only": station.demo_only,
            }
        )
        self._add("stations", "registration", station.id, text, may_replace=True)

    def remove(self, kind: Literal["terminals", "stations"], name: str) -> None:
        """Take a terminal or station out of the registry; from now on its requests are refused.

        Raises CeremonyError where there is none of that id.
        """
        if self._database.execute(f"DELETE FROM {kind} WHERE id = ?", (name,)).rowcount == 0:  # noqa: S608
            raise CeremonyError(f"{name} is not registered at this guardian.")

    def galleries(self) -> list[GalleryDefinition]:
        """All galleries, by id."""
        rows = self._database.execute("SELECT definition FROM galleries ORDER BY id").fetchall()
        return [GalleryDefinition(**json.loads(text)) for (text,) in rows]

    def gallery(self, name: str) -> GalleryDefinition | None:
        """The gallery of this id, if there is one."""
        body = self._one("SELECT definition FROM galleries WHERE id = ?", name)
        return None if body is None else GalleryDefinition(**body)

    def terminal(self, name: str) -> Terminal | None:
        """The terminal of this id, if it is registered."""
        body = self._one("SELECT registration FROM terminals WHERE id = ?", name)
        if body is None:
            return None
        return Terminal(name, bytes.fromhex(body["key"]), tuple(body["galleries"]), body.get("rate"), body.get("daily"))

    def station(self, name: str) -> Station | None:
        """The station of this id, if it is registered."""
        body = self._one("SELECT registration FROM stations WHERE id = ?", name)
        if body is None:
            return None
        return Station(name, bytes.fromhex(body["key"]), tuple(body["galleries"]), body["demo_only"])

    def terminals(self) -> list[Terminal]:
        """All terminals, by id."""
        return [found for name in self._ids("terminals") if (found := self.terminal(name)) is not None]

    def stations(self) -> list[Station]:
        """All enrolment stations, by id."""
        return [found for name in self._ids("stations") if (found := self.station(name)) is not None]

    def _ids(self, table: Literal["terminals", "stations"]) -> list[str]:
        return [name for (name,) in self._database.execute(f"SELECT id FROM {table} ORDER BY id")]  # noqa: S608

    def _one(self, query: str, name: str) -> dict[str, Any] | None:
        row = self._database.execute(query, (name,)).fetchone()
        return None if row is None else cast(dict[str, Any], json.loads(row[0]))

    def _add(self, table: str, column: str, name: str, text: str, *, may_replace: bool) -> None:
        conflict = f"DO UPDATE SET {column} = excluded.{column}" if may_replace else "DO NOTHING"
        try:
            self._database.execute(
                f"INSERT INTO {table} (id, {column}) VALUES (?, ?) ON CONFLICT (id) {conflict}",  # noqa: S608
                (name, text),
            )
        except sqlite3.Error as error:
            raise StoreError(f"{name} could not be registered: {error}.") from error
        (kept,) = self._database.execute(f"SELECT {column} FROM {table} WHERE id = ?", (name,)).fetchone()  # noqa: S608
        if kept != text:
            raise CeremonyError(f"{name} exists already with another definition; it can't be changed.")


def _key_hex(key: bytes) -> str:
    try:
        return ed25519(key).public_bytes_raw().hex()
    except ValueError as error:
        raise CeremonyError(f"That is no Ed25519 public key of 32 bytes: {error}") from error
