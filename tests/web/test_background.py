"""The wallet's own background work, started by the running application and left to itself."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from standardwebhooks import Webhook

from facefare.client import ApiError
from facefare.payments import notifications, tables, webhooks
from facefare.web.api import app as application
from facefare.web.api.app import create_app


class Told:
    """What merchants' systems and payers were told."""

    def __init__(self) -> None:
        self.hooks: list[tuple[bytes, dict[str, str]]] = []
        self.messages: list[tuple[str, Any]] = []

    def send(self, address: Any, message: Any) -> None:
        self.messages.append((address.address, message))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def hook(told: Told) -> Iterator[str]:
    """A merchant's own system on this machine."""

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.hooks.append((body, dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Takes) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


@pytest.fixture
def running(world: Any, told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same wallet once more, as a second process would be, whose rounds come quickly."""
    for name in ("_SWEEP_EVERY", "_DELIVER_EVERY"):
        monkeypatch.setattr(application, name, 0.05)
    known = world.app.state.services
    again = create_app(
        engine=world.engine,
        guardians=known.guardians,
        calibration=known.calibration,
        fpir=known.fpir,
        receipt_key=Ed25519PrivateKey.generate(),
        notice=known.notice,
        notifier=SimpleNamespace(send=told.send),  # type: ignore[arg-type]
    )
    with TestClient(again):
        yield


def comes(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_what_is_due_is_done_by_the_running_wallet_itself(
    world: Any, guardians: Any, told: Told, hook: str, running: None
) -> None:
    with world.engine.begin() as connection:
        (merchant,) = connection.execute(select(tables.merchant.c.id)).scalars()
        _, secret = webhooks.register(connection, merchant, hook)
    ada = world.payer("ada", funds=200_00)
    with world.engine.begin() as connection:
        notifications.add_push(connection, ada.account().id, "https://push.example/1", {}, "en")
    paid = world.look("ada")
    assert comes(lambda: len(told.hooks) == 1 and len(told.messages) == 1)
    assert Webhook(secret).verify(*told.hooks[0])["data"]["id"] == paid.payment_intent
    assert told.messages[0][0] == "https://push.example/1"
    assert told.messages[0][1]["amount"] == 280

    request = world.requests.search("ada", terminal="trm_till").to_bytes()
    waiting = world.till.attempt(amount=60_00, currency="EUR", search=request)
    assert waiting.outcome == "confirmation_required"
    with world.engine.begin() as connection:
        older = "UPDATE payment_intent SET created_at = created_at - interval '1 hour' WHERE id = :id"
        connection.execute(text(older), {"id": waiting.payment_intent})

    def state() -> str:
        with world.engine.connect() as connection:
            return str(
                connection.execute(
                    select(tables.intent.c.state).where(tables.intent.c.id == waiting.payment_intent)
                ).scalar_one()
            )

    assert comes(lambda: state() != "requires_confirmation")
    with pytest.raises(ApiError):
        ada.confirm(waiting.payment_intent)

    guardians.down = True
    ada.dispute(paid.payment_intent)
    assert not comes_soon(lambda: bool(guardians.paused)), "no guardian can be told yet, and the rounds go on"
    guardians.down = False
    assert comes(lambda: len(guardians.paused) == 1), "once they are back, the face is paused there too"


def comes_soon(condition: Callable[[], bool]) -> bool:
    time.sleep(0.3)  # some rounds
    return condition()
