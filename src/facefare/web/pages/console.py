"""The operator's console: how payments, terminals and guardians are doing, updated as it happens.

Invariants:
  - no row that is read here names a payer: the queries do not select one, and there is no filter by person;
  - it is off unless the operator set a token for it; the cookie ends after eight hours;
  - it changes nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol, runtime_checkable

from fastapi import APIRouter, Depends, Form, Request
from sqlalchemy import Connection, Row, func, select
from starlette.responses import RedirectResponse, Response

from facefare.guardian.messages import Status
from facefare.payments import tables
from facefare.web.api.services import WithServices
from facefare.web.pages import visitor
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.staff import LASTS
from facefare.web.pages.visitor import Shown, WithSite

router = APIRouter(prefix="/console")

_COOKIE = "__Host-staff"
_HOUR = timedelta(hours=1)
_BARS = 12
_PAID = ("succeeded", "requires_capture")


class StaffOnly(Exception):
    """The page is for the operator's staff."""


@runtime_checkable
class Reporting(Protocol):
    """Guardians that say how they are."""

    async def status(self) -> tuple[Status | None, Status | None, Status | None]:
        """Each one's own word, None where it can't be reached."""


def _staff(request: Request, site: WithSite) -> None:
    cookie = request.cookies.get(_COOKIE, "")
    if site.staff is None or not site.staff.accepts(cookie, datetime.now(UTC)):
        raise StaffOnly


@router.get("/sign-in")
def sign_in_page(shown: Shown, site: WithSite) -> Response:
    """Ask for the operator's token."""
    return shown.page("console_sign_in.html", problem=None, available=site.staff is not None)


@router.post("/sign-in")
def sign_in(request: Request, shown: Shown, site: WithSite, token: Annotated[str, Form(max_length=256)]) -> Response:
    """Check the operator's token."""
    site.tries.count("console", visitor.address(request), most=10, within=timedelta(minutes=10))
    if site.staff is None or not site.staff.fits(token.strip()):
        return shown.page(
            "console_sign_in.html",
            status=401,
            problem="This token is not known. Please check it.",
            available=site.staff is not None,
        )
    response = RedirectResponse(f"{PREFIX}/console/", status_code=303)
    visitor.keep(response, _COOKIE, site.staff.cookie(datetime.now(UTC)), int(LASTS.total_seconds()))
    return response


@router.get("/", dependencies=[Depends(_staff)])
async def console(services: WithServices, shown: Shown) -> Response:
    """The whole page; a module of ours asks for `live` again and again."""
    return shown.page("console.html", **await _facts(services))


@router.get("/live", dependencies=[Depends(_staff)])
async def live(services: WithServices, shown: Shown) -> Response:
    """The part of the page that changes."""
    return shown.page("console_live.html", **await _facts(services))


@dataclass(frozen=True)
class Bar:
    """Attempts within five minutes."""

    start: datetime
    paid: int
    unpaid: int


async def _facts(services: WithServices) -> dict[str, Any]:
    guardians: tuple[Status | None, ...] | None = None
    if isinstance(services.guardians, Reporting):
        guardians = await services.guardians.status()
    now = datetime.now(UTC)
    with services.engine.connect() as connection:
        bars = _bars(connection, now)
        attempts = sum(bar.paid + bar.unpaid for bar in bars)
        return {
            "at": now,
            "guardians": guardians,
            "bars": bars,
            "most": max(1, *(bar.paid + bar.unpaid for bar in bars)),
            "attempts": attempts,
            "paid_share": sum(bar.paid for bar in bars) / attempts if attempts else None,
            "times": _times(connection, now),
            "refusals": _refusals(connection, now),
            "payments": _payments(connection),
            "terminals": _terminals(connection),
            "disputes": _disputes(connection),
        }


def _bars(connection: Connection, now: datetime) -> list[Bar]:
    columns = tables.intent.c
    width = _HOUR / _BARS
    first = now - _HOUR
    number = func.floor(func.extract("epoch", columns.created_at - first) / width.total_seconds())
    paid = func.count().filter(columns.state.in_(_PAID))
    query = select(number, paid, func.count()).where(columns.created_at > first).group_by(number)
    counted = {int(row[0]): (row[1], row[2]) for row in connection.execute(query)}
    bars = []
    for index in range(_BARS):
        paid_then, all_then = counted.get(index, (0, 0))
        bars.append(Bar(first + index * width, paid_then, all_then - paid_then))
    return bars


def _times(connection: Connection, now: datetime) -> tuple[float | None, float | None]:
    """Median and 95th percentile of milliseconds from a terminal's request to the decision, in the last hour."""
    columns = tables.intent.c
    took = func.extract("epoch", columns.decided_at - columns.created_at) * 1000
    median, slow = connection.execute(
        select(func.percentile_cont(0.5).within_group(took), func.percentile_cont(0.95).within_group(took)).where(
            columns.created_at > now - _HOUR, columns.decided_at.is_not(None)
        )
    ).one()
    return median, slow


def _refusals(connection: Connection, now: datetime) -> list[Row[tuple[str, int]]]:
    columns = tables.intent.c
    query = (
        select(columns.reason, func.count())
        .where(columns.created_at > now - _HOUR, columns.reason.is_not(None))
        .group_by(columns.reason)
        .order_by(func.count().desc())
    )
    return list(connection.execute(query))


def _payments(connection: Connection) -> list[Row[tuple[object, ...]]]:
    columns = tables.intent.c
    query = (
        select(columns.created_at, columns.place, columns.amount, columns.currency, columns.state, columns.reason)
        .order_by(columns.id.desc())
        .limit(20)
    )
    return list(connection.execute(query))


def _terminals(connection: Connection) -> list[Row[tuple[object, ...]]]:
    columns, nonce = tables.terminal.c, tables.terminal_nonce.c
    seen = select(func.max(nonce.seen_at)).where(nonce.terminal_id == columns.id).scalar_subquery()
    return list(
        connection.execute(
            select(columns.id, columns.place, columns.revoked_at, seen.label("seen")).order_by(columns.id)
        )
    )


def _disputes(connection: Connection) -> dict[str, int]:
    query = select(tables.dispute.c.state, func.count()).group_by(tables.dispute.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}
