"""The code on a terminal's screen, for who pays without a face: made, renewed, and taken back when nobody waits for it.

Invariants:
  - what is paid by a code counts once (`take`); whatever else may come of a code is taken back for certain, also after
    a crash and where an answer was lost (`lost_answers`);
  - a code is for one amount as the screen shows it; when something else is offered, or nothing, it is over at once;
  - it is shown only while the wallet answers.

`offer` and `take` come from the terminal's threads and return at once; `keep_up` asks the wallet, in one thread.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from facefare.client import ApiError, TerminalClient
from facefare.terminal.fares import Price
from facefare.terminal.lost_answers import LostAnswers

SHOWN_FOR = 60.0
"""Seconds until another code is shown; the one before still counts for who has just read it, for as long again."""
SILENT_FOR = 10.0
"""Seconds without an answer after which nobody waits any more for what a code brought."""
_EVERY = 1.0


@dataclass(frozen=True)
class Offer:
    """What a code asks for: `amount` minor units (None: the fare), `tip` included; `price` is what the screen says.

    `purchase`: a till's name for the sale, the same for whoever looks (`TerminalClient.attempt`).
    """

    amount: int | None
    price: Price
    tip: int = 0
    purchase: str | None = None


@dataclass(frozen=True)
class _Code:
    payment: str
    query_id: bytes
    made_at: float
    offer: Offer


@dataclass(frozen=True)
class PaidByCode:
    """Somebody paid, or had a moment `before`; `amount` minor units. It counts once it is taken."""

    code: _Code
    amount: int
    before: bool


class Codes:
    """The codes of one terminal: at most one is shown, and the one before it is still good."""

    def __init__(
        self,
        client: TerminalClient,
        answers: LostAnswers,
        leads_to: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`leads_to`: the page of the payers' app that a payment's id is put after; `clock` gives seconds."""
        self._client = client
        self._answers = answers
        self._leads_to = leads_to.rstrip("/")
        self._clock = clock
        self._lock = threading.Lock()
        self._offer: Offer | None = None
        self._waiting: list[_Code] = []
        self._paid: list[PaidByCode] = []
        self._answering = True
        self._heard = self._next = 0.0

    def offer(self, offer: Offer | None) -> None:
        """Offer this from now on; None: nothing. Whatever was offered before is over, unless it is the same."""
        with self._lock:
            if offer == self._offer:
                return
            self._end(self._waiting + [paid.code for paid in self._paid])
            self._offer, self._next, self._heard = offer, 0.0, self._clock()

    @property
    def shown(self) -> str | None:
        """What the screen shows as a code now; None where there is none."""
        with self._lock:
            if not self._waiting or not self._answering or self._old(self._waiting[-1]):
                return None
            return f"{self._leads_to}/{self._waiting[-1].payment}"

    def take(self, paid: PaidByCode) -> bool:
        """Let what was paid count, and end what was offered; False where it is over already."""
        with self._lock:
            if paid not in self._paid:
                return False
            self._answers.answered(paid.code.query_id)
            self._end(self._waiting + [other.code for other in self._paid])
            self._offer = None
            return True

    def keep_up(self) -> PaidByCode | None:
        """Ask the wallet what is due; what was paid, until it is taken or over. May be called as often as one likes."""
        with self._lock:
            offer, now = self._offer, self._clock()
            if offer is None or self._paid or now < self._next:
                return self._paid[0] if self._paid else None
            self._next = now + _EVERY
            waiting = list(self._waiting)
        answered = True
        for code in waiting:
            answered = self._ask_about(code) and answered
        if answered and not (waiting and self._still(waiting[-1]) and not self._old(waiting[-1])):
            answered = self._make(offer)
        with self._lock:
            self._answering = answered
            if answered:
                self._heard = now
            elif now - self._heard > SILENT_FOR:
                self._end(list(self._waiting))
            return self._paid[0] if self._paid else None

    def _ask_about(self, code: _Code) -> bool:
        """Whether the wallet answers."""
        try:
            payment = self._client.payment(code.payment)
            if payment.state == "requires_capture" and code.offer.tip:
                payment = self._client.capture(code.payment, payment.amount, code.offer.tip)
        except ApiError as error:
            if error.is_answer:
                with self._lock:
                    self._end([code])
            return error.is_answer
        with self._lock:
            if code not in self._waiting:
                return True
            before = payment.reason == "paid_moments_ago"
            if before or payment.state in ("succeeded", "requires_capture"):
                self._waiting.remove(code)
                self._paid.append(PaidByCode(code, payment.amount, before))
            elif payment.state not in ("requires_identification", "processing") or self._over(code):
                self._end([code])
        return True

    def _make(self, offer: Offer) -> bool:
        """Whether the wallet answers."""
        key = secrets.token_hex(16)
        code_id = self._client.query_of(key)
        self._answers.begin(code_id)
        try:
            payment = self._client.by_code(
                amount=offer.amount,
                currency=offer.price.currency,
                idempotency_key=key,
                capture_later=offer.tip > 0,
                purchase=offer.purchase,
            )
        except ApiError as error:
            if error.is_answer:
                self._answers.answered(code_id)
            self._answers.take_back(code_id)
            return False
        with self._lock:
            code = _Code(payment.id, code_id, self._clock(), offer)
            self._waiting.append(code)
            if offer != self._offer:
                self._end([code])
        return True

    def _still(self, code: _Code) -> bool:
        with self._lock:
            return code in self._waiting or any(paid.code == code for paid in self._paid)

    def _old(self, code: _Code) -> bool:
        return self._clock() - code.made_at > SHOWN_FOR

    def _over(self, code: _Code) -> bool:
        return self._clock() - code.made_at > 2 * SHOWN_FOR - 10  # before the wallet says so, which is 2 minutes

    def _end(self, codes: list[_Code]) -> None:
        for code in codes:
            self._answers.take_back(code.query_id)
        self._waiting = [code for code in self._waiting if code not in codes]
        self._paid = [paid for paid in self._paid if paid.code not in codes]
