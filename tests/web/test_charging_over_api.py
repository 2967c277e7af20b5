"""A till's payments from its own side, over the real API: tip, second factor, and what nobody waits for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from facefare.client import ApiError, TerminalClient, Unreachable
from facefare.ledger import verify
from facefare.payments.verify import INVARIANTS
from facefare.terminal.charging import Charging
from facefare.terminal.lost_answers import LostAnswers


class Counter:
    """The purse of the till, whose "probes" are labels."""

    def __init__(self, world: Any, folder: Path) -> None:
        self.answers = LostAnswers(folder, world.till.undo)
        self.purse = Charging(world.till, self.answers, lambda label: world.requests.search(label, terminal="trm_till"))
        self.folder = folder

    def pay(self, amount: int, label: Any = "ada", tip: int = 0) -> Any:
        return self.purse.attempt(label, amount=amount, currency="EUR", tip=tip)

    @property
    def waiting(self) -> int:
        return len(list(self.folder.iterdir()))


@pytest.fixture
def counter(world: Any, tmp_path: Path) -> Counter:
    return Counter(world, tmp_path / "lost")


def losing(world: Any, monkeypatch: pytest.MonkeyPatch, path: str) -> Callable[[], None]:
    """The wallet carries out requests whose path ends so, and its answer is lost; until called."""
    honest = world.http.request

    def cut(method: str, url: str, **more: Any) -> httpx.Response:
        answer = honest(method, url, **more)
        if url.endswith(path):
            raise httpx.ReadTimeout("cut")
        return answer

    monkeypatch.setattr(world.http, "request", cut)
    return lambda: monkeypatch.setattr(world.http, "request", honest)


def test_a_tip_is_taken_with_the_payment_and_shown_as_one(world: Any, counter: Counter) -> None:
    ada = world.payer("ada", funds=10_00)
    reply = counter.pay(385, tip=35)
    counter.purse.keep()
    assert (reply.outcome, reply.amount) == ("accepted", 385)
    assert ada.receipt(reply.receipt)["amount"] == 385
    (paid,) = ada.payments()
    assert (paid["captured"], paid["tip"], paid["state"]) == (385, 35, "succeeded")
    assert (counter.waiting, counter.answers.settle()) == (0, 0)
    assert ada.account().available == 615
    assert verify(world.engine, INVARIANTS) == []


def test_the_pin_completes_a_payment_with_a_tip(world: Any, counter: Counter) -> None:
    ada = world.payer("ada", funds=100_00)
    ada.set_pin("2580")
    asked = counter.pay(66_00, tip=6_00)
    assert (asked.outcome, counter.waiting) == ("confirmation_required", 1)
    assert counter.purse.confirm(asked.payment_intent, "2581").reason == "pin_wrong"
    done = counter.purse.confirm(asked.payment_intent, "2580")
    counter.purse.keep()
    assert (done.outcome, done.receipt is not None) == ("accepted", True)
    assert (ada.account().available, ada.account().on_hold) == (34_00, 0)


def test_who_was_quicker_in_the_app_need_not_type(world: Any, counter: Counter) -> None:
    ada = world.payer("ada", funds=100_00)
    ada.set_pin("2580")
    asked = counter.pay(66_00, tip=6_00)
    assert counter.purse.ask_again().outcome == "confirmation_required"
    ada.confirm(asked.payment_intent)
    done = counter.purse.confirm(asked.payment_intent, "2580")
    assert (done.outcome, done.receipt is not None) == ("accepted", True)
    assert ada.account().available == 34_00


def test_what_is_cancelled_while_it_waits_cannot_be_confirmed_later(world: Any, counter: Counter) -> None:
    ada = world.payer("ada", funds=100_00)
    asked = counter.pay(60_00)
    counter.purse.take_back()
    assert counter.answers.settle() == 0
    with pytest.raises(ApiError):
        ada.confirm(asked.payment_intent)
    assert ada.account().available == 100_00


@pytest.mark.parametrize(
    ("path", "amount", "tip"), [("/attempts", 3_00, 0), ("/capture", 3_30, 30), ("/pin", 60_00, 0)]
)
def test_an_answer_that_is_lost_on_the_way_charges_nobody(
    world: Any, counter: Counter, monkeypatch: pytest.MonkeyPatch, path: str, amount: int, tip: int
) -> None:
    ada = world.payer("ada", funds=100_00)
    ada.set_pin("2580")
    restore = losing(world, monkeypatch, path)

    def pay() -> None:
        asked = counter.pay(amount, tip=tip)
        counter.purse.confirm(asked.payment_intent, "2580")

    with pytest.raises(Unreachable):
        pay()
    counter.purse.take_back()
    restore()
    assert (counter.waiting, counter.answers.settle(), counter.waiting) == (1, 0, 0)
    assert (ada.account().available, ada.account().on_hold) == (100_00, 0)
    assert verify(world.engine, INVARIANTS) == []


def test_a_till_that_crashed_while_it_waited_takes_it_back_when_it_starts_again(
    world: Any, counter: Counter, tmp_path: Path
) -> None:
    ada = world.payer("ada", funds=100_00)
    asked = counter.pay(60_00)
    ada.confirm(asked.payment_intent)  # and nobody is there to hand over the goods
    assert ada.account().available == 40_00
    assert Counter(world, tmp_path / "lost").answers.settle() == 0
    assert ada.account().available == 100_00


def test_a_search_that_can_not_be_made_leaves_the_payment_before_alone(world: Any, counter: Counter) -> None:
    ada = world.payer("ada", funds=10_00)
    counter.pay(3_00)
    counter.purse.keep()
    with pytest.raises(AttributeError):
        counter.pay(3_00, label=None)
    counter.purse.take_back()
    assert counter.answers.settle() == 0
    assert ada.account().available == 7_00


def test_whether_the_wallet_answers(world: Any, counter: Counter) -> None:
    assert counter.purse.reachable()
    with httpx.Client(base_url="http://127.0.0.1:9") as nobody:
        assert not TerminalClient(nobody, "trm_till", world.requests.terminal_key).reachable()


def test_a_payment_by_a_phones_code_does_not_make_an_earlier_look_count_that_was_taken_back(
    world: Any, counter: Counter
) -> None:
    ada = world.payer("ada", funds=10_00)
    counter.pay(3_00)
    counter.purse.take_back()
    counter.purse.keep()  # what the till does for whatever payment came next
    assert (counter.waiting, counter.answers.settle()) == (1, 0)
    assert ada.account().available == 10_00
