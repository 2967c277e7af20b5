"""Who of the staff asks for a page of the console, and whether the role allows it.

Every route of the console but its sign-in depends on one of these: without a session it leads to the sign-in, with
the wrong role it is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import HTMLResponse

from facefare.web.api.services import WithServices
from facefare.web.pages import console_words, staff_sessions
from facefare.web.pages.rendering import Rendering
from facefare.web.pages.staff import May, Member
from facefare.web.pages.staff_sessions import Seat
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
    "me": May.SEE_FIGURES,
}
"""Each part of the console, and what it needs to be seen."""


class StaffOnly(Exception):
    """The page is for the operator's staff."""


class SignInAgain(Exception):
    """This is for a member who signed in a moment ago."""


@dataclass(frozen=True)
class Desk:
    """A member of the staff, and pages for that member."""

    seat: Seat
    shown: Rendering

    @property
    def member(self) -> Member:
        """Who it is."""
        return self.seat.member

    def page(self, template: str, *, status: int = 200, **facts: object) -> HTMLResponse:
        """The template, with what every page of the console needs."""
        sections = [part for part, needed in SECTIONS.items() if self.member.may(needed)]
        return self.shown.page(
            template, status=status, member=self.member, May=May, sections=sections, said=console_words, **facts
        )


def _seat(request: Request, services: WithServices, site: WithSite) -> Seat:
    session = request.cookies.get(COOKIE, "")
    with services.engine.connect() as connection:
        seat = staff_sessions.seat_of(connection, session, site.staff, passkeys_only=site.passkeys_only)
    if seat is None:
        raise StaffOnly
    return seat


def _needs(what: May, *, fresh: bool = False) -> Callable[..., Desk]:
    def allowed(seat: Annotated[Seat, Depends(_seat)], shown: Shown) -> Desk:
        seat.member.check(what)
        if fresh and not seat.fresh:
            raise SignInAgain
        return Desk(seat, shown)

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
ForInviting = Annotated[Desk, Depends(_needs(May.CHANGE_STAFF, fresh=True))]
ForOwnKeys = Annotated[Desk, Depends(_needs(May.SEE_FIGURES, fresh=True))]
