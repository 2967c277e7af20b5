"""What every page is wrapped in: a strict policy for the browser, and no request from another site's page.

Invariants:
  - no inline script, no inline style but our own one, nothing from another host, no framing, no camera for anybody
    but ourselves;
  - a request that changes something comes from our own page: by Fetch Metadata where the browser sends it,
    else by the Origin header; without either it is refused (no token in forms is needed for that);
  - a body is small: no picture fits into one, but for the two forms that take an operator's file.
"""

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facefare.web.pages.errors import BodyTooLarge, ForeignOrigin, PageError
from facefare.web.pages.rendering import style_source

MAX_BODY = 16_384
"""Bytes; the largest is a passkey's answer, of about 2 KB."""
FILES = {"/app/console/tariffs": 2_000_000, "/app/console/books/reconciliation": 8_000_000}
"""Bytes of the forms in which staff bring a tariff, or a card processor's report."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        f"style-src 'self' {style_source()}",
        "img-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "media-src 'self' blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """ASGI middleware of the pages; `refuse` answers what it stops."""

    def __init__(self, app: ASGIApp, *, origin: str, refuse: Callable[[PageError], ASGIApp]) -> None:
        self._app = app
        self._origin = origin
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the headers added that the response does not have."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded_send = self._with_headers(send)
        try:
            most = FILES.get(scope["path"], MAX_BODY)
            self._check(scope["method"], Headers(scope=scope), most)
            await self._app(scope, _limited(receive, most), guarded_send)
        except PageError as error:
            await self._refuse(error)(scope, receive, guarded_send)

    def _check(self, method: str, headers: Headers, most: int) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            raise BodyTooLarge("This is more than a form of ours holds.")
        if method in _SAFE:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if not (site == "same-origin" or (site is None and origin == self._origin)):
            raise ForeignOrigin("This was not sent from our own page. Please open the page and try again.")

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if self._origin.startswith("https:"):
                    headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
            await send(message)

        return sending


def _limited(receive: Receive, most: int) -> Callable[[], Awaitable[Message]]:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise BodyTooLarge("This is more than a form of ours holds.")
        return message

    return counted
