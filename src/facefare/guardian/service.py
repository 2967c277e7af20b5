"""One guardian's parts put together, and what it is asked.

Job: decode a call, ask the policy, write the request log, hand the request to the engine.
Invariant: a search is in the request log, durably, before the engine has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import cbor2
import numpy as np
from numpy.typing import NDArray

from facefare.audit.entries import CHECK, entry_of_enrolment, entry_of_search
from facefare.guardian.ceremony import Folder
from facefare.guardian.engine import Engine
from facefare.guardian.errors import (
    GuardianUnreachable,
    MessageError,
    RefusalCode,
    Refused,
    StoreError,
)
from facefare.guardian.links import Links
from facefare.guardian.messages import (
    MAX_REFERENCES,
    EnrolCall,
    EnrolPayload,
    OpenRequest,
    Operation,
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


def _now() -> int:
    return time.time_ns() // 1_000_000
