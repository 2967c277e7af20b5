"""The screen of a gate or a till: a page in a browser in kiosk mode, to which the terminal pushes its states.

Invariants:
  - each state differs from every other by its symbol and its words, not by colour alone;
  - no name, no picture, no score, and no reason large enough for the queue to read;
  - a page that has lost its terminal says so: it never goes on showing the last state.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import segno
from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from facefare.terminal.screen import Shown, State
from facefare.web.pages import static_files, words
from facefare.web.pages.guard import Guard
from facefare.web.pages.languages import Language
from facefare.web.pages.rendering import PREFIX, Rendering

_TITLES = {
    State.IDLE: "Pay by face or card",
    State.AMOUNT: "How much?",
    State.APPROVE: "Is this right?",
    State.LOOK_HERE: "Look at the camera",
    State.WAIT: "One moment",
    State.PIN: "Type your PIN",
    State.PHONE: "Say yes in your app",
    State.ACCEPTED: "Please go ahead",
    State.ALREADY_PAID: "Paid already. Please go ahead",
    State.USE_CARD: "Please use your card",
    State.SEVERAL: "Not sure who you are. Use your card",
    State.REFUSED: "Not paid. Use your card",
    State.NO_NETWORK: "No connection. Use your card",
    State.OUT_OF_SERVICE: "Out of service. Use your card",
}
_WITHOUT_PRICE = (State.AMOUNT, State.OUT_OF_SERVICE, State.ALREADY_PAID, State.NO_NETWORK)
_STILL_HERE = 5.0
"""Seconds between signs of life to the page."""


@dataclass(frozen=True, eq=False)
class _Listener:
    loop: asyncio.AbstractEventLoop
    states: asyncio.Queue[Shown]


class KioskScreen:
    """A terminal's `Screen`; `show` may be called from any thread, and returns at once."""

    def __init__(self, language: Language, *, muted: bool = False) -> None:
        self._language = language
        self._muted = muted
        self._shown: Shown | None = None
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()

    def show(self, shown: Shown) -> None:
        """Show it on every page that is open, and on those that open later."""
        with self._lock:
            self._shown = shown
            for listener in self._listeners:
                listener.loop.call_soon_threadsafe(listener.states.put_nowait, shown)

    def app(self) -> ASGIApp:
        """The page at `/` and its stream of states at `/events`."""
        return guarded(self.pages("kiosk.html"))

    def pages(self, template: str, **facts: object) -> FastAPI:
        """The same without its guard, of another template."""
        app = FastAPI(title="facefare screen", docs_url=None, redoc_url=None, openapi_url=None)
        app.mount(f"{PREFIX}/static", static_files.app())

        @app.get("/")
        async def page() -> Response:
            lost = {"title": self._language(_TITLES[State.OUT_OF_SERVICE])}
            given = {"states": State, "lost": lost, "muted": self._muted, **facts}
            return HTMLResponse(Rendering(self._language, "/").text(template, **given))

        @app.get("/events")
        async def events() -> Response:
            return StreamingResponse(self._events(), media_type="text/event-stream")

        return app

    def in_words(self, shown: Shown) -> dict[str, object]:
        """A state as the page shows it."""
        say = self._language
        detail = ""
        if shown.hint:
            detail = say(words.HINTS.get(shown.hint, shown.hint))
        elif shown.reason and shown.state not in (State.ACCEPTED, State.ALREADY_PAID, State.SEVERAL, State.NO_NETWORK):
            detail = say(words.REASONS.get(shown.reason, "Your app says why"))
        return {
            "state": shown.state.value,
            "title": say(_TITLES[shown.state]),
            "detail": detail,
            "amount": ""
            if shown.state in _WITHOUT_PRICE
            else words.prices(shown.amount, shown.at_most, shown.currency, self._language.decimal_point),
            "code": {**qr_code(shown.code), "number": shown.code.rpartition("/")[2]} if shown.code else None,
        }

    async def _events(self) -> AsyncIterator[str]:
        listener = _Listener(asyncio.get_running_loop(), asyncio.Queue())
        with self._lock:
            self._listeners.add(listener)
            if self._shown is not None:
                listener.states.put_nowait(self._shown)
        try:
            while True:
                try:
                    shown = await asyncio.wait_for(listener.states.get(), _STILL_HERE)
                    yield f"data: {json.dumps(self.in_words(shown))}\n\n"
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            with self._lock:
                self._listeners.discard(listener)


def guarded(app: ASGIApp) -> ASGIApp:
    """With the pages' policy, and closed to what other sites' pages send."""
    return Guard(app, origin="", refuse=lambda _: Response(status_code=403))


def qr_code(url: str) -> dict[str, object]:
    """A QR code as the path of an SVG, in modules, with the quiet zone of four around it."""
    code = segno.make(url, error="m", micro=False)
    path = "".join(
        f"M{x + 4} {y + 4}h1v1h-1z" for y, row in enumerate(code.matrix) for x, dark in enumerate(row) if dark
    )
    return {"size": len(code.matrix) + 8, "path": path}
