"""What a passage costs, as a terminal says it before anybody is asked for it: its own amount, or the tariff's.

Invariants:
  - a price that is not known, or whose time is over, is no price: the terminal is out of service until it is;
  - a gate that charges by the tariff stands where its file says, by the wallet's own word;
  - the last word is kept on the disk, so a gate that starts without a network still knows its price.
"""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from facefare.client import ApiError, PostedFare
from facefare.terminal.errors import ConfigurationError

REFRESH_EVERY = 60.0
_RETRY_AFTER = 3.0  # seconds


@dataclass(frozen=True)
class Price:
    """Minor units: from `least` to `most`, which are equal where the other end of a ride doesn't count."""

    least: int
    most: int
    currency: str


class Fare(Protocol):
    """What a terminal asks for: `amount` minor units, or None for what the tariff says of this payer."""

    @property
    def amount(self) -> int | None:
        """What the wallet is asked to charge."""

    @property
    def currency(self) -> str:
        """ISO 4217."""

    @property
    def settles(self) -> bool:
        """Whether the wallet's answer says what the passage cost; after going in, only leaving will tell."""

    def price(self) -> Price | None:
        """What the screen says; None while it isn't known."""


@dataclass(frozen=True)
class FixedFare:
    """The same for everybody: minor units, more than 0, of an ISO 4217 currency."""

    amount: int
    currency: str
    settles = True

    def __post_init__(self) -> None:
        if self.amount <= 0:
            raise ValueError("A fare is more than 0.")

    def price(self) -> Price:
        """The amount."""
        return Price(self.amount, self.amount, self.currency)


@dataclass(frozen=True)
class Place:
    """Where a gate stands by its own file. `kind`: entry or exit where leaving is tapped, or flat."""

    stop: str
    kind: str
    currency: str
    network: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("entry", "exit", "flat"):
            raise ValueError("A gate is of the kind entry, exit or flat.")


class TariffFare:
    """What the tariff says at this gate, asked of the wallet once a minute."""

    amount = None

    def __init__(self, place: Place, ask: Callable[[], PostedFare], file: Path) -> None:
        """`ask` raises ApiError. `file` keeps the wallet's last word; raises ConfigurationError as `refresh` does."""
        self.currency = place.currency
        self._place = place
        self._ask = ask
        self._file = file
        self._posted: PostedFare | None = None
        if file.exists():
            try:
                self._take(PostedFare(**json.loads(file.read_text())))
            except (ValueError, TypeError):
                file.unlink()  # damaged: the wallet says it again

    @property
    def settles(self) -> bool:
        """After going in, only leaving will tell, unless the price is one."""
        price = self.price()
        return self._place.kind != "entry" or (price is not None and price.least == price.most)

    def price(self) -> Price | None:
        """The wallet's last word, as long as it holds."""
        said = self._posted
        if said is None or datetime.now(UTC) >= datetime.fromisoformat(said.until):
            return None
        return Price(said.least, said.most, said.currency)

    def refresh(self) -> None:
        """Ask the wallet. Raises ApiError, and ConfigurationError where it has this gate at another place."""
        said = self._ask()
        self._take(said)
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(asdict(said)))
        os.replace(new, self._file)

    def _take(self, said: PostedFare) -> None:
        there = Place(said.stop, said.kind, said.currency, said.network)
        if there != self._place:
            self._posted = None
            raise ConfigurationError(
                f"By its file this gate is {_said(self._place)}, the wallet has it as {_said(there)};"
                " correct one of them (facefare fares assign)."
            )
        self._posted = said

    def refresh_until(self, stopped: threading.Event, say: Callable[[str, dict[str, object]], None]) -> None:
        """Refresh every minute, and when the price's time is over, for a thread of its own."""
        while True:
            wait = REFRESH_EVERY
            try:
                self.refresh()
                if self._posted is not None:
                    left = datetime.fromisoformat(self._posted.until) - datetime.now(UTC)
                    wait = min(REFRESH_EVERY, max(left, timedelta(0)).total_seconds())
            except ApiError as error:
                say("fare_unknown", {"code": error.code, "detail": error.detail})
                wait = _RETRY_AFTER
            except ConfigurationError as error:
                say("fare_unknown", {"code": "another-place", "detail": str(error)})
            if stopped.wait(wait):
                return


def _said(place: Place) -> str:
    network = f" of network {place.network}" if place.network else ""
    return f"{place.kind} at {place.stop}{network}, in {place.currency}"
