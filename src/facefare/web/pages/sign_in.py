"""Routes: sign up and in with a passkey, sign in with an account's token, sign out, choose the language."""

import asyncio
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Cookie, Form, Query, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from facefare.wallet import payers
from facefare.wallet.errors import NotAuthenticated
from facefare.web.api.services import WithServices, count_account
from facefare.web.api.tries import address
from facefare.web.pages import passkeys, payer_passkeys, sessions, visitor
from facefare.web.pages.languages import NAMES
from facefare.web.pages.passkeys import PAYERS
from facefare.web.pages.rendering import LANGUAGE_COOKIE, PREFIX
from facefare.web.pages.visitor import SESSION_COOKIE, Ceremony, Present, Shown, SignedIn, Visitor, WithSite

router = APIRouter()

_HOME = f"{PREFIX}/"
_PLACES = rf"^{PREFIX}/(pay/pi_[0-9a-z]{{26}})?$"
"""Where signing in may lead: home, or a payment's code that somebody opened before."""
_To = Annotated[str, Query(pattern=_PLACES)]
_FormTo = Annotated[str, Form(pattern=_PLACES)]
_WINDOW = timedelta(minutes=10)


@router.get("/sign-in")
def sign_in_page(shown: Shown, to: _To = _HOME) -> Response:
    """Choose a passkey; then on to where the visitor wanted to go."""
    return shown.page("sign_in.html", problem=None, to=to)


@router.get("/sign-up")
def sign_up_page(shown: Shown) -> Response:
    """Make an account with a passkey."""
    return shown.page("sign_up.html")


@router.post("/passkeys/options")
def ask_to_register(request: Request, services: WithServices, site: WithSite, payer: Visitor) -> Response:
    """What the browser needs to make a passkey: for a new account, or one more for who is signed in."""
    services.tries.count("register", address(request), most=services.limits.sign_ins, within=_WINDOW)
    with services.engine.begin() as connection:
        begun = payer_passkeys.ask_to_register(connection, site.party, payer.id if payer else None)
    return visitor.asked(begun)


@router.post("/passkeys")
async def register(
    request: Request, services: WithServices, site: WithSite, payer: Visitor, present: Present, token: Ceremony
) -> Response:
    """Keep the new passkey and sign in."""
    answer = await visitor.answered(request)

    def kept() -> Response:
        if payer is None:
            count_account(request, services)
        with services.engine.begin() as connection:
            ceremony = passkeys.take(connection, PAYERS, token)
        with services.engine.begin() as connection:
            known = payer_passkeys.register(
                connection,
                site.party,
                ceremony,
                answer,
                payer_id=payer.id if payer else None,
                present=payer is not None and present,
                currency=site.currency,
            )
        response = JSONResponse({"next": f"{PREFIX}/"}, status_code=201)
        visitor.begin_session(request, services, known.payer_id, response, present=known.vouches)
        return response

    return await asyncio.to_thread(kept)


@router.post("/sign-in/options")
def ask_to_sign_in(request: Request, services: WithServices, site: WithSite) -> Response:
    """What the browser needs to sign in."""
    services.tries.count("sign in", address(request), most=services.limits.sign_ins, within=_WINDOW)
    with services.engine.begin() as connection:
        return visitor.asked(passkeys.ask_to_sign_in(connection, site.party, PAYERS))


@router.post("/sign-in")
async def sign_in(request: Request, services: WithServices, site: WithSite, token: Ceremony) -> Response:
    """Check the passkey's answer."""
    answer = await visitor.answered(request)

    def checked() -> Response:
        with services.engine.begin() as connection:
            ceremony = passkeys.take(connection, PAYERS, token)
        with services.engine.begin() as connection:
            known = payer_passkeys.sign_in(connection, site.party, ceremony, answer)
        response = JSONResponse({"next": f"{PREFIX}/"})
        visitor.begin_session(request, services, known.payer_id, response, present=known.vouches)
        return response

    return await asyncio.to_thread(checked)


@router.post("/sign-in/token")
def sign_in_by_token(
    request: Request,
    services: WithServices,
    shown: Shown,
    token: Annotated[str, Form(max_length=128)],
    to: _FormTo = _HOME,
) -> Response:
    """Sign in with the account's token, where a device has no passkeys."""
    services.tries.count("token", address(request), most=services.limits.tokens, within=_WINDOW)
    try:
        with services.engine.connect() as connection:
            payer = payers.by_token(connection, token.strip())
    except NotAuthenticated:
        return shown.page("sign_in.html", status=401, problem="This token is not known. Please check it.", to=to)
    response = RedirectResponse(to, status_code=303)
    visitor.begin_session(request, services, payer.id, response, present=False)
    return response


@router.post("/sign-out")
def sign_out(services: WithServices, token: Annotated[str | None, Cookie(alias=SESSION_COOKIE)] = None) -> Response:
    """End the session here and in the database."""
    if token:
        with services.engine.begin() as connection:
            sessions.end(connection, token)
    return _signed_out()


@router.post("/sign-out/everywhere")
def sign_out_everywhere(services: WithServices, payer: SignedIn) -> Response:
    """End the payer's sessions in all browsers."""
    with services.engine.begin() as connection:
        sessions.end_all(connection, payer.id)
    return _signed_out()


@router.post("/language")
def choose_language(tag: Annotated[str, Form(max_length=8)], back: Annotated[str, Form(max_length=128)]) -> Response:
    """Remember the language in this browser."""
    here = back if back.startswith(f"{PREFIX}/") and "//" not in back and "\\" not in back else f"{PREFIX}/"
    response = RedirectResponse(here, status_code=303)
    if tag in NAMES:
        visitor.keep(response, LANGUAGE_COOKIE, tag, 31_536_000)
    return response


def _signed_out() -> Response:
    response = RedirectResponse(f"{PREFIX}/", status_code=303)
    visitor.forget(response, SESSION_COOKIE)
    # What the app kept on this device goes too, the face reference excepted: that is the payer's to delete.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response
