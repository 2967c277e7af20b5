"""Who asks for a page: the session's payer, in which language, and what a browser's passkey answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Cookie, Depends, Request
from starlette.responses import Response

from facefare.wallet.payers import Payer
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import passkeys, rendering, sessions
from facefare.web.pages.errors import PasskeyRefused
from facefare.web.pages.networks import Networks
from facefare.web.pages.passkeys import RelyingParty
from facefare.web.pages.rendering import Rendering
from facefare.web.pages.staff_sessions import StaffKey

SESSION_COOKIE = "__Host-session"
_CEREMONY_COOKIE = "__Host-ceremony"


class SignInFirst(Exception):
    """The page is for a payer who is signed in."""


@dataclass(frozen=True)
class Site:
    """What the pages know beside the API's services; no networks where they were not installed, no staff
    key where the operator set none, or takes passkeys only, no accuracy where no report of `facefare evaluate`
    was named."""

    party: RelyingParty
    currency: str
    networks: Networks | None
    staff: StaffKey | None
    passkeys_only: bool
    accuracy: Path | None


def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def _visitor(request: Request, services: WithServices) -> Payer | None:
    token = request.cookies.get(SESSION_COOKIE)
    if not token:
        return None
    with services.engine.connect() as connection:
        return sessions.payer_of(connection, token)


def _present(request: Request, services: WithServices) -> bool:
    token = request.cookies.get(SESSION_COOKIE)
    if not token:
        return False
    with services.engine.connect() as connection:
        return sessions.is_present(connection, token)


def _signed_in(payer: Annotated[Payer | None, Depends(_visitor)]) -> Payer:
    if payer is None:
        raise SignInFirst
    return payer


Shown = Annotated[Rendering, Depends(rendering.of)]
WithSite = Annotated[Site, Depends(_site)]
Visitor = Annotated[Payer | None, Depends(_visitor)]
SignedIn = Annotated[Payer, Depends(_signed_in)]
Present = Annotated[bool, Depends(_present)]
"""Whether the payer used a passkey to sign in a moment ago."""


Ceremony = Annotated[str, Cookie(alias=_CEREMONY_COOKIE, max_length=64)]
"""The token of the passkey's ceremony that this browser has begun."""


def asked(begun: passkeys.Begun) -> Response:
    """What the browser's passkey is asked, with the ceremony's cookie."""
    response = Response(begun.options, media_type="application/json")
    keep(response, _CEREMONY_COOKIE, begun.token, int(passkeys.GOOD_FOR.total_seconds()))
    return response


async def answered(request: Request) -> dict[str, Any]:
    """A JSON object that a script of ours sent; raises PasskeyRefused."""
    try:
        answer = await request.json()
    except ValueError as error:
        raise PasskeyRefused("This is not a passkey's answer.") from error
    if not isinstance(answer, dict):
        raise PasskeyRefused("This is not a passkey's answer.")
    return answer


def begin_session(request: Request, services: Services, payer_id: str, response: Response, *, present: bool) -> None:
    """Sign the payer in, in this browser, in place of whoever was; `present`: with a passkey that vouches for it."""
    with services.engine.begin() as connection:
        sessions.end(connection, request.cookies.get(SESSION_COOKIE, ""))
        token = sessions.begin(connection, payer_id, present=present)
    keep(response, SESSION_COOKIE, token, int(sessions.LASTS.total_seconds()))


def keep(response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie that no script, no other host and no unencrypted connection sees."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def forget(response: Response, name: str) -> None:
    """Have the browser drop a cookie of ours."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
