"""A payment by face, from a terminal's side: sealed, sent, confirmed, and taken back where nobody waits for it.

Invariants:
  - what may have been charged while nobody got anything for it is taken back for certain, also after a crash
    (`lost_answers`);
  - a PIN is handed on and kept nowhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from facefare.biometrics import Template
from facefare.client import ApiError, AttemptReply, TerminalClient
from facefare.guardian.messages import SearchRequest
from facefare.identification.requests import prepare_search
from facefare.terminal.beside import beside
from facefare.terminal.codes import Codes
from facefare.terminal.configuration import Configuration
from facefare.terminal.lost_answers import LostAnswers

TIMEOUT = 6.0
"""Seconds for the wallet's answer; by then the person has taken out a card."""


@dataclass(frozen=True, repr=False)
class _Asked:
    search: bytes
    query_id: bytes
    amount: int
    tip: int
    currency: str
    purchase: str | None


class Charging:
    """One payment after the other. Methods that ask the wallet raise ApiError, Unreachable.

    After `attempt`, the payment is the caller's to end: `keep` it or `take_back`.
    """

    def __init__(self, client: TerminalClient, answers: LostAnswers, seal: Callable[[Template], SearchRequest]) -> None:
        """`seal` makes a signed search of a template; raises IdentificationError."""
        self._client = client
        self.answers = answers
        self._seal = seal
        self._asked: _Asked | None = None
        self._waits = False

    def attempt(
        self, probe: Template, *, amount: int, currency: str, tip: int = 0, purchase: str | None = None
    ) -> AttemptReply:
        """Ask for `amount` minor units, `tip` included, from whoever the probe is of; see `TerminalClient.attempt`."""
        self._asked = None
        search = self._seal(probe)
        self._asked = _Asked(search.to_bytes(), search.fields().query_id, amount, tip, currency, purchase)
        self._waits = True
        self.answers.begin(self._asked.query_id)
        return self.ask_again()

    def once(self, probe: Template, *, amount: int | None, currency: str) -> AttemptReply:
        """For a gate (None: the fare there): nothing is confirmed, the first answer counts, its loss is taken back."""
        search = self._seal(probe)
        with self.answers.waiting(search.fields().query_id):
            return self._client.attempt(amount=amount, currency=currency, search=search.to_bytes())

    def ask_again(self) -> AttemptReply:
        """The same payment's answer now: the payer may have confirmed it in the app."""
        asked = self._open
        return self._with_tip(asked, self._sent(asked))

    def confirm(self, payment_intent: str, pin: str) -> AttemptReply:
        """Hand on the PIN; where the payer was quicker in the app, that is the answer."""
        try:
            return self._with_tip(self._open, self._client.confirm(payment_intent, pin))
        except ApiError as error:
            if error.code == "wrong-state":
                return self.ask_again()
            raise

    def keep(self) -> None:
        """The answer was shown, and counts; what was taken back stays so."""
        if self._asked is not None and self._waits:
            self.answers.answered(self._asked.query_id)
            self.take_back()

    def take_back(self) -> None:
        """Nobody waits any more: whatever came of the payment is undone, unless it was kept. May be called twice."""
        if self._asked is not None:
            self._waits = False
            self.answers.take_back(self._asked.query_id)

    def codes(self, leads_to: str) -> Codes:
        """The codes of this terminal's screen; what comes of one too many is taken back with all else."""
        return Codes(self._client, self.answers, leads_to)

    def reachable(self) -> bool:
        """Whether the wallet can be reached at all."""
        return self._client.reachable()

    @property
    def _open(self) -> _Asked:
        if self._asked is None:
            raise ValueError("Nothing was asked for yet.")
        return self._asked

    def _sent(self, asked: _Asked) -> AttemptReply:
        return self._client.attempt(
            amount=asked.amount,
            currency=asked.currency,
            search=asked.search,
            capture_later=asked.tip > 0,
            purchase=asked.purchase,
        )

    def _with_tip(self, asked: _Asked, reply: AttemptReply) -> AttemptReply:
        """Take what an accepted payment with a tip only holds; nothing else needs it."""
        if reply.outcome != "accepted" or asked.tip == 0 or reply.receipt is not None:
            return reply
        self._client.capture(reply.payment_intent, asked.amount, asked.tip)
        try:
            return replace(reply, receipt=self._sent(asked).receipt)
        except ApiError:
            return reply  # paid; only the receipt's number is missing


@contextmanager
def charging(terminal: Configuration, lost: Path) -> Iterator[Charging]:
    """For the terminal of this file; what came of lost answers is taken back in a thread, as long as it is open.

    `lost`: a folder for the queries that wait for their answers.
    """

    def seal(probe: Template) -> SearchRequest:
        return prepare_search(
            probe,
            calibration=terminal.calibration,
            guardians=terminal.guardians,
            gallery=terminal.gallery,
            terminal=terminal.id,
            key=terminal.key,
            now=datetime.now(UTC),
        )

    with httpx.Client(base_url=terminal.wallet, timeout=TIMEOUT) as http:
        client = TerminalClient(http, terminal.id, terminal.key)
        answers = LostAnswers(lost, client.undo)
        with beside(answers.settle_until, patience=TIMEOUT + 1):
            yield Charging(client, answers, seal)
