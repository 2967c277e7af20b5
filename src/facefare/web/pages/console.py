"""The operator's console: how payments, terminals and guardians are doing, updated as it happens.

Invariants, also of its other modules (`console_…`):
  - no query selects a payer, no page has a filter, a link or an export by person or face, and no pseudonym is shown;
    one page shows a payer's id, for an open dispute, and the payer can read who looked;
  - nobody gets in without a role, and every route names what it needs.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection, Row, func, select
from starlette.responses import Response

from facefare.guardian.messages import Status
from facefare.identification.none import NoGuardians
from facefare.payments import tables
from facefare.web.api.services import Services, WithServices
from facefare.web.pages.desk import ForFigures

router = APIRouter(prefix="/console")

_PAID = ("succeeded", "requires_capture")


class Span(Enum):
    """How far back the figures go: its name, and the bars' width and number."""

    HOUR = ("hour", timedelta(minutes=5), 12)
    DAY = ("day", timedelta(hours=1), 24)
    WEEK = ("week", timedelta(hours=12), 14)

    def __init__(self, label: str, width: timedelta, bars: int) -> None:
        self.label = label
        self.width = width
        self.bars = bars

    @property
    def length(self) -> timedelta:
        """The whole of it."""
        return self.width * self.bars

    @classmethod
    def named(cls, label: str) -> "Span":
        """The one with this name, else the hour."""
        return next((span for span in cls if span.label == label), cls.HOUR)


@router.get("/")
async def console(desk: ForFigures, services: WithServices, span: str = "hour") -> Response:
    """The whole page; a module of ours asks for `live` again and again."""
    return desk.page("console.html", **await _facts(services, Span.named(span)))


@router.get("/live")
async def live(desk: ForFigures, services: WithServices, span: str = "hour") -> Response:
    """The part of the page that changes."""
    return desk.page("console_live.html", **await _facts(services, Span.named(span)))


@dataclass(frozen=True)
class Bar:
    """Attempts within one width of a span, and how long their decisions took (milliseconds; none: no attempts)."""

    start: datetime
    paid: int
    unpaid: int
    median: float | None
    slow: float | None


async def statuses(services: Services) -> Sequence[Status | None] | None:
    """Each guardian's own word, None where it can't be reached; None at all where this wallet has no guardians."""
    return None if isinstance(services.guardians, NoGuardians) else await services.guardians.status()


async def _facts(services: WithServices, span: Span) -> dict[str, Any]:
    guardians = await statuses(services)
    return {"guardians": guardians, "span": span, "spans": Span, **await asyncio.to_thread(_figures, services, span)}


def _figures(services: Services, span: Span) -> dict[str, Any]:
    now = datetime.now(UTC)
    with services.engine.connect() as connection:
        bars = _bars(connection, now, span)
        attempts = sum(bar.paid + bar.unpaid for bar in bars)
        return {
            "at": now,
            "bars": bars,
            "most": max(1, *(bar.paid + bar.unpaid for bar in bars)),
            "slowest": max([bar.slow for bar in bars if bar.slow is not None], default=1.0),
            "attempts": attempts,
            "paid_share": sum(bar.paid for bar in bars) / attempts if attempts else None,
            "times": _times(connection, now - span.length),
            "stages": services.stages.figures(),
            "refusals": _refusals(connection, now - span.length),
            "payments": _payments(connection),
            "terminals": _terminals(connection, now - span.length),
            "disputes": _disputes(connection),
        }


def _bars(connection: Connection, now: datetime, span: Span) -> list[Bar]:
    columns = tables.intent.c
    first = now - span.length
    number = func.floor(func.extract("epoch", columns.created_at - first) / span.width.total_seconds())
    paid = func.count().filter(columns.state.in_(_PAID))
    took = func.extract("epoch", columns.decided_at - columns.created_at) * 1000
    query = (
        select(
            number,
            paid,
            func.count(),
            func.percentile_cont(0.5).within_group(took),
            func.percentile_cont(0.95).within_group(took),
        )
        .where(columns.created_at > first)
        .group_by(number)
    )
    counted = {int(row[0]): row[1:] for row in connection.execute(query)}
    bars = []
    for index in range(span.bars):
        paid_then, all_then, median, slow = counted.get(index, (0, 0, None, None))
        bars.append(Bar(first + index * span.width, paid_then, all_then - paid_then, median, slow))
    return bars


def _times(connection: Connection, since: datetime) -> tuple[float | None, float | None]:
    """Median and 95th percentile of milliseconds from a terminal's request to the decision."""
    columns = tables.intent.c
    took = func.extract("epoch", columns.decided_at - columns.created_at) * 1000
    median, slow = connection.execute(
        select(func.percentile_cont(0.5).within_group(took), func.percentile_cont(0.95).within_group(took)).where(
            columns.created_at > since, columns.decided_at.is_not(None)
        )
    ).one()
    return median, slow


def _refusals(connection: Connection, since: datetime) -> list[Row[tuple[str, int]]]:
    columns = tables.intent.c
    query = (
        select(columns.reason, func.count())
        .where(columns.created_at > since, columns.reason.is_not(None))
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


def _terminals(connection: Connection, since: datetime) -> list[Row[tuple[object, ...]]]:
    columns, nonce, intent = tables.terminal.c, tables.terminal_nonce.c, tables.intent.c
    seen = select(func.max(nonce.seen_at)).where(nonce.terminal_id == columns.id).scalar_subquery()
    lately = (intent.terminal_id == columns.id) & (intent.created_at > since)
    tried = select(func.count()).where(lately).scalar_subquery()
    paid = select(func.count()).where(lately, intent.state.in_(_PAID)).scalar_subquery()
    return list(
        connection.execute(
            select(
                columns.id,
                columns.place,
                columns.revoked_at,
                seen.label("seen"),
                tried.label("tried"),
                paid.label("paid"),
            ).order_by(columns.id)
        )
    )


def _disputes(connection: Connection) -> dict[str, int]:
    query = select(tables.dispute.c.state, func.count()).group_by(tables.dispute.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}
