"""A till's states, with a wallet and a camera that do what the test says."""

import re
from typing import Any

import pytest

from facefare.biometrics.quality import Hint
from facefare.client import ApiError, AttemptReply, Unreachable
from facefare.terminal import till as tills
from facefare.terminal.approach import SomeoneElseTooClose
from facefare.terminal.errors import NotNow
from facefare.terminal.screen import State
from facefare.terminal.till import Sale, Till, TillTerms

FRAME = object()


def reply(outcome: str, reason: str | None = None, intent: str = "pi_1") -> AttemptReply:
    return AttemptReply(outcome, reason, 350, "EUR", intent, "rcp_1" if outcome == "accepted" else None)


class Camera:
    """An approach: each frame offered is one step of `steps` (None: nobody, a Hint, an error, or "ready")."""

    def __init__(self) -> None:
        self.steps: list[Any] = ["ready"]
        self.offered = self.probed = 0
        self.ready = self.somebody_near = False

    def offer(self, frame: Any) -> Hint | None:
        self.offered += 1
        step = self.steps[min(self.offered, len(self.steps)) - 1]
        self.somebody_near, self.ready = step is not None, step == "ready"
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Hint) else None

    @property
    def wants_to_pay(self) -> bool:
        return self.somebody_near

    def probe(self) -> str:
        self.probed += 1
        return "a face"

    def forget(self) -> None:
        self.ready = self.somebody_near = False


class Wallet:
    def __init__(self) -> None:
        self.answers: list[Any] = [reply("accepted")]
        self.asked: list[dict[str, Any]] = []
        self.pins: list[str] = []
        self.kept = self.taken_back = 0
        self.there = True

    def _next(self) -> AttemptReply:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def attempt(self, probe: Any, **asked: Any) -> AttemptReply:
        self.asked.append(asked)
        return self._next()

    def ask_again(self) -> AttemptReply:
        return self._next()

    def confirm(self, payment_intent: str, pin: str) -> AttemptReply:
        assert payment_intent == "pi_1"
        self.pins.append(pin)
        return self._next()

    def keep(self) -> None:
        self.kept += 1

    def take_back(self) -> None:
        self.taken_back += 1

    def reachable(self) -> bool:
        return self.there


class Counter:
    """A till with everything around it."""

    def __init__(self, codes: Any = None, **terms: Any) -> None:
        self.camera, self.wallet, self.now = Camera(), Wallet(), 100.0
        self.shown: list[Any] = []
        self.ended: list[Any] = []
        self.sale = Sale("EUR")
        self.till = Till(
            self.camera,  # type: ignore[arg-type]
            self.by_face,
            self.wallet,
            self,
            TillTerms("EUR", **terms),
            self.sale,
            self.ended.append,
            codes,
            clock=lambda: self.now,
        )

    def by_face(self, probe: Any) -> AttemptReply:
        sale, offer = self.sale, self.sale.offer
        return self.wallet.attempt(
            probe, amount=sale.amount, currency=sale.currency, tip=offer.tip, purchase=offer.purchase
        )

    def show(self, shown: Any) -> None:
        self.shown.append(shown)

    @property
    def state(self) -> State:
        return self.shown[-1].state

    def look(self, frames: int = 1) -> None:
        self.till.run([FRAME] * frames)

    def pay(self, amount: int = 350, tip: int = 0) -> None:
        self.till.enter(amount)
        self.till.approve(amount, tip)
        self.look()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.till.tick()


@pytest.fixture
def counter() -> Counter:
    return Counter()


def test_nobody_is_looked_at_before_the_yes_to_the_amount_on_the_screen(counter: Counter) -> None:
    counter.look(5)
    counter.till.enter(350)
    counter.look(5)
    assert (counter.camera.offered, counter.state, counter.shown[-1].amount) == (0, State.APPROVE, 350)
    counter.till.approve(350, 0)
    counter.look()
    (asked,) = counter.wallet.asked
    assert re.fullmatch("[0-9a-f]{32}", asked.pop("purchase"))
    assert asked == {"amount": 350, "currency": "EUR", "tip": 0}
    assert [shown.state for shown in counter.shown][-3:] == [State.LOOK_HERE, State.WAIT, State.ACCEPTED]
    assert (counter.shown[-1].receipt, counter.wallet.kept) == ("rcp_1", 1)
    counter.look(5)
    assert counter.camera.offered == 1


def test_a_tip_is_part_of_what_is_shown_and_asked(counter: Counter) -> None:
    counter.pay(350, tip=35)
    (asked,) = counter.wallet.asked
    assert (asked["amount"], asked["tip"]) == (385, 35)
    assert counter.shown[-1].amount == 385


@pytest.mark.parametrize("amount", [0, -1, 1000_01])
def test_what_is_no_amount_is_not_taken(counter: Counter, amount: int) -> None:
    with pytest.raises(NotNow):
        counter.till.enter(amount)


@pytest.mark.parametrize(("price", "tip"), [(351, 0), (349, 0), (350, -1), (350, 351)])
def test_a_yes_to_something_else_than_the_screen_showed_is_no_yes(counter: Counter, price: int, tip: int) -> None:
    counter.till.enter(350)
    with pytest.raises(NotNow):
        counter.till.approve(price, tip)
    counter.look()
    assert counter.camera.offered == 0


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (reply("already_paid", "paid_moments_ago"), State.ALREADY_PAID),
        (reply("use_card", "not_recognised"), State.USE_CARD),
        (reply("use_card", "several_match"), State.SEVERAL),
        (reply("refused", "insufficient_funds"), State.REFUSED),
        (ApiError(503, "identification-unavailable", "A guardian is away."), State.USE_CARD),
        (Unreachable(None), State.NO_NETWORK),  # type: ignore[arg-type]
    ],
)
def test_each_answer_has_its_state(counter: Counter, answer: Any, state: State) -> None:
    counter.wallet.answers = [answer]
    counter.pay()
    assert counter.state is state
    assert counter.wallet.kept == (not isinstance(answer, Exception))
    assert counter.wallet.taken_back
    assert len(counter.ended) == 1


def test_the_pin_is_asked_for_where_one_payer_was_recognised_and_never_for_several(counter: Counter) -> None:
    counter.wallet.answers = [reply("use_card", "several_match")]
    counter.pay()
    with pytest.raises(NotNow):
        counter.till.pin("2580")
    assert counter.wallet.pins == []


def test_a_wrong_pin_is_asked_again_and_a_locked_one_ends_it(counter: Counter) -> None:
    asked = reply("confirmation_required", "second_factor")
    counter.wallet.answers = [asked, reply("confirmation_required", "pin_wrong"), reply("refused", "pin_locked")]
    counter.pay()
    assert (counter.state, counter.shown[-1].reason, counter.wallet.kept) == (State.PIN, None, 0)
    counter.till.pin("1111")
    assert (counter.state, counter.shown[-1].reason) == (State.PIN, "pin_wrong")
    counter.till.pin("2222")
    assert (counter.state, counter.shown[-1].reason) == (State.REFUSED, "pin_locked")


def test_the_pin_is_nowhere_but_at_the_wallet(counter: Counter) -> None:
    counter.wallet.answers = [reply("confirmation_required", "second_factor"), reply("accepted")]
    counter.pay()
    counter.till.pin("86420")
    assert counter.wallet.pins == ["86420"]
    assert "86420" not in repr((counter.shown, counter.ended, vars(counter.till)))


def test_who_confirms_on_the_phone_is_seen_within_a_second(counter: Counter) -> None:
    asked = reply("confirmation_required", "second_factor")
    counter.wallet.answers = [asked, asked, Unreachable(None), reply("accepted")]  # type: ignore[arg-type]
    counter.pay()
    counter.till.by_phone()
    for _ in range(2):
        counter.wait(1.0)
        assert counter.state is State.PHONE
    counter.till.by_pin()
    assert counter.state is State.PIN
    counter.wait(1.0)
    assert (counter.state, counter.wallet.kept) == (State.ACCEPTED, 1)


def test_a_late_answer_of_a_cancelled_payment_counts_for_nothing(counter: Counter) -> None:
    counter.wallet.answers = [reply("confirmation_required", "second_factor")]
    counter.pay()

    def cancelled_meanwhile() -> AttemptReply:
        counter.till.cancel()
        return reply("accepted")

    counter.wallet.ask_again = cancelled_meanwhile  # type: ignore[method-assign]
    counter.wait(1.0)
    assert (counter.state, counter.wallet.kept) == (State.AMOUNT, 0)
    assert counter.wallet.taken_back

    def next_one_waits_too() -> AttemptReply:
        counter.till.cancel()
        counter.wallet.answers = [reply("confirmation_required", "second_factor", intent="pi_2")]
        counter.pay()
        return reply("accepted", intent="pi_1")

    counter.wallet.answers = [reply("confirmation_required", "second_factor")]
    counter.pay()
    counter.wallet.ask_again = next_one_waits_too  # type: ignore[method-assign]
    counter.wait(1.0)
    assert (counter.state, counter.wallet.kept) == (State.PIN, 0)


def test_while_the_wallet_decides_nothing_can_be_cancelled(counter: Counter) -> None:
    def impatient(probe: Any, **asked: Any) -> AttemptReply:
        with pytest.raises(NotNow):
            counter.till.cancel()
        return reply("accepted")

    counter.wallet.attempt = impatient  # type: ignore[method-assign]
    counter.pay()
    assert counter.state is State.ACCEPTED


def test_nobody_confirming_ends_it_and_it_is_taken_back(counter: Counter) -> None:
    asked = reply("confirmation_required", "second_factor")
    counter.wallet.answers = [asked] * 200
    counter.pay()
    for _ in range(101):
        counter.wait(1.0)
    assert (counter.state, counter.shown[-1].reason) == (State.REFUSED, "confirmation_timed_out")
    assert (counter.wallet.kept, counter.wallet.taken_back > 0) == (0, True)


def test_hints_come_and_a_photo_is_asked_for_the_card(counter: Counter) -> None:
    counter.camera.steps = [None, Hint.COME_CLOSER, SomeoneElseTooClose(), Hint.TURN_A_LITTLE]
    counter.till.enter(350)
    counter.till.approve(350, 0)
    counter.look(4)
    hints = [shown.hint for shown in counter.shown if shown.state is State.LOOK_HERE]
    assert hints == [None, "come closer", "one person at a time", "turn your head a little"]
    counter.now += tills.PATIENCE + 1
    counter.look()
    assert (counter.state, counter.camera.probed) == (State.USE_CARD, 0)


def test_without_a_face_the_yes_runs_out(counter: Counter) -> None:
    counter.camera.steps = [None]
    counter.till.enter(350)
    counter.till.approve(350, 35)
    counter.look()
    counter.wait(tills.LOOK_WITHIN + 1)
    assert (counter.state, counter.shown[-1].amount) == (State.APPROVE, 350)


def test_the_answer_makes_room_for_the_next_payment(counter: Counter) -> None:
    counter.pay()
    counter.wait(tills.SHOWN_FOR + 1)
    assert counter.state is State.AMOUNT


def test_the_till_says_when_the_network_is_gone_and_when_it_is_back(counter: Counter) -> None:
    counter.wallet.there = False
    counter.wait(6.0)
    assert counter.state is State.NO_NETWORK
    with pytest.raises(NotNow):
        counter.till.enter(350)
    counter.wallet.there = True
    counter.wait(6.0)
    assert counter.state is State.AMOUNT


def test_tips_are_rounded_and_those_of_nothing_left_out() -> None:
    terms = TillTerms("EUR", tips=(5, 10))
    assert terms.offered(350) == [(5, 18), (10, 35)]
    assert terms.offered(5) == [(10, 1)]
    assert TillTerms("EUR", tips=()).offered(350) == []
    for wrong in ({"largest": 0}, {"tips": (0,)}):
        with pytest.raises(ValueError, match="largest amount"):
            TillTerms("EUR", **wrong)


# --- the code on the screen ---


def asks(counter: Counter, tip: int = 0) -> None:
    counter.till.enter(350)
    counter.till.approve(350, tip)


def test_the_code_is_offered_after_the_yes_for_the_amount_with_its_tip(code: Any) -> None:
    counter = Counter(code)
    counter.till.enter(350)
    assert (code.offered[-1], counter.shown[-1].code) == (None, None)
    counter.till.approve(350, 35)
    offer = code.offered[-1]
    assert (offer.amount, offer.tip, offer.price.least) == (385, 35, 385)
    assert counter.shown[-1].code == "https://pay.example/pi_code"
    code.answering = False
    counter.till.tick()
    assert (counter.state, counter.shown[-1].code) == (State.LOOK_HERE, None)
    code.answering = True
    code.paid = code.payment(385)
    counter.till.tick()
    counter.till.tick()
    assert (counter.state, counter.shown[-1].amount, code.offered[-1]) == (State.ACCEPTED, 385, None)
    assert [ended.outcome for ended in counter.ended] == ["accepted"]


def test_a_look_and_a_code_have_one_name_for_the_purchase_and_the_next_one_another(code: Any) -> None:
    counter = Counter(code)
    names = []
    for _ in range(2):
        counter.wallet.answers = [reply("accepted")]
        counter.camera.offered = 0
        asks(counter)
        offer = code.offered[-1]
        counter.look()
        assert counter.sale.offer == offer
        names.append(offer.purchase)
        counter.till.cancel()
    assert names[0] != names[1]


def test_after_a_look_that_paid_nothing_the_code_is_still_there_and_long_enough(code: Any) -> None:
    counter = Counter(code)
    counter.wallet.answers = [reply("use_card", "not_recognised")]
    asks(counter)
    counter.look()
    assert (counter.state, counter.shown[-1].code is None) == (State.USE_CARD, False)
    counter.now += tills.SHOWN_FOR + 1
    counter.till.tick()
    assert counter.state is State.USE_CARD
    code.paid = code.payment(350)
    counter.till.tick()
    assert counter.state is State.ACCEPTED
    assert [ended.outcome for ended in counter.ended] == ["use_card", "accepted"]


def test_who_pays_by_the_code_while_the_pin_is_asked_for_needs_no_pin(code: Any) -> None:
    counter = Counter(code)
    counter.wallet.answers = [reply("confirmation_required", "second_factor")]
    asks(counter)
    counter.look()
    assert (counter.state, counter.shown[-1].code) == (State.PIN, None)
    taken_back = counter.wallet.taken_back
    code.paid = code.payment(350)
    counter.till.tick()
    assert (counter.state, counter.wallet.taken_back > taken_back, counter.wallet.kept) == (State.ACCEPTED, True, 0)


def test_a_look_that_is_being_answered_comes_before_the_code(code: Any) -> None:
    counter = Counter(code)

    def paid_meanwhile(probe: Any, **asked: Any) -> AttemptReply:
        code.paid = code.payment(350)
        counter.till.tick()
        assert counter.state is State.WAIT
        return reply("accepted")

    counter.wallet.attempt = paid_meanwhile  # type: ignore[method-assign]
    asks(counter)
    counter.look()
    counter.till.tick()
    assert (counter.state, len(counter.ended), code.offered[-1]) == (State.ACCEPTED, 1, None)


@pytest.mark.parametrize("pressed", ["cancel", "nobody came"])
def test_without_a_yes_there_is_no_code(code: Any, pressed: str) -> None:
    counter = Counter(code)
    asks(counter)
    if pressed == "cancel":
        counter.till.cancel()
    else:
        counter.now += tills.LOOK_WITHIN + 1
        counter.till.tick()
    assert (code.offered[-1], counter.shown[-1].code) == (None, None)
