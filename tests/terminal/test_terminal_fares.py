"""A gate that charges what the tariff says: what its screen says before, and that it knows it or is out of service."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.client import AttemptReply, PostedFare, Unreachable
from facefare.guardian.ceremony import write_key
from facefare.terminal.approach import Approach, Lane
from facefare.terminal.configuration import Configuration
from facefare.terminal.errors import ConfigurationError
from facefare.terminal.fares import FixedFare, Place, Price, TariffFare
from facefare.terminal.gate import Gate
from facefare.terminal.screen import State

EMPTY = np.full((480, 640, 3), 90, np.uint8)
ENTRY = Place("Arena", "entry", "EUR", "metro")


def posted(place: Place = ENTRY, least: int = 200, most: int = 300, minutes: float = 5) -> PostedFare:
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    return PostedFare("town", place.stop, place.network, place.kind, "EUR", least, most, until)


class Wallet:
    def __init__(self, said: PostedFare | Exception) -> None:
        self.said = said

    def fare(self) -> PostedFare:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def gone() -> Exception:
    return Unreachable(TimeoutError())  # type: ignore[arg-type]


def fare_of(wallet: Wallet, folder: Path, place: Place = ENTRY) -> TariffFare:
    return TariffFare(place, wallet.fare, folder / "gate.fare")


def test_a_price_is_the_wallets_word_until_its_time_is_over(tmp_path: Path) -> None:
    wallet = Wallet(posted())
    fare = fare_of(wallet, tmp_path)
    assert fare.price() is None
    fare.refresh()
    assert (fare.price(), fare.amount, fare.settles) == (Price(200, 300, "EUR"), None, False)
    wallet.said = posted(minutes=-1)
    fare.refresh()
    assert fare.price() is None


def test_a_gate_that_starts_without_a_network_knows_the_last_price(tmp_path: Path) -> None:
    fare_of(Wallet(posted()), tmp_path).refresh()
    fare = fare_of(Wallet(gone()), tmp_path)
    assert fare.price() == Price(200, 300, "EUR")
    with pytest.raises(Unreachable):
        fare.refresh()
    assert fare.price() == Price(200, 300, "EUR")
    (tmp_path / "gate.fare").write_text("{")
    assert fare_of(Wallet(gone()), tmp_path).price() is None


@pytest.mark.parametrize(
    "elsewhere",
    [Place("Beach", "entry", "EUR", "metro"), Place("Arena", "exit", "EUR", "metro"), Place("Arena", "entry", "EUR")],
)
def test_a_gate_that_the_wallet_has_elsewhere_has_no_price(tmp_path: Path, elsewhere: Place) -> None:
    wallet = Wallet(posted())
    fare = fare_of(wallet, tmp_path)
    fare.refresh()
    wallet.said = posted(elsewhere)
    with pytest.raises(ConfigurationError, match="facefare fares assign"):
        fare.refresh()
    assert fare.price() is None
    (tmp_path / "gate.fare").write_text(json.dumps(vars(posted(elsewhere))))
    with pytest.raises(ConfigurationError):
        fare_of(wallet, tmp_path)


def test_the_price_is_asked_again_until_the_gate_stops(tmp_path: Path) -> None:
    wallet, said, stopped = Wallet(gone()), [], threading.Event()
    fare = fare_of(wallet, tmp_path)
    thread = threading.Thread(
        target=fare.refresh_until, args=(stopped, lambda *what: (said.append(what), stopped.set()))
    )
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert [(event, facts["code"]) for event, facts in said] == [("fare_unknown", "unreachable")]


def configured(folder: Path, fare: str) -> Configuration:
    if not (folder / "terminal.pem").exists():
        write_key(folder / "terminal.pem", Ed25519PrivateKey.generate())
    file = folder / "gate.toml"
    file.write_text(
        'id = "trm_gate"\nkey = "terminal.pem"\nwallet = "http://127.0.0.1:9"\ngallery = "gal_town"\n'
        f"guardians = []\nfare = {fare}\n"
    )
    return Configuration.load(file)


def test_a_terminals_file_names_an_amount_or_a_place(tmp_path: Path) -> None:
    assert configured(tmp_path, '{ amount = 280, currency = "EUR" }').fare == FixedFare(280, "EUR")
    by_tariff = configured(tmp_path, '{ currency = "EUR", stop = "Arena", kind = "entry", network = "metro" }')
    assert by_tariff.fare == ENTRY
    for wrong in (
        '{ currency = "EUR" }',
        '{ currency = "EUR", stop = "Arena", kind = "sideways" }',
        '{ amount = 0, currency = "EUR" }',
        "{ amount = 280 }",
        '{ amount = 280, currency = "EUR", stop = "Arena" }',
    ):
        with pytest.raises(ConfigurationError):
            configured(tmp_path, wrong)


# --- at the gate ---


class Desk:
    """A gate with a fare, and what it showed and was asked."""

    def __init__(self, pipeline: Any, fare: Any, reply: AttemptReply) -> None:
        self.asked: list[Any] = []
        self.shown: list[Any] = []
        self.attempts: list[Any] = []
        self.reply = reply
        self.gate = Gate(Approach(pipeline, Lane()), self._ask, self, fare, self.attempts.append)

    def _ask(self, probe: Any) -> AttemptReply:
        self.asked.append(probe)
        return self.reply

    def show(self, shown: Any) -> None:
        self.shown.append(shown)

    def said(self, state: State) -> Any:
        return next((shown.amount, shown.at_most) for shown in self.shown if shown.state is state)


@pytest.fixture(scope="module")
def walk(collins: Any) -> Any:
    return collins.walk_up(3)


@pytest.mark.parametrize(
    ("kind", "after"),
    [("entry", (200, 300)), ("exit", (200, None))],  # only leaving tells what a ride cost
)
def test_the_range_is_shown_before_and_what_was_charged_after(
    pipeline: Any, walk: Any, tmp_path: Path, kind: str, after: Any
) -> None:
    place = Place("Arena", kind, "EUR", "metro")
    fare = fare_of(Wallet(posted(place)), tmp_path, place)
    fare.refresh()
    amount = 300 if kind == "entry" else 200  # the hold, or the fare
    desk = Desk(pipeline, fare, AttemptReply("accepted", None, amount, "EUR", "pi_1", None))
    desk.gate.run([EMPTY, *walk])
    assert desk.said(State.IDLE) == desk.said(State.LOOK_HERE) == desk.said(State.WAIT) == (200, 300)
    assert desk.said(State.ACCEPTED) == after


def test_without_a_price_nobody_is_asked_to_pay(pipeline: Any, walk: Any, tmp_path: Path) -> None:
    desk = Desk(pipeline, fare_of(Wallet(gone()), tmp_path), AttemptReply("accepted", None, 1, "EUR", "pi_1", None))
    desk.gate.run([EMPTY, *walk])
    assert desk.asked == []
    assert {shown.state for shown in desk.shown} == {State.OUT_OF_SERVICE}


def test_a_sign_of_will_for_another_price_does_not_count(pipeline: Any, walk: Any, tmp_path: Path) -> None:
    place = Place("Arena", "flat", "EUR")
    wallet = Wallet(posted(place, 200, 200))
    fare = fare_of(wallet, tmp_path, place)
    fare.refresh()
    desk = Desk(pipeline, fare, AttemptReply("accepted", None, 250, "EUR", "pi_1", None))

    def frames() -> Any:
        yield EMPTY
        for frame in walk:
            if desk.gate._willing_since is not None:  # in the middle of it, the peak begins
                wallet.said = posted(place, 250, 250)
                fare.refresh()
            yield frame

    desk.gate.run(frames())
    first_offer = [shown.amount for shown in desk.shown].index(250)
    assert all(shown.state is not State.WAIT for shown in desk.shown[: first_offer + 1])
    desk.gate.run([EMPTY, *walk])
    assert desk.said(State.WAIT) == desk.said(State.ACCEPTED) == (250, None)
