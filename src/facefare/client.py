"""A typed client of the wallet's HTTP API, for terminals, enrolment stations and payers.

Terminals sign every request: HTTP Message Signatures (RFC 9421) with Ed25519 over method, path, query and
Content-Digest (RFC 9530), with a time and a nonce, so a request can be neither altered nor replayed.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_LABEL = "facefare"
SIGNED_COMPONENTS = '("@method" "@path" "@query" "content-digest")'


class ApiError(Exception):
    """The wallet answered with a problem (RFC 9457); `code` is the last part of its `type`."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def is_answer(self) -> bool:
        """Whether the wallet decided something: not where it was out of reach or broke down on the way."""
        return 400 <= self.status < 500


class Unreachable(ApiError):
    """The wallet did not answer."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(0, "unreachable", f"The wallet did not answer: {type(error).__name__}.")


def content_digest(body: bytes) -> str:
    """The Content-Digest header of `body` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def signature_base(method: str, path: str, query: str, digest: str, parameters: str) -> bytes:
    """The bytes that are signed (RFC 9421, section 2.5); `query` without its question mark."""
    return (
        f'"@method": {method}\n"@path": {path}\n"@query": ?{query}\n"content-digest": {digest}\n'
        f'"@signature-params": {parameters}'
    ).encode()


class TerminalAuth(httpx.Auth):
    """Signs each request with the terminal's registered key."""

    requires_request_body = True

    def __init__(self, terminal_id: str, key: Ed25519PrivateKey) -> None:
        self._terminal_id = terminal_id
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add Content-Digest, Signature-Input and Signature."""
        digest = content_digest(request.content)
        parameters = (
            f'{SIGNED_COMPONENTS};created={int(time.time())};nonce="{secrets.token_urlsafe(16)}"'
            f';keyid="{self._terminal_id}";alg="ed25519"'
        )
        base = signature_base(
            request.method,
            request.url.raw_path.partition(b"?")[0].decode("ascii"),
            request.url.query.decode("ascii"),
            digest,
            parameters,
        )
        request.headers["Content-Digest"] = digest
        request.headers["Signature-Input"] = f"{SIGNATURE_LABEL}={parameters}"
        request.headers["Signature"] = f"{SIGNATURE_LABEL}=:{base64.b64encode(self._key.sign(base)).decode()}:"
        yield request


class PayerAuth(httpx.Auth):
    """Sends a payer's bearer token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the Authorization header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


@dataclass(frozen=True)
class AttemptReply:
    """What the gate does: open on `accepted` and `already_paid` only; amounts in minor units."""

    outcome: str
    reason: str | None
    amount: int
    currency: str
    payment_intent: str
    receipt: str | None

    @property
    def opens(self) -> bool:
        """Whether the person may pass."""
        return self.outcome in ("accepted", "already_paid")


@dataclass(frozen=True)
class PostedFare:
    """Where a gate stands and what a passage costs there, in minor units; `until` as ISO 8601.

    `least` and `most` differ where the price depends on the other end of the ride.
    """

    tariff: str
    stop: str
    network: str
    kind: str
    currency: str
    least: int
    most: int
    until: str


@dataclass(frozen=True)
class Device:
    """A device that pays with a key of its own; `owed` in minor units, times ISO 8601."""

    id: str
    state: str
    self_made: bool
    owed: int
    created_at: str
    changed_at: str


@dataclass(frozen=True, repr=False)
class DevicePass:
    """The operator's word that a device is registered, until the end of `through_day` (days since 1970)."""

    operator: bytes
    self_made: bool
    through_day: int
    signature: bytes


@dataclass(frozen=True)
class Payment:
    """A payment as its merchant sees it; amounts in minor units, `created_at` as ISO 8601."""

    id: str
    state: str
    amount: int
    captured: int
    tip: int
    refunded: int
    currency: str
    place: str
    reason: str | None
    created_at: str


@dataclass(frozen=True)
class Face:
    """A payer's face in one gallery: pending, active, paused or deleted, and who confirmed the last change."""

    id: str
    gallery: str
    state: str
    confirmed_by: tuple[int, ...]


@dataclass(frozen=True)
class Account:
    """A payer's own view: money in minor units."""

    id: str
    currency: str
    available: int
    on_hold: int
    daily_limit: int | None
    faces: tuple[Face, ...]


class _Client:
    def __init__(self, http: httpx.Client, auth: httpx.Auth | None = None) -> None:
        self._http = http
        self._auth = auth

    def _call(self, method: str, path: str, json: object = None, headers: dict[str, str] | None = None) -> Any:
        try:
            response = self._http.request(method, path, json=json, headers=headers, auth=self._auth)
        except httpx.TransportError as error:
            raise Unreachable(error) from error
        if response.is_success:
            return response.json() if response.content else None
        try:
            problem = response.json()
            code, detail = problem["type"].rpartition(":")[2], problem["detail"]
        except (ValueError, KeyError, TypeError, AttributeError):
            code, detail = "no-problem-details", f"The wallet answered {response.status_code}."
        raise ApiError(response.status_code, code, detail)


class TerminalClient(_Client):
    """What a gate or till does; `http` has the wallet's base URL. Methods raise ApiError, Unreachable."""

    def __init__(self, http: httpx.Client, terminal_id: str, key: Ed25519PrivateKey) -> None:
        super().__init__(http, TerminalAuth(terminal_id, key))

    def attempt(self, *, amount: int | None, currency: str, search: bytes, capture_later: bool = False) -> AttemptReply:
        """Ask for `amount` minor units (None: the fare here) from whoever the sealed search (bytes) finds.

        The same search sent again is the same payment and gets the same reply.
        """
        body = {
            "amount": amount,
            "currency": currency,
            "search": base64.b64encode(search).decode(),
            "capture_later": capture_later,
        }
        return AttemptReply(**self._call("POST", "/v1/attempts", body))

    def reachable(self) -> bool:
        """Whether the wallet answers at all."""
        try:
            self._call("GET", "/healthz")
        except ApiError:
            return False
        return True

    def fare(self) -> PostedFare:
        """What the screen may say a passage costs here, for now."""
        return PostedFare(**self._call("GET", "/v1/fare"))

    def undo(self, query_id: bytes) -> Payment:
        """Take back what came of an attempt whose answer was lost and that let nobody pass.

        Send it until it is answered; `unknown-payment` is an answer once the search has gone stale on its way.
        """
        return Payment(**self._call("POST", "/v1/attempts/undo", {"query_id": query_id.hex()}))

    def confirm(self, payment_intent: str, pin: str) -> AttemptReply:
        """Send the PIN that was typed after `confirmation_required`."""
        return AttemptReply(**self._call("POST", f"/v1/payment_intents/{payment_intent}/pin", {"pin": pin}))

    def capture(self, payment_intent: str, amount: int, tip: int = 0) -> Payment:
        """Take `amount`, tip included, of what is on hold; the rest is free again."""
        return Payment(
            **self._call("POST", f"/v1/payment_intents/{payment_intent}/capture", {"amount": amount, "tip": tip})
        )

    def void(self, payment_intent: str) -> Payment:
        """Let go of what is on hold."""
        return Payment(**self._call("POST", f"/v1/payment_intents/{payment_intent}/void"))

    def refund(self, payment_intent: str, idempotency_key: str, amount: int | None = None) -> Payment:
        """Give back `amount`, or all that is left, once for the key."""
        return Payment(
            **self._call(
                "POST",
                f"/v1/payment_intents/{payment_intent}/refunds",
                {"amount": amount},
                {"Idempotency-Key": idempotency_key},
            )
        )

    def announce(self, public_key: bytes, valid_for: int) -> bytes:
        """Have the operator sign a new raw X25519 key, good for so many seconds; bytes of the announcement."""
        body = {"public_key": base64.b64encode(public_key).decode(), "valid_for": valid_for}
        return base64.b64decode(self._call("POST", "/v1/terminal_keys", body)["announcement"])

    def deny_list(self) -> bytes:
        """The devices not to be accepted offline, signed by the operator."""
        return base64.b64decode(self._call("GET", "/v1/deny_list")["deny_list"])

    def held_payment(self, record: bytes) -> AttemptReply:
        """Report a payment by a device's code (signed record). The same payment again gets the same reply."""
        return AttemptReply(**self._call("POST", "/v1/held_payments", {"record": base64.b64encode(record).decode()}))


class StationClient(_Client):
    """What an enrolment station does; its request is signed in itself. Raises ApiError, Unreachable."""

    def enrol(self, request: bytes) -> Face | None:
        """Bring a sealed enrolment (EnrolRequest bytes); None for synthetic references of a demo."""
        reply = self._call("POST", "/v1/enrolments", {"request": base64.b64encode(request).decode()})
        return None if reply["face"] is None else _face(reply["face"])


class PayerClient(_Client):
    """What a payer does with the own account. Methods raise ApiError, Unreachable."""

    def __init__(self, http: httpx.Client, token: str) -> None:
        super().__init__(http, PayerAuth(token))

    @classmethod
    def register(cls, http: httpx.Client, currency: str) -> tuple["PayerClient", str]:
        """A new payer, and the token that is shown this once."""
        token: str = _Client(http)._call("POST", "/v1/payers", {"currency": currency})["token"]
        return cls(http, token), token

    def account(self) -> Account:
        """The balance and the faces."""
        reply = self._call("GET", "/v1/payers/me")
        return Account(**{**reply, "faces": tuple(_face(face) for face in reply["faces"])})

    def consent(
        self, notice_version: str, *, of_age: bool = True, profile: Literal["hands_free", "held"] = "hands_free"
    ) -> tuple[str, bytes]:
        """Agree to pay by face; the signed receipt and its SHA-256 (what the station signs).

        `of_age`: the payer states to be of the notice's minimum age. `profile`: "held" for payers' devices.
        """
        body = {"notice_version": notice_version, "of_age": of_age, "profile": profile}
        reply = self._call("POST", "/v1/payers/me/consents", body)
        return reply["receipt"], bytes.fromhex(reply["receipt_sha256"])

    def top_up(self, amount: int, idempotency_key: str) -> dict[str, Any]:
        """Credit `amount` minor units of test money once for the key; the receipt."""
        reply: dict[str, Any] = self._call(
            "POST", "/v1/payers/me/top_ups", {"amount": amount}, {"Idempotency-Key": idempotency_key}
        )
        return reply

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        """One receipt."""
        reply: dict[str, Any] = self._call("GET", f"/v1/payers/me/receipts/{receipt_id}")
        return reply

    def confirm(self, payment_intent: str) -> AttemptReply:
        """Give the second factor for a payment that waits for it."""
        return AttemptReply(**self._call("POST", f"/v1/payers/me/payments/{payment_intent}/confirm"))

    def dispute(self, payment_intent: str) -> str:
        """Say "this wasn't me"; the dispute's state (refunded, under_review). The face is paused."""
        state: str = self._call("POST", f"/v1/payers/me/payments/{payment_intent}/dispute")["state"]
        return state

    def set_pin(self, pin: str) -> None:
        """Set or replace the PIN."""
        self._call("PUT", "/v1/payers/me/pin", {"pin": pin})

    def set_daily_limit(self, limit: int | None) -> None:
        """Be charged no more than `limit` minor units a day; None: no limit."""
        self._call("PUT", "/v1/payers/me/limits", {"daily_limit": limit})

    def payments(self) -> list[dict[str, Any]]:
        """The newest payments."""
        reply: list[dict[str, Any]] = self._call("GET", "/v1/payers/me/payments")["data"]
        return reply

    def access_log(self) -> list[dict[str, Any]]:
        """The newest uses of the payer's face."""
        reply: list[dict[str, Any]] = self._call("GET", "/v1/payers/me/access_log")["data"]
        return reply

    def identifications(self, face_id: str) -> dict[str, Any]:
        """Every identification of one of the payer's faces, as `facefare audit my-log` reads it."""
        reply: dict[str, Any] = self._call("GET", f"/v1/payers/me/faces/{face_id}/identifications")
        return reply

    def open_row(self, request: bytes) -> tuple[bytes, ...]:
        """Have the guardians open the payer's row by a signed request; three parts that only the payer can read."""
        reply = self._call("POST", "/v1/payers/me/openings", {"request": base64.b64encode(request).decode()})
        return tuple(base64.b64decode(part) for part in reply["sealed"])

    def register_device(
        self,
        *,
        public_key: bytes,
        commitment: bytes,
        consent_sha256: bytes,
        proof: bytes,
        attestation: bytes | None = None,
    ) -> tuple[Device, DevicePass]:
        """Let a device pay, with a reference that only the device has; its first pass."""
        body = {
            "public_key": base64.b64encode(public_key).decode(),
            "commitment": base64.b64encode(commitment).decode(),
            "consent_sha256": consent_sha256.hex(),
            "proof": base64.b64encode(proof).decode(),
            "attestation": attestation and base64.b64encode(attestation).decode(),
        }
        reply = self._call("POST", "/v1/payers/me/devices", body)
        return Device(**reply["device"]), _pass(reply["device_pass"])

    def renew_pass(self, device_id: str) -> DevicePass:
        """A pass for the next 30 days."""
        return _pass(self._call("POST", f"/v1/payers/me/devices/{device_id}/pass"))

    def devices(self) -> tuple[Device, ...]:
        """All devices, oldest first."""
        return _devices(self._call("GET", "/v1/payers/me/devices"))

    def pause_device(self, device_id: str) -> Device:
        """Let a device pay nothing for the time being."""
        return Device(**self._call("POST", f"/v1/payers/me/devices/{device_id}/pause"))

    def resume_device(self, device_id: str) -> Device:
        """Let a paused device pay again."""
        return Device(**self._call("POST", f"/v1/payers/me/devices/{device_id}/resume"))

    def lose_device(self, device_id: str) -> Device:
        """Report a device lost."""
        return Device(**self._call("POST", f"/v1/payers/me/devices/{device_id}/lost"))

    def revoke_device(self, device_id: str) -> Device:
        """Stop using a device, for ever."""
        return Device(**self._call("DELETE", f"/v1/payers/me/devices/{device_id}"))

    def settle(self, device_id: str) -> tuple[Device, ...]:
        """Pay what a device owes for what was accepted offline."""
        return _devices(self._call("POST", f"/v1/payers/me/devices/{device_id}/settle"))

    def announcements(self) -> dict[str, bytes]:
        """Each terminal's newest announcement, by terminal id (the first hundred)."""
        reply = self._call("GET", "/v1/terminal_keys")
        return {one["terminal"]: base64.b64decode(one["announcement"]) for one in reply["data"]}

    def pause_face(self) -> tuple[Face, ...]:
        """Stop all payments by face until resumed; confirmed by all three guardians on return."""
        return _faces(self._call("POST", "/v1/payers/me/face/pause"))

    def resume_face(self) -> tuple[Face, ...]:
        """Pay by face again."""
        return _faces(self._call("POST", "/v1/payers/me/face/resume"))

    def delete_face(self) -> tuple[Face, ...]:
        """Withdraw consent and erase the face; confirmed by all three guardians on return."""
        return _faces(self._call("DELETE", "/v1/payers/me/face"))


def _face(reply: dict[str, Any]) -> Face:
    return Face(**{**reply, "confirmed_by": tuple(reply["confirmed_by"])})


def _faces(reply: dict[str, Any]) -> tuple[Face, ...]:
    return tuple(_face(face) for face in reply["faces"])


def _devices(reply: dict[str, Any]) -> tuple[Device, ...]:
    return tuple(Device(**device) for device in reply["data"])


def _pass(reply: dict[str, Any]) -> DevicePass:
    return DevicePass(
        operator=base64.b64decode(reply["operator"]),
        self_made=reply["self_made"],
        through_day=reply["through_day"],
        signature=base64.b64decode(reply["signature"]),
    )
