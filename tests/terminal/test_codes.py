"""The code on a terminal's screen, with a wallet that does what the test says."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from facefare.client import ApiError, Payment, Unreachable
from facefare.terminal.codes import SHOWN_FOR, SILENT_FOR, Codes, Offer
from facefare.terminal.fares import Price
from facefare.terminal.lost_answers import LostAnswers

GONE = Unreachable(httpx.ConnectError("gone"))
FARE = Offer(None, Price(280, 280, "EUR"))
TIPPED = Offer(385, Price(385, 385, "EUR"), tip=35, purchase="0a" * 16)


class Wallet:
    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.made: list[dict[str, Any]] = []
        self.undone: list[bytes] = []
        self.captured: list[tuple[str, int, int]] = []
        self.away: Exception | None = None
        self.answer_lost = False

    def query_of(self, key: str) -> bytes:
        return bytes.fromhex(key)

    def by_code(self, **asked: Any) -> Payment:
        self._there()
        self.made.append(asked)
        id, amount = f"pi_{len(self.made)}", asked["amount"] or 280
        self.payments[id] = Payment(id, "requires_identification", amount, 0, 0, 0, "EUR", "Gate 4", None, "")
        if self.answer_lost:
            raise GONE
        return self.payments[id]

    def payment(self, id: str) -> Payment:
        self._there()
        return self.payments[id]

    def capture(self, id: str, amount: int, tip: int) -> Payment:
        self._there()
        self.captured.append((id, amount, tip))
        return self.becomes(id, "succeeded", captured=amount, tip=tip)

    def undo(self, query_id: bytes) -> None:
        self._there()
        self.undone.append(query_id)

    def becomes(self, id: str, state: str, **more: Any) -> Payment:
        self.payments[id] = replace(self.payments[id], state=state, **more)
        return self.payments[id]

    def _there(self) -> None:
        if self.away is not None:
            raise self.away


class Stand:
    """Codes, their wallet, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.wallet, self.now = Wallet(), 100.0
        self.answers = LostAnswers(folder, self.wallet.undo)
        self.codes = Codes(self.wallet, self.answers, "https://pay.example/app/pay/", lambda: self.now)  # type: ignore[arg-type]

    def after(self, seconds: float) -> Any:
        self.now += seconds
        return self.codes.keep_up()

    @property
    def shown(self) -> str | None:
        return self.codes.shown and self.codes.shown.rpartition("/")[2]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "lost")


def test_a_code_leads_to_its_payment_in_the_payers_app_and_asks_for_what_is_offered(stand: Stand) -> None:
    assert stand.codes.keep_up() is None
    assert stand.wallet.made == []
    stand.codes.offer(TIPPED)
    stand.after(0)
    (asked,) = stand.wallet.made
    assert len(asked.pop("idempotency_key")) == 32
    assert asked == {"amount": 385, "currency": "EUR", "capture_later": True, "purchase": "0a" * 16}
    assert stand.codes.shown == "https://pay.example/app/pay/pi_1"


def test_what_is_paid_counts_once_and_its_tip_is_taken(stand: Stand) -> None:
    stand.codes.offer(TIPPED)
    stand.after(0)
    stand.wallet.becomes("pi_1", "requires_capture")
    paid = stand.after(1)
    assert (paid.amount, stand.wallet.captured) == (385, [("pi_1", 385, 35)])
    assert stand.codes.take(paid)
    assert not stand.codes.take(paid)
    assert stand.answers.settle() == 0
    assert (stand.wallet.undone, stand.shown, stand.after(1)) == ([], None, None)


def test_a_code_is_renewed_and_the_one_before_still_counts_for_a_while(stand: Stand) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.after(SHOWN_FOR + 1)
    assert stand.shown == "pi_2"
    stand.wallet.becomes("pi_1", "succeeded")
    paid = stand.after(2)
    assert stand.codes.take(paid)
    stand.answers.settle()
    assert stand.wallet.undone == [stand.wallet.query_of(stand.wallet.made[1]["idempotency_key"])]


def test_an_old_code_is_taken_back(stand: Stand) -> None:
    stand.codes.offer(FARE)
    for seconds in (0, SHOWN_FOR + 1, SHOWN_FOR - 9):
        stand.after(seconds)
    stand.answers.settle()
    assert len(stand.wallet.undone) == 1
    assert stand.shown == "pi_2"


@pytest.mark.parametrize("instead", [None, Offer(None, Price(310, 310, "EUR"))])
def test_when_something_else_is_offered_a_payment_of_before_is_taken_back(stand: Stand, instead: Offer | None) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.wallet.becomes("pi_1", "succeeded")
    paid = stand.after(1)
    stand.codes.offer(instead)
    assert not stand.codes.take(paid)
    assert stand.answers.settle() == 0
    assert len(stand.wallet.undone) == 1


def test_a_code_whose_making_was_not_answered_is_taken_back_and_never_shown(stand: Stand) -> None:
    stand.wallet.answer_lost = True
    stand.codes.offer(FARE)
    stand.after(0)
    assert stand.shown is None
    stand.wallet.answer_lost = False
    stand.after(1)
    assert stand.shown == "pi_2"
    stand.answers.settle()
    assert stand.wallet.undone == [stand.wallet.query_of(stand.wallet.made[0]["idempotency_key"])]


def test_without_a_network_no_code_is_shown_and_after_a_while_nobody_waits_for_it(stand: Stand) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.wallet.away = GONE
    stand.after(1)
    assert stand.shown is None
    stand.wallet.away = None
    stand.after(1)
    assert stand.shown == "pi_1"  # a hiccup
    stand.wallet.away = GONE
    stand.after(1)
    stand.after(SILENT_FOR + 1)
    stand.wallet.becomes("pi_1", "succeeded")
    stand.wallet.away = None
    assert stand.after(1) is None
    stand.answers.settle()
    assert (len(stand.wallet.undone), stand.shown) == (1, "pi_2")


def test_after_a_crash_whatever_came_of_a_code_is_taken_back(stand: Stand, tmp_path: Path) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.wallet.becomes("pi_1", "succeeded")
    stand.after(1)  # killed here: nobody passed
    again = LostAnswers(tmp_path / "lost", stand.wallet.undo)
    assert again.settle() == 0
    assert len(stand.wallet.undone) == 1


@pytest.mark.parametrize(("state", "reason"), [("refused", "insufficient_funds"), ("canceled", None)])
def test_a_code_that_was_used_up_gives_way_to_a_new_one(stand: Stand, state: str, reason: str | None) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.wallet.becomes("pi_1", state, reason=reason)
    assert stand.after(1) is None
    assert stand.shown == "pi_2"


def test_who_had_paid_a_moment_before_may_go_too(stand: Stand) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.wallet.becomes("pi_1", "canceled", reason="paid_moments_ago")
    assert stand.after(1).before


def test_a_wallet_that_refuses_to_make_codes_is_asked_calmly_and_nothing_is_shown(stand: Stand) -> None:
    stand.wallet.away = ApiError(409, "no-fare-point", "This gate stands nowhere.")
    stand.codes.offer(FARE)
    for _ in range(100):
        stand.after(0.1)
    assert stand.shown is None
    assert stand.answers.settle() == 0


def test_many_hands_take_one_payment_once(stand: Stand) -> None:
    stand.codes.offer(FARE)
    stand.after(0)
    stand.wallet.becomes("pi_1", "succeeded")
    paid, together = stand.after(1), threading.Barrier(8)

    def take(_: int) -> bool:
        together.wait()
        return stand.codes.take(paid)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(8))) == [False] * 7 + [True]
