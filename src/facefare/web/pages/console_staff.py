"""The console's staff: who may use it, in which role, and how they are let in.

Every change checks, one after the other, that who makes it is still a manager; nobody takes anything from themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Form, Path
from sqlalchemy import Connection
from starlette.responses import Response

from facefare.web.api.services import Services, WithServices
from facefare.web.pages import staff, staff_passkeys
from facefare.web.pages.console_own import PasskeyId
from facefare.web.pages.desk import Desk, ForInviting, ForStaff
from facefare.web.pages.errors import NotAsExpected
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.staff import May, Role
from facefare.web.pages.visitor import Site, WithSite

router = APIRouter(prefix="/console/staff")

_MemberId = Annotated[str, Path(pattern=r"^stf_[0-9a-z]{26}$")]


@router.get("")
def everybody(desk: ForStaff, services: WithServices) -> Response:
    """Who may use the console."""
    return _page(desk, services)


@router.post("")
def add(
    desk: ForInviting,
    services: WithServices,
    site: WithSite,
    name: Annotated[str, Form(min_length=1, max_length=100)],
    role: Annotated[Role, Form()],
) -> Response:
    """Invite somebody; the link is shown this once."""
    with _changing(desk, services) as connection:
        member, invitation = staff.add_invited(connection, name, role)
        staff.note(connection, desk.member, "add_staff", f"{member.id}: {role.value}")
    return _page(desk, services, done="Added.", link=_link(site, invitation))


@router.post("/{member_id}/invite")
def invite(member_id: _MemberId, desk: ForInviting, services: WithServices, site: WithSite) -> Response:
    """Let a member who has no passkey (any more) make one; the link is shown this once."""
    with _changing(desk, services) as connection:
        invitation = staff.invite(connection, member_id)
        staff.note(connection, desk.member, "invite", member_id)
    return _page(desk, services, done="Invited.", link=_link(site, invitation))


@router.post("/{member_id}/role")
def change_role(
    member_id: _MemberId, desk: ForStaff, services: WithServices, role: Annotated[Role, Form()]
) -> Response:
    """Give a member another role."""
    _check_other(desk, member_id)
    with _changing(desk, services) as connection:
        staff.change_role(connection, member_id, role)
        staff.note(connection, desk.member, "change_role", f"{member_id}: {role.value}")
    return _page(desk, services, done="Changed.")


@router.post("/{member_id}/passkeys/{passkey_id}/withdraw")
def withdraw(member_id: _MemberId, passkey_id: PasskeyId, desk: ForStaff, services: WithServices) -> Response:
    """Take a colleague's passkey back: a lost device."""
    _check_other(desk, member_id)
    with _changing(desk, services) as connection:
        name = staff_passkeys.withdraw(connection, member_id, passkey_id, own=False)
        staff.note(connection, desk.member, "withdraw_passkey", f"{member_id}: {name}")
    return _page(desk, services, done="Withdrawn. Nobody can sign in with it any more.")


@router.post("/{member_id}/revoke")
def revoke(member_id: _MemberId, desk: ForStaff, services: WithServices) -> Response:
    """Let a member do nothing from now on."""
    _check_other(desk, member_id)
    with _changing(desk, services) as connection:
        staff.revoke(connection, member_id)
        staff.note(connection, desk.member, "revoke_staff", member_id)
    return _page(desk, services, done="Revoked.")


def _check_other(desk: Desk, member_id: str) -> None:
    if member_id == desk.member.id:
        raise NotAsExpected("Nobody can take their own access away. Ask another manager.")


@contextmanager
def _changing(desk: Desk, services: Services) -> Iterator[Connection]:
    with services.engine.begin() as connection:
        staff.check_still_may(connection, desk.member, May.CHANGE_STAFF)
        yield connection


def _link(site: Site, invitation: str) -> str:
    return f"{site.party.origin}{PREFIX}/console/join#{invitation}"


def _page(desk: Desk, services: Services, done: str | None = None, link: str | None = None) -> Response:
    with services.engine.connect() as connection:
        members = staff.everybody(connection)
        keys = staff_passkeys.of(connection)
    by_member = {one.id: [key for key in keys if key.staff_id == one.id] for one in members}
    return desk.page("console_staff.html", members=members, keys=by_member, roles=Role, done=done, link=link)
