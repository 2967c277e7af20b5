"""Payments by face, asked for by terminals, and what a till does with them afterwards."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Path
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import text

from facefare.guardian.errors import MessageError, RefusalCode
from facefare.guardian.messages import SearchPayload, SearchRequest
from facefare.identification.errors import AnswersDisagree, IdentificationError, RequestRefused
from facefare.ledger.database import brief_locks
from facefare.mpc.answers import Answer
from facefare.payments import attempts, intents, scanned, tariffs
from facefare.payments.attempts import Asked, Reply
from facefare.payments.decision import Outcome, Reason
from facefare.payments.merchants import Terminal
from facefare.wallet import access, galleries
from facefare.wallet.galleries import Gallery
from facefare.web.api.errors import InvalidSearch, SearchRefused
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import Services, Transaction, WithServices
from facefare.web.api.signatures import SignedTerminal

router = APIRouter(prefix="/v1", tags=["terminal"], responses=DOCUMENTED)

SEARCH_TIMEOUT = 5.0
"""Seconds after which a person at a gate has long reached for a card."""

_AT_FAULT = {
    RefusalCode.UNKNOWN_GALLERY,
    RefusalCode.UNKNOWN_TERMINAL,
    RefusalCode.BAD_SIGNATURE,
    RefusalCode.WRONG_PURPOSE,
    RefusalCode.WRONG_MODEL,
    RefusalCode.STALE_REQUEST,
    RefusalCode.REPLAYED,
    RefusalCode.RATE_LIMITED,
    RefusalCode.SEALED_MISMATCH,
    RefusalCode.NOT_OPENABLE,
    RefusalCode.NOT_WELL_FORMED,
}
_TRIES = 20
"""Some a quarter of an hour, to write down what the guardians answered."""
_log = structlog.get_logger()


Purchase = Annotated[
    str | None,
    Field(
        pattern="^[0-9a-f]{32}$",
        description="A till's own random name for what it sells now: of all attempts at one purchase, one is charged.",
    ),
]


class Attempt(BaseModel):
    """An amount or the fare, and the sealed search for whoever is to pay it."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[
        int | None, Field(strict=True, description="Minor units of the currency, more than 0; null: the fare here.")
    ]
    currency: Annotated[str, Field(max_length=16, description="ISO 4217 code.", examples=["EUR"])]
    capture_later: Annotated[
        bool, Field(strict=True, description="Hold only; capture, with a tip or in part, later.")
    ] = False
    purchase: Purchase = None
    search: Annotated[str, Field(max_length=32768, description="Base64 of the sealed, signed search.")]


class AttemptOut(BaseModel):
    """What the terminal does: open on `accepted` and `already_paid` only.

    On `confirmation_required` it asks for the PIN, or asks again while the payer confirms in the app.
    """

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
    asked = Asked(
        body.amount,
        body.currency,
        fields.query_id,
        hashlib.sha256(search.payload).digest(),
        body.capture_later,
        fields.gallery,
        fields.issued_at,
        body.purchase,
    )
    with services.stages.timed("begin"):
        begun = await asyncio.to_thread(_begin, services, terminal, asked, fields.gallery)
    if isinstance(begun, Reply):
        return AttemptOut(**vars(begun))
    intent_id, gallery = begun
    answer: Answer | None = None
    refused: RequestRefused | None = None
    try:
        with services.stages.timed("search"):
            answer = await _answer(services, search, gallery, intent_id)
    except Exception as error:  # fail closed: whatever went wrong, nobody is charged
        cause = error.reason if isinstance(error, RequestRefused) else type(error).__name__
        _log.warning("no_identification", payment_intent=intent_id, terminal=terminal.id, cause=cause)
        if isinstance(error, AnswersDisagree):  # a lying or broken guardian: somebody has to look
            _log.error("guardians_disagree", payment_intent=intent_id)
        if isinstance(error, RequestRefused) and error.reason in _AT_FAULT:
            refused = error
    with services.stages.timed("conclude"):
        try:
            reply = await asyncio.to_thread(_conclude, services, intent_id, answer, gallery.live)
        except Exception:
            if answer is not None:
                _later(services, _write_down(services, intent_id, gallery, answer))
            raise
    if refused is not None:
        raise SearchRefused(f"The guardians refused the search: {refused}")
    _log.info("attempt", payment_intent=intent_id, terminal=terminal.id, outcome=reply.outcome.value)
    return AttemptOut(**vars(reply))


class Pin(BaseModel):
    """The second factor of the one payer who was recognised."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    pin: Annotated[SecretStr, Field(min_length=1, max_length=8)]


class Capture(BaseModel):
    """How much of the hold is taken, tip included; the rest is free again."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int, Field(strict=True)]
    tip: Annotated[int, Field(strict=True, description="The part of the amount that is a tip.")] = 0


class Refund(BaseModel):
    """How much is given back; without an amount, all that is left."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int | None, Field(strict=True)] = None


class IntentOut(BaseModel):
    """A payment as its merchant sees it: nothing that names the payer. Amounts in minor units."""

    id: str
    state: str
    amount: int
    captured: int
    tip: int
    refunded: int
    currency: str
    place: str
    reason: str | None
    created_at: datetime


IntentId = Annotated[str, Path(pattern=r"^pi_[0-9a-z]{26}$")]


class PostedFareOut(BaseModel):
    """Where the gate stands, and what its screen may say a passage costs, in minor units, until `until`."""

    tariff: str
    stop: str
    network: str
    kind: str
    currency: str
    least: int
    most: int
    until: datetime


@router.get("/fare")
def fare(terminal: SignedTerminal, connection: Transaction) -> PostedFareOut:
    """The fare at this gate for somebody who has not travelled yet; a range where the other end of a ride counts."""
    point, currency, price = tariffs.posted_at(connection, terminal.id, datetime.now(UTC))
    return PostedFareOut(
        tariff=point.tariff_id,
        stop=point.stop,
        network=point.network,
        kind=point.kind,
        currency=currency,
        least=price.least,
        most=price.most,
        until=price.until,
    )


class Unheard(BaseModel):
    """The query of an attempt whose answer the terminal never heard."""

    model_config = ConfigDict(extra="forbid")

    query_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="16 bytes, hexadecimal.")]


@router.post("/attempts/undo")
def undo(body: Unheard, terminal: SignedTerminal, connection: Transaction) -> IntentOut:
    """Take back what came of an attempt that let nobody pass because its answer was lost; once, however often sent."""
    return IntentOut(**vars(attempts.undo(connection, terminal, bytes.fromhex(body.query_id))))


class ByCode(BaseModel):
    """An amount or the fare, for whoever reads the code that the terminal shows."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[
        int | None, Field(strict=True, description="Minor units of the currency, more than 0; null: the fare here.")
    ]
    currency: Annotated[str, Field(max_length=16, description="ISO 4217 code.", examples=["EUR"])]
    capture_later: Annotated[bool, Field(strict=True)] = False
    purchase: Purchase = None


@router.post("/payment_intents", status_code=201)
def by_code(
    body: ByCode,
    terminal: SignedTerminal,
    connection: Transaction,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=255)],
) -> IntentOut:
    """Ask whoever reads a code with the payment's id in it, once for each Idempotency-Key; void it if nobody does."""
    return IntentOut(**vars(scanned.begin(connection, terminal, idempotency_key=idempotency_key, **body.model_dump())))


@router.get("/payment_intents/{intent_id}")
def payment(intent_id: IntentId, terminal: SignedTerminal, connection: Transaction) -> IntentOut:
    """What has become of a payment of this terminal: `succeeded` and `requires_capture` are paid."""
    return IntentOut(**vars(scanned.state_of(connection, terminal, intent_id)))


@router.post("/payment_intents/{intent_id}/pin")
def confirm(
    intent_id: IntentId, body: Pin, terminal: SignedTerminal, services: WithServices, connection: Transaction
) -> AttemptOut:
    """Confirm with the PIN, where exactly one payer was recognised."""
    reply = attempts.confirm_by_pin(connection, terminal, intent_id, body.pin.get_secret_value(), services.rules)
    return AttemptOut(**vars(reply))


@router.post("/payment_intents/{intent_id}/capture")
def capture(intent_id: IntentId, body: Capture, terminal: SignedTerminal, connection: Transaction) -> IntentOut:
    """Take all or part of what is on hold."""
    return IntentOut(**vars(intents.capture(connection, terminal, intent_id, body.amount, body.tip)))


@router.post("/payment_intents/{intent_id}/void")
def void(intent_id: IntentId, terminal: SignedTerminal, connection: Transaction) -> IntentOut:
    """Let go of what is on hold, or stop waiting for a confirmation."""
    return IntentOut(**vars(intents.void(connection, terminal, intent_id)))


@router.post("/payment_intents/{intent_id}/refunds")
def refund(
    intent_id: IntentId,
    body: Refund,
    terminal: SignedTerminal,
    connection: Transaction,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=255)],
) -> IntentOut:
    """Give back all or part of a payment to this merchant, once for each Idempotency-Key."""
    given = intents.refund(connection, terminal, intent_id, body.amount, idempotency_key=idempotency_key)
    return IntentOut(**vars(given))


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
        # No money moves here: this need not be on the disk before what is concluded from it, which flushes it too.
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        gallery = galleries.gallery(connection, gallery_id)
        begun = attempts.begin(connection, terminal, asked)
        return begun if isinstance(begun, Reply) else (begun, gallery)


def _conclude(services: Services, intent_id: str, answer: Answer | None, payers: int) -> Reply:
    with brief_locks(services.engine) as connection:
        return attempts.conclude(connection, intent_id, answer, services.rules_for(payers))


async def _answer(services: Services, search: SearchRequest, gallery: Gallery, intent_id: str) -> Answer:
    """What the guardians answer in time; raises CalibrationError, IdentificationError, TimeoutError."""
    threshold = services.calibration.threshold(max(gallery.live, 1), services.fpir)
    searching = asyncio.ensure_future(services.guardians.search(search, gallery.version, threshold))
    try:
        async with asyncio.timeout(SEARCH_TIMEOUT):
            return await asyncio.shield(searching)
    except TimeoutError:
        # Nobody waits any more, but some row may take this answer's tag in: its payer will look for it.
        _later(services, _await(services, searching, gallery, intent_id))
        raise
    except IdentificationError as error:
        await asyncio.to_thread(_lost, services, gallery, error)
        raise


def _later(services: Services, work: Coroutine[None, None, None]) -> None:
    task = asyncio.create_task(work)
    services.late.add(task)
    task.add_done_callback(services.late.discard)


async def _await(services: Services, searching: asyncio.Future[Answer], gallery: Gallery, intent_id: str) -> None:
    try:
        answer = await searching
    except IdentificationError as error:
        await asyncio.to_thread(_lost, services, gallery, error)
    else:
        await _write_down(services, intent_id, gallery, answer)


async def _write_down(services: Services, intent_id: str, gallery: Gallery, answer: Answer) -> None:
    """Get an answer into its payer's access log, however long the database is away; nobody is charged for it now."""
    for tried in range(_TRIES):
        try:
            await asyncio.to_thread(_conclude, services, intent_id, None, 0)
            await asyncio.to_thread(_conclude, services, intent_id, answer, gallery.live)
            return
        except Exception as error:
            _log.warning("answer_not_written_down", payment_intent=intent_id, error=type(error).__name__)
        await asyncio.sleep(min(2.0**tried, 60))
    _log.error("answer_lost", payment_intent=intent_id)


def _lost(services: Services, gallery: Gallery, error: IdentificationError) -> None:
    if error.lost_tag is not None:
        with services.engine.begin() as connection:
            access.record_lost(connection, gallery.id, error.lost_tag)
