"""A till: an amount, the payer's yes, a look, and a second factor where the wallet asks for one.

Invariants:
  - no frame is looked at before the payer said yes to the amount that the screen shows, tip included;
  - one yes is one purchase, paid once: by a look, with or without a phone's code held up (`held_lane`), or by the code
    on the screen; whatever the till does not show as
    paid is taken back (`charging`);
  - a PIN goes to the wallet and is kept nowhere: not here, not in an event, not in an error;
  - goods are handed over on `ACCEPTED` and `ALREADY_PAID` only.

What is pressed comes from the screen's threads, frames from one thread, `tick` from another.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from facefare.biometrics import Template
from facefare.biometrics.errors import BiometricsError
from facefare.client import ApiError, AttemptReply, Unreachable
from facefare.identification.errors import IdentificationError
from facefare.terminal.approach import Approach, Frame, SomeoneElseTooClose
from facefare.terminal.codes import Codes, Offer
from facefare.terminal.errors import NotNow
from facefare.terminal.fares import Price
from facefare.terminal.gate import NOT_LIVE, ONE_AT_A_TIME, PATIENCE, UNREADABLE_FRAME, Attempt
from facefare.terminal.screen import Screen, Shown, State, state_of

LOOK_WITHIN = 30.0
"""Seconds from the payer's yes to a face; after that the yes has to be said again."""
CONFIRM_WITHIN = 100.0
"""Seconds from the attempt for PIN or phone: less than the wallet waits, so that both end the same way."""
SHOWN_FOR = 20.0
"""Seconds that an answer stays: time to take a picture of the receipt's code."""
CODE_SHOWN_FOR = 60.0
"""Seconds that another way to pay stays, where the code is one: time to find the phone."""
_POLL = 1.0
_REACH_EVERY = 5.0

_ASKING = (State.PIN, State.PHONE)
_OTHER_WAY = (State.USE_CARD, State.SEVERAL, State.REFUSED)
_WITH_CODE = (State.LOOK_HERE, *_OTHER_WAY)
_NOTHING_LEFT = (State.AMOUNT, State.APPROVE, State.ACCEPTED, State.ALREADY_PAID, State.NO_NETWORK)
_ENDS = (State.ACCEPTED, State.ALREADY_PAID, State.USE_CARD, State.SEVERAL, State.REFUSED, State.NO_NETWORK)


@dataclass(frozen=True)
class TillTerms:
    """What the operator sets at a till.

    Attributes:
        currency: ISO 4217.
        largest: minor units; more than this is taken for a slip of the finger.
        tips: percent that are offered; none: no tip is asked for.
        receipts: where payers reach the wallet's pages, for the code on a receipt; "" for none.
    """

    currency: str
    largest: int = 1000_00
    tips: tuple[int, ...] = (5, 10, 15)
    receipts: str = ""

    def __post_init__(self) -> None:
        if self.largest <= 0 or not all(0 < tip <= 100 for tip in self.tips):
            raise ValueError("A till's largest amount is more than 0, its tips are 1 to 100 percent.")

    def offered(self, amount: int) -> list[tuple[int, int]]:
        """Percent and minor units (halves up) of the tips for `amount`, those that come to nothing left out."""
        tips = [(percent, (amount * percent + 50) // 100) for percent in self.tips]
        return [(percent, tip) for percent, tip in tips if tip > 0]


class Sale:
    """What a till asks for now, for those beside it who have to know: a `Fare` that is another one each time."""

    settles = True

    def __init__(self, currency: str) -> None:
        """Nothing, in this currency."""
        self.currency = currency
        self.offer = Offer(0, Price(0, 0, currency))

    @property
    def amount(self) -> int:
        """Minor units, the tip included."""
        return self.offer.price.most

    def price(self) -> Price | None:
        """The same; None before the first sale."""
        return self.offer.price if self.amount else None


class Purse(Protocol):
    """What a till needs of `Charging`."""

    def ask_again(self) -> AttemptReply:
        """The same payment's answer now; raises ApiError."""

    def confirm(self, payment_intent: str, pin: str) -> AttemptReply:
        """Hand on the PIN; raises ApiError."""

    def keep(self) -> None:
        """The answer was shown, and counts."""

    def take_back(self) -> None:
        """Undo whatever came of the payment, unless it was kept."""

    def reachable(self) -> bool:
        """Whether the wallet answers."""


class Till:
    """One counter, one camera, one screen."""

    def __init__(
        self,
        approach: Approach,
        ask: Callable[[Template], AttemptReply],
        purse: Purse,
        screen: Screen,
        terms: TillTerms,
        sale: Sale,
        done: Callable[[Attempt], None],
        codes: Codes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` charges what `sale` says to whoever the probe is of, and raises ApiError, Unreachable,
        IdentificationError; `done` hears of each payment that ended; `codes`: where payers without a face are offered
        one; `clock` gives seconds.
        """
        self._approach = approach
        self._ask = ask
        self._purse = purse
        self._screen = screen
        self._terms = terms
        self._sale = sale
        self._done = done
        self._codes = codes
        self._clock = clock
        self._lock = threading.Lock()
        self._price = self._tip = 0
        self._intent = self._purchase = ""
        self._willing_since: float | None = None
        self._times: dict[str, float] = {}
        self._next_poll = 0.0
        self._since = self._clock()
        self._shown = Shown(State.AMOUNT, 0, terms.currency)
        self._screen.show(self._shown)

    @property
    def terms(self) -> TillTerms:
        """What the operator set."""
        return self._terms

    # --- what is pressed; raises NotNow ---

    def enter(self, amount: int) -> None:
        """The price, in minor units; the payer is asked for a yes."""
        with self._lock:
            self._expect(State.AMOUNT)
            if not 0 < amount <= self._terms.largest:
                raise NotNow("This is no amount that the till takes.")
            self._price, self._tip, self._purchase = amount, 0, secrets.token_hex(16)
            self._show(State.APPROVE)

    def approve(self, price: int, tip: int) -> None:
        """The payer's yes to what the screen showed: the price, and a tip on top. The camera looks from now on."""
        with self._lock:
            self._expect(State.APPROVE)
            if price != self._price or not 0 <= tip <= price:
                raise NotNow("The amount is not the one that the till shows.")
            self._tip, self._willing_since, self._times = tip, None, {}
            self._sale.offer = self._offered()
            self._approach.forget()
            self._show(State.LOOK_HERE)

    def pin(self, pin: str) -> None:
        """The second factor of the one payer who was recognised; answers when the wallet has."""
        with self._lock:
            self._expect(*_ASKING)
            self._show(State.WAIT, keep_time=True)
        try:
            reply = self._purse.confirm(self._intent, pin)
        except ApiError as error:
            self._fail(error)
        else:
            self._answer(reply, while_in=(State.WAIT,))

    def by_phone(self) -> None:
        """Confirm in the app instead."""
        with self._lock:
            self._expect(State.PIN)
            self._show(State.PHONE, keep_time=True)

    def by_pin(self) -> None:
        """Type the PIN after all."""
        with self._lock:
            self._expect(State.PHONE)
            self._show(State.PIN, keep_time=True)

    def cancel(self) -> None:
        """Begin anew; nothing is charged for what was not shown as paid. Not while the wallet is deciding."""
        with self._lock:
            if self._shown.state is State.WAIT:
                raise NotNow("The wallet is deciding; its answer comes in a moment.")
            self._begin_anew()

    # --- the camera ---

    def run(self, frames: Iterable[Frame]) -> None:
        """Look at frames until they end. Raises SourceError where the camera fails."""
        for frame in frames:
            with self._lock:
                if self._shown.state is not State.LOOK_HERE:
                    continue
                seen = self._look(frame)
            if seen:
                self._attempt()

    def _look(self, frame: Frame) -> bool:
        """Whether there is a face to ask about now."""
        arrived = self._clock()
        try:
            hint = self._approach.offer(frame)
        except SomeoneElseTooClose:
            self._willing_since = None
            self._show(State.LOOK_HERE, hint=ONE_AT_A_TIME, keep_time=True)
            return False
        except BiometricsError:
            self._willing_since = None
            self._show(State.LOOK_HERE, hint=UNREADABLE_FRAME, keep_time=True)
            return False
        if not self._approach.somebody_near:
            self._willing_since = None
        elif self._approach.wants_to_pay and self._willing_since is None:
            self._willing_since = arrived
        if self._approach.ready:
            self._show(State.WAIT)
            return True
        if self._willing_since is not None and arrived - self._willing_since > PATIENCE:
            self._end(State.USE_CARD, NOT_LIVE)
        else:
            self._show(State.LOOK_HERE, hint=hint.value if hint else None, keep_time=True)
        return False

    def _attempt(self) -> None:
        started = self._clock()
        self._times["gather"] = (started - (self._willing_since or started)) * 1e3
        try:
            probe = self._approach.probe()
            embedded = self._clock()
            self._times["embed"] = (embedded - started) * 1e3
            reply = self._ask(probe)
            self._times["identify_and_charge"] = (self._clock() - embedded) * 1e3
        except (ApiError, BiometricsError, IdentificationError) as error:
            self._fail(error)
        else:
            self._answer(reply, while_in=(State.WAIT,))

    # --- the clock ---

    def tick(self) -> None:
        """Whatever is due: ask whether the payer confirmed, end what takes too long, look for the network."""
        self._keep_up_code()
        with self._lock:
            state, now = self._shown.state, self._clock()
            waited = now - self._since
            if state in _ASKING and waited > CONFIRM_WITHIN:
                self._end(State.REFUSED, "confirmation_timed_out")
            elif state is State.LOOK_HERE and waited > LOOK_WITHIN:
                self._approach.forget()
                self._tip = 0
                self._show(State.APPROVE)
            elif state in _ENDS and state is not State.NO_NETWORK and waited > self._shown_for(state):
                self._begin_anew()
            if now < self._next_poll:
                return
            self._next_poll = now + (_POLL if state in _ASKING else _REACH_EVERY)
        if state in _ASKING:
            self._poll()
        elif state in (State.AMOUNT, State.NO_NETWORK):
            self._find_network()

    def _keep_up_code(self) -> None:
        if self._codes is None:
            return
        paid = self._codes.keep_up()
        with self._lock:
            if paid is not None and self._shown.state is not State.WAIT and self._codes.take(paid):
                state = State.ALREADY_PAID if paid.before else State.ACCEPTED
                self._end(state, None)
            else:
                before = self._shown
                self._show(before.state, reason=before.reason, hint=before.hint, receipt=before.receipt, keep_time=True)

    def _shown_for(self, state: State) -> float:
        return CODE_SHOWN_FOR if self._codes is not None and state in _OTHER_WAY else SHOWN_FOR

    def _poll(self) -> None:
        try:
            reply = self._purse.ask_again()
        except ApiError:
            return  # asked again soon, and until `CONFIRM_WITHIN`
        if reply.outcome != "confirmation_required":
            self._answer(reply, while_in=_ASKING)

    def _find_network(self) -> None:
        there = self._purse.reachable()
        with self._lock:
            if there and self._shown.state is State.NO_NETWORK:
                self._begin_anew()
            elif not there and self._shown.state is State.AMOUNT:
                self._show(State.NO_NETWORK)

    # --- what the screen shows then ---

    def _answer(self, reply: AttemptReply, *, while_in: tuple[State, ...]) -> None:
        with self._lock:
            if self._shown.state not in while_in:
                return  # cancelled in the meantime, so it is taken back; or the PIN's answer is on its way
            if self._shown.state in _ASKING and reply.payment_intent != self._intent:
                return  # of a payment before this one
            if reply.outcome == "confirmation_required":
                self._intent, self._next_poll = reply.payment_intent, self._clock() + _POLL
                reason = reply.reason if reply.reason == "pin_wrong" else None
                self._show(State.PIN, reason=reason, keep_time=True)
                return
            self._purse.keep()
            self._end(state_of(reply.outcome, reply.reason), reply.reason, reply.receipt)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if isinstance(error, Unreachable):
                self._end(State.NO_NETWORK, "no_network")
            else:
                self._end(State.USE_CARD, "identification_unavailable")

    def _end(self, state: State, reason: str | None, receipt: str | None = None) -> None:
        self._approach.forget()
        self._purse.take_back()
        self._show(state, reason=reason, receipt=receipt)
        self._done(Attempt(state.value, reason, receipt, self._times))

    def _begin_anew(self) -> None:
        self._approach.forget()
        self._purse.take_back()
        self._price = self._tip = 0
        self._intent = ""
        self._show(State.AMOUNT)

    def _offered(self) -> Offer:
        total = self._price + self._tip
        return Offer(total, Price(total, total, self._terms.currency), self._tip, self._purchase)

    def _expect(self, *states: State) -> None:
        if self._shown.state not in states:
            raise NotNow("The till is doing something else.")

    def _show(
        self,
        state: State,
        *,
        reason: str | None = None,
        hint: str | None = None,
        receipt: str | None = None,
        keep_time: bool = False,
    ) -> None:
        code = None
        if self._codes is not None:
            self._codes.offer(None if state in _NOTHING_LEFT else self._offered())
            code = self._codes.shown if state in _WITH_CODE else None
        shown = Shown(state, self._price + self._tip, self._terms.currency, reason, hint, receipt, code=code)
        if not keep_time:
            self._since = self._clock()
        if shown != self._shown:
            self._shown = shown
            self._screen.show(shown)
