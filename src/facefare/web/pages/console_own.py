"""What a member of the staff does for the own sign-in: passkeys, and signing out everywhere."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import JSONResponse, Response

from facefare.web.api.services import Services, WithServices
from facefare.web.pages import passkeys, staff, staff_passkeys, staff_sessions, visitor
from facefare.web.pages.console_sign_in import enter, signed_out, text_beside
from facefare.web.pages.desk import COOKIE, Desk, ForFigures, ForOwnKeys
from facefare.web.pages.errors import NotAsExpected
from facefare.web.pages.passkeys import STAFF
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.staff import OPERATOR
from facefare.web.pages.visitor import Ceremony, WithSite

router = APIRouter(prefix="/console/me")

PasskeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]


@router.get("")
def own(desk: ForFigures, services: WithServices) -> Response:
    """The own passkeys."""
    return _page(desk, services)


@router.post("/passkeys/options")
def ask_to_register(desk: ForOwnKeys, services: WithServices, site: WithSite) -> Response:
    """What the browser needs to make a passkey."""
    if desk.member == OPERATOR:
        raise NotAsExpected("The operator's own token has no passkeys. Add yourself under Staff.")
    with services.engine.begin() as connection:
        return visitor.asked(staff_passkeys.ask_to_register(connection, site.party, desk.member))


@router.post("/passkeys")
async def register(
    request: Request, desk: ForOwnKeys, services: WithServices, site: WithSite, token: Ceremony
) -> Response:
    """Keep the new passkey, and go on in a session that it began."""
    answer = await visitor.answered(request)
    name = text_beside(answer, "name")

    def kept() -> Response:
        with services.engine.begin() as connection:
            ceremony = passkeys.take(connection, STAFF, token)
        response = JSONResponse({"next": f"{PREFIX}/console/me"}, status_code=201)
        with services.engine.begin() as connection:
            passkey = staff_passkeys.register(connection, site.party, ceremony, answer, desk.member, name)
            staff.note(connection, desk.member, "add_passkey", passkey.name)
            old = request.cookies.get(COOKIE)
            enter(connection, site, response, desk.member, passkey.credential_id, old)
        return response

    return await asyncio.to_thread(kept)


@router.post("/passkeys/{passkey_id}/name")
def rename(
    passkey_id: PasskeyId,
    desk: ForFigures,
    services: WithServices,
    name: Annotated[str, Form(min_length=1, max_length=100)],
) -> Response:
    """Call a passkey something else."""
    with services.engine.begin() as connection:
        staff_passkeys.rename(connection, desk.member, passkey_id, name)
        staff.note(connection, desk.member, "name_passkey", name)
    return _page(desk, services, done="Changed.")


@router.post("/passkeys/{passkey_id}/withdraw")
def withdraw(passkey_id: PasskeyId, desk: ForFigures, services: WithServices) -> Response:
    """Take a passkey of one's own back; not the last one."""
    with services.engine.begin() as connection:
        name = staff_passkeys.withdraw(connection, desk.member.id, passkey_id, own=True)
        staff.note(connection, desk.member, "withdraw_passkey", f"{desk.member.id}: {name}")
        left = [one.credential_id for one in staff_passkeys.of(connection, desk.member.id)]
    if desk.seat.credential_id not in (None, *left):  # the session ended with the passkey that began it
        return signed_out()
    return _page(desk, services, done="Withdrawn. Nobody can sign in with it any more.")


@router.post("/sign-out-everywhere")
def sign_out_everywhere(desk: ForFigures, services: WithServices) -> Response:
    """End all sessions of this member, in all browsers."""
    with services.engine.begin() as connection:
        staff_sessions.end_all(connection, desk.member)
        staff.note(connection, desk.member, "sign_out_everywhere", "")
    return signed_out()


def _page(desk: Desk, services: Services, done: str | None = None) -> Response:
    with services.engine.connect() as connection:
        mine = staff_passkeys.of(connection, desk.member.id)
    here = desk.seat.credential_id
    return desk.page("console_own.html", passkeys=mine, here=here, operator=desk.member == OPERATOR, done=done)
