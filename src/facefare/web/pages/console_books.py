"""The console's books: settlements, the check of every money invariant, and our books beside the card processor's.

Exports hold movements of merchants' accounts; nothing in them says who paid.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, UploadFile
from sqlalchemy import select
from starlette.responses import Response

from facefare.ledger import verify
from facefare.payments import reconciliation, settlements, tables
from facefare.payments.errors import UnknownSettlement
from facefare.payments.operator_tables import settlement as settled
from facefare.payments.reconciliation import Reconciliation
from facefare.payments.settlements import Settlement
from facefare.payments.verify import INVARIANTS
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import staff
from facefare.web.pages.console_setup import as_file
from facefare.web.pages.desk import Desk, ForBooks, ForSettling
from facefare.web.pages.errors import NotAsExpected

router = APIRouter(prefix="/console/books")

_LONGEST = timedelta(days=92)
_SettlementId = Annotated[str, Path(pattern=r"^stl_[0-9a-z]{26}$")]


@router.get("")
def books(desk: ForBooks, services: WithServices) -> Response:
    """Settlements of the last 31 days."""
    return _books(desk, services)


@router.get("/export")
def export(
    desk: ForBooks,  # noqa: ARG001 - that there is one is the point
    services: WithServices,
    first: Annotated[date, Query()],
    last: Annotated[date, Query()],
) -> Response:
    """Settlements of some days with all their movements, as CSV."""
    if not first <= last <= first + _LONGEST:
        raise NotAsExpected("An export holds one to 92 days, the first day first.")
    with services.engine.connect() as connection:
        text = settlements.as_csv(connection, settlements.between(connection, first, last))
    name = f"settlements-{first}-{last}.csv"
    return Response(text, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}"'})


@router.get("/settlements/{settlement_id}")
def settlement(settlement_id: _SettlementId, desk: ForBooks, services: WithServices) -> Response:
    """What one settlement is made of."""
    with services.engine.connect() as connection:
        row = connection.execute(select(settled).where(settled.c.id == settlement_id)).one_or_none()
        if row is None:
            raise UnknownSettlement("There is no such settlement.")
        one = settlements.read(connection, row.merchant_id, settlement_id)
        lines = settlements.lines(connection, settlement_id)
    return desk.page("console_settlement.html", one=one, lines=lines)


@router.post("/settle")
def settle(desk: ForSettling, services: WithServices, day: Annotated[date, Form()]) -> Response:
    """Settle a day that is over, for every merchant; again, it does nothing."""
    with services.engine.begin() as connection:
        done = settlements.settle(connection, day)
        staff.note(connection, desk.member, "settle", str(day))
    return _books(desk, services, done="Settled." if done else "Nothing was left to settle.")


@router.post("/check")
def check(desk: ForBooks, services: WithServices) -> Response:
    """Check every money invariant on the live books."""
    broken = [finding.invariant for finding in verify(services.engine, INVARIANTS)]
    return _books(desk, services, broken=broken)


@router.post("/reconciliation")
def reconcile(
    desk: ForBooks,
    services: WithServices,
    report: UploadFile,
    first: Annotated[date, Form()],
    last: Annotated[date, Form()],
) -> Response:
    """List every difference between our books and the card processor's itemised balance report."""
    since = datetime.combine(first, datetime.min.time(), UTC)
    until = datetime.combine(last, datetime.min.time(), UTC) + timedelta(days=1)
    with as_file(report) as path, services.engine.connect() as connection:
        found = reconciliation.reconcile(connection, path, since=since, until=until)
    return _books(desk, services, found=found)


def _books(
    desk: Desk,
    services: Services,
    *,
    done: str | None = None,
    broken: Sequence[str] | None = None,
    found: Reconciliation | None = None,
) -> Response:
    today = datetime.now(UTC).date()
    with services.engine.connect() as connection:
        listed: list[Settlement] = settlements.between(connection, today - timedelta(days=31), today)
        names = {row.id: row.name for row in connection.execute(select(tables.merchant))}
    return desk.page(
        "console_books.html",
        settlements=listed[::-1],
        merchants=names,
        yesterday=today - timedelta(days=1),
        month_ago=today - timedelta(days=31),
        done=done,
        broken=broken,
        found=found,
    )
