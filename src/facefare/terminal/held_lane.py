"""A lane for the profiles that the terminal's file allows: what the gate or till follows, and what it asks.

Where codes are taken, a thread keeps the opening key, the deny list and the wallet's records up to date.
"""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta

import httpx

from facefare.biometrics import FacePipeline, Template
from facefare.biometrics.backdrop import Backdrop
from facefare.client import ApiError, AttemptReply, TerminalClient
from facefare.identification.held.errors import HeldError
from facefare.terminal.approach import Approach
from facefare.terminal.beside import beside
from facefare.terminal.configuration import Configuration, HeldSection
from facefare.terminal.fares import Fare
from facefare.terminal.held import HeldApproach, HeldProfile, code_or_search
from facefare.terminal.held_store import HeldStore
from facefare.terminal.lost_answers import LostAnswers

_REFRESH_EVERY, _RETRY_AFTER = 30.0, 3.0  # seconds
_TIMEOUT = 1.5
"""Seconds for the wallet's answer to a code; after that the rules for a terminal without a network count."""

Ask = Callable[[Template], AttemptReply]
Say = Callable[[str, dict[str, object]], None]


@contextmanager
def lane(
    configuration: Configuration, pipeline: FacePipeline, search: Ask, answers: LostAnswers, fare: Fare, say: Say
) -> Iterator[tuple[Approach, Ask]]:
    """What to follow and whom to ask; `say` hears of each new opening key, and of what goes wrong in between.

    `search` asks the guardians for a face, and is not used in lanes for codes only.
    """
    backdrop = _backdrop(configuration, say)
    if configuration.held is None:
        yield Approach(pipeline, configuration.lane, backdrop=backdrop), search
        return
    with _profile(configuration, configuration.held, answers, fare) as held:
        codes_only = configuration.held.codes_only
        approach = HeldApproach(pipeline, configuration.lane, held, codes_only=codes_only, backdrop=backdrop)
        with _kept_up_to_date(held, say):
            yield approach, held.pay if codes_only else code_or_search(held, search)


def _backdrop(configuration: Configuration, say: Say) -> Backdrop | None:
    # A till looks at nothing before the payer's yes, and then somebody stands there: it never sees its place empty.
    if configuration.till is not None or not configuration.backdrop:
        return None
    return Backdrop(on_change=lambda known: say("backdrop", {"known": known}))


@contextmanager
def _profile(
    configuration: Configuration, section: HeldSection, answers: LostAnswers, fare: Fare
) -> Iterator[HeldProfile]:
    # At a gate, who walks up again has paid; at a till, two coffees are two.
    terms = section if configuration.till is None else replace(section, passback=timedelta(0))
    with (
        closing(HeldStore(section.store)) as store,
        httpx.Client(base_url=configuration.wallet, timeout=_TIMEOUT) as http,
    ):
        yield HeldProfile(
            terminal=configuration.id,
            key=configuration.key,
            operator_key=section.operator_key,
            calibration=configuration.calibration,
            store=store,
            wallet=TerminalClient(http, configuration.id, configuration.key),
            answers=answers,
            fare=fare,
            terms=terms,
        )


@contextmanager
def _kept_up_to_date(held: HeldProfile, say: Say) -> Iterator[None]:

    def keep(stopped: threading.Event) -> None:
        told, due = None, time.monotonic()
        while True:
            if time.monotonic() >= due or held.keeps_records:
                due = time.monotonic() + _REFRESH_EVERY
                try:
                    for code in held.refresh():
                        say("offline_payment_refused", {"code": code})
                except (ApiError, HeldError) as error:
                    say("refresh_failed", {"error": type(error).__name__, "detail": str(error)})
                    due = time.monotonic() + _RETRY_AFTER
            shown = held.announcement
            if shown is not None and shown != told:
                told = shown
                say("opening_key", {"announcement": base64.b64encode(shown).decode()})
            if stopped.wait(_RETRY_AFTER):
                return

    with beside(keep, patience=2 * _TIMEOUT):
        yield
