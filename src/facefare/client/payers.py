"""What a payer asks of the wallet: money, receipts, the own face, devices, rights."""

import base64
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import httpx

from facefare.client.terminals import AttemptReply
from facefare.client.transport import BearerAuth, Client


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
class Face:
    """A payer's face in one gallery: pending, active, paused or deleted, and who confirmed the last change.

    `lookalike`: somebody else's was taken for it, so it never pays without PIN or phone.
    """

    id: str
    gallery: str
    state: str
    lookalike: bool
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


class Receipt(TypedDict):
    """What moved, where and when; amounts in minor units. `explained`: why a fare is what it is."""

    id: str
    kind: str
    amount: int
    currency: str
    place: str | None
    payment_intent: str | None
    balance_after: int
    at: str
    explained: list[str]


class PayerPayment(TypedDict):
    """A payment as its payer sees it; amounts in minor units."""

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


class Asked(PayerPayment):
    """What a terminal's code asks for; `at_most` is more than the amount where the rest of a ride decides."""

    at_most: int


class Identification(TypedDict):
    """By the guardians: what it takes to check that none is missing (`facefare audit my-log`)."""

    at: int
    tag: str
    terminal: str
    gallery: str
    purpose: str
    query_id: str | None
    request_sha256: str | None


class Access(TypedDict):
    """One use of the payer's face, or one look at the payer's data."""

    id: str
    at: str
    by: str
    purpose: str
    outcome: str
    identification: Identification | None


class Ride(TypedDict):
    """One tap, and why the ride cost what it did; minor units."""

    payment_intent: str
    at: str
    stop: str | None
    kind: str | None
    cost: int
    under_way: bool
    explained: list[str]


@dataclass(frozen=True)
class Travel:
    """Whether gates open (`good`, `denied`), what is owed, what is travelled and not paid yet; minor units."""

    standing: str
    owed: int
    at_risk: int
    currency: str
    charged_by: str | None


@dataclass(frozen=True, repr=False)
class CardSetup:
    """A card form to be opened with the processor's script; then `setup` goes back to the wallet."""

    setup: str
    client_secret: str


@dataclass(frozen=True)
class Card:
    """The card on file. Below `auto_below` minor units, `auto_amount` is charged, unless `auto_paused` says why not."""

    brand: str
    last4: str
    auto_below: int | None
    auto_amount: int | None
    auto_paused: str | None


@dataclass(frozen=True, repr=False)
class CardTopUp:
    """A top-up from a card; minor units. On `requires_action` the bank asks, by `client_secret` or at `confirm_url`."""

    id: str
    amount: int
    currency: str
    state: str
    automatic: bool
    refunded: int
    reason: str | None
    receipt: str | None
    created_at: str
    client_secret: str | None
    confirm_url: str | None


@dataclass(frozen=True)
class PayOut:
    """Money of a closed account, in minor units; `paid_at` once it is with the payer."""

    id: str
    amount: int
    currency: str
    created_at: str
    paid_at: str | None


class PayerClient(Client):
    """What a payer does with the own account. Methods raise ApiError, Unreachable."""

    def __init__(self, http: httpx.Client, token: str) -> None:
        super().__init__(http, BearerAuth(token))

    @classmethod
    def register(cls, http: httpx.Client, currency: str) -> tuple["PayerClient", str]:
        """A new payer, and the token that is shown this once."""
        token: str = Client(http)._call("POST", "/v1/payers", {"currency": currency})["token"]
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

    def top_up(self, amount: int, idempotency_key: str) -> Receipt:
        """Credit `amount` minor units of test money once for the key; the receipt."""
        reply: Receipt = self._call(
            "POST", "/v1/payers/me/top_ups", {"amount": amount}, {"Idempotency-Key": idempotency_key}
        )
        return reply

    def receipt(self, receipt_id: str) -> Receipt:
        """One receipt."""
        reply: Receipt = self._call("GET", f"/v1/payers/me/receipts/{receipt_id}")
        return reply

    def asked_by_code(self, payment_intent: str) -> Asked:
        """What a terminal's code asks for, and where."""
        reply: Asked = self._call("GET", f"/v1/payers/me/codes/{payment_intent}")
        return reply

    def pay_by_code(self, payment_intent: str) -> AttemptReply:
        """Pay what a terminal's code asks for, without a face."""
        return AttemptReply(**self._call("POST", f"/v1/payers/me/codes/{payment_intent}/pay"))

    def confirm(self, payment_intent: str) -> AttemptReply:
        """Give the second factor for a payment that waits for it."""
        return AttemptReply(**self._call("POST", f"/v1/payers/me/payments/{payment_intent}/confirm"))

    def dispute(self, payment_intent: str) -> str:
        """Say "this wasn't me"; the dispute's state (refunded, under_review). Face and paying device are paused."""
        state: str = self._call("POST", f"/v1/payers/me/payments/{payment_intent}/dispute")["state"]
        return state

    def begin_card(self) -> CardSetup:
        """Begin to put a card on file."""
        return CardSetup(**self._call("POST", "/v1/payers/me/card/setup"))

    def keep_card(self, setup: str) -> Card:
        """Keep the card whose form was finished, in place of the one before."""
        return Card(**self._call("PUT", "/v1/payers/me/card", {"setup": setup}))

    def card(self) -> Card:
        """The card on file."""
        return Card(**self._call("GET", "/v1/payers/me/card"))

    def forget_card(self) -> None:
        """Remove the card, here and at the processor."""
        self._call("DELETE", "/v1/payers/me/card")

    def set_auto_top_up(self, *, below: int | None, amount: int | None) -> Card:
        """Have `amount` charged whenever less than `below` minor units is available; None for both: never."""
        return Card(**self._call("PUT", "/v1/payers/me/card/auto_top_up", {"below": below, "amount": amount}))

    def top_up_from_card(self, amount: int, idempotency_key: str) -> CardTopUp:
        """Charge the card on file once for the key; a refusal by the bank is a top-up in state `failed`."""
        return CardTopUp(**self._keyed("/v1/payers/me/card/top_ups", {"amount": amount}, idempotency_key))

    def card_top_ups(self) -> tuple[CardTopUp, ...]:
        """The newest top-ups from cards."""
        return tuple(CardTopUp(**one) for one in self._call("GET", "/v1/payers/me/card/top_ups"))

    def card_top_up(self, top_up_id: str) -> CardTopUp:
        """One top-up from a card."""
        return CardTopUp(**self._call("GET", f"/v1/payers/me/card/top_ups/{top_up_id}"))

    def refund_to_card(self, top_up_id: str, idempotency_key: str, amount: int | None = None) -> CardTopUp:
        """Give unspent money back to its card, once for the key; None: as much as is there."""
        path = f"/v1/payers/me/card/top_ups/{top_up_id}/refunds"
        return CardTopUp(**self._keyed(path, {"amount": amount}, idempotency_key))

    def rides(self) -> list[Ride]:
        """The newest taps."""
        reply: list[Ride] = self._call("GET", "/v1/payers/me/rides")["data"]
        return reply

    def travel(self) -> Travel:
        """Whether gates open, and what is owed."""
        return Travel(**self._call("GET", "/v1/payers/me/travel"))

    def pay_debt(self) -> int:
        """Pay what is owed from the balance; gates open again at once. Minor units that are owed still."""
        owed: int = self._call("POST", "/v1/payers/me/debt/pay")["owed"]
        return owed

    def withdraw_consents(self) -> tuple[Face, ...]:
        """Take all consents back; the faces that were, erased at all three guardians."""
        return tuple(_face(face) for face in self._call("DELETE", "/v1/payers/me/consents"))

    def close(self) -> PayOut | None:
        """Close the account; what money was left is on its way to the payer."""
        reply = self._call("DELETE", "/v1/payers/me")["pay_out"]
        return None if reply is None else PayOut(**reply)

    def pay_outs(self) -> tuple[PayOut, ...]:
        """What was paid out, oldest first."""
        return tuple(PayOut(**one) for one in self._call("GET", "/v1/payers/me/pay_outs"))

    def export(self) -> dict[str, Any]:
        """Everything that is kept about the payer: table -> rows, under `tables`."""
        reply: dict[str, Any] = self._call("GET", "/v1/payers/me/export")
        return reply

    def set_pin(self, pin: str) -> None:
        """Set or replace the PIN."""
        self._call("PUT", "/v1/payers/me/pin", {"pin": pin})

    def set_daily_limit(self, limit: int | None) -> None:
        """Be charged no more than `limit` minor units a day; None: no limit."""
        self._call("PUT", "/v1/payers/me/limits", {"daily_limit": limit})

    def receipts(self) -> list[Receipt]:
        """The newest receipts."""
        reply: list[Receipt] = self._call("GET", "/v1/payers/me/receipts")["data"]
        return reply

    def payments(self) -> list[PayerPayment]:
        """The newest payments."""
        reply: list[PayerPayment] = self._call("GET", "/v1/payers/me/payments")["data"]
        return reply

    def access_log(self) -> list[Access]:
        """The newest uses of the payer's face."""
        reply: list[Access] = self._call("GET", "/v1/payers/me/access_log")["data"]
        return reply

    def identifications(self, face_id: str) -> dict[str, Any]:
        """Every identification of one of the payer's faces, as `facefare audit my-log` reads it."""
        reply: dict[str, Any] = self._call("GET", f"/v1/payers/me/faces/{face_id}/identifications")
        return reply

    def open_row(self, request: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """Have the guardians open the payer's row by a signed request: what only the payer can read, and signatures."""
        reply = self._call("POST", "/v1/payers/me/openings", {"request": base64.b64encode(request).decode()})
        parts = zip(reply["sealed"], reply["signatures"], strict=True)
        return tuple((base64.b64decode(sealed), base64.b64decode(signature)) for sealed, signature in parts)

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

    def revoke_devices(self) -> tuple[Device, ...]:
        """Take back the consent to pay by own devices, and stop using all of them, for ever."""
        return _devices(self._call("DELETE", "/v1/payers/me/devices"))

    def withdraw(self) -> None:
        """Take all consents back: the face is erased, and devices pay nothing."""
        self._call("DELETE", "/v1/payers/me/consents")

    def settle(self, device_id: str) -> tuple[Device, ...]:
        """Pay what a device owes for what was accepted offline."""
        return _devices(self._call("POST", f"/v1/payers/me/devices/{device_id}/settle"))

    def announcements(self) -> dict[str, bytes]:
        """Each terminal's newest announcement, by terminal id."""
        found: dict[str, bytes] = {}
        after = ""
        while True:
            page = self._call("GET", f"/v1/terminal_keys{after}")
            found |= {one["terminal"]: base64.b64decode(one["announcement"]) for one in page["data"]}
            if not page["has_more"]:
                return found
            after = f"?starting_after={page['data'][-1]['terminal']}"

    def pause_face(self) -> tuple[Face, ...]:
        """Stop all payments by face until resumed; confirmed by all three guardians on return."""
        return _faces(self._call("POST", "/v1/payers/me/face/pause"))

    def resume_face(self) -> tuple[Face, ...]:
        """Pay by face again."""
        return _faces(self._call("POST", "/v1/payers/me/face/resume"))

    def give_up_face(self) -> str:
        """Delete the face here because another account of one's own has it now; the wallet's word for that."""
        return str(self._call("POST", "/v1/payers/me/face/give_up")["word"])

    def same_person(self, word: str) -> list[Face]:
        """Bring the word of one's other account; the faces, as they are then."""
        return [_face(face) for face in self._call("POST", "/v1/payers/me/face/same_person", {"word": word})]

    def delete_face(self) -> tuple[Face, ...]:
        """Withdraw that consent and erase the face; confirmed by all three guardians on return. Devices stay."""
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
