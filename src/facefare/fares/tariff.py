"""A tariff as versioned data.

A `Tariff` is what one operator charges: currency, clock, and `versions` with the day each takes effect.
A version says which product each leg costs (`rules`), what a change between legs costs (`transfers`), how
far a day or a week can go (`caps`), and which concessions exist. The shapes follow GTFS Fares v2 (products,
leg rules, transfer rules, timeframes), with distance bands, caps and percentage concessions added, which
that format lacks.

Invariants, checked on construction:

- every amount is an integer number of minor units (ISO 4217) and not negative;
- every product, timeframe and network that is referred to exists;
- versions have distinct effective days; a version is never changed, a later one replaces it.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facefare.fares.errors import TariffError
from facefare.files import explained, sentence

Amount = Annotated[int, Field(ge=0, strict=True)]
Weekday = Annotated[int, Field(ge=0, le=6)]

# ISO 4217 currencies whose minor unit is not a hundredth, among those fares are charged in.
_EXPONENTS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
_EARTH_RADIUS_M = 6_371_009  # mean radius, IUGG


def currency_exponent(currency: str) -> int:
    """Return how many decimal places one unit of `currency` has (ISO 4217)."""
    return _EXPONENTS.get(currency, 2)


def minor_units(amount: str, currency: str) -> int:
    """Turn a decimal amount ("2.80") into minor units (280); raises TariffError if it does not fit exactly."""
    try:
        scaled = Decimal(amount).scaleb(currency_exponent(currency))
        whole = int(scaled)
    except (ArithmeticError, ValueError) as error:
        raise TariffError(f"{amount!r} is not an amount of {currency}.") from error
    if whole != scaled:
        raise TariffError(f"{amount} {currency} is finer than the currency's minor unit.")
    return whole


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Product(_Data):
    """What a leg or a transfer costs, by rider category; "" is the adult price.

    A product with neither the rider's category nor "" is not for this rider.
    """

    id: str
    amounts: Annotated[dict[str, Amount], Field(min_length=1)]
    name: str = ""


class Stop(_Data):
    """A stop or station: the zones it is in, and where it is (degrees) if fares go by distance."""

    areas: frozenset[str] = frozenset()
    latitude: float | None = None
    longitude: float | None = None


class Network(_Data):
    """A set of lines with one way of tapping. `tap_out`: leaving is tapped too."""

    tap_out: bool = False


class Timeframe(_Data):
    """Times of day [start, end) on some days; `end` None is midnight. `added` and `removed` are exceptions."""

    weekdays: frozenset[Weekday] = frozenset(range(7))  # 0 is Monday
    start: time = time(0)
    end: time | None = None
    valid_from: date = date.min
    valid_to: date = date.max
    added: frozenset[date] = frozenset()
    removed: frozenset[date] = frozenset()

    def contains(self, local: datetime) -> bool:
        """Tell whether a local time of the tariff's zone lies in this timeframe."""
        day, clock = local.date(), local.time().replace(tzinfo=None)
        regular = self.valid_from <= day <= self.valid_to and day.weekday() in self.weekdays
        if day in self.removed or not (regular or day in self.added):
            return False
        return self.start <= clock and (self.end is None or clock < self.end)


class Selector(_Data):
    """Which networks or areas a rule is for: any of `only` (None: all), and none of `excluding`."""

    only: frozenset[str] | None = None
    excluding: frozenset[str] = frozenset()

    def matches(self, having: frozenset[str]) -> bool:
        """Tell whether something with these names is selected."""
        return (self.only is None or bool(self.only & having)) and not self.excluding & having


class Band(_Data):
    """From the last band's end up to `up_to_metres` (None: any distance) a leg costs `product`."""

    up_to_metres: Annotated[int, Field(gt=0)] | None = None
    product: str


class LegRule(_Data):
    """One rule for a leg. Of the rules that match, the highest priority decides; among equals the cheapest.

    `bands` has one entry for a flat or zonal price, several in rising order for a price by distance (great
    circle between the two stops).
    """

    id: str
    bands: tuple[Band, ...]
    network: Selector = Selector()
    origin: Selector = Selector()
    destination: Selector = Selector()
    from_timeframe: str = ""
    to_timeframe: str = ""
    group: str = ""
    priority: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _bands_rise(self) -> Self:
        ends = [band.up_to_metres for band in self.bands]
        limits = [end for end in ends if end is not None]
        if not ends or None in ends[:-1] or limits != sorted(set(limits)):
            raise ValueError(f"the bands of rule {self.id} must rise, and only the last can be endless")
        return self


class TransferType(IntEnum):
    """How a transfer is priced (GTFS fare_transfer_type): S so far, AB the transfer, B the next leg."""

    TRANSFER_ONLY = 0  # S + AB
    TRANSFER_AND_LEG = 1  # S + AB + B
    INSTEAD = 2  # AB in place of the first leg, then S + AB


class DurationType(IntEnum):
    """Between which two taps a transfer's window runs (GTFS duration_limit_type)."""

    DEPARTURE_TO_ARRIVAL = 0
    DEPARTURE_TO_DEPARTURE = 1
    ARRIVAL_TO_DEPARTURE = 2
    ARRIVAL_TO_ARRIVAL = 3


class TransferRule(_Data):
    """What changing from a leg of one group to a leg of another costs.

    `count`: how many changes of a journey it covers, -1 for any. `within_s` seconds, counted from the
    journey's *first* leg: that is what riders know as a 90-minute ticket. `product` "" costs nothing.
    """

    origin: Selector = Selector()
    destination: Selector = Selector()
    count: int = -1
    within_s: Annotated[int, Field(gt=0)] | None = None
    within: DurationType = DurationType.DEPARTURE_TO_DEPARTURE
    type: TransferType = TransferType.TRANSFER_ONLY
    product: str = ""


class Period(StrEnum):
    """How long a cap runs."""

    DAY = "day"
    WEEK = "week"


class Cap(_Data):
    """The most that legs in `networks` (None: all) can cost in one fare day or week, by rider category."""

    id: str
    period: Period
    amounts: dict[str, Amount]
    networks: frozenset[str] | None = None

    @model_validator(mode="after")
    def _has_an_adult_amount(self) -> Self:
        if "" not in self.amounts:
            raise ValueError(f'cap {self.id} has no amount for the category ""')
        return self

    def amount(self, category: str) -> int:
        """Return the cap for a category; one without its own has the adult cap."""
        return self.amounts.get(category, self.amounts[""])


class TariffVersion(_Data):
    """Everything that is charged from the fare day `effective_from` until the next version."""

    effective_from: date
    products: tuple[Product, ...]
    rules: tuple[LegRule, ...]
    transfers: tuple[TransferRule, ...] = ()
    caps: tuple[Cap, ...] = ()
    timeframes: dict[str, tuple[Timeframe, ...]] = {}
    networks: dict[str, Network] = {"": Network()}
    stops: dict[str, Stop] = {}
    # Percent off, for categories a product names no price of its own for; rounded in the payer's favour.
    concessions: dict[str, Annotated[int, Field(ge=0, le=100)]] = {}
    # The most an incomplete journey costs; "" leaves it at the dearest rule that fits the tap there is.
    maximum_product: str = ""

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        products = {product.id for product in self.products}
        if len(products) != len(self.products):
            raise ValueError("two products have the same id")
        named = {band.product for rule in self.rules for band in rule.bands}
        named |= {rule.product for rule in self.transfers} | {self.maximum_product}
        if missing := named - products - {""}:
            raise ValueError(f"no such product: {', '.join(sorted(missing))}")
        frames = {frame for rule in self.rules for frame in (rule.from_timeframe, rule.to_timeframe)}
        if missing := frames - self.timeframes.keys() - {""}:
            raise ValueError(f"no such timeframe: {', '.join(sorted(missing))}")
        if missing := {name for cap in self.caps for name in cap.networks or ()} - self.networks.keys():
            raise ValueError(f"no such network: {', '.join(sorted(missing))}")
        return self

    @property
    def categories(self) -> frozenset[str]:
        """The rider categories that have a price or a cap of their own, or pay less, adults aside."""
        priced = [product.amounts for product in self.products]
        capped = [cap.amounts for cap in self.caps]
        return frozenset(self.concessions).union(*priced, *capped) - {""}

    def amount(self, product: str, category: str) -> int | None:
        """Return what a product costs a rider of this category, in minor units.

        The product "" is free. None: it is not for this rider.
        """
        if not product:
            return 0
        amounts = next(known.amounts for known in self.products if known.id == product)
        if category in amounts:
            return amounts[category]
        if "" not in amounts:
            return None
        return amounts[""] * (100 - self.concessions.get(category, 0)) // 100

    def distance_m(self, origin: str, destination: str) -> int | None:
        """Return metres along the great circle between two stops, or None where a place is not known."""
        places = [self.stops.get(stop, Stop()) for stop in (origin, destination)]
        degrees = [value for place in places for value in (place.latitude, place.longitude)]
        if any(value is None for value in degrees):
            return None
        south, west, north, east = (radians(value) for value in degrees if value is not None)
        half = sin((north - south) / 2) ** 2 + cos(south) * cos(north) * sin((east - west) / 2) ** 2
        return round(2 * _EARTH_RADIUS_M * asin(min(1.0, sqrt(half))))


class Tariff(_Data):
    """One operator's fares: the clock they go by, and their versions, oldest first."""

    id: str
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    versions: tuple[TariffVersion, ...]
    timezone: str = "UTC"
    # Fare days and weeks begin at this hour, so that a night out is one day.
    day_starts_at: Annotated[int, Field(ge=0, le=12)] = 4
    week_starts_on: Weekday = 0
    longest_journey_s: Annotated[int, Field(gt=0, le=24 * 3600)] = 4 * 3600
    # How long after a missing tap the rider's next one still says where they were.
    completion_s: Annotated[int, Field(gt=0, le=24 * 3600)] = 3 * 3600

    @model_validator(mode="after")
    def _versions_in_order(self) -> Self:
        days = [version.effective_from for version in self.versions]
        if not days or days != sorted(set(days)):
            raise ValueError("versions must be ordered by distinct effective days, at least one")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"no such time zone: {self.timezone}") from error
        return self

    def local(self, at: datetime) -> datetime:
        """Return the instant on the operator's clock."""
        return at.astimezone(ZoneInfo(self.timezone))

    def fare_day(self, at: datetime) -> date:
        """Return the fare day an instant belongs to."""
        return (self.local(at).replace(tzinfo=None) - timedelta(hours=self.day_starts_at)).date()

    def fare_week(self, at: datetime) -> date:
        """Return the first day of the fare week an instant belongs to; weeks are named by it."""
        day = self.fare_day(at)
        return day - timedelta(days=(day.weekday() - self.week_starts_on) % 7)

    def history_window(self, week: date) -> tuple[datetime, datetime]:
        """Return the span [from, to) of taps that pricing this fare week needs.

        It is the week and, at both ends, the longest time by which one tap can bear on another.
        """
        zone = ZoneInfo(self.timezone)
        # In UTC, because arithmetic within one zone would go by the wall clock.
        start, end = (
            datetime.combine(day, time(self.day_starts_at), zone).astimezone(UTC)
            for day in (week, week + timedelta(days=7))
        )
        margin = timedelta(seconds=max(self.longest_journey_s, self.completion_s))
        return start - margin, end + margin

    def version_on(self, day: date) -> TariffVersion:
        """Return the version in force on a fare day; raises TariffError if none is yet."""
        for version in reversed(self.versions):
            if version.effective_from <= day:
                return version
        raise TariffError(f"Tariff {self.id} has no version in force on {day}.")

    def with_version(self, version: TariffVersion) -> "Tariff":
        """Return this tariff with a later version added; raises TariffError unless it is the latest."""
        if version.effective_from <= self.versions[-1].effective_from:
            raise TariffError("A new version must take effect after every version there is.")
        return self.model_copy(update={"versions": (*self.versions, version)})

    def tap_out_networks(self, day: date) -> Iterator[str]:
        """Yield the networks where leaving is tapped too, on a fare day."""
        return (name for name, network in self.version_on(day).networks.items() if network.tap_out)


def load_tariff(path: Path) -> Tariff:
    """Read a tariff from a JSON file; raises TariffError with what is wrong and where."""
    try:
        return Tariff.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise TariffError(f"{path.name} is not a valid tariff: {explained(error)}.") from error
    except OSError as error:
        raise TariffError(sentence(error)) from error
