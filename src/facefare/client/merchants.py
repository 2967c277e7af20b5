"""What a merchant's own systems ask of the wallet, with an API key and its scopes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.client.transport import BearerAuth, Client, proof_of

Expansion = Literal["refunds", "dispute"]
_PAGE = 100


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
class Refunded:
    """Money given back of a payment, in minor units; `at` as ISO 8601."""

    id: str
    amount: int
    at: str


@dataclass(frozen=True)
class MerchantPayment(Payment):
    """A payment; `payer` is a pseudonym of the day. `refunds` and `dispute` where they were asked for."""

    payer: str | None
    refunds: tuple[Refunded, ...] | None
    dispute: str | None


@dataclass(frozen=True)
class MerchantDispute:
    """A payment that its payer says was someone else's: refunded, under_review or declined. Minor units."""

    id: str
    payment_intent: str
    state: str
    amount: int
    currency: str
    created_at: str


@dataclass(frozen=True)
class Settlement:
    """A day (UTC) of the merchant, in minor units: carried + taken - given_back - paid_out is carried on."""

    id: str
    currency: str
    day: str
    carried: int
    taken: int
    given_back: int
    paid_out: int


@dataclass(frozen=True)
class SettlementLine:
    """One movement of a settlement; `amount` is negative where money was given back."""

    transfer: str
    payment_intent: str
    reason: str
    amount: int
    currency: str
    place: str | None
    at: str


@dataclass(frozen=True, repr=False)
class Endpoint:
    """Where events are sent; `secret` is there when it is made, this once."""

    id: str
    url: str
    secret: str | None


@dataclass(frozen=True)
class Event:
    """An event (`body` is JSON) and how its delivery to the merchant's endpoints stands."""

    id: str
    body: str
    created_at: str
    delivered: int
    waiting: int
    given_up: int


class MerchantClient(Client):
    """`http` has the wallet's base URL. Methods raise ApiError (`scope-missing`, say), Unreachable."""

    def __init__(self, http: httpx.Client, api_key: str) -> None:
        super().__init__(http, BearerAuth(api_key))

    def merchant(self) -> str:
        """Whose key this is (mer_…)."""
        id: str = self._call("GET", "/v1/operator/me")["merchant"]
        return id

    def payments(self, *, state: str | None = None, expand: tuple[Expansion, ...] = ()) -> Iterator[MerchantPayment]:
        """All payments, newest first, read page by page."""
        more = "".join(f"&expand={one}" for one in expand) + (f"&state={state}" if state else "")
        return (_payment(one) for one in self._pages("payments", more))

    def payment(self, payment_intent: str, expand: tuple[Expansion, ...] = ()) -> MerchantPayment:
        """One payment."""
        query = "&".join(f"expand={one}" for one in expand)
        return _payment(self._call("GET", f"/v1/operator/payments/{payment_intent}?{query}"))

    def refund(self, payment_intent: str, idempotency_key: str, amount: int | None = None) -> Payment:
        """Give back `amount`, or all that is left, once for the key."""
        path = f"/v1/operator/payments/{payment_intent}/refunds"
        return Payment(**self._keyed(path, {"amount": amount}, idempotency_key))

    def disputes(self) -> Iterator[MerchantDispute]:
        """All disputes, newest first, read page by page."""
        return (MerchantDispute(**one) for one in self._pages("disputes"))

    def decide(self, dispute: str, *, give_back: bool) -> MerchantDispute:
        """End a dispute: the money goes back, or it stays."""
        return MerchantDispute(
            **self._call("POST", f"/v1/operator/disputes/{dispute}/decision", {"give_back": give_back})
        )

    def settlements(self) -> Iterator[Settlement]:
        """All settlements, newest first, read page by page."""
        return (Settlement(**one) for one in self._pages("settlements"))

    def settlement(self, settlement: str) -> tuple[Settlement, tuple[SettlementLine, ...]]:
        """A settlement and what it is made of."""
        reply = self._call("GET", f"/v1/operator/settlements/{settlement}")
        return Settlement(**reply["settlement"]), tuple(SettlementLine(**line) for line in reply["lines"])

    def webhook_endpoints(self) -> tuple[Endpoint, ...]:
        """Where events are sent."""
        return tuple(Endpoint(**one) for one in self._call("GET", "/v1/operator/webhook_endpoints"))

    def add_webhook_endpoint(self, url: str) -> Endpoint:
        """Send events there too; with the signing secret, this once."""
        return Endpoint(**self._call("POST", "/v1/operator/webhook_endpoints", {"url": url}))

    def remove_webhook_endpoint(self, endpoint: str) -> None:
        """Send nothing there any more."""
        self._call("DELETE", f"/v1/operator/webhook_endpoints/{endpoint}")

    def events(self) -> Iterator[Event]:
        """All events, newest first, read page by page."""
        return (Event(**one) for one in self._pages("events"))

    def replay(self, event: str) -> int:
        """Send an event again, delivered or not; to how many endpoints."""
        endpoints: int = self._call("POST", f"/v1/operator/events/{event}/replay")["endpoints"]
        return endpoints

    def register_terminal(self, id: str, *, place: str, kind: Literal["gate", "till"], key: Ed25519PrivateKey) -> None:
        """Register a gate or till whose new key is at hand, which signs for itself."""
        body = {"id": id, "place": place, "kind": kind, **proof_of(key, self.merchant(), id)}
        self._call("POST", "/v1/operator/terminals", body)

    def revoke_terminal(self, id: str) -> None:
        """Refuse a gate or till from now on."""
        self._call("DELETE", f"/v1/operator/terminals/{id}")

    def broken_invariants(self) -> dict[str, int]:
        """Each money invariant that does not hold on the live books, and how many entries break it; empty is good."""
        broken: dict[str, int] = self._call("GET", "/v1/operator/verification")["broken"]
        return broken

    def _pages(self, what: str, query: str = "") -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            page = self._call("GET", f"/v1/operator/{what}?limit={_PAGE}{query}{after}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&starting_after={page['data'][-1]['id']}"


def _payment(reply: dict[str, Any]) -> MerchantPayment:
    refunds = reply["refunds"]
    return MerchantPayment(
        **{**reply, "refunds": None if refunds is None else tuple(Refunded(**one) for one in refunds)}
    )
