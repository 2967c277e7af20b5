"""Routes of the payer's money: top up, the card on file, topping up by itself.

No card number is typed on a page of ours, and no script of the processor's runs on one: a card is given on the
processor's own page, the bank asks on the bank's own page, and both lead back here.
"""

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query
from starlette.responses import RedirectResponse, Response

from facefare.ledger.currency import MINOR_UNITS
from facefare.payments import card_top_ups, cards, top_ups
from facefare.payments.card_top_ups import TopUp
from facefare.payments.cards import Card
from facefare.payments.errors import CardNotReady, FundingClosed, NoCard
from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding
from facefare.wallet.payers import Payer
from facefare.web.api.services import Services, WithServices
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.visitor import Shown, SignedIn

router = APIRouter()

_LARGEST = 20_000
_AMOUNTS = (500, 1000, 2000, 5000)
_Units = Annotated[int, Form(ge=1, le=10_000)]


@router.get("/top-up")
def top_up_page(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Choose an amount; the form's key makes sure that it is credited once."""
    return shown.page(
        "top_up.html",
        payer=payer,
        key=secrets.token_urlsafe(16),
        amounts=_AMOUNTS,
        card=_card(services, payer) if services.processor else None,
        takes_cards=services.processor is not None,
        test_money=services.funding is Funding.TEST,
    )


@router.post("/top-up")
def top_up(
    payer: SignedIn,
    services: WithServices,
    shown: Shown,
    amount: Annotated[int, Form(ge=1, le=_LARGEST)],
    key: Annotated[str, Form(min_length=16, max_length=64)],
) -> Response:
    """Charge the card on file; add test money where there is none and the operator gives that."""
    if services.processor is not None and (services.funding is not Funding.TEST or _card(services, payer)):
        charged = card_top_ups.charge(services.engine, services.processor, payer, amount, idempotency_key=key)
        return _outcome(charged, shown)
    with services.engine.begin() as connection:
        receipt_id = top_ups.from_test_funds(connection, payer, amount, funding=services.funding, idempotency_key=key)
    return RedirectResponse(f"{PREFIX}/receipts/{receipt_id}", status_code=303)


@router.get("/card/")
def card_page(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """The card on file and topping up by itself."""
    _processor(services)
    return _card_page(services, payer, shown, done=None)


@router.post("/card/add")
def add_card(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Lead to the processor's page that takes a card."""
    page = cards.begin_page(services.engine, _processor(services), payer)
    return shown.page("card_elsewhere.html", url=page.url)


@router.get("/card/added")
def card_added(
    payer: SignedIn,
    services: WithServices,
    shown: Shown,
    session: Annotated[str, Query(pattern=r"^cs_[A-Za-z0-9_]{1,250}$")],
) -> Response:
    """Keep the card that was given on the processor's page."""
    try:
        cards.keep_from_page(services.engine, _processor(services), payer, session)
    except CardNotReady:
        return _card_page(services, payer, shown, problem="No card was added. You can try again.")
    return _card_page(services, payer, shown, done="Your card is on file.")


@router.post("/card/auto")
def auto_top_up(
    payer: SignedIn, services: WithServices, shown: Shown, below: _Units, amount: Annotated[int, Form(ge=1, le=200)]
) -> Response:
    """Charge the card by itself whenever less than `below` is there; both in whole units of the currency."""
    unit = 10 ** MINOR_UNITS[payer.currency]
    with services.engine.begin() as connection:
        cards.set_auto_top_up(connection, payer.id, below=below * unit, amount=amount * unit)
    return _card_page(services, payer, shown, done="It tops up by itself from now on.")


@router.post("/card/auto/off")
def no_auto_top_up(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Never charge the card by itself."""
    with services.engine.begin() as connection:
        cards.set_auto_top_up(connection, payer.id, below=None, amount=None)
    return _card_page(services, payer, shown, done="It never tops up by itself now.")


@router.post("/card/remove")
def remove_card(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Remove the card, here and at the processor."""
    cards.forget(services.engine, _processor(services), payer)
    return _card_page(services, payer, shown, done="Your card is removed, here and at the card processor.")


@router.get("/card/{top_up_id}")
def charged(
    top_up_id: Annotated[str, Path(pattern=r"^top_[0-9a-z]{26,32}$")],
    payer: SignedIn,
    services: WithServices,
    shown: Shown,
) -> Response:
    """What became of a top-up; the bank's page leads back here."""
    return _outcome(card_top_ups.look(services.engine, _processor(services), payer, top_up_id), shown)


def _outcome(top_up: TopUp, shown: Shown) -> Response:
    if top_up.receipt is not None:
        return RedirectResponse(f"{PREFIX}/receipts/{top_up.receipt}", status_code=303)
    return shown.page("top_up_outcome.html", top_up=top_up)


def _card_page(
    services: Services, payer: Payer, shown: Shown, *, done: str | None = None, problem: str | None = None
) -> Response:
    return shown.page(
        "card.html",
        payer=payer,
        card=_card(services, payer),
        unit=10 ** MINOR_UNITS[payer.currency],
        done=done,
        problem=problem,
    )


def _card(services: Services, payer: Payer) -> Card | None:
    with services.engine.connect() as connection:
        try:
            return cards.on_file(connection, payer.id)
        except NoCard:
            return None


def _processor(services: Services) -> Processor:
    if services.processor is None:
        raise FundingClosed("This operator takes no cards.")
    return services.processor
