from datetime import UTC, date, datetime, timedelta

import pytest

from facefare.fares.journeys import Tap, TapKind
from facefare.fares.tariff import (
    Band,
    Cap,
    LegRule,
    Network,
    Period,
    Product,
    Selector,
    Stop,
    Tariff,
    TariffVersion,
    Timeframe,
    TransferRule,
)

MONDAY = date(2026, 3, 2)
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LATER = START + timedelta(days=30)


def only(*names: str) -> Selector:
    return Selector(only=frozenset(names))


@pytest.fixture(scope="session")
def flat() -> Tariff:
    """1.00 single, 10.00 a day, 25.00 a week."""
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="single", amounts={"": 100}),),
        rules=(LegRule(id="any", bands=(Band(product="single"),)),),
        caps=(
            Cap(id="day", period=Period.DAY, amounts={"": 1000}),
            Cap(id="week", period=Period.WEEK, amounts={"": 2500}),
        ),
    )
    return Tariff(id="flat", currency="EUR", versions=(version,))


@pytest.fixture(scope="session")
def city() -> Tariff:
    """Metro by zone with tap-out, bus flat, transfer within 90 minutes, peak, concessions, caps."""

    def rule(name, product, network, a=None, b=None, **more):
        ends = {"origin": only(a) if a else Selector(), "destination": only(b) if b else Selector()}
        return LegRule(id=name, bands=(Band(product=product),), network=only(network), group=network, **ends, **more)

    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(
            Product(id="one", amounts={"": 200, "child": 50}),
            Product(id="two", amounts={"": 300, "child": 75}),
            Product(id="peak", amounts={"": 380}),
            Product(id="bus", amounts={"": 150}),
            Product(id="missing", amounts={"": 350}),
        ),
        rules=(
            rule("1-1", "one", "metro", "z1", "z1"),
            rule("2-2", "one", "metro", "z2", "z2"),
            rule("1-2", "two", "metro", "z1", "z2"),
            rule("2-1", "two", "metro", "z2", "z1"),
            rule("1-2p", "peak", "metro", "z1", "z2", from_timeframe="rush", priority=1),
            rule("bus", "bus", "bus"),
        ),
        transfers=(
            TransferRule(origin=only("metro"), destination=only("bus"), within_s=5400),
            TransferRule(origin=only("bus"), destination=only("bus"), within_s=5400, count=1),
        ),
        caps=(
            Cap(id="day", period=Period.DAY, amounts={"": 800, "child": 200}),
            Cap(id="week", period=Period.WEEK, amounts={"": 3000}),
            Cap(id="bus day", period=Period.DAY, amounts={"": 400}, networks=frozenset({"bus"})),
        ),
        timeframes={"rush": (Timeframe(weekdays=frozenset(range(5)), start="07:00", end="09:00"),)},
        networks={"metro": Network(tap_out=True), "bus": Network()},
        stops={
            "A": Stop(areas=frozenset({"z1"})),
            "B": Stop(areas=frozenset({"z1"})),
            "C": Stop(areas=frozenset({"z2"})),
            "D": Stop(areas=frozenset({"z2"})),
        },
        concessions={"senior": 50},
        maximum_product="missing",
    )
    return Tariff(id="city", currency="EUR", versions=(version,))


class Rider:
    """Makes taps at minutes after START."""

    def __init__(self) -> None:
        self.count = 0

    def _tap(self, kind: TapKind, stop: str, minute: float, network: str) -> Tap:
        self.count += 1
        return Tap(f"tap{self.count}", START + timedelta(minutes=minute), stop, kind, network)

    def enter(self, stop: str, minute: float, network: str = "metro") -> Tap:
        return self._tap(TapKind.ENTRY, stop, minute, network)

    def leave(self, stop: str, minute: float, network: str = "metro") -> Tap:
        return self._tap(TapKind.EXIT, stop, minute, network)


@pytest.fixture
def rider() -> Rider:
    return Rider()
