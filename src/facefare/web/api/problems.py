"""One table from exceptions to problem details (RFC 9457); what is not in it is a 500 that says nothing."""

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from facefare.fares import errors as fares
from facefare.identification.held import errors as held
from facefare.ledger import errors as ledger
from facefare.payments import errors as payments
from facefare.wallet import errors as wallet
from facefare.web.api import errors as web

PROBLEMS: Mapping[type[Exception], tuple[int, str]] = {
    fares.FaresError: (409, "no-fare"),
    ledger.UnknownCurrency: (422, "unknown-currency"),
    ledger.InvalidAmount: (422, "invalid-amount"),
    ledger.InsufficientFunds: (409, "insufficient-funds"),
    ledger.TransferConflict: (409, "idempotency-conflict"),
    ledger.HoldEnded: (409, "wrong-state"),
    ledger.InvalidTransfer: (409, "invalid-transfer"),
    ledger.DatabaseUnavailable: (503, "database-unavailable"),
    wallet.NotAuthenticated: (401, "not-authenticated"),
    wallet.AccountClosed: (409, "account-closed"),
    wallet.InvalidPin: (422, "invalid-pin"),
    wallet.UnknownPayer: (404, "unknown-payer"),
    wallet.UnknownConsent: (409, "consent-missing"),
    wallet.PayerNotPresent: (409, "payer-not-present"),
    wallet.UnknownStation: (403, "unknown-station"),
    wallet.UnknownGallery: (404, "unknown-gallery"),
    wallet.UnknownDevice: (404, "unknown-device"),
    wallet.DeviceExists: (409, "device-exists"),
    wallet.TooManyDevices: (409, "too-many-devices"),
    wallet.InvalidEnrolment: (422, "invalid-enrolment"),
    wallet.AlreadyEnrolled: (409, "already-enrolled"),
    wallet.NotEnrolled: (409, "not-enrolled"),
    wallet.CannotCompare: (503, "cannot-compare"),
    wallet.NotTheSamePerson: (409, "not-the-same-person"),
    wallet.GalleryBusy: (503, "gallery-busy"),
    wallet.ChangeUnconfirmed: (503, "change-unconfirmed"),
    payments.UnknownMerchant: (404, "unknown-merchant"),
    payments.UnknownTerminal: (401, "unknown-terminal"),
    payments.TerminalExists: (409, "terminal-exists"),
    payments.UnknownIntent: (404, "unknown-payment"),
    payments.UnknownReceipt: (404, "unknown-receipt"),
    payments.QueryReused: (409, "query-reused"),
    payments.AttemptUnderWay: (409, "attempt-under-way"),
    payments.InvalidWebhookUrl: (422, "invalid-webhook-url"),
    payments.NoFarePoint: (409, "no-fare-point"),
    payments.UnknownPayOut: (404, "unknown-pay-out"),
    payments.WrongState: (409, "wrong-state"),
    payments.FundingClosed: (403, "funding-closed"),
    payments.NoCard: (409, "no-card"),
    payments.CardNotReady: (409, "card-not-ready"),
    payments.CardDeclined: (409, "card-declined"),
    payments.UnknownTopUp: (404, "unknown-top-up"),
    payments.EventForged: (400, "event-forged"),
    payments.ProcessorUnavailable: (503, "processor-unavailable"),
    payments.ProcessorDisagrees: (409, "processor-disagrees"),
    payments.NotYourTerminal: (404, "unknown-terminal"),
    payments.UnknownApiKey: (401, "unknown-api-key"),
    payments.ScopeMissing: (403, "scope-missing"),
    payments.UnknownDispute: (404, "unknown-dispute"),
    payments.UnknownEvent: (404, "unknown-event"),
    payments.UnknownEndpoint: (404, "unknown-endpoint"),
    payments.UnknownSettlement: (404, "unknown-settlement"),
    payments.UnknownAddress: (404, "unknown-address"),
    payments.TooManyAddresses: (409, "too-many-addresses"),
    payments.AddressUnconfirmed: (422, "address-unconfirmed"),
    payments.ProofWrong: (422, "proof-wrong"),
    payments.ReportUnreadable: (422, "report-unreadable"),
    **{kind: (422, kind.reason.replace("_", "-")) for kind in held.HeldError.__subclasses__()},
    web.SignatureMissing: (401, "signature-missing"),
    web.SignatureWrong: (401, "signature-wrong"),
    web.SignatureStale: (401, "signature-stale"),
    web.RequestReplayed: (401, "request-replayed"),
    web.InvalidSearch: (422, "invalid-search"),
    web.SearchRefused: (422, "search-refused"),
    web.NoticeUnknown: (409, "notice-unknown"),
    web.ProfileNotOffered: (409, "profile-not-offered"),
    web.TooYoung: (422, "too-young"),
    web.OpeningRefused: (422, "opening-refused"),
    web.GuardiansAway: (503, "guardians-away"),
    web.TooManyTries: (429, "too-many-tries"),
    web.CannotCount: (503, "cannot-count"),
}
"""Exception -> HTTP status and the last part of the problem's `type`."""

_MEDIA_TYPE = "application/problem+json"


class InvalidPart(BaseModel):
    """A part of the request that was not as it should be; its value is not repeated."""

    pointer: str = Field(description="JSON pointer (RFC 6901), or the name of a header or parameter.")
    detail: str


class Problem(BaseModel):
    """A problem detail (RFC 9457)."""

    type: str = Field(examples=["urn:facefare:problem:unknown-currency"])
    title: str
    status: int
    detail: str
    errors: list[InvalidPart] | None = None


FAMILIES = (
    fares.FaresError,
    held.HeldError,
    ledger.LedgerError,
    wallet.WalletError,
    payments.PaymentsError,
    web.RequestError,
)
"""Errors of ours that a caller can be told, by API and pages alike; any other is unforeseen."""

DOCUMENTED: dict[int | str, dict[str, object]] = {
    code: {
        "description": "Problem",
        "content": {_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for code in ("default", 422)
}
"""For a router's `responses`: every error is a problem."""


def describe(app: FastAPI) -> None:
    """Put the problem's schema into the API's description."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        description = generate()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        description["components"]["schemas"].update(schema.pop("$defs"), Problem=schema)
        return description

    app.openapi = described  # type: ignore[method-assign]


def install(app: FastAPI) -> None:
    """Answer every exception as a problem."""
    for base in FAMILIES:
        app.add_exception_handler(base, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def _answer(
    status: int,
    code: str,
    detail: str,
    errors: list[InvalidPart] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(
        type=f"urn:facefare:problem:{code}",
        title=code.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        errors=errors,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), status_code=status, media_type=_MEDIA_TYPE, headers=headers
    )


async def _known(request: Request, error: Exception) -> JSONResponse:
    return answer(error) or await _unforeseen(request, error)


def answer(error: Exception) -> JSONResponse | None:
    """What a caller is told of an error of ours; None of any other."""
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            status, code = PROBLEMS[kind]
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else when_again(error)
            return _answer(status, code, str(error), headers=headers)
    return None


def when_again(error: Exception) -> dict[str, str]:
    """The header that says when to come back (RFC 9110), for who comes too often."""
    return {"Retry-After": str(error.retry_after)} if isinstance(error, web.TooManyTries) else {}


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    parts = error.errors() if isinstance(error, RequestValidationError) else ()
    errors = [
        InvalidPart(
            pointer="/" + "/".join(str(step) for step in part["loc"][1:])
            if part["loc"][0] == "body"
            else str(part["loc"][-1]),
            detail=part["msg"],
        )
        for part in parts
    ]
    return _answer(422, "invalid-request", "The request is not as the API describes it.", errors)


async def _http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}.get(error.status_code, "invalid-request")
    return _answer(error.status_code, code, str(error.detail), headers=error.headers)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    # Neither the message nor the trace is logged: either might quote personal data.
    structlog.get_logger().error(
        "unforeseen_error",
        path=request.scope.get("route", None) and request.scope["route"].path,
        error=type(error).__name__,
    )
    return _answer(500, "internal-error", "Something went wrong here; nothing was charged by this request.")
