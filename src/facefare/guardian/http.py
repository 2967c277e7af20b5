"""One guardian over HTTP: mutual TLS 1.3, CBOR in and out, problem details (RFC 9457) for errors.

Job: who may call what, and an answer whatever happens.
Invariants:
- only a certificate registered as a relay's may call what asks or changes; the guardian's own certificate
  may read status, health, readiness and metrics, and ask for a refresh of all shares;
- the transparency log, and nothing else, may be read by anyone (plain HTTP: what is in it is signed);
- whatever goes wrong, the answer is a problem with a code, and nothing of a share is in it, nor in a log
  line or a metric.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from facefare.guardian.backups import check_restored, serving_alone
from facefare.guardian.ceremony import Folder
from facefare.guardian.errors import (
    GuardianUnreachable,
    MessageError,
    RefusalCode,
    Refused,
)
from facefare.guardian.links import server_context
from facefare.guardian.messages import (
    MAX_ENROL_BODY,
    MAX_SMALL_BODY,
    Operation,
    Problem,
)
from facefare.guardian.service import Guardian
from facefare.serving import listening, server

_CBOR = "application/cbor"
_ROLE = "facefare.role"
_RELAY, _SELF = "relay", "self"

_HTTP_STATUS = {
    RefusalCode.UNKNOWN_GALLERY: 404,
    RefusalCode.RATE_LIMITED: 429,
    RefusalCode.REPLAYED: 409,
    RefusalCode.STALE_GALLERY_VERSION: 409,
    RefusalCode.GALLERIES_DIFFER: 409,
    RefusalCode.REQUEST_NOT_SEEN: 409,
    RefusalCode.ROW_TAKEN: 409,
    RefusalCode.ROW_NOT_ENROLLED: 404,
    RefusalCode.STORAGE_FULL: 507,
    RefusalCode.RECHECK_OVERDUE: 503,
    RefusalCode.NOT_WELL_FORMED: 422,
    RefusalCode.NOT_OPENABLE: 422,
    RefusalCode.SEALED_MISMATCH: 422,
    RefusalCode.THRESHOLD_OUT_OF_RANGE: 422,
    RefusalCode.WRONG_PURPOSE: 422,
    RefusalCode.WRONG_MODEL: 422,
}  # all others: 403

_log = structlog.get_logger()


class _Metrics:
    """Counts and times; labels are operations, codes and gallery ids, never a person's or a terminal's."""

    def __init__(self, guardian: Guardian) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "facefare_guardian_requests", "Calls by outcome.", ["operation", "outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "facefare_guardian_request_seconds", "Time of a call.", ["operation"], registry=self.registry
        )
        connected = Gauge(
            "facefare_guardian_connected", "1 in session with both other guardians.", registry=self.registry
        )
        connected.set_function(lambda: float(guardian.engine.missing is None))
        self.version = Gauge(
            "facefare_guardian_gallery_version", "Gallery version.", ["gallery"], registry=self.registry
        )
        self.live = Gauge("facefare_guardian_gallery_live", "Live rows.", ["gallery"], registry=self.registry)
        self.rechecked = Gauge(
            "facefare_guardian_rechecked",
            "1 while searches can be made again in a secret order.",
            ["gallery"],
            registry=self.registry,
        )


_Call = Callable[[bytes], Awaitable[bytes]]


def application(guardian: Guardian) -> Starlette:
    """The HTTP application; who the caller is comes from `_RoleProtocol` in the scope."""
    metrics = _Metrics(guardian)

    def endpoint(operation: str, limit: int, call: _Call) -> Route:
        async def handle(request: Request) -> Response:
            start = time.perf_counter()
            outcome, response = await _answer(request, limit, call, guardian.index)
            metrics.requests.labels(operation, outcome).inc()
            metrics.seconds.labels(operation).observe(time.perf_counter() - start)
            return response

        return Route(f"/v1/{operation}", handle, methods=["POST"])

    def row_operation(operation: Operation) -> _Call:
        return lambda body: guardian.change_row(body, operation)

    async def status(request: Request) -> Response:
        if request.scope.get(_ROLE) not in (_RELAY, _SELF):
            return _problem(_not_a_relay(guardian.index))
        return Response(guardian.status().to_bytes(), media_type=_CBOR)

    async def refresh(request: Request) -> Response:
        if request.scope.get(_ROLE) != _SELF:
            return _problem(_not_a_relay(guardian.index))
        guardian.engine.want_refresh()
        return Response(guardian.status().to_bytes(), media_type=_CBOR)

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(_: Request) -> Response:
        missing = guardian.engine.missing
        if missing is None:
            return Response("ready\n", media_type="text/plain")
        return Response(f"waiting for guardian {missing}\n", 503, media_type="text/plain")

    async def scrape(_: Request) -> Response:
        for gallery in guardian.engine.galleries:
            metrics.version.labels(gallery.gallery).set(gallery.version)
            metrics.live.labels(gallery.gallery).set(gallery.live)
            metrics.rechecked.labels(gallery.gallery).set(gallery.gallery in guardian.engine.rechecked)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            endpoint("searches", MAX_SMALL_BODY, guardian.search),
            endpoint("checks", MAX_SMALL_BODY, guardian.check),
            endpoint("enrolments", MAX_ENROL_BODY, guardian.enrol),
            endpoint("deletions", MAX_SMALL_BODY, row_operation(Operation.DELETE)),
            endpoint("pauses", MAX_SMALL_BODY, row_operation(Operation.PAUSE)),
            endpoint("openings", MAX_SMALL_BODY, guardian.open_row),
            endpoint("resumptions", MAX_SMALL_BODY, row_operation(Operation.RESUME)),
            Route("/v1/status", status),
            Route("/v1/refresh", refresh, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", scrape),
        ]
    )


def publication(log: Path) -> Starlette:
    """What anyone may read of a guardian: its log, as `audit.verifier` takes it. Copy the checkpoint first."""

    async def checkpoint(_: Request) -> Response:
        file = log / "checkpoint"
        if not file.exists():
            return Response("no checkpoint yet\n", 404, media_type="text/plain")
        return Response(file.read_bytes(), media_type="text/plain; charset=utf-8")

    async def entries(_: Request) -> Response:
        return FileResponse(log / "entries", media_type="application/octet-stream")

    return Starlette(routes=[Route("/checkpoint", checkpoint), Route("/entries", entries)])


async def _answer(request: Request, limit: int, call: _Call, index: int) -> tuple[str, Response]:
    """Run one call; its outcome for the metrics, and the response."""
    if request.scope.get(_ROLE) != _RELAY:
        problem = _not_a_relay(index)
        return problem.code, _problem(problem)
    try:
        body = await _body(request, limit)
        return "ok", Response(await call(body), media_type=_CBOR)
    except MessageError as error:
        problem = Problem(400, Problem.MALFORMED, str(error), index)
    except Refused as refused:
        guardian = index if refused.guardian is None else refused.guardian
        problem = Problem(_HTTP_STATUS.get(refused.code, 403), refused.code.value, refused.detail, guardian)
    except GuardianUnreachable as error:
        problem = Problem(503, Problem.UNREACHABLE, str(error), error.guardian)
    return problem.code, _problem(problem)


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise MessageError(f"The body is longer than {limit} bytes.")
    return bytes(body)


def _problem(problem: Problem) -> Response:
    return Response(problem.to_bytes(), problem.status, media_type=Problem.MEDIA_TYPE)


def _not_a_relay(index: int) -> Problem:
    return Problem(403, Problem.FORBIDDEN, "Only a relay that this guardian registered may call this.", index)


def serve(path: Path) -> None:
    """Run the guardian in `path` until it is told to stop (SIGINT, SIGTERM)."""
    folder = Folder(path)
    check_restored(folder)
    folder.check_rotation()
    with serving_alone(folder):
        _serve(folder)


def _serve(folder: Folder) -> None:
    host, public_port = folder.identity.host, folder.identity.public_port
    relays = listening(host, folder.identity.http_port)
    public = listening(host, public_port) if public_port else None
    guardian = Guardian(folder)
    roles = {ssl.PEM_cert_to_DER_cert(pem): _RELAY for pem in folder.relays()}
    roles[ssl.PEM_cert_to_DER_cert(folder.identity.certificate)] = _SELF
    context = server_context(
        folder.certificate, folder.tls_key, "\n".join([*folder.relays(), folder.identity.certificate])
    )
    services = [(_server(application(guardian), _protocol_with_roles(roles), context), relays)]
    if public is not None:
        services.append((_server(publication(folder.log), H11Protocol, None), public))
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it is done; without this nothing below would run
        signal.signal(number, lambda _number, _frame: None)
    guardian.engine.start()
    _log.info("guardian_started", guardian=guardian.index)
    try:
        asyncio.run(_run_all(services))
    finally:
        guardian.close()
        _log.info("guardian_stopped", guardian=guardian.index)


def _server(app: Starlette, protocol: type[asyncio.Protocol], tls: ssl.SSLContext | None) -> uvicorn.Server:
    return server(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


async def _run_all(services: Sequence[tuple[uvicorn.Server, socket.socket]]) -> None:
    """Run until the first of them ends, then end all."""
    running = [asyncio.create_task(one.serve(sockets=[listener])) for one, listener in services]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for one, _ in services:
        one.should_exit = True
    await asyncio.gather(*running)


def _protocol_with_roles(roles: dict[bytes, str]) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with the role of the client's certificate in each request's scope."""

    class _RoleProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            tls = transport.get_extra_info("ssl_object")
            role = None if tls is None else roles.get(tls.getpeercert(binary_form=True) or b"")
            application = self.app

            async def with_role(scope: Scope, receive: Receive, send: Send) -> None:
                scope[_ROLE] = role
                await application(scope, receive, send)

            self.app: Any = with_role

    return _RoleProtocol
