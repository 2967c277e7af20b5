"""The real app on a real database, in real Chromium; only the guardians are fake."""

import base64
import functools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import cv2
import httpx
import numpy as np
import pytest
import uvicorn
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from sqlalchemy import Engine

from demo.faces import Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.client import PayerClient, StationClient, TerminalClient
from facefare.identification.calibration import Calibration, Threshold
from facefare.payments import merchants
from facefare.payments.merchants import Terminal
from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding
from facefare.settings import Settings
from facefare.wallet import galleries, stations
from facefare.wallet.consents import Notice, Profile
from facefare.web.api import create_app
from facefare.web.pages import mount_pages
from facefare.web.pages.static_files import FOLDER

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
KIOSK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}

PATIENCE_MS = 20_000  # a busy machine is slow; what never comes fails all the same
expect.set_options(timeout=PATIENCE_MS)

STAFF_TOKEN = "stk_" + "for-tests-only-" * 3
NOTICE = Notice("2026-11", "en", "https://operator.example/privacy", "Example Transit", "privacy@operator.example", 395)
CALIBRATION = Calibration("labels", np.zeros(2, np.float32), 160.0, 1, 8191, (Threshold(1000, 0.001, -2000),))


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if not Path(CHROMIUM).exists():
        pytest.fail("The browser tests need Chromium: make browser")
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def static() -> Iterator[str]:
    """The URL of our modules alone, at their own paths: no app, no database."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=FOLDER)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def pipeline() -> FacePipeline:
    return FacePipeline.load(Settings().cache_dir / "models")


@pytest.fixture(scope="session")
def head(pipeline: FacePipeline) -> Sitter:
    return Sitter(Person.EILEEN_COLLINS, pipeline)


@pytest.fixture
def profile(playwright: Playwright, tmp_path: Path) -> Iterator[Any]:
    """A browser's context that is not private: apps can be installed in it."""
    context = playwright.chromium.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=FLAGS)
    yield context
    context.close()


class Drawn(Random):
    """Draws as our pages do, from the bytes that they have for chance."""

    def __init__(self, chance: bytes) -> None:
        super().__init__(0)
        self._chance = iter(chance)

    def _below(self, n: int) -> int:
        return next(byte for byte in self._chance if byte < 256 - 256 % n) % n

    def choice(self, seq: Any) -> Any:
        return seq[self._below(len(seq))]

    def choices(self, population: Any, *_: Any, k: int = 1, **__: Any) -> list[Any]:
        return [self.choice(population) for _ in range(k)]

    def shuffle(self, x: Any) -> None:
        for i in reversed(range(1, len(x))):
            j = self._below(i + 1)
            x[i], x[j] = x[j], x[i]


@pytest.fixture(scope="session")
def drawn() -> Any:
    """`drawn(chance)`: a Random for the station's challenge that asks what the page's asks, from the same bytes."""
    return Drawn


SITTER = """async (views) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const pen = canvas.getContext("2d");
  const pictures = {};
  for (const [asked, frames] of Object.entries(views)) {
    const blobs = frames.map((frame) => new Blob([Uint8Array.from(atob(frame), (letter) => letter.charCodeAt(0))]));
    pictures[asked] = await Promise.all(blobs.map((blob) => createImageBitmap(blob)));
  }
  let at = 0;
  setInterval(() => {
    const asked = window.shown ?? document.querySelector("[data-asked]")?.dataset.asked;
    const frames = pictures[asked] ?? Object.values(pictures)[0];
    pen.drawImage(frames[Math.floor(at++ / 8) % frames.length], 0, 0);
  }, 50);
  navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(20);
}"""


@pytest.fixture
def sits() -> Any:
    """`sits(page, views)`: somebody before the page's camera who shows what is asked; {asked: frames (480, 640, 3)}.

    Who sets the page's `shown` to another key of the views has that shown instead.
    """

    def seated(page: Page, views: dict[str, list[Any]]) -> None:
        encoded = {
            asked: [base64.b64encode(cv2.imencode(".png", frame)[1].tobytes()).decode() for frame in frames]
            for asked, frames in views.items()
        }
        page.evaluate(SITTER, encoded)

    return seated


SHOWN = {  # what may stand behind a "?", and how it looks
    "v": "[0-9a-f]{12,64}",
    "to": "/app/(pay/pi_[0-9a-z]{26})?",
    "key": "[0-9A-Fa-f]{64}",  # the public half of a payer's check key
    "session": "cs_[A-Za-z0-9_]+",  # by the card processor
    "first": "[0-9-]{10}",
    "last": "[0-9-]{10}",
    "limit": "[0-9]{1,3}",
    "again": "true",
    "span": "[a-z]{1,10}",
    "state": "[a-z_]*",
    **dict.fromkeys(("starting_after", "before", "number", "terminal"), r"\s*([a-z]{2,3}_[0-9A-Za-z_-]{1,40})?\s*"),
}
SECRET = re.compile(r"(ptk|fst|stk|inv|fsk|whsec)_|[0-9A-Za-z_-]{43}")
COOKIE = re.compile(r"(__Host-\w+|language)=[^;]*; ", re.ASCII)
COOKIE_FLAGS = {"httponly", "secure", "path=/", "samesite=lax"}


class Watched:
    """An ASGI app; everything that browsers ask it, and every cookie that it sets, is looked at.

    No address holds a secret; every cookie is out of reach of scripts, of other hosts and of plain connections.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.faults: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def looked_at(message: Any) -> None:
            attack = (b"x-attack", b"yes") in scope["headers"] if scope["type"] == "http" else False
            if message.get("status", 400) < 400 and not attack:  # most attacks are refused, the others say so
                self._look_at_query(scope["path"], scope["query_string"].decode())
            for name, value in message.get("headers", ()):
                if name.lower() == b"set-cookie":
                    self._look_at_cookie(value.decode())
            await send(message)

        if scope["type"] == "http" and SECRET.search(scope["path"].removeprefix("/app/assets/")):
            self.faults.append(scope["path"])
        await self._app(scope, receive, looked_at)

    def _look_at_query(self, path: str, query: str) -> None:
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in SHOWN or not re.fullmatch(SHOWN[name], value):
                self.faults.append(f"{path}?{name}={value}")

    def _look_at_cookie(self, cookie: str) -> None:
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        if not COOKIE.match(cookie) or not parts >= COOKIE_FLAGS or any(part.startswith("domain") for part in parts):
            self.faults.append(cookie)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The app on a free port; its URL has the host name that passkeys accept."""
    watched = Watched(app)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(watched, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://localhost:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(5)
    assert watched.faults == []


@pytest.fixture(scope="session")
def served() -> Any:
    return serving


@pytest.fixture
def kiosk() -> dict[str, Any]:
    return KIOSK


class LateApp:
    """An ASGI app that is made after its address is known."""

    app: Any = None

    def __init__(self) -> None:
        self.received: list[tuple[str, str, int]] = []  # method, path, bytes of the body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message

        await self.app(scope, counted, send)
        self.received.append((scope["method"], scope["path"], seen))


@dataclass
class Site:
    """The wallet with its pages, and the people and machines around it."""

    url: str
    engine: Engine
    guardians: Any
    requests: Any
    http: httpx.Client
    received: list[tuple[str, str, int]]
    app: Any
    staff_token: str = STAFF_TOKEN
    tokens: dict[str, str] = field(default_factory=dict)

    def payer(self, label: str, funds: int = 1000) -> PayerClient:
        """A payer with money and an enrolled face."""
        payer, self.tokens[label] = PayerClient.register(self.http, "EUR")
        if funds:
            payer.top_up(funds, "first")
        _, sha256 = payer.consent(NOTICE.version)
        StationClient(self.http).enrol(self.requests.enrolment(label, sha256).to_bytes())
        return payer

    @property
    def gate(self) -> TerminalClient:
        """The gate itself."""
        return TerminalClient(self.http, "trm_gate", self.requests.terminal_key)

    def look(self, label: str) -> Any:
        """Someone looks at the gate's camera."""
        return self.gate.attempt(amount=280, currency="EUR", search=self.requests.search(label).to_bytes())

    def sign_in(self, page: Page, label: str) -> None:
        """Sign a payer in who came by the API."""
        page.goto("/app/sign-in")
        page.locator("summary").click()
        page.locator("#token").fill(self.tokens[label])
        page.get_by_role("button", name="Sign in with the token").click()
        page.wait_for_url("**/app/")


@pytest.fixture
def calibration() -> Calibration:
    return CALIBRATION


@pytest.fixture
def processor() -> Any:
    """From the site's URL to what charges cards: nothing does."""
    return lambda url: None


class StandIn:
    """The few calls of the card processor's API that the pages need: which card was given on its page, what the
    bank says, and what it was asked."""

    def __init__(self) -> None:
        self.card: dict[str, str] | None = None
        self.bank = "yes"
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.intent: dict[str, Any] = {}

    def answer(self, method: str, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.asked.append((f"{method} {path}", form))
        match method, path.split("/")[2:]:
            case "POST", ["customers"]:
                return 200, {"id": "cus_1", "object": "customer"}
            case "POST", ["checkout", "sessions"]:
                return 200, {"id": "cs_test_1", "object": "checkout.session", "url": "https://cards.example/cs_test_1"}
            case "GET", ["checkout", "sessions", _]:
                given = "seti_1" if self.card else None
                return 200, {
                    "id": "cs_test_1",
                    "object": "checkout.session",
                    "customer": "cus_1",
                    "setup_intent": given,
                }
            case "GET", ["setup_intents", _]:
                return 200, {
                    "id": "seti_1",
                    "object": "setup_intent",
                    "customer": "cus_1",
                    "status": "succeeded",
                    "payment_method": "pm_1",
                }
            case "GET", ["payment_methods", _]:
                return 200, {"id": "pm_1", "object": "payment_method", "card": self.card}
            case "POST", ["payment_methods", _, "detach"]:
                return 200, {"id": "pm_1", "object": "payment_method"}
            case "POST", ["payment_intents"]:
                return self._charge(form)
            case "GET", ["payment_intents", _]:
                return 200, self.intent
        return 404, {"error": {"type": "invalid_request_error", "message": "no such thing"}}

    def _charge(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.intent = {
            "id": f"pi_{form['metadata[top_up]'][-8:]}",
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "currency": form["currency"],
            "metadata": {"top_up": form["metadata[top_up]"]},
            "status": {"yes": "succeeded", "ask": "requires_action"}.get(self.bank, "requires_payment_method"),
            "client_secret": "pi_1_secret",
            "last_payment_error": None,
            "next_action": None,
        }
        if self.bank == "ask":
            page = {"url": "https://bank.example/ask", "return_url": form["return_url"]}
            self.intent["next_action"] = {"type": "redirect_to_url", "redirect_to_url": page}
        if self.intent["status"] == "requires_payment_method":
            error = {"type": "card_error", "code": "card_declined", "decline_code": self.bank, "message": "no"}
            return 402, {"error": {**error, "payment_intent": self.intent}}
        return 200, self.intent


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def card_processor(stand_in: StandIn) -> Iterator[Any]:
    """From the site's URL to what charges cards at the stand-in."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            status, answer = stand_in.answer(self.command, self.path, form)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _handle  # noqa: N815 - names of the base class

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"
        yield lambda url: Processor("sk_test_x", "whsec_x", api_base=base, return_to=f"{url}/app/card/")
        server.shutdown()
        thread.join()


@pytest.fixture
def notifier() -> Any:
    """What tells payers of payments; nothing does."""
    return None


@pytest.fixture
def profiles() -> tuple[Profile, ...]:
    """The ways to pay by face that are offered."""
    return tuple(Profile)


@pytest.fixture
def site(
    engine: Engine,
    guardians: Any,
    requests: Any,
    calibration: Calibration,
    processor: Any,
    notifier: Any,
    profiles: tuple[Profile, ...],
    tmp_path: Path,
) -> Iterator[Site]:
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Example Transit")
        public = requests.terminal_key.public_key().public_bytes_raw()
        merchants.register_terminal(connection, Terminal("trm_gate", merchant, "Central Station, gate 4", public))
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
        galleries.open_gallery(connection, "gal_town", kind="live")
    late = LateApp()
    with serving(late) as url:
        app = create_app(
            engine=engine,
            guardians=guardians,
            calibration=calibration,
            fpir=0.001,
            receipt_key=Ed25519PrivateKey.generate(),
            notice=NOTICE,
            funding=Funding.TEST,
            processor=processor(url),
            notifier=notifier,
            profiles=profiles,
        )
        mount_pages(
            app,
            origin=url,
            currency="EUR",
            cache_dir=Settings().cache_dir,
            staff_token=STAFF_TOKEN,
            accuracy=tmp_path / "report.json",
        )
        late.app = app
        with httpx.Client(base_url=url) as http:
            yield Site(url, engine, guardians, requests, http, late.received, app)


@pytest.fixture
def visit(browser: Browser) -> Any:
    """`with visit(url) as page`: a new profile; whatever goes wrong in any of its pages fails the test."""

    @contextmanager
    def visited(
        url: str, in_browser: Browser = browser, *, expect_missing: bool = False, **options: Any
    ) -> Iterator[Page]:
        faults: list[str] = []
        context = in_browser.new_context(**{**PHONE, **options, "base_url": url})

        def watch(page: Page) -> None:
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda request: None if request.url.startswith(url) else faults.append(request.url))

        context.on("page", watch)
        context.set_default_timeout(PATIENCE_MS)
        yield context.new_page()
        context.close()
        told = "Failed to load resource"
        assert [fault for fault in faults if not (expect_missing and fault.startswith(told))] == []

    return visited


@pytest.fixture
def authenticator() -> Any:
    """`authenticator(page)`: a device with passkeys, whose owner always says yes; it belongs to that page."""

    def plugged_in(page: Page, *, prf: bool = True, verified: bool = True) -> Any:
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verified,
            "automaticPresenceSimulation": True,
            "hasPrf": prf,
        }
        added = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return devtools, added["authenticatorId"]

    return plugged_in


@pytest.fixture
def read_code(tmp_path: Path) -> Any:
    """`read_code(page)`: what a phone reads off a terminal's screen."""

    def read(page: Page) -> str:
        figure = page.locator("#code svg")
        figure.wait_for()
        shot = tmp_path / "code.png"
        figure.screenshot(path=shot)
        (found,) = zxingcpp.read_barcodes(cv2.imread(str(shot)))
        return str(found.text)

    return read
