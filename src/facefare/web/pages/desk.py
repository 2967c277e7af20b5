"""Who of the staff asks for a page of the console, and whether the role allows it.

Every route of the console but its sign-in depends on one of these: without a session it leads to the sign-in, with
the wrong role it is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import HTMLResponse

from facefare.web.api.services import WithServices
from facefare.web.pages import console_words, staff
from facefare.web.pages.rendering import Rendering
from facefare.web.pages.staff import May, Member
from facefare.web.pages.visitor import Shown, WithSite

COOKIE = "__Host-staff"

SECTIONS = {
    "": May.SEE_FIGURES,
    "payments": May.SEE_PAYMENTS,
    "disputes": May.HANDLE_DISPUTES,
    "tariffs": May.SEE_FIGURES,
    "terminals": May.SEE_FIGURES,
    "books": May.SEE_BOOKS,
    "reports": May.SEE_FIGURES,
    "audit": May.SEE_FIGURES,
    "staff": May.CHANGE_STAFF,
}
"""Each part of the console, and what it needs to be seen."""


class StaffOnly(Exception):
    """The page is for the operator's staff."""


@dataclass(frozen=True)
class Desk:
    """A member of the staff, and pages for that member."""

    member: Member
    shown: Rendering

    def page(self, template: str, *, status: int = 200, **facts: object) -> HTMLResponse:
        """The template, with what every page of the console needs."""
        sections = [part for part, needed in SECTIONS.items() if self.member.may(needed)]
        return self.shown.page(
            template, status=status, member=self.member, May=May, sections=sections, said=console_words, **facts
        )


def _member(request: Request, services: WithServices, site: WithSite) -> Member:
    cookie = request.cookies.get(COOKIE, "")
    if site.staff is not None and "." in cookie and site.staff.accepts(cookie, datetime.now(UTC)):
        return staff.OPERATOR
    with services.engine.connect() as connection:
        member = staff.member_of(connection, cookie)
    if member is None:
        raise StaffOnly
    return member


def _needs(what: May) -> Callable[..., Desk]:
    def allowed(member: Annotated[Member, Depends(_member)], shown: Shown) -> Desk:
        member.check(what)
        return Desk(member, shown)

    return allowed


ForFigures = Annotated[Desk, Depends(_needs(May.SEE_FIGURES))]
ForPayments = Annotated[Desk, Depends(_needs(May.SEE_PAYMENTS))]
ForRefunds = Annotated[Desk, Depends(_needs(May.REFUND))]
ForDisputes = Annotated[Desk, Depends(_needs(May.HANDLE_DISPUTES))]
ForBooks = Annotated[Desk, Depends(_needs(May.SEE_BOOKS))]
ForSettling = Annotated[Desk, Depends(_needs(May.SETTLE))]
ForTariffs = Annotated[Desk, Depends(_needs(May.CHANGE_TARIFFS))]
ForTerminals = Annotated[Desk, Depends(_needs(May.CHANGE_TERMINALS))]
ForStaff = Annotated[Desk, Depends(_needs(May.CHANGE_STAFF))]
