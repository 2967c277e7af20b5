"""Bodies larger than any real request are refused before they are read."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 10_000_000
"""Bytes: an enrolment of 1,000 references in base64 is the largest request there is."""


class BodyLimit:
    """ASGI middleware: answers 413 once a body grows past `LIMIT`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what the app reads."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LIMIT:
                raise HTTPException(413, f"A request has at most {LIMIT} bytes.")
            return message

        await self._app(scope, counted, send)
