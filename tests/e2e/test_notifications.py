"""Payers who asked for it are told of each payment, by mail and by push, and nobody else is told anything."""

import base64
import json
import os
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import http_ece
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from playwright.sync_api import expect
from sqlalchemy import text

from facefare.payments import notifications
from facefare.web.pages.notifying import PUSH_HOSTS, Mail, Notifier, Push

OWN = {"Sec-Fetch-Site": "same-origin", "Accept": "application/json"}


class MailSink(socketserver.ThreadingTCPServer):
    """A mail server of a few lines that keeps what it is given."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.taken: list[EmailMessage] = []
        self.answer = "250 ok"


class _Smtp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        self._say("220 sink")
        while line := self.rfile.readline():
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self._say("354 go on")
                data = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    data += part
                server.taken.append(message_from_bytes(data, policy=policy.default))
                self._say("250 taken")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say(server.answer if verb == b"RCPT" else "250 ok")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class PushSink(ThreadingHTTPServer):
    """A push service, and one browser that is subscribed to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PushService)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = os.urandom(16)
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.status = 201

    @property
    def subscription(self) -> dict[str, Any]:
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        endpoint = f"http://localhost:{self.server_port}/one"
        return {"endpoint": endpoint, "keys": {"p256dh": _text(point), "auth": _text(self.auth)}}

    def read(self, body: bytes) -> dict[str, str]:
        plain = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        opened: dict[str, str] = json.loads(plain)
        return opened


class _PushService(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.taken.append((dict(self.headers), body))
        self.send_response(server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
def mail() -> Iterator[MailSink]:
    yield from _running(MailSink())


@pytest.fixture
def push() -> Iterator[PushSink]:
    yield from _running(PushSink())


def _running(server: Any) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def notifier(mail: MailSink) -> Notifier:
    sends = Push(ec.generate_private_key(ec.SECP256R1()), "push@operator.example", hosts=["localhost"])
    server = Mail("127.0.0.1", mail.server_address[1], "pay@operator.example", "none")
    return Notifier("Example Transit", server, sends)


def deliver(site: Any, notifier: Notifier) -> int:
    return notifications.deliver_due(site.engine, notifier.send)


def rows(site: Any, table: str) -> int:
    with site.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_an_address_is_told_of_payments_only_after_its_owner_confirmed_it(
    site: Any, visit: Any, mail: MailSink, notifier: Notifier
) -> None:
    site.payer("ada")
    with visit(site.url, locale="de", expect_missing=True) as page:
        page.goto("/app/sign-in")
        page.locator("summary").click()
        page.locator("#token").fill(site.tokens["ada"])
        page.locator("form.stack button").click()
        page.wait_for_url("**/app/")
        page.goto("/app/notifications")
        page.get_by_label("E-Mail-Adresse").fill("ada@example.org")
        page.get_by_role("button", name="Code schicken").click()
        assert site.look("ada").opens
        deliver(site, notifier)
        (asked,) = mail.taken
        assert (asked["To"], asked["From"]) == ("ada@example.org", "pay@operator.example")
        code = re.search(r"\b\d{6}\b", asked.get_content()).group()
        page.get_by_label("Der Code aus der Mail").fill("000000" if code != "000000" else "111111")
        page.get_by_role("button", name="Bestätigen").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.goto("/app/notifications")
        page.get_by_label("Der Code aus der Mail").fill(code)
        page.get_by_role("button", name="Bestätigen").click()
        expect(page.get_by_role("status")).to_be_visible()
        assert rows(site, "notification") == 0
        with site.engine.begin() as connection:  # a payment later on
            payer_id = connection.execute(text("SELECT payer_id FROM notification_target")).scalar_one()
            notifications.tell(connection, payer_id, kind="payment", amount=280, currency="EUR")
        deliver(site, notifier)
        assert len(mail.taken) == 2
        told = mail.taken[1]
        assert told["Subject"] == "Zahlung: 2,80\u00a0€"
        assert re.fullmatch(r"Example Transit, \d{4}-\d\d-\d\d \d\d:\d\d UTC\s*", told.get_content())
        page.goto("/app/notifications")
        page.get_by_role("button", name="Anhalten").click()
    assert (rows(site, "notification"), rows(site, "notification_target")) == (0, 0)


def session(site: Any, label: str) -> dict[str, str]:
    answer = site.http.post("/app/sign-in/token", data={"token": site.tokens[label]}, headers=OWN)
    site.http.cookies.clear()
    cookie = next(value for name, value in answer.headers.multi_items() if name == "set-cookie")
    return {**OWN, "Cookie": cookie.partition(";")[0]}


def test_a_push_is_readable_by_the_browser_alone_and_signed_by_the_operator(
    site: Any, push: PushSink, notifier: Notifier
) -> None:
    site.payer("ada")
    me = session(site, "ada")
    assert site.http.post("/app/notifications/push", json=push.subscription, headers=me).status_code == 201
    assert site.look("ada").opens
    deliver(site, notifier)
    ((headers, body),) = push.taken
    assert push.read(body)["title"] == "Payment: 2.80\u00a0€"
    assert set(push.read(body)) == {"title", "body"}
    assert "gate" not in push.read(body)["body"]
    token, public = re.fullmatch(r"vapid t=(.+), k=(.+)", headers["Authorization"]).groups()
    assert public == notifier.push.public_key
    signing, _, signature = token.rpartition(".")
    assert json.loads(_bytes(signing.partition(".")[2]))["aud"] == push.subscription["endpoint"].removesuffix("/one")
    r, s = (int.from_bytes(_bytes(signature)[part], "big") for part in (slice(0, 32), slice(32, 64)))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _bytes(public))
    key.verify(encode_dss_signature(r, s), signing.encode(), ec.ECDSA(hashes.SHA256()))


def test_what_fails_is_tried_again_and_who_is_gone_is_forgotten(site: Any, push: PushSink, notifier: Notifier) -> None:
    site.payer("ada")
    site.http.post("/app/notifications/push", json=push.subscription, headers=session(site, "ada"))
    assert site.look("ada").opens
    push.status = 503
    assert deliver(site, notifier) == 1
    assert deliver(site, notifier) == 0  # not at once
    with site.engine.begin() as connection:
        assert connection.execute(text("SELECT tries FROM notification")).scalar_one() == 1
        connection.execute(text("UPDATE notification SET due_at = now()"))
    push.status = 410
    deliver(site, notifier)
    assert (rows(site, "notification"), rows(site, "notification_target")) == (0, 0)


@pytest.mark.parametrize(
    ("endpoint", "taken"),
    [
        ("https://fcm.googleapis.com/fcm/send/x", True),
        ("https://web.push.apple.com/x", True),
        ("http://fcm.googleapis.com/x", False),
        ("https://fcm.googleapis.com.evil.example/x", False),
        ("https://user@fcm.googleapis.com/x", False),
        ("https://169.254.169.254/latest", False),
        ("https://localhost/x", False),
        ("file:///etc/passwd", False),
    ],
)
def test_nobody_makes_us_call_a_machine_of_their_choice(endpoint: str, taken: bool) -> None:
    push = Push(ec.generate_private_key(ec.SECP256R1()), "push@operator.example", hosts=PUSH_HOSTS)
    assert push.takes(endpoint) is taken


def test_one_payer_changes_nothing_of_anothers_addresses(site: Any, push: PushSink) -> None:
    for label in ("ada", "ben"):
        site.payer(label)
    made = site.http.post("/app/notifications/push", json=push.subscription, headers=session(site, "ada")).json()
    answer = site.http.post(f"/app/notifications/{made['id']}/remove", headers=session(site, "ben"))
    assert answer.status_code == 404
    assert rows(site, "notification_target") == 1


def eventually(page: Any, look: Callable[[], Any]) -> Any:
    """What is there to be seen, as soon as there is anything."""
    for _ in range(200):
        if found := look():
            return found
        page.wait_for_timeout(100)
    return look()


def test_the_app_shows_a_push(site: Any, visit: Any) -> None:
    with visit(site.url, permissions=["notifications"]) as page:
        page.goto("/app/")
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        devtools = page.context.new_cdp_session(page)
        found: list[Any] = []
        devtools.on("ServiceWorker.workerRegistrationUpdated", lambda event: found.extend(event["registrations"]))
        devtools.send("ServiceWorker.enable")
        message = {"title": "Payment: 2.80 €", "body": "Example Transit, 2026-11-25 08:00 UTC"}
        registration = eventually(page, lambda: found)[-1]["registrationId"]
        devtools.send(
            "ServiceWorker.deliverPushMessage",
            {"origin": site.url, "registrationId": registration, "data": json.dumps(message)},
        )
        shown = eventually(
            page,
            lambda: page.evaluate(
                """async () => (await (await navigator.serviceWorker.ready).getNotifications())
                    .map(({ title, body }) => ({ title, body }))"""
            ),
        )
    assert shown == [message]
