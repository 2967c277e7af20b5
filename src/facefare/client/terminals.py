"""What terminals and enrolment stations ask of the wallet."""

import base64
import hashlib
from dataclasses import dataclass

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.client.merchants import Payment
from facefare.client.transport import ApiError, Client, TerminalAuth, proof_of


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


class TerminalClient(Client):
    """What a gate or till does; `http` has the wallet's base URL. Methods raise ApiError, Unreachable."""

    def __init__(self, http: httpx.Client, terminal_id: str, key: Ed25519PrivateKey) -> None:
        super().__init__(http, TerminalAuth(terminal_id, key))
        self._id = terminal_id

    def attempt(
        self,
        *,
        amount: int | None,
        currency: str,
        search: bytes,
        capture_later: bool = False,
        purchase: str | None = None,
    ) -> AttemptReply:
        """Ask for `amount` minor units (None: the fare here) from whoever the sealed search (bytes) finds.

        The same search sent again is the same payment and gets the same reply. `purchase`: a till's own name (32 random
        hex digits) for what it sells now; of all attempts at it, by whatever way, one is charged.
        """
        body = {
            "amount": amount,
            "currency": currency,
            "search": base64.b64encode(search).decode(),
            "capture_later": capture_later,
            "purchase": purchase,
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

    def by_code(
        self,
        *,
        amount: int | None,
        currency: str,
        idempotency_key: str,
        capture_later: bool = False,
        purchase: str | None = None,
    ) -> Payment:
        """Ask whoever reads a code with the payment's id in it, without a face; None: the fare here."""
        body = {"amount": amount, "currency": currency, "capture_later": capture_later, "purchase": purchase}
        return Payment(**self._keyed("/v1/payment_intents", body, idempotency_key))

    def query_of(self, idempotency_key: str) -> bytes:
        """The query id by which a payment `by_code` is undone, also where its answer never came."""
        return hashlib.sha256(f"code\n{self._id}\n{idempotency_key}".encode()).digest()[:16]

    def payment(self, payment_intent: str) -> Payment:
        """What has become of a payment of this terminal: `succeeded` and `requires_capture` are paid."""
        return Payment(**self._call("GET", f"/v1/payment_intents/{payment_intent}"))

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

    def rotate_key(self, key: Ed25519PrivateKey, merchant: str) -> None:
        """Go on with a new key from now on; the guardians have to know it too. `merchant`: whose terminal this is."""
        self._call("PUT", "/v1/terminal_key", proof_of(key, merchant, self._id))
        self._auth = TerminalAuth(self._id, key)

    def deny_list(self) -> bytes:
        """The devices not to be accepted offline, signed by the operator."""
        return base64.b64decode(self._call("GET", "/v1/deny_list")["deny_list"])

    def held_payment(self, record: bytes) -> AttemptReply:
        """Report a payment by a device's code (signed record). The same payment again gets the same reply."""
        return AttemptReply(**self._call("POST", "/v1/held_payments", {"record": base64.b64encode(record).decode()}))


class StationClient(Client):
    """What an enrolment station does; its request is signed in itself. Raises ApiError, Unreachable."""

    def enrol(self, request: bytes) -> bool:
        """Bring a sealed enrolment (EnrolRequest bytes); whether it is done, else a person has to look into it."""
        reply = self._call("POST", "/v1/enrolments", {"request": base64.b64encode(request).decode()})
        return bool(reply["outcome"] == "done")
