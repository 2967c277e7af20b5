"""One guardian over HTTP: mutual TLS 1.3, CBOR in and out, problem details (RFC 9457) for errors.

Job: decode a call, ask the policy, write the request log, hand the request to the engine, answer.
Invariants:
- only a certificate registered as a relay's may call what asks or changes; the guardian's own certificate
  may read status, health, readiness and metrics, and ask for a refresh of all shares;
- a search is in the request log, durably, before the engine has it;
- the transparency log, and nothing else, may be read by anyone (plain HTTP: what is in it is signed);
- whatever goes wrong, the answer is a problem with a code, and nothing of a share is in it, nor in a log
  line or a metric.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import structlog
import uvicorn
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from facefare.audit.entries import CHECK, entry_of_enrolment, entry_of_search
from facefare.guardian.backups import check_restored, serving_alone
from facefare.guardian.ceremony import Folder
from facefare.guardian.engine import Engine
from facefare.guardian.errors import (
    GuardianUnreachable,
    MessageError,
    RefusalCode,
    Refused,
    StoreError,
)
from facefare.guardian.links import Links, server_context
from facefare.guardian.messages import (
    MAX_ENROL_BODY,
    MAX_REFERENCES,
    MAX_SMALL_BODY,
    EnrolCall,
    EnrolPayload,
    OpenRequest,
    Operation,
    Problem,
    RowCall,
    SearchCall,
    SearchPayload,
    Status,
    sha256,
)
from facefare.guardian.openings import Openings
from facefare.guardian.policy import ENROLMENT, RATES_REMEMBER_MS, Policy
from facefare.guardian.rates import DAY_MS
from facefare.guardian.rechecks import Rechecks
from facefare.guardian.request_log import Entry, RequestLog
from facefare.guardian.sealing import SealedFor, Share, open_sealed
from facefare.guardian.store import ShareStore
from facefare.guardian.transparency import Transparency
from facefare.guardian.work import Kind, Work

_SEARCH_TIMEOUT = 8.0
_CHANGE_TIMEOUT = 60.0
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


class Guardian:
    """One guardian's parts, put together."""

    def __init__(self, folder: Folder) -> None:
        self.index = folder.identity.index
        self._sealing_keys = folder.sealing_keys()
        self._registry = folder.registry()
        self._request_log = RequestLog(folder.requests)
        day = _now() // DAY_MS
        self._policy = Policy(
            folder.limits(),
            self._request_log.seen(),
            self._request_log.unfinished(),
            (day, self._request_log.on_day(day)),
        )
        for entry in self._request_log.since(_now() - RATES_REMEMBER_MS):
            terminal = self._registry.terminal(entry.asker)
            rate = None if terminal is None else terminal.rate
            self._policy.replay(entry.asker, entry.purpose, entry.templates, entry.time, rate)
        self._writer = ThreadPoolExecutor(1, "request-log")
        self._store = ShareStore(folder.shares)
        self._transparency = Transparency(
            self.index,
            (folder.log, folder.witness),
            (folder.log_signer(), folder.witness_signer()),
            folder.peers(),
        )
        links = Links(folder.identity, folder.peers(), folder.certificate, folder.tls_key)
        self.engine = Engine(
            self.index,
            links,
            self._store,
            folder.registry(),
            folder.signing_key(),
            self._transparency,
            folder.sums,
            Rechecks(self._policy.limits.recheck_permille, self._policy.limits.recheck_patience_s),
            Openings(self._policy.limits, _now()),
        )

    def close(self) -> None:
        """Stop the engine and release the files."""
        self.engine.stop()
        self._transparency.close()
        self._writer.shutdown()
        self._request_log.close()
        self._registry.close()
        self._store.close()

    async def search(self, body: bytes) -> bytes:
        """POST /v1/searches: a `SearchCall` in, a `SearchAnswer` out."""
        call = SearchCall.from_bytes(body)
        fields = SearchPayload.from_bytes(call.payload)
        digest = sha256(call.payload)
        work = _comparison(Kind.SEARCH, call, fields, fields.terminal, fields.purpose, fields.query_id)
        now = _now()
        gallery = self._registry.gallery(fields.gallery)
        try:
            self._policy.search(
                call.payload,
                call.signature,
                call.sealed,
                self.index,
                self._registry.terminal(fields.terminal),
                gallery,
                call.threshold,
                now,
            )
            if gallery is not None:
                work.components = self._open(
                    call.sealed, SealedFor.SEARCH, fields, fields.query_id, gallery.dimensions, 1
                )
            await self._record(
                Entry(fields.terminal, now, fields.purpose, digest),
                fields.query_id,
                self._policy.search_seen_until(fields),
            )
        except Refused as refused:
            work.refusal = refused
        return await self._run(work, _SEARCH_TIMEOUT)

    async def check(self, body: bytes) -> bytes:
        """POST /v1/checks: a `SearchCall` about an enrolment in, a `SearchAnswer` out; once for each enrolment."""
        call = SearchCall.from_bytes(body)
        fields = EnrolPayload.from_bytes(call.payload)
        digest = sha256(call.payload)
        work = _comparison(Kind.CHECK, call, fields, fields.station, CHECK, fields.enrolment_id)
        now = _now()
        gallery = self._registry.gallery(fields.gallery)
        accepted = False
        try:
            self._policy.check(
                call.payload,
                call.signature,
                call.sealed,
                self.index,
                self._registry.station(fields.station),
                gallery,
                call.threshold,
                now,
            )
            accepted = True
            if gallery is not None:
                work.components = self._open(
                    call.sealed, SealedFor.ENROL, fields, fields.enrolment_id, gallery.dimensions, 1
                )
            await self._record(
                Entry(fields.station, now, CHECK, digest),
                fields.enrolment_id,
                self._policy.check_seen_until(fields),
                self._policy.enrolment_until(fields),
            )
        except Refused as refused:
            work.refusal = refused
        try:
            return await self._run(work, _SEARCH_TIMEOUT)
        except (Refused, GuardianUnreachable):
            if accepted:  # no answer leaves this guardian, so nothing was found out
                await self._end_check(fields.enrolment_id)
            raise

    async def enrol(self, body: bytes) -> bytes:
        """POST /v1/enrolments: an `EnrolCall` in, a `Confirmation` out. Safe to send again."""
        call = EnrolCall.from_bytes(body)
        fields = EnrolPayload.from_bytes(call.payload)
        digest = sha256(call.payload)
        work = Work(
            Kind.CHANGE,
            key=sha256(cbor2.dumps([ENROLMENT, digest, call.row])),
            operation=Operation.ENROL,
            gallery=fields.gallery,
            version=call.version,
            row=call.row,
            digest=digest,
            payer_key=fields.payer_key or b"",
            entry=entry_of_enrolment(
                station=fields.station,
                issued_at=fields.issued_at,
                gallery=fields.gallery,
                enrolment_id=fields.enrolment_id,
                request_sha256=digest,
            ).to_bytes(),
        )
        now = _now()
        gallery = self._registry.gallery(fields.gallery)
        try:
            self._policy.enrolment(
                call.payload,
                call.signature,
                call.sealed,
                self.index,
                self._registry.station(fields.station),
                gallery,
                now,
            )
            count = 1
            if gallery is not None:
                work.components = self._open(
                    call.sealed,
                    SealedFor.ENROL,
                    fields,
                    fields.enrolment_id,
                    gallery.dimensions,
                    MAX_REFERENCES if fields.payer_key is None else 1,
                )
                count = work.components.shape[1]
            await self._record(Entry(fields.station, now, ENROLMENT, digest, count), None, 0)
        except Refused as refused:
            work.refusal = refused
        confirmation = await self._run(work, _CHANGE_TIMEOUT)
        await self._end_check(fields.enrolment_id)
        return confirmation

    async def change_row(self, body: bytes, operation: Operation) -> bytes:
        """POST /v1/deletions, /v1/pauses, /v1/resumptions: a `RowCall` in, a `Confirmation` out."""
        call = RowCall.from_bytes(body)
        digest = sha256(cbor2.dumps([operation.value, call.gallery, call.row]))
        work = Work(
            Kind.CHANGE,
            key=digest,
            operation=operation,
            gallery=call.gallery,
            version=call.version,
            row=call.row,
            digest=digest,
        )
        return await self._run(work, _CHANGE_TIMEOUT)

    async def open_row(self, body: bytes) -> bytes:
        """POST /v1/openings: a payer's `OpenRequest` in, an `OpenAnswer` that only this payer can read out."""
        request = OpenRequest.from_bytes(body)
        fields = request.fields()
        work = Work(
            Kind.OPENING,
            key=sha256(cbor2.dumps(["open", sha256(request.payload)])),
            gallery=fields.gallery,
            version=0,
            opening=request,
        )
        return await self._run(work, _SEARCH_TIMEOUT)

    def status(self) -> Status:
        """Session and gallery versions."""
        missing = self.engine.missing
        return Status(self.index, missing is None, missing, self.engine.galleries)

    def _open(
        self,
        sealed: bytes,
        use: SealedFor,
        fields: SearchPayload | EnrolPayload,
        request_id: bytes,
        dimensions: int,
        most: int,
    ) -> NDArray[np.uint32]:
        """This guardian's two components (2, n, D), 1 <= n <= most, the same as their other holders'."""
        share = self._unsealed(sealed, use, fields.gallery, request_id)
        count, rest = divmod(len(share.own), 4 * dimensions)
        if rest or not 1 <= count <= most:
            raise Refused(
                RefusalCode.NOT_OPENABLE,
                f"A sealed share holds 1 to {most} templates of {dimensions} dimensions in this gallery.",
            )
        if not share.fits(self.index, fields.component_sha256):
            raise Refused(RefusalCode.SEALED_MISMATCH, "The sealed components are not those that were signed.")
        words = np.frombuffer(share.own + share.following, "<u4")
        return words.reshape(2, count, dimensions).astype(np.uint32)

    def _unsealed(self, sealed: bytes, use: SealedFor, gallery: str, request_id: bytes) -> Share:
        """The share, by the present sealing key or another that is valid while keys are rotated."""
        reason = ""
        for key in self._sealing_keys:
            try:
                return Share.from_bytes(open_sealed(sealed, key, self.index, use, gallery, request_id))
            except MessageError as error:
                reason = reason or str(error)
        raise Refused(RefusalCode.NOT_OPENABLE, reason)

    async def _record(
        self, entry: Entry, request_id: bytes | None, until: int, unfinished_until: int | None = None
    ) -> None:
        """Write the request log off the event loop; without the entry there is no answer."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(
                self._writer, self._request_log.append, entry, request_id, until, unfinished_until
            )
        except StoreError as error:
            raise Refused(RefusalCode.STORAGE_FULL, str(error)) from error

    async def _end_check(self, enrolment_id: bytes) -> None:
        """Count a comparison no longer; where the disk refuses that, it counts on."""
        if enrolment_id not in self._policy.unfinished:
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(StoreError):
            await loop.run_in_executor(self._writer, self._request_log.end_check, enrolment_id)
            self._policy.end_check(enrolment_id)

    async def _run(self, work: Work, timeout: float) -> bytes:
        self.engine.submit(work)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work.done), timeout)
        except TimeoutError:
            raise GuardianUnreachable(
                self.index, f"Guardian {self.index} had no answer from the others in time."
            ) from None
        finally:
            self.engine.withdraw(work)


def _comparison(
    kind: Kind, call: SearchCall, fields: SearchPayload | EnrolPayload, asker: str, purpose: str, request_id: bytes
) -> Work:
    """A request to compare one template with a gallery's rows, by a terminal or a station."""
    digest = sha256(call.payload)
    entry = entry_of_search(
        terminal=asker,
        purpose=purpose,
        issued_at=fields.issued_at,
        gallery=fields.gallery,
        query_id=request_id,
        request_sha256=digest,
    )
    return Work(
        kind,
        key=sha256(cbor2.dumps([kind.value, digest, call.threshold])),
        gallery=fields.gallery,
        version=call.version,
        threshold=call.threshold,
        entry=entry.to_bytes(),
    )


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
    guardian = Guardian(folder)
    roles = {ssl.PEM_cert_to_DER_cert(pem): _RELAY for pem in folder.relays()}
    roles[ssl.PEM_cert_to_DER_cert(folder.identity.certificate)] = _SELF
    context = server_context(
        folder.certificate, folder.tls_key, "\n".join([*folder.relays(), folder.identity.certificate])
    )
    servers = [_server(application(guardian), folder, folder.identity.http_port, _protocol_with_roles(roles), context)]
    if folder.identity.public_port:
        servers.append(_server(publication(folder.log), folder, folder.identity.public_port, H11Protocol, None))
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it is done; without this nothing below would run
        signal.signal(number, lambda _number, _frame: None)
    guardian.engine.start()
    _log.info("guardian_started", guardian=guardian.index)
    try:
        asyncio.run(_run_all(servers))
    finally:
        guardian.close()
        _log.info("guardian_stopped", guardian=guardian.index)


def _server(
    app: Starlette, folder: Folder, port: int, protocol: type[asyncio.Protocol], tls: ssl.SSLContext | None
) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=folder.identity.host,
        port=port,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    return uvicorn.Server(config)


async def _run_all(servers: Sequence[uvicorn.Server]) -> None:
    """Run until the first of them ends, then end all."""
    running = [asyncio.create_task(server.serve()) for server in servers]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for server in servers:
        server.should_exit = True
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


def _now() -> int:
    return time.time_ns() // 1_000_000
