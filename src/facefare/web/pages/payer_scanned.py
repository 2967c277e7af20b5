"""Routes of paying without a face: the code on a gate's or till's screen leads here, and the payer says yes."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import RedirectResponse, Response

from facefare.ledger.database import brief_locks
from facefare.payments import scanned
from facefare.payments.decision import Outcome
from facefare.web.api.services import WithServices
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.visitor import Shown, SignedIn

router = APIRouter(prefix="/pay")

_Intent = Annotated[str, Path(pattern=r"^pi_[0-9a-z]{26}$")]


@router.get("")
def reader(payer: SignedIn, shown: Shown) -> Response:  # noqa: ARG001 - only for who is signed in
    """Read a code, or type its number."""
    return shown.page("pay.html")


@router.get("/number")
def typed(number: Annotated[str, Query(pattern=r"^\s*pi_[0-9a-z]{26}\s*$")]) -> Response:
    """The number under the code."""
    return RedirectResponse(f"{PREFIX}/pay/{number.strip()}", status_code=303)


@router.get("/{intent_id}")
def ask(intent_id: _Intent, payer: SignedIn, services: WithServices, shown: Shown) -> Response:  # noqa: ARG001 - any
    """What the code asks for, and where, before the payer says yes."""
    with services.engine.begin() as connection:
        return shown.page("pay_code.html", asks=scanned.look(connection, intent_id, services.rules))


@router.post("/{intent_id}")
def pay(intent_id: _Intent, payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Say yes; once, however often it is sent."""
    with brief_locks(services.engine) as connection:
        reply = scanned.pay(connection, payer, intent_id, services.rules)
    if reply.receipt is not None:
        return RedirectResponse(f"{PREFIX}/receipts/{reply.receipt}", status_code=303)
    if reply.outcome in (Outcome.ACCEPTED, Outcome.ALREADY_PAID):  # on hold, or a ride that costs nothing more
        return shown.page("pay_accepted.html")
    return shown.page("pay_refused.html", reason=reply.reason)
