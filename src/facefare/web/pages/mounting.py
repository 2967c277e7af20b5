"""Puts the pages into the wallet's app, under /app, with error pages of their own."""

from http import HTTPStatus
from pathlib import Path, PurePosixPath

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from facefare.web.api.problems import FAMILIES, PROBLEMS, when_again
from facefare.web.api.services import Services
from facefare.web.pages import (
    console,
    console_books,
    console_evidence,
    console_own,
    console_payments,
    console_setup,
    console_sign_in,
    console_staff,
    payer,
    payer_check,
    payer_data,
    payer_money,
    payer_notices,
    payer_phone,
    payer_scanned,
    rendering,
    sign_in,
    static_files,
)
from facefare.web.pages.desk import SignInAgain, StaffOnly
from facefare.web.pages.errors import (
    BodyTooLarge,
    ForeignOrigin,
    InvitationOver,
    NotAsExpected,
    NotYourJob,
    PageError,
    PasskeyRefused,
    UnknownMember,
)
from facefare.web.pages.guard import Guard
from facefare.web.pages.networks import Networks
from facefare.web.pages.passkeys import RelyingParty
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.staff_sessions import StaffKey
from facefare.web.pages.visitor import SignInFirst, Site

PARTS = (
    sign_in,
    payer,
    payer_check,
    payer_data,
    payer_money,
    payer_notices,
    payer_phone,
    payer_scanned,
    console,
    console_books,
    console_evidence,
    console_own,
    console_payments,
    console_setup,
    console_sign_in,
    console_staff,
)
"""Every module with routes of pages."""

_STATUS: dict[type[PageError], int] = {
    ForeignOrigin: 403,
    BodyTooLarge: 413,
    PasskeyRefused: 400,
    InvitationOver: 403,
    NotYourJob: 403,
    UnknownMember: 404,
    NotAsExpected: 422,
}

_EXPLAINED = (PageError, *FAMILIES, HTTPException, RequestValidationError, Exception)


def mount_pages(
    app: FastAPI,
    *,
    origin: str,
    currency: str,
    cache_dir: Path,
    staff_token: str | None = None,
    passkeys_only: bool = False,
    accuracy: Path | None = None,
) -> None:
    """Serve the pages beside the API of `create_app`, and lead `/` to them.

    Args:
        app: what `create_app` made.
        origin: as browsers see this site, such as "https://pay.example": passkeys are bound to its host.
        currency: ISO 4217, of the accounts that are opened here.
        staff_token: opens the operator's console to whoever has it, as a manager; at least 32 characters.
        passkeys_only: no token opens the console, neither this one nor a member's.
        accuracy: JSON of `facefare evaluate`, for the console's reports.
        cache_dir: where `facefare models install` and `facefare web assets` put their files.
    """
    services: Services = app.state.services
    pages = FastAPI(title="facefare pages", docs_url=None, redoc_url=None, openapi_url=None)
    pages.state.services = services
    pages.state.site = Site(
        RelyingParty(origin, services.notice.operator),
        currency,
        Networks.find(cache_dir),
        StaffKey(staff_token) if staff_token and not passkeys_only else None,
        passkeys_only,
        accuracy,
    )
    if pages.state.site.networks is not None:
        pages.mount("/assets", pages.state.site.networks.app())
    for part in PARTS:
        pages.include_router(part.router)
    pages.mount("/static", static_files.app())
    pages.add_api_route("/sw.js", static_files.service_worker)
    for kind in _EXPLAINED:
        pages.add_exception_handler(kind, _explained)
    pages.add_exception_handler(SignInFirst, _to_sign_in)
    pages.add_exception_handler(StaffOnly, _to_console_sign_in)
    pages.add_exception_handler(SignInAgain, _to_console_sign_in)
    app.mount(PREFIX, Guard(pages, origin=origin, refuse=_refusal))

    @app.get("/", include_in_schema=False)
    async def front_door() -> Response:
        return RedirectResponse(f"{PREFIX}/")


async def _to_sign_in(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    if request.headers.get("accept") == "application/json":  # a script of ours
        return _answer(request, 401, "Please sign in again.")
    # Only a payment's code sends people here from outside; they come back to it.
    back = f"?to={request.url.path}" if request.url.path.startswith(f"{PREFIX}/pay/") else ""
    return RedirectResponse(f"{PREFIX}/sign-in{back}", status_code=303)


async def _to_console_sign_in(request: Request, error: Exception) -> Response:
    if request.headers.get("accept") == "application/json":  # a script of ours
        return _answer(request, 401, "Please sign in again.")
    again = "?again=true" if isinstance(error, SignInAgain) else ""
    return RedirectResponse(f"{PREFIX}/console/sign-in{again}", status_code=303)


async def _explained(request: Request, error: Exception) -> Response:
    answer = _answer(request, *_told(error), _form(request))
    answer.headers.update(when_again(error))
    return answer


def _refusal(error: PageError) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(Request(scope), *_told(error))(scope, receive, send)

    return answer


def _answer(request: Request, status: int, sentence: str, form: str | None = None) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"problem": rendering.of(request).language(sentence)}, status_code=status)
    home = f"{PREFIX}/console/" if request.url.path.startswith(f"{PREFIX}/console/") else f"{PREFIX}/"
    return rendering.of(request).page("problem.html", status=status, sentence=sentence, home=home, form=form)


def _form(request: Request) -> str | None:
    """The page with the form that was sent: the nearest one above where it was sent to."""
    sent_to = PurePosixPath(request.url.path.removeprefix(PREFIX))
    if request.method != "POST":
        return None
    pages = [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]
    for path in (sent_to, *sent_to.parents[:-1]):
        if any("GET" in (page.methods or ()) and page.path_regex.match(str(path)) for page in pages):
            return f"{PREFIX}{path}"
    return None


def _told(error: Exception) -> tuple[int, str]:
    """The status and the sentence for the visitor."""
    if isinstance(error, PageError):
        return _STATUS[type(error)], str(error)
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind][0], str(error)
    if isinstance(error, RequestValidationError):
        return 422, "Something in the form is missing or not as expected. Please go back and try again."
    if isinstance(error, HTTPException):
        found = error.status_code != HTTPStatus.NOT_FOUND
        return error.status_code, "This can't be done here." if found else "There is no such page."
    return 500, "Something went wrong here. Nothing was charged by this request."
