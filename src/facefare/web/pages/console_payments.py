"""The console's payments, refunds and disputes. Lists go by time, terminal and state; none leads to a person.

A payer's details are shown for one open dispute at a time, for a reason that is typed, and the payer can read it.
"""

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Path, Query
from starlette.responses import Response

from facefare.ledger.currency import MINOR_UNITS
from facefare.payments import staff as handled
from facefare.payments.staff import Taken
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import staff
from facefare.web.pages.desk import Desk, ForDisputes, ForPayments, ForRefunds
from facefare.web.pages.errors import NotAsExpected

router = APIRouter(prefix="/console")

_PAGE = 50
_IntentId = Annotated[str, Path(pattern=r"^pi_[0-9a-z]{26}$")]
_DisputeId = Annotated[str, Path(pattern=r"^dsp_[0-9a-z]{26}$")]
_State = Literal[
    "",
    "succeeded",
    "requires_capture",
    "requires_identification",
    "requires_confirmation",
    "processing",
    "refused",
    "canceled",
]


@router.get("/payments")
def payments(
    desk: ForPayments,
    services: WithServices,
    state: _State = "",
    terminal: Annotated[str, Query(pattern=r"^(trm_[A-Za-z0-9_-]{1,40})?$")] = "",
    before: Annotated[str, Query(pattern=r"^(pi_[0-9a-z]{26})?$")] = "",
) -> Response:
    """The newest payments."""
    with services.engine.connect() as connection:
        found = handled.payments(
            connection, limit=_PAGE + 1, before=before or None, state=state or None, terminal=terminal or None
        )
    return desk.page(
        "console_payments.html", payments=found[:_PAGE], more=len(found) > _PAGE, state=state, terminal=terminal
    )


@router.get("/payments/{intent_id}")
def payment(intent_id: _IntentId, desk: ForPayments, services: WithServices) -> Response:
    """One payment, and what was given back of it."""
    return _payment(desk, services, intent_id)


@router.post("/payments/{intent_id}/refund")
def refund(
    intent_id: _IntentId,
    desk: ForRefunds,
    services: WithServices,
    amount: Annotated[str, Form(max_length=20)],
    key: Annotated[str, Form(min_length=16, max_length=64)],
) -> Response:
    """Give back an amount, once for each form that was shown."""
    with services.engine.begin() as connection:
        taken, _, _ = handled.payment(connection, intent_id)
        minor = minor_units(amount, taken.intent.currency)
        handled.refund(connection, intent_id, minor, staff=desk.member.name, idempotency_key=f"console {key}")
        staff.note(connection, desk.member, "refund", f"{intent_id}: {minor} {taken.intent.currency}")
    return _payment(desk, services, intent_id, done="Given back.")


@router.get("/disputes")
def disputes(desk: ForDisputes, services: WithServices) -> Response:
    """The newest disputes, open ones first."""
    with services.engine.connect() as connection:
        found = handled.disputes(connection, limit=_PAGE)
    return desk.page("console_disputes.html", disputes=found, details=None, done=None)


@router.post("/disputes/{dispute_id}/details")
def details(
    dispute_id: _DisputeId,
    desk: ForDisputes,
    services: WithServices,
    why: Annotated[str, Form(min_length=5, max_length=200)],
) -> Response:
    """Whose payment it was, while the dispute is open; the payer reads who looked, and why."""
    with services.engine.begin() as connection:
        shown = handled.details(connection, dispute_id, staff=desk.member.name, why=why)
        staff.note(connection, desk.member, staff.READ_PAYER, f"{dispute_id}: {why}")
        found = handled.disputes(connection, limit=_PAGE)
    return desk.page("console_disputes.html", disputes=found, details=shown, done=None)


@router.post("/disputes/{dispute_id}/decision")
def decision(
    dispute_id: _DisputeId,
    desk: ForDisputes,
    services: WithServices,
    give_back: Annotated[Literal["yes", "no"], Form()],
) -> Response:
    """End a dispute."""
    with services.engine.begin() as connection:
        handled.decide(connection, dispute_id, staff=desk.member.name, give_back=give_back == "yes")
        staff.note(connection, desk.member, "decide", f"{dispute_id}: give back {give_back}")
        found = handled.disputes(connection, limit=_PAGE)
    return desk.page("console_disputes.html", disputes=found, details=None, done="Decided.")


def minor_units(amount: str, currency: str) -> int:
    """'2.80' or '2,80' EUR -> 280; raises NotAsExpected."""
    units, _, part = amount.strip().replace(",", ".").partition(".")
    digits = MINOR_UNITS[currency]
    if not (units + part).isascii() or not (units + part).isdecimal() or len(part) > digits or len(units) > 12:
        raise NotAsExpected("This is no amount of money.")
    return int(units + part.ljust(digits, "0"))


def _payment(desk: Desk, services: Services, intent_id: str, done: str | None = None) -> Response:
    with services.engine.connect() as connection:
        taken, refunds, dispute = handled.payment(connection, intent_id)
    return desk.page(
        "console_payment.html",
        taken=taken,
        refunds=refunds,
        dispute=dispute,
        left=_left(taken),
        key=secrets.token_urlsafe(16),
        done=done,
    )


def _left(taken: Taken) -> str:
    """What can still be given back, as the form's field takes it."""
    left, digits = taken.intent.captured - taken.intent.refunded, MINOR_UNITS[taken.intent.currency]
    units = str(left).rjust(digits + 1, "0")
    return f"{units[:-digits]}.{units[-digits:]}" if digits else units
