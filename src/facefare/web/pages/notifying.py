"""Sends payers' notifications: e-mail by SMTP, web push (RFC 8030, 8291, 8292) to the browsers' own push services.

A push service sees that something was sent and when, not what: the text is encrypted to the browser.
"""

import base64
import json
import smtplib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Literal
from urllib.parse import urlsplit

import http_ece  # type: ignore[import-untyped]
import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from facefare.payments.notifications import Address, Message, NotNow, Undeliverable
from facefare.web.pages import words
from facefare.web.pages.languages import Language, language

PUSH_HOSTS = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "notify.windows.com",
    "push.apple.com",
)
"""Push services of the browsers; an address elsewhere is refused, so nobody makes us call a machine of their choice."""

_TIMEOUT = 10.0
_KEPT_FOR = 86_400
"""Seconds that a push service keeps a message for a phone that is off."""


@dataclass(frozen=True, repr=False)
class Mail:
    """The operator's mail server; `security`: TLS from the start, STARTTLS, or none (this machine only)."""

    host: str
    port: int
    sender: str
    security: Literal["tls", "starttls", "none"] = "starttls"
    user: str | None = None
    password: str | None = None

    def send(self, to: str, subject: str, text: str) -> None:
        """Raises NotNow; Undeliverable where the server says that there is no such address."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, to, subject
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        try:
            with self._connected() as server:
                if self.user is not None:
                    server.login(self.user, self.password or "")
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code = error.recipients[to][0]
            raise (Undeliverable if code >= 500 else NotNow)("The mail server refused the address.") from error
        except (smtplib.SMTPException, OSError) as error:
            raise NotNow("The mail server did not take it.") from error

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=_TIMEOUT, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=_TIMEOUT)
        if self.security == "starttls":
            server.starttls(context=context)
        return server


class Push:
    """Web push under the operator's own key (VAPID)."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, contact: str, *, hosts: Sequence[str] = PUSH_HOSTS) -> None:
        """`contact`: an e-mail address for the push services to complain to; `hosts`: where they are."""
        self._key, self._contact, self._hosts = key, contact, hosts

    @property
    def public_key(self) -> str:
        """For the browser's `applicationServerKey`: the uncompressed point, base64url."""
        point = serialization.PublicFormat.UncompressedPoint
        return _text(self._key.public_key().public_bytes(serialization.Encoding.X962, point))

    def takes(self, endpoint: str) -> bool:
        """Whether this is the address of a push service that is known here."""
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        known = any(host == known or host.endswith(f".{known}") for known in self._hosts)
        return known and (parts.scheme == "https" or host == "localhost") and parts.username is None

    def send(self, endpoint: str, keys: Mapping[str, str], message: Mapping[str, str]) -> None:
        """Raises NotNow; Undeliverable where the browser has unsubscribed."""
        body = http_ece.encrypt(
            json.dumps(message).encode(),
            private_key=ec.generate_private_key(ec.SECP256R1()),
            dh=_bytes(keys["p256dh"]),
            auth_secret=_bytes(keys["auth"]),
            version="aes128gcm",
        )
        headers = {
            "Authorization": f"vapid t={self._token(endpoint)}, k={self.public_key}",
            "Content-Encoding": "aes128gcm",
            "TTL": str(_KEPT_FOR),
        }
        try:
            response = httpx.post(endpoint, content=body, headers=headers, timeout=_TIMEOUT, follow_redirects=False)
        except httpx.HTTPError as error:
            raise NotNow("The push service is out of reach.") from error
        if response.status_code in (404, 410):
            raise Undeliverable("The browser has unsubscribed.")
        if not response.is_success:
            raise NotNow("The push service did not take it.")

    def _token(self, endpoint: str) -> str:
        """A JWT (ES256) for this push service, good for an hour."""
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(time.time()) + 3600,
            "sub": f"mailto:{self._contact}",
        }
        signing = ".".join(_text(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ES256"}, claims))
        r, s = decode_dss_signature(self._key.sign(signing.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signing}.{_text(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@dataclass(frozen=True, repr=False)
class Notifier:
    """What payers can be told by here."""

    operator: str
    mail: Mail | None
    push: Push | None

    def send(self, address: Address, message: Message) -> None:
        """One message to one address, in its language; raises NotNow, Undeliverable."""
        title, text = _said(message, self.operator, language(address.language))
        if address.kind == "email" and self.mail is not None:
            self.mail.send(address.address, title, text)
        elif address.kind == "push" and self.push is not None and self.push.takes(address.address):
            self.push.send(address.address, address.keys or {}, {"title": title, "body": text})
        else:
            raise Undeliverable("The operator no longer sends there.")


def _said(message: Message, operator: str, say: Language) -> tuple[str, str]:
    """Title and text: amount, operator and time; for an address to confirm, the code."""
    if message["kind"] == "confirm":
        asked = say("Your code is {code}. Type it in the app to be told of your payments here.", code=message["code"])
        return operator, f"{asked}\n{say('If you did not ask for this, do nothing: you get no more mail.')}\n"
    amount = words.money(message["amount"], message["currency"], say.decimal_point)
    at = datetime.fromisoformat(message["at"])
    title = f"{say(words.KINDS[message['kind']])}: {amount}"
    return title, f"{operator}, {at:%Y-%m-%d %H:%M} UTC"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
