"""What is refused before it is read: a body larger than any real request, an address that asks too often."""

from datetime import timedelta

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facefare.web.api import problems, tries
from facefare.web.api.errors import RequestError
from facefare.web.api.services import Services

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


class AddressLimit:
    """ASGI middleware: counts each request to the API by the address that it comes from."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer too many with a problem, others with the app."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            most, who = self._services.limits.address, tries.address(Request(scope))
            try:
                await self._services.tries.count_without_waiting("address", who, most=most, within=timedelta(minutes=1))
            except RequestError as error:
                if (refusal := problems.answer(error)) is not None:
                    await refusal(scope, receive, send)
                    return
                raise
        await self._app(scope, receive, send)
