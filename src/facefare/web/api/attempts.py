"""Payments by face, asked for by terminals."""

import asyncio
import base64
import binascii
import hashlib
from typing import Annotated

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from facefare.guardian.errors import MessageError, RefusalCode
from facefare.guardian.messages import SearchPayload, SearchRequest
from facefare.identification.errors import RequestRefused
from facefare.mpc.answers import Answer
from facefare.payments import attempts
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Outcome, Reason
from facefare.payments.merchants import Terminal
from facefare.wallet import faces
from facefare.wallet.faces import Gallery
from facefare.web.api.errors import InvalidSearch, SearchRefused
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import Services, WithServices
from facefare.web.api.signatures import SignedTerminal

router = APIRouter(prefix="/v1", tags=["terminal"], responses=DOCUMENTED)

SEARCH_TIMEOUT = 5.0
"""Seconds after which a person at a gate has long reached for a card."""

_AT_FAULT = {
    RefusalCode.UNKNOWN_GALLERY,
    RefusalCode.UNKNOWN_TERMINAL,
    RefusalCode.BAD_SIGNATURE,
    RefusalCode.WRONG_PURPOSE,
    RefusalCode.STALE_REQUEST,
    RefusalCode.REPLAYED,
    RefusalCode.RATE_LIMITED,
    RefusalCode.SEALED_MISMATCH,
    RefusalCode.NOT_OPENABLE,
    RefusalCode.NOT_WELL_FORMED,
}
_log = structlog.get_logger()


class Attempt(BaseModel):
    """An amount, and the sealed search for whoever is to pay it."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int, Field(strict=True, description="Minor units of the currency; more than 0.")]
    currency: Annotated[str, Field(max_length=16, description="ISO 4217 code.", examples=["EUR"])]
    search: Annotated[str, Field(max_length=32768, description="Base64 of the sealed, signed search.")]


class AttemptOut(BaseModel):
    """What the terminal does: open on `accepted` and `already_paid` only."""

    outcome: Outcome
    reason: Reason | None
    amount: int
    currency: str
    payment_intent: str
    receipt: str | None


@router.post("/attempts")
async def attempt(body: Attempt, terminal: SignedTerminal, services: WithServices) -> AttemptOut:
    """Charge whoever the search finds. The same search sent again is the same payment."""
    search, fields = _opened(body.search, terminal)
    asked = Asked(body.amount, body.currency, fields.query_id, hashlib.sha256(search.payload).digest())
    begun = await asyncio.to_thread(_begin, services, terminal, asked, fields.gallery)
    if isinstance(begun, Reply):
        return AttemptOut(**vars(begun))
    intent_id, gallery = begun
    answer: Answer | None = None
    refused: RequestRefused | None = None
    try:
        threshold = services.calibration.threshold(max(gallery.live, 1), services.fpir)
        async with asyncio.timeout(SEARCH_TIMEOUT):
            answer = await services.guardians.search(search, gallery.version, threshold)
    except Exception as error:  # fail closed: whatever went wrong, nobody is charged
        cause = error.reason if isinstance(error, RequestRefused) else type(error).__name__
        _log.warning("no_identification", payment_intent=intent_id, terminal=terminal.id, cause=cause)
        if isinstance(error, RequestRefused) and error.reason in _AT_FAULT:
            refused = error
    reply = await asyncio.to_thread(_conclude, services, intent_id, fields.gallery, answer)
    if refused is not None:
        raise SearchRefused(f"The guardians refused the search: {refused}")
    _log.info("attempt", payment_intent=intent_id, terminal=terminal.id, outcome=reply.outcome.value)
    return AttemptOut(**vars(reply))


def _opened(search: str, terminal: Terminal) -> tuple[SearchRequest, SearchPayload]:
    try:
        request = SearchRequest.from_bytes(base64.b64decode(search, validate=True))
        fields = request.fields()
    except (MessageError, binascii.Error, ValueError) as error:
        raise InvalidSearch("The search is not base64 of a well-formed search request.") from error
    if fields.terminal != terminal.id:
        raise InvalidSearch("The search was made by another terminal than the one that sends it.")
    return request, fields


def _begin(services: Services, terminal: Terminal, asked: Asked, gallery_id: str) -> Reply | tuple[str, Gallery]:
    with services.engine.begin() as connection:
        gallery = faces.gallery(connection, gallery_id)
        begun = attempts.begin(connection, terminal, asked)
        return begun if isinstance(begun, Reply) else (begun, gallery)


def _conclude(services: Services, intent_id: str, gallery_id: str, answer: Answer | None) -> Reply:
    with services.engine.begin() as connection:
        return attempts.conclude(connection, intent_id, gallery_id, answer, services.rules)
