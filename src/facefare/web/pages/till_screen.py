"""The screen of a till: a gate's screen, and what is pressed on it: amount, tip, yes, PIN.

Invariants:
  - it is served to this machine alone, under a name of this machine: a PIN is typed here;
  - a PIN is in no answer, error or log, and nothing of it is on the screen but how many digits there are;
  - what the payer says yes to is sent back with the yes, so it is what the payer saw.
"""

import re
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from facefare.ledger.currency import MINOR_UNITS
from facefare.terminal.errors import NotNow
from facefare.terminal.screen import Shown, State
from facefare.terminal.till import TillTerms
from facefare.web.pages import words
from facefare.web.pages.kiosk import KioskScreen, guarded, qr_code
from facefare.web.pages.languages import Language
from facefare.web.pages.rendering import PREFIX

TITLES = {
    State.ACCEPTED: "Paid. Thank you",
    State.ALREADY_PAID: "Paid already. Thank you",
}
"""Where a till says something else than a gate."""


class Pressed(Protocol):
    """A till's buttons; each raises NotNow where it doesn't fit what is shown."""

    def enter(self, amount: int) -> None:
        """The price, in minor units."""

    def approve(self, price: int, tip: int) -> None:
        """The payer's yes to both."""

    def pin(self, pin: str) -> None:
        """The second factor."""

    def by_phone(self) -> None:
        """Confirm in the app instead."""

    def by_pin(self) -> None:
        """Type the PIN after all."""

    def cancel(self) -> None:
        """Begin anew."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Amount(_Strict):
    amount: Annotated[int, Field(strict=True)]


class _Yes(_Strict):
    price: Annotated[int, Field(strict=True)]
    tip: Annotated[int, Field(strict=True)]


class _Pin(_Strict):
    pin: SecretStr

    @field_validator("pin")
    @classmethod
    def _digits(cls, pin: SecretStr) -> SecretStr:
        if not re.fullmatch("[0-9]{4,8}", pin.get_secret_value()):
            raise ValueError("A PIN has 4 to 8 digits.")
        return pin


class TillScreen(KioskScreen):
    """A till's `Screen`."""

    def __init__(
        self, language: Language, terms: TillTerms, codes_only: bool | None = None, *, muted: bool = False
    ) -> None:
        """`codes_only`: whether only who shows a phone's code can pay; None where the till takes none."""
        super().__init__(language, muted=muted)
        self._terms = terms
        self._codes_only = codes_only

    def app_for(self, till: Pressed) -> ASGIApp:
        """The page, its stream of states, and the till's buttons."""
        app = self.pages(
            "till.html", digits=MINOR_UNITS.get(self._terms.currency, 2), zero=self._money(0, self._terms.currency)
        )
        _add_buttons(app, till)
        return TrustedHostMiddleware(guarded(app), allowed_hosts=["localhost", "127.0.0.1"], www_redirect=False)

    def in_words(self, shown: Shown) -> dict[str, object]:
        """A state as the page shows it, with the tips to choose from and the receipt's code."""
        said = super().in_words(shown)
        if shown.state in TITLES:
            said["title"] = self._language(TITLES[shown.state])
        if shown.state is State.LOOK_HERE and self._codes_only is not None:
            if self._codes_only:
                said["title"] = self._language("Show your code and face")
            elif not shown.hint:
                said["detail"] = self._language("With a code on your phone: hold it up beside your face")
        if shown.state is State.APPROVE:
            said["price"] = shown.amount
            said["choices"] = self._choices(shown.amount)
        if shown.state in TITLES and shown.receipt is not None and self._terms.receipts:
            said["receipt"] = qr_code(f"{self._terms.receipts.rstrip('/')}{PREFIX}/receipts/{shown.receipt}")
        return said

    def _money(self, amount: int, currency: str) -> str:
        return words.money(amount, currency, self._language.decimal_point)

    def _choices(self, price: int) -> list[dict[str, object]]:
        """Each tip with its name and the total; no choice where no tip is asked for."""
        say, currency = self._language, self._terms.currency
        none = {"tip": 0, "name": say("No tip"), "total": self._money(price, currency)}
        offered = [
            {
                "tip": tip,
                "name": say(
                    "{percent} tip: {tip}",
                    percent=_ltr(f"{percent}\N{NO-BREAK SPACE}%"),
                    tip=_ltr(self._money(tip, currency)),
                ),
                "total": self._money(price + tip, currency),
            }
            for percent, tip in self._terms.offered(price)
        ]
        return [none, *offered] if offered else []


def _add_buttons(app: FastAPI, till: Pressed) -> None:
    def pressed(button: Callable[[], None]) -> Response:
        try:
            button()
        except NotNow:
            return Response(status_code=409)
        return Response(status_code=204)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> Response:  # noqa: ARG001 - FastAPI's signature
        return Response(status_code=422)  # without what was typed

    @app.post("/till/amount")
    def amount(body: _Amount) -> Response:
        return pressed(lambda: till.enter(body.amount))

    @app.post("/till/yes")
    def yes(body: _Yes) -> Response:
        return pressed(lambda: till.approve(body.price, body.tip))

    @app.post("/till/pin")
    def pin(body: _Pin) -> Response:
        return pressed(lambda: till.pin(body.pin.get_secret_value()))

    @app.post("/till/by-phone")
    def by_phone() -> Response:
        return pressed(till.by_phone)

    @app.post("/till/by-pin")
    def by_pin() -> Response:
        return pressed(till.by_pin)

    @app.post("/till/cancel")
    def cancel() -> Response:
        return pressed(till.cancel)


def _ltr(figure: str) -> str:
    """A figure reads left to right in every script."""
    return f"\N{LEFT-TO-RIGHT ISOLATE}{figure}\N{POP DIRECTIONAL ISOLATE}"
