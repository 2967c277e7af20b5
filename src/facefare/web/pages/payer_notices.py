"""Routes of being told of payments: by e-mail, by the browser's push; off unless the payer asks."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from facefare.payments import notifications
from facefare.payments.errors import UnknownAddress
from facefare.wallet.payers import Payer
from facefare.web.api.services import Services, WithServices
from facefare.web.pages.notifying import Notifier
from facefare.web.pages.visitor import Shown, SignedIn

router = APIRouter(prefix="/notifications")

_Email = Annotated[str, Form(max_length=254, pattern=r"^[^@\s<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$")]
_Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")]


class Keys(BaseModel):
    """The browser's public key and its secret for messages."""

    model_config = ConfigDict(extra="forbid")

    p256dh: _Key
    auth: _Key


_GUESSES = 5
"""Of a code of six digits, in an hour."""


class Subscription(BaseModel):
    """A browser's push subscription."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Annotated[str, Field(max_length=1024)]
    keys: Keys


@router.get("")
def addresses(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Where the payer is told, and more places to be told."""
    return _page(services, payer, shown)


@router.post("/email")
def add_email(payer: SignedIn, services: WithServices, shown: Shown, email: _Email) -> Response:
    """Send a code to the address; it is told of payments once the code came back."""
    _notifier(services)
    services.tries.count("add e-mail", payer.id, most=services.limits.emails, within=timedelta(days=1))
    with services.engine.begin() as connection:
        notifications.add_email(connection, payer.id, email, shown.language.tag)
    return _page(services, payer, shown, done="We sent a code there. Type it here within half an hour.")


@router.post("/{address_id}/confirm")
def confirm(
    address_id: str,
    payer: SignedIn,
    services: WithServices,
    shown: Shown,
    code: Annotated[str, Form(pattern=r"^\s*[0-9]{6}\s*$")],
) -> Response:
    """Take the code that was sent."""
    services.tries.count("confirm e-mail", address_id, most=_GUESSES, within=timedelta(hours=1))
    with services.engine.begin() as connection:
        notifications.confirm_email(connection, payer.id, address_id, code.strip())
    return _page(services, payer, shown, done="You are told of each payment from now on.")


@router.post("/push", status_code=201)
def add_push(body: Subscription, payer: SignedIn, services: WithServices, shown: Shown) -> dict[str, str]:
    """Tell this browser."""
    push = _notifier(services).push
    if push is None or not push.takes(body.endpoint):
        raise UnknownAddress("Messages to this browser can't be sent from here.")
    with services.engine.begin() as connection:
        keys = body.keys.model_dump()
        return {"id": notifications.add_push(connection, payer.id, body.endpoint, keys, shown.language.tag)}


@router.post("/{address_id}/remove")
def remove(address_id: str, payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Tell nothing there any more."""
    with services.engine.begin() as connection:
        notifications.remove(connection, payer.id, address_id)
    return _page(services, payer, shown, done="Nothing is sent there any more.")


def _page(services: Services, payer: Payer, shown: Shown, *, done: str | None = None) -> Response:
    with services.engine.connect() as connection:
        mine = notifications.of_payer(connection, payer.id)
    notifier = services.notifier
    return shown.page(
        "notifications.html",
        addresses=mine,
        mail=notifier is not None and notifier.mail is not None,
        push=notifier.push if notifier else None,
        done=done,
    )


def _notifier(services: Services) -> Notifier:
    if services.notifier is None:
        raise UnknownAddress("This operator sends no messages.")
    return services.notifier
