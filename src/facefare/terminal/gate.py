"""A gate: frames in, one attempt a person, the screen and the bar out.

Invariants:
  - it opens only on the wallet's word, never on a face it could not search;
  - what a passage costs is on the screen before an attempt counts; where it isn't known, or changes meanwhile, the
    sign of will does not count;
  - one person gets one attempt: after an answer the lane has to be empty before the next one begins;
  - who does not move as a head does within `PATIENCE` seconds of the sign of will is asked for the card, and
    nothing of that face is embedded;
  - frames and templates live in memory until the attempt's answer, and no longer;
  - a face and the code on the screen are two ways to one passage: whichever is paid first opens, once, and what comes
    of the other is taken back.

Frames come from one thread, `tick` from another.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from facefare.biometrics import Template
from facefare.biometrics.errors import BiometricsError
from facefare.client import ApiError, AttemptReply, Unreachable
from facefare.identification.errors import IdentificationError
from facefare.terminal.approach import Approach, Frame, SomeoneElseTooClose
from facefare.terminal.codes import Codes, Offer, PaidByCode
from facefare.terminal.fares import Fare, Price
from facefare.terminal.screen import Screen, Shown, State, state_of

ONE_AT_A_TIME = "one person at a time"
UNREADABLE_FRAME = "the camera's picture can't be read"
NOT_LIVE = "not_seen_alive"
NO_NETWORK = "no_network"
PATIENCE = 3.0
"""Seconds from the sign of will within which the views have to show the depth of a head."""
OPEN_FOR = 5.0
"""Seconds that the answer to a code stays where the camera sees nobody: time to go through."""
_WITH_CODE = (State.IDLE, State.LOOK_HERE, State.USE_CARD, State.SEVERAL, State.REFUSED)


@dataclass
class Attempt:
    """What became of one person's attempt, and how long each stage took, in milliseconds.

    `total` counts from the first frame that showed the sign of will to the wallet's answer on the screen.
    """

    outcome: str
    reason: str | None
    receipt: str | None = None
    times: dict[str, float] = field(default_factory=dict)


class Gate:
    """One lane, one camera, one screen."""

    def __init__(
        self,
        approach: Approach,
        ask: Callable[[Template], AttemptReply],
        screen: Screen,
        fare: Fare,
        done: Callable[[Attempt], None],
        codes: Codes | None = None,
    ) -> None:
        """`ask` seals a template, has it searched and charged, and raises ApiError or IdentificationError.

        `done` hears of each attempt. `codes`: where payers without a face are offered one; `tick` keeps it up.
        """
        self._approach = approach
        self._ask = ask
        self._screen = screen
        self._fare = fare
        self._done = done
        self._codes = codes
        self._lock = threading.Lock()
        self._open_until = 0.0
        self._willing_since: float | None = None
        self._answered = self._near = False
        self._price = fare.price()
        self._shown: Shown | None = None

    def run(self, frames: Iterable[Frame]) -> None:
        """Serve the lane until the frames end. Raises SourceError where the camera fails."""
        with self._lock:
            self._show(State.IDLE)
        for frame in frames:
            arrived = time.perf_counter()
            with self._lock:
                if (price := self._fare.price()) != self._price:
                    self._price = price
                    self._start_anew()
                if price is None:
                    self._show(State.OUT_OF_SERVICE)
                    continue
            self._look(frame, arrived)

    def _look(self, frame: Frame, arrived: float) -> None:
        try:
            hint = self._approach.offer(frame)
        except SomeoneElseTooClose:
            self._wait(ONE_AT_A_TIME)
            return
        except BiometricsError:
            self._wait(UNREADABLE_FRAME)
            return
        with self._lock:
            if not self._approach.somebody_near:
                if self._answered:
                    self._open_until = 0.0  # gone through
                self._willing_since = None
                self._answered = self._near = False
                if arrived >= self._open_until:
                    self._show(State.IDLE)
                return
            self._near = True
            if self._answered or arrived < self._open_until:
                self._approach.forget()  # still standing there: nothing more is gathered
                return
            if self._approach.wants_to_pay and self._willing_since is None:
                self._willing_since = arrived
            self._show(State.LOOK_HERE, hint=hint.value if hint else None)
            if not self._approach.ready:
                if self._willing_since is not None and arrived - self._willing_since > PATIENCE:
                    self._give_up()
                return
            self._show(State.WAIT)
        self._attempt()

    def tick(self) -> None:
        """Keep the code up to date, and open for who paid by it; for a thread of its own, some times a second."""
        if self._codes is None:
            return
        paid = self._codes.keep_up()
        with self._lock:
            if self._shown is None:
                return
            shown, now = self._shown, time.perf_counter()
            if shown.state in _WITH_CODE:
                if paid is not None and self._codes.take(paid):
                    self._open(paid, now)
                else:
                    self._show(shown.state, reason=shown.reason, hint=shown.hint)
            elif self._open_until and now >= self._open_until and not self._answered:
                self._open_until = 0.0
                self._show(State.IDLE)

    def _open(self, paid: PaidByCode, now: float) -> None:
        state = State.ALREADY_PAID if paid.before else State.ACCEPTED
        self._open_until = now + OPEN_FOR
        self._willing_since = None
        self._answered = self._near
        self._show(state, charged=paid.amount if self._fare.settles else None)
        self._done(Attempt(state.value, None))

    def _start_anew(self) -> None:
        """Another price: who showed the will to pay, showed it for the old one."""
        self._willing_since = None
        self._approach.forget()

    def _give_up(self) -> None:
        waited = (time.perf_counter() - (self._willing_since or 0.0)) * 1e3
        times = {"gather": waited, "embed": 0.0, "identify_and_charge": 0.0, "total": waited}
        self._approach.forget()
        self._show(State.USE_CARD, reason=NOT_LIVE)
        self._end(Attempt(State.USE_CARD.value, NOT_LIVE, times=times))

    def _attempt(self) -> None:
        started = self._willing_since or time.perf_counter()
        attempt, charged = Attempt(State.USE_CARD.value, "identification_unavailable"), None
        attempt.times["gather"] = (time.perf_counter() - started) * 1e3
        try:
            with _timed(attempt, "embed"):
                probe = self._approach.probe()
            with _timed(attempt, "identify_and_charge"):
                reply = self._ask(probe)
            attempt.outcome, attempt.reason, attempt.receipt = reply.outcome, reply.reason, reply.receipt
            if reply.opens and self._fare.settles:
                charged = reply.amount
        except Unreachable:
            attempt.reason = NO_NETWORK
        except (ApiError, BiometricsError, IdentificationError):
            pass  # use your card
        with self._lock:
            if attempt.reason == NO_NETWORK:
                self._show(State.NO_NETWORK)
            else:
                self._show(state_of(attempt.outcome, attempt.reason), reason=attempt.reason, charged=charged)
            attempt.times["total"] = (time.perf_counter() - started) * 1e3
            self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        self._willing_since = None
        self._answered = True
        self._done(attempt)

    def _wait(self, hint: str) -> None:
        with self._lock:
            self._willing_since = None
            self._show(State.LOOK_HERE, hint=hint)

    def _show(
        self, state: State, *, reason: str | None = None, hint: str | None = None, charged: int | None = None
    ) -> None:
        if self._price is None:
            state, price = State.OUT_OF_SERVICE, Price(0, 0, self._fare.currency)
        else:
            price = self._price
        amount, most = (price.least, price.most) if charged is None else (charged, charged)
        code = None
        if self._codes is not None:
            nothing_left = state in (State.ACCEPTED, State.ALREADY_PAID, State.OUT_OF_SERVICE)
            self._codes.offer(None if nothing_left else Offer(self._fare.amount, price))
            code = self._codes.shown if state in _WITH_CODE else None
        at_most = most if most > amount else None
        shown = Shown(state, amount, price.currency, reason, hint, at_most=at_most, code=code)
        if shown != self._shown:
            self._shown = shown
            self._screen.show(shown)


@contextmanager
def _timed(attempt: Attempt, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    attempt.times[stage] = (time.perf_counter() - started) * 1e3
