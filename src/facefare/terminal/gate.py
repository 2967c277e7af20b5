"""A gate: frames in, one attempt a person, the screen and the bar out.

Invariants:
  - it opens only on the wallet's word, never on a face it could not search;
  - what a passage costs is on the screen before an attempt counts; where it isn't known, or changes meanwhile, the
    sign of will does not count;
  - one person gets one attempt: after an answer the lane has to be empty before the next one begins;
  - who does not move as a head does within `PATIENCE` seconds of the sign of will is asked for the card, and
    nothing of that face is embedded;
  - frames and templates live in memory until the attempt's answer, and no longer.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from facefare.biometrics import Template
from facefare.biometrics.errors import BiometricsError
from facefare.client import ApiError, AttemptReply, Unreachable
from facefare.identification.errors import IdentificationError
from facefare.terminal.approach import Approach, Frame, SomeoneElseTooClose
from facefare.terminal.fares import Fare, Price
from facefare.terminal.screen import Screen, Shown, State, state_of

ONE_AT_A_TIME = "one person at a time"
UNREADABLE_FRAME = "the camera's picture can't be read"
NOT_LIVE = "not_seen_alive"
NO_NETWORK = "no_network"
PATIENCE = 3.0
"""Seconds from the sign of will within which the views have to show the depth of a head."""


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
    ) -> None:
        """`ask` seals a template, has it searched and charged, and raises ApiError or IdentificationError.

        `done` hears of each attempt.
        """
        self._approach = approach
        self._ask = ask
        self._screen = screen
        self._fare = fare
        self._done = done
        self._willing_since: float | None = None
        self._answered = False
        self._price = fare.price()
        self._shown: Shown | None = None

    def run(self, frames: Iterable[Frame]) -> None:
        """Serve the lane until the frames end. Raises SourceError where the camera fails."""
        self._show(State.IDLE)
        for frame in frames:
            arrived = time.perf_counter()
            if (price := self._fare.price()) != self._price:
                self._price = price
                self._start_anew()
            if price is None:
                self._show(State.OUT_OF_SERVICE)
                continue
            try:
                hint = self._approach.offer(frame)
            except SomeoneElseTooClose:
                self._wait(ONE_AT_A_TIME)
                continue
            except BiometricsError:
                self._wait(UNREADABLE_FRAME)
                continue
            if not self._approach.somebody_near:
                self._willing_since = None
                self._answered = False
                self._show(State.IDLE)
            elif self._answered:
                self._approach.forget()  # still standing there: nothing more is gathered
            else:
                if self._approach.wants_to_pay and self._willing_since is None:
                    self._willing_since = arrived
                self._show(State.LOOK_HERE, hint=hint.value if hint else None)
                if self._approach.ready:
                    self._attempt()
                elif self._willing_since is not None and arrived - self._willing_since > PATIENCE:
                    self._give_up()

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
        self._show(State.WAIT)
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
        self._willing_since = None
        self._show(State.LOOK_HERE, hint=hint)

    def _show(
        self, state: State, *, reason: str | None = None, hint: str | None = None, charged: int | None = None
    ) -> None:
        if self._price is None:
            state, price = State.OUT_OF_SERVICE, Price(0, 0, self._fare.currency)
        else:
            price = self._price
        amount, at_most = (price.least, price.most) if charged is None else (charged, charged)
        shown = Shown(state, amount, price.currency, reason, hint, at_most=at_most if at_most > amount else None)
        if shown != self._shown:
            self._shown = shown
            self._screen.show(shown)


@contextmanager
def _timed(attempt: Attempt, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    attempt.times[stage] = (time.perf_counter() - started) * 1e3
