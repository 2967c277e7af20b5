"""The card processor: the few calls of Stripe's API that we need, through Stripe's own client.

No database here, and no card number ever: cards are typed into the processor's form in the payer's browser.
Every call that moves money carries an idempotency key made of our own id, so sending it again moves nothing.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import stripe

from facefare.payments.errors import (
    CardDeclined,
    CardNotReady,
    EventForged,
    ProcessorDisagrees,
    ProcessorUnavailable,
)

_DIFFERENT_UNITS = {"ISK", "MGA", "UGX", "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}
"""Currencies whose minor unit at Stripe isn't that of ISO 4217, or must be a multiple of ten."""

_Params = Any  # of the API version below; the client's types are of its newest
_API_VERSION = "2024-06-20"
"""Of the processor's API: the calls below are written for it, whatever the client library's newest is."""

_ONLY_CARDS: _Params = {"payment_method_types": ["card"]}
_NOBODY_THERE: _Params = {"off_session": True}
_TIMEOUT = 20.0
_NOMINAL = 100
"""Minor units: at most processors an authorisation of less is refused."""


class Progress(StrEnum):
    """How far a charge or refund has come."""

    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, repr=False)
class Charge:
    """A payment intent at the processor; `amount` in minor units of `currency` (ISO 4217).

    `top_up`: our id for it. `client_secret`: with it, the payer's browser shows the bank's question (3-D
    Secure); at `confirm_url`, the bank shows it itself. `reason`: why the bank said no.
    """

    intent: str | None
    top_up: str
    amount: int
    currency: str
    progress: Progress
    client_secret: str | None = None
    reason: str | None = None
    confirm_url: str | None = None


@dataclass(frozen=True, repr=False)
class SetupPage:
    """The processor's own page for a card about to be kept on file."""

    id: str
    url: str


@dataclass(frozen=True, repr=False)
class Setup:
    """A card about to be kept on file: its form is opened with the secret."""

    id: str
    client_secret: str


@dataclass(frozen=True)
class CardOnFile:
    """The processor's name for a card, and what a payer knows it by."""

    payment_method: str
    brand: str
    last4: str


@dataclass(frozen=True, repr=False)
class Event:
    """A verified event: its kind, and the object that it is about."""

    id: str
    kind: str
    about: dict[str, Any]


class Processor:
    """Stripe, or what speaks like it; methods raise ProcessorUnavailable."""

    def __init__(
        self, secret_key: str, webhook_secret: str, *, api_base: str | None = None, return_to: str | None = None
    ) -> None:
        """`api_base`: another address than Stripe's own, such as that of a stand-in.

        `return_to`: how our own pages' addresses begin, to which payers come back from the processor's and the
        bank's: a top-up's id follows, or `added`. Without it only a form with the processor's script takes cards.
        """
        self._webhook_secret = webhook_secret
        self._return_to = return_to
        self._client = stripe.StripeClient(
            secret_key,
            stripe_version=_API_VERSION,
            base_addresses={"api": api_base} if api_base else {},
            http_client=stripe.RequestsClient(timeout=_TIMEOUT),
            max_network_retries=2,
        )

    def new_customer(self, payer_id: str) -> str:
        """The processor's id (cus_…) for a payer of ours; it learns nothing else of the payer."""
        try:
            return self._client.v1.customers.create(
                {"metadata": {"payer": payer_id}}, {"idempotency_key": f"customer.{payer_id}"}
            ).id
        except stripe.StripeError as error:
            raise _away(error) from error

    def begin_setup(self, customer: str) -> Setup:
        """Ready to take a card that will be charged while the payer is away."""
        params: _Params = {"customer": customer, "usage": "off_session", **_ONLY_CARDS}
        try:
            made = self._client.v1.setup_intents.create(params)
        except stripe.StripeError as error:
            raise _away(error) from error
        return Setup(made.id, str(made.client_secret))

    def begin_setup_page(self, customer: str) -> SetupPage:
        """A page of the processor's that takes a card, without any script of theirs on our pages."""
        params: _Params = {
            "mode": "setup",
            "customer": customer,
            "success_url": f"{self._return_to}added?session={{CHECKOUT_SESSION_ID}}",
            "cancel_url": self._return_to,
            **_ONLY_CARDS,
        }
        try:
            made = self._client.v1.checkout.sessions.create(params)
        except stripe.StripeError as error:
            raise _away(error) from error
        return SetupPage(made.id, str(made.url))

    def finish_setup_page(self, session: str, customer: str) -> CardOnFile:
        """The card that the payer gave on that page; raises CardNotReady, also for another customer's page."""
        try:
            made = self._client.v1.checkout.sessions.retrieve(session)
        except stripe.InvalidRequestError as error:
            raise CardNotReady("This card is not confirmed yet; finish the form first.") from error
        except stripe.StripeError as error:
            raise _away(error) from error
        if made.customer != customer or not isinstance(made.setup_intent, str):
            raise CardNotReady("This card is not confirmed yet; finish the form first.")
        return self.finish_setup(made.setup_intent, customer)

    def finish_setup(self, setup_id: str, customer: str) -> CardOnFile:
        """The card that the payer gave; raises CardNotReady, also for another customer's setup."""
        try:
            made = self._client.v1.setup_intents.retrieve(setup_id)
            if made.status != "succeeded" or made.customer != customer or not isinstance(made.payment_method, str):
                raise CardNotReady("This card is not confirmed yet; finish the form first.")
            kept = self._client.v1.payment_methods.retrieve(made.payment_method)
        except stripe.InvalidRequestError as error:
            raise CardNotReady("This card is not confirmed yet; finish the form first.") from error
        except stripe.StripeError as error:
            raise _away(error) from error
        if kept.card is None:
            raise CardNotReady("This is not a card.")
        return CardOnFile(kept.id, kept.card.brand, str(kept.card.last4))

    def forget(self, payment_method: str) -> None:
        """Have the card removed there too; one that is gone is fine."""
        try:
            self._client.v1.payment_methods.detach(payment_method)
        except stripe.InvalidRequestError:
            return
        except stripe.StripeError as error:
            raise _away(error) from error

    def charge(
        self, top_up: str, *, customer: str, payment_method: str, amount: int, currency: str, off_session: bool
    ) -> Charge:
        """Charge a card on file, once for each `top_up`; a refusal by the bank is a Charge too."""
        check_currency(currency)
        params: _Params = {
            "amount": amount,
            "currency": currency.lower(),
            "customer": customer,
            "payment_method": payment_method,
            "confirm": True,
            "metadata": {"top_up": top_up},
            **_ONLY_CARDS,
            **(_NOBODY_THERE if off_session else {}),
            **({} if off_session or self._return_to is None else {"return_url": f"{self._return_to}{top_up}"}),
        }
        try:
            made = self._client.v1.payment_intents.create(params, {"idempotency_key": top_up})
        except stripe.CardError as error:
            return _refused(error, top_up, amount, currency)
        except stripe.StripeError as error:
            raise _away(error) from error
        return _charge(made)

    def check_card(self, check: str, *, customer: str, payment_method: str, currency: str) -> str | None:
        """Ask the card's bank whether it would pay with nobody there; None if it would, else why not.

        A nominal amount is authorised, once for each `check`, and let go at once: nothing is charged.
        """
        check_currency(currency)
        params: _Params = {
            "amount": _NOMINAL,
            "currency": currency.lower(),
            "customer": customer,
            "payment_method": payment_method,
            "capture_method": "manual",
            "confirm": True,
            **_ONLY_CARDS,
            **_NOBODY_THERE,
        }
        try:
            made = self._client.v1.payment_intents.create(params, {"idempotency_key": check})
            if made.status == "requires_capture":
                self._client.v1.payment_intents.cancel(made.id, options={"idempotency_key": f"{check}.cancel"})
                return None
        except stripe.CardError as error:
            return getattr(error.error, "decline_code", None) or error.code or "card_declined"
        except stripe.StripeError as error:
            raise _away(error) from error
        return "authentication_required" if made.status == "requires_action" else "card_declined"

    def look_up(self, intent: str) -> Charge:
        """What has become of a charge, at this moment."""
        try:
            return _charge(self._client.v1.payment_intents.retrieve(intent))
        except stripe.StripeError as error:
            raise _away(error) from error

    def refund(self, card_refund: str, intent: str, amount: int) -> tuple[str, Progress]:
        """Give back to the card, once for each `card_refund`; the processor's id (re_…) and how far it is."""
        try:
            made = self._client.v1.refunds.create(
                {"payment_intent": intent, "amount": amount, "metadata": {"card_refund": card_refund}},
                {"idempotency_key": card_refund},
            )
        except stripe.InvalidRequestError as error:
            raise CardDeclined("The card processor does not refund this.") from error
        except stripe.StripeError as error:
            raise _away(error) from error
        return made.id, _refund_progress(made.status)

    def look_up_refund(self, refund: str) -> Progress:
        """What has become of a refund, at this moment."""
        try:
            return _refund_progress(self._client.v1.refunds.retrieve(refund).status)
        except stripe.StripeError as error:
            raise _away(error) from error

    def verified(self, body: bytes, signature: str) -> Event:
        """The event in `body`, signed with our endpoint's secret within five minutes; raises EventForged."""
        try:
            event = self._client.construct_event(body, signature, self._webhook_secret)
            return Event(event.id, event.type, json.loads(body)["data"]["object"])
        except (stripe.SignatureVerificationError, ValueError, KeyError, AttributeError, TypeError) as error:
            # A signature over something that is no event is as good as none.
            raise EventForged("The event is not signed by the card processor.") from error


def check_currency(currency: str) -> None:
    """Raises ProcessorDisagrees for a currency that the processor counts in other units than we do."""
    if currency in _DIFFERENT_UNITS:
        raise ProcessorDisagrees(f"Cards can't be charged in {currency} here; open an account in another currency.")


def _charge(made: stripe.PaymentIntent) -> Charge:
    match made.status:
        case "succeeded":
            progress = Progress.SUCCEEDED
        case "requires_action" | "requires_confirmation":
            progress = Progress.REQUIRES_ACTION
        case "processing":
            progress = Progress.PROCESSING
        case _:
            progress = Progress.FAILED
    failure = made.last_payment_error
    redirect = getattr(made.next_action, "redirect_to_url", None)
    return Charge(
        intent=made.id,
        top_up=made.metadata["top_up"] if made.metadata and "top_up" in made.metadata else "",
        amount=made.amount,
        currency=made.currency.upper(),
        progress=progress,
        client_secret=made.client_secret if progress is Progress.REQUIRES_ACTION else None,
        reason=str(getattr(failure, "code", None) or "card_declined") if progress is Progress.FAILED else None,
        confirm_url=redirect and redirect.url,
    )


def _refused(error: stripe.CardError, top_up: str, amount: int, currency: str) -> Charge:
    intent = getattr(error.error, "payment_intent", None)
    asked = error.code == "authentication_required"
    return Charge(
        intent=intent and intent.id,
        top_up=top_up,
        amount=amount,
        currency=currency,
        progress=Progress.REQUIRES_ACTION if asked else Progress.FAILED,
        client_secret=intent.client_secret if asked and intent else None,
        reason=None if asked else getattr(error.error, "decline_code", None) or error.code or "card_declined",
    )


def _refund_progress(status: str | None) -> Progress:
    match status:
        case "succeeded":
            return Progress.SUCCEEDED
        case "failed" | "canceled":
            return Progress.FAILED
        case _:
            return Progress.PROCESSING


def _away(error: stripe.StripeError) -> ProcessorUnavailable:
    # Its message may quote what was sent, so it is not passed on.
    return ProcessorUnavailable(f"The card processor did not do it ({type(error).__name__}); try again later.")
