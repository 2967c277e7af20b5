"""Signing in to the console: with a passkey, by an invitation to make one, or with a token.

Whoever gets in is written down for managers and auditors, and begins a new session; the browser's old one ends.
"""

import asyncio
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Form, Request
from sqlalchemy import Connection
from starlette.responses import JSONResponse, RedirectResponse, Response

from facefare.web.api.services import WithServices
from facefare.web.api.tries import address
from facefare.web.pages import passkeys, staff, staff_passkeys, staff_sessions, visitor
from facefare.web.pages.desk import COOKIE
from facefare.web.pages.passkeys import STAFF
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.staff import OPERATOR, Member
from facefare.web.pages.staff_sessions import StaffKey
from facefare.web.pages.visitor import Ceremony, Shown, Site, WithSite

router = APIRouter(prefix="/console")

_HOME = f"{PREFIX}/console/"
_WINDOW = timedelta(minutes=10)
_Session = Annotated[str | None, Cookie(alias=COOKIE)]


@router.get("/sign-in")
def sign_in_page(shown: Shown, site: WithSite, again: bool = False) -> Response:
    """Ask for a passkey, or the member's token; `again`: what was asked for needs somebody who just signed in."""
    problem = "For this, please sign in again: you did so more than ten minutes ago." if again else None
    return shown.page("console_sign_in.html", problem=problem, tokens=not site.passkeys_only)


@router.post("/sign-in/passkey/options")
def ask_to_sign_in(request: Request, services: WithServices, site: WithSite) -> Response:
    """What the browser needs to sign in with a passkey."""
    services.tries.count("console passkey", address(request), most=services.limits.sign_ins, within=_WINDOW)
    with services.engine.begin() as connection:
        return visitor.asked(passkeys.ask_to_sign_in(connection, site.party, STAFF))


@router.post("/sign-in/passkey")
async def sign_in_by_passkey(
    request: Request, services: WithServices, site: WithSite, token: Ceremony, old: _Session = None
) -> Response:
    """Check the passkey's answer."""
    answer = await visitor.answered(request)

    def checked() -> Response:
        with services.engine.begin() as connection:
            ceremony = passkeys.take(connection, STAFF, token)
        response = JSONResponse({"next": _HOME})
        with services.engine.begin() as connection:
            member, passkey = staff_passkeys.sign_in(connection, site.party, ceremony, answer)
            staff.note(connection, member, "sign_in", f"passkey: {passkey.name}")
            enter(connection, site, response, member, passkey.credential_id, old)
        return response

    return await asyncio.to_thread(checked)


@router.post("/sign-in")
def sign_in_by_token(
    request: Request,
    services: WithServices,
    shown: Shown,
    site: WithSite,
    token: Annotated[str, Form(max_length=256)],
    old: _Session = None,
) -> Response:
    """Check the token: a member's, or the operator's own."""
    services.tries.count("console", address(request), most=services.limits.tokens, within=_WINDOW)
    tokens, key = not site.passkeys_only, site.staff
    response = RedirectResponse(_HOME, status_code=303)
    with services.engine.begin() as connection:
        operators = key is not None and key.fits(token.strip())
        member = OPERATOR if operators else staff.by_token(connection, token.strip())
        if member is None or not tokens:
            problem = "This token is not known. Please check it."
            return shown.page("console_sign_in.html", status=401, problem=problem, tokens=tokens)
        staff.note(connection, member, "sign_in", "token")
        enter(connection, site, response, member, key if operators else None, old)
    return response


@router.get("/join")
def join_page(shown: Shown) -> Response:
    """Take an invitation, which stands in the address behind `#`: browsers send that to nobody."""
    return shown.page("console_join.html")


@router.post("/join/options")
async def ask_to_join(request: Request, services: WithServices, site: WithSite) -> Response:
    """What the browser needs to make the passkey that somebody was invited to make."""
    invitation = text_beside(await visitor.answered(request), "invitation")

    def begun() -> Response:
        services.tries.count("join", address(request), most=services.limits.tokens, within=_WINDOW)
        with services.engine.begin() as connection:
            member = staff.invited(connection, invitation)
            return visitor.asked(staff_passkeys.ask_to_register(connection, site.party, member))

    return await asyncio.to_thread(begun)


@router.post("/join")
async def join(
    request: Request, services: WithServices, site: WithSite, token: Ceremony, old: _Session = None
) -> Response:
    """Keep the passkey, which uses the invitation up, and sign in."""
    answer = await visitor.answered(request)
    invitation, name = text_beside(answer, "invitation"), text_beside(answer, "name")

    def joined() -> Response:
        with services.engine.begin() as connection:
            ceremony = passkeys.take(connection, STAFF, token)
        response = JSONResponse({"next": _HOME}, status_code=201)
        with services.engine.begin() as connection:
            member = staff.invited(connection, invitation)
            passkey = staff_passkeys.register(connection, site.party, ceremony, answer, member, name)
            staff.note(connection, member, "join", f"passkey: {passkey.name}")
            enter(connection, site, response, member, passkey.credential_id, old)
        return response

    return await asyncio.to_thread(joined)


@router.post("/sign-out")
def sign_out(services: WithServices, site: WithSite, session: _Session = None) -> Response:
    """End the session here and in the database."""
    if session:
        with services.engine.begin() as connection:
            staff_sessions.end(connection, session, site.staff)
    return signed_out()


def enter(
    connection: Connection, site: Site, response: Response, member: Member, by: StaffKey | bytes | None, old: str | None
) -> None:
    """Begin a session in this browser in place of the old one; `by` as in `staff_sessions.begin`."""
    staff_sessions.end(connection, old or "", site.staff)
    session = staff_sessions.begin(connection, member, by)
    visitor.keep(response, COOKIE, session, int(staff_sessions.LASTS.total_seconds()))


def signed_out() -> Response:
    """Back to the sign-in, without the cookie."""
    response = RedirectResponse(f"{_HOME}sign-in", status_code=303)
    visitor.forget(response, COOKIE)
    return response


def text_beside(answer: dict[str, Any], name: str) -> str:
    """A short text that came beside a passkey's answer, taken out of it."""
    value = answer.pop(name, "")
    return value.strip()[:100] if isinstance(value, str) else ""
