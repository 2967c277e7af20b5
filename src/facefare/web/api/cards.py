"""Cards: kept on file, charged, given back to; and what the card processor tells us by itself."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from facefare.ledger.currency import MAX_AMOUNT
from facefare.payments import card_top_ups, cards, processor_events
from facefare.payments.card_top_ups import TopUp
from facefare.payments.errors import FundingClosed
from facefare.payments.processor import Processor
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import SignedIn, Transaction, WithServices

router = APIRouter(prefix="/v1", tags=["payer"], responses=DOCUMENTED)


def _processor(services: WithServices) -> Processor:
    if services.processor is None:
        raise FundingClosed("This operator takes no cards.")
    return services.processor


WithProcessor = Annotated[Processor, Depends(_processor)]
TopUpId = Annotated[str, Path(pattern=r"^top_[0-9a-z]{26,32}$")]
IdempotencyKey = Annotated[str, Header(min_length=1, max_length=255)]


class SetupOut(BaseModel):
    """A card form to be opened with the processor's script; then send `setup` back."""

    setup: str
    client_secret: str


class CardIn(BaseModel):
    """The setup whose form was finished."""

    model_config = ConfigDict(extra="forbid")

    setup: Annotated[str, Field(pattern=r"^seti_[A-Za-z0-9_]{1,60}$")]


class CardOut(BaseModel):
    """The card on file. Below `auto_below`, `auto_amount` is charged, unless `auto_paused` says why not."""

    brand: str
    last4: str
    auto_below: int | None
    auto_amount: int | None
    auto_paused: str | None


class AutoTopUp(BaseModel):
    """Charge `amount` whenever less than `below` is available (minor units); null for both: never."""

    model_config = ConfigDict(extra="forbid")

    below: Annotated[int | None, Field(strict=True, ge=0, le=MAX_AMOUNT)]
    amount: Annotated[int | None, Field(strict=True, ge=1, le=MAX_AMOUNT)]

    @model_validator(mode="after")
    def _whole(self) -> "AutoTopUp":
        if (self.below is None) != (self.amount is None):
            raise ValueError("give both or neither")
        return self


class CardTopUp(BaseModel):
    """How much to charge."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int, Field(strict=True, description="Minor units; more than 0.")]


class CardRefund(BaseModel):
    """How much to give back to the card; without an amount, all that is there."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int | None, Field(strict=True)] = None


class TopUpOut(BaseModel):
    """A top-up from a card; on `requires_action`, open the bank's question with `client_secret`, or `confirm_url`."""

    id: str
    amount: int
    currency: str
    state: str
    automatic: bool
    refunded: int
    reason: str | None
    receipt: str | None
    created_at: datetime
    client_secret: str | None
    confirm_url: str | None


class Taken(BaseModel):
    """Whether the event was new and about something of ours."""

    taken: bool


@router.post("/payers/me/card/setup", status_code=201)
def begin_card(payer: SignedIn, services: WithServices, processor: WithProcessor) -> SetupOut:
    """Begin to put a card on file."""
    begun = cards.begin(services.engine, processor, payer)
    return SetupOut(setup=begun.id, client_secret=begun.client_secret)


@router.put("/payers/me/card")
def keep_card(body: CardIn, payer: SignedIn, services: WithServices, processor: WithProcessor) -> CardOut:
    """Keep the card whose form was finished, in place of the one before."""
    return CardOut(**vars(cards.keep(services.engine, processor, payer, body.setup)))


@router.get("/payers/me/card")
def card(payer: SignedIn, connection: Transaction) -> CardOut:
    """The card on file."""
    return CardOut(**vars(cards.on_file(connection, payer.id)))


@router.delete("/payers/me/card", status_code=204)
def forget_card(payer: SignedIn, services: WithServices, processor: WithProcessor) -> None:
    """Remove the card, here and at the processor."""
    cards.forget(services.engine, processor, payer)


@router.put("/payers/me/card/auto_top_up")
def auto_top_up(body: AutoTopUp, payer: SignedIn, connection: Transaction) -> CardOut:
    """Charge the card by itself when the money runs low; set again, it is resumed."""
    return CardOut(**vars(cards.set_auto_top_up(connection, payer.id, below=body.below, amount=body.amount)))


@router.post("/payers/me/card/top_ups", status_code=201)
def charge_card(
    body: CardTopUp,
    payer: SignedIn,
    services: WithServices,
    processor: WithProcessor,
    idempotency_key: IdempotencyKey,
) -> TopUpOut:
    """Charge the card on file, once for each Idempotency-Key."""
    return _out(card_top_ups.charge(services.engine, processor, payer, body.amount, idempotency_key=idempotency_key))


@router.get("/payers/me/card/top_ups")
def card_top_up_list(payer: SignedIn, connection: Transaction) -> list[TopUpOut]:
    """The newest top-ups from cards."""
    return [_out(one) for one in card_top_ups.of_payer(connection, payer.id, limit=50)]


@router.get("/payers/me/card/top_ups/{top_up_id}")
def card_top_up(top_up_id: TopUpId, payer: SignedIn, connection: Transaction) -> TopUpOut:
    """One top-up from a card."""
    return _out(card_top_ups.read(connection, payer.id, top_up_id))


@router.post("/payers/me/card/top_ups/{top_up_id}/refunds")
def refund_to_card(
    top_up_id: TopUpId,
    body: CardRefund,
    payer: SignedIn,
    services: WithServices,
    processor: WithProcessor,
    idempotency_key: IdempotencyKey,
) -> TopUpOut:
    """Give unspent money back to the card it came from, once for each Idempotency-Key."""
    return _out(
        card_top_ups.refund(services.engine, processor, payer, top_up_id, body.amount, idempotency_key=idempotency_key)
    )


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post("/processor_events", tags=["processor"])
def processor_event(
    body: Annotated[bytes, Depends(_body)],
    services: WithServices,
    processor: WithProcessor,
    stripe_signature: Annotated[str, Header(max_length=1000)] = "",
) -> Taken:
    """An event of the card processor, signed with our endpoint's secret (Stripe-Signature)."""
    return Taken(taken=processor_events.take(services.engine, processor, body, stripe_signature))


def _out(one: TopUp) -> TopUpOut:
    return TopUpOut(**vars(one))
