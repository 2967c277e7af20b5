"""Who asks for a page: the session's payer, and in which language."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from facefare.wallet.payers import Payer
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import rendering, sessions
from facefare.web.pages.limits import Tries
from facefare.web.pages.networks import Networks
from facefare.web.pages.passkeys import RelyingParty
from facefare.web.pages.rendering import Rendering
from facefare.web.pages.staff import StaffKey

SESSION_COOKIE = "__Host-session"


class SignInFirst(Exception):
    """The page is for a payer who is signed in."""


@dataclass(frozen=True)
class Site:
    """What the pages know beside the API's services; no networks where they were not installed, no staff
    key where the operator set none, no accuracy where no report of `facefare evaluate` was named."""

    party: RelyingParty
    currency: str
    tries: Tries
    networks: Networks | None
    staff: StaffKey | None
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


def address(request: Request) -> str:
    """Where the request comes from, for counting tries."""
    return request.client.host if request.client else "unknown"


def begin_session(services: Services, payer_id: str, response: Response, *, present: bool) -> None:
    """Sign the payer in, in this browser; `present`: with a passkey that vouches for it."""
    with services.engine.begin() as connection:
        token = sessions.begin(connection, payer_id, present=present)
    keep(response, SESSION_COOKIE, token, int(sessions.LASTS.total_seconds()))


def keep(response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie that no script, no other host and no unencrypted connection sees."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")
