"""The wallet's way to the three guardians: it relays what it can't open and puts the answers together.

Invariants:
- a call reaches all three or fails as a whole; an answer is given only if all three parts fit together;
- a search is never sent twice: after a failure the terminal (for an enrolment, the station) makes a new request;
- changes (enrol, delete, pause, resume) may be sent again with the same arguments until all three confirmed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import (
    GUARDIANS,
    Confirmation,
    EnrolCall,
    EnrolRequest,
    MessageError,
    OpenAnswer,
    OpenRequest,
    Operation,
    Problem,
    RowCall,
    SearchAnswer,
    SearchCall,
    SearchRequest,
    Status,
)
from facefare.identification.errors import (
    BY_REASON,
    AnswersDisagree,
    GuardianUnavailable,
    IdentificationError,
    RequestRefused,
)
from facefare.mpc.answers import Answer, AnswerShare, combine
from facefare.mpc.errors import ShareMismatch
from facefare.mpc.recheck import RecheckShare, confirm

Confirmations = tuple[Confirmation, Confirmation, Confirmation]
_SEARCH_TIMEOUT = 10.0
_CHANGE_TIMEOUT = 75.0
_CBOR = "application/cbor"


class Guardians:
    """The three guardians, as a relay sees them. Use as an async context manager."""

    def __init__(self, identities: Sequence[GuardianIdentity], *, certificate: Path, key: Path) -> None:
        """`identities` of guardians 0, 1, 2 in order; `certificate` and `key` are the relay's own (PEM files).

        Raises IdentificationError, OSError.
        """
        if [identity.index for identity in identities] != list(range(GUARDIANS)):
            raise IdentificationError("A relay needs the identities of guardians 0, 1 and 2, in that order.")
        self._identities = tuple(identities)
        self._clients = tuple(
            httpx.AsyncClient(
                base_url=f"https://{identity.host}:{identity.http_port}",
                verify=_tls(certificate, key, identity),
                limits=httpx.Limits(max_connections=64, keepalive_expiry=60),
            )
            for identity in identities
        )

    @property
    def identities(self) -> tuple[GuardianIdentity, ...]:
        """What is public of guardians 0, 1 and 2."""
        return self._identities

    @property
    def log_keys(self) -> tuple[str, ...]:
        """The verifier keys of their public logs."""
        return tuple(identity.log_key for identity in self._identities)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self._clients))

    async def search(self, request: SearchRequest, gallery_version: int, threshold: int) -> Answer:
        """Ask whether the probe belongs to one row: `NoMatch`, `Match(row)` or `Several`.

        Args:
            request: from a terminal, unopened.
            gallery_version: the version of the gallery that the wallet's rows refer to.
            threshold: of the calibration for the current number of payers; the gallery limits it.

        Raises:
            GuardianUnavailable, StaleGallery, GalleriesDiffer, RequestRefused, AnswersDisagree: no answer; where a
                part of one came, the error has its `lost_tag`.
        """
        return await self._ask("searches", request, gallery_version, threshold)

    async def check(self, request: EnrolRequest, gallery_version: int, threshold: int) -> Answer:
        """Ask whether the one template that is to be enrolled belongs to a row already: once, before it is enrolled.

        Arguments and errors as of `search`.
        """
        return await self._ask("checks", request, gallery_version, threshold)

    async def _ask(self, path: str, request: SearchRequest | EnrolRequest, version: int, threshold: int) -> Answer:
        bodies = [
            SearchCall(request.payload, request.signature, sealed, version, threshold).to_bytes()
            for sealed in request.sealed
        ]
        outcomes = await self._outcomes(path, bodies, _SEARCH_TIMEOUT)
        shares: list[AnswerShare] = []
        try:
            answered = [SearchAnswer.from_bytes(outcome) for outcome in outcomes if isinstance(outcome, bytes)]
            shares += (AnswerShare.from_bytes(part.share) for part in answered)
            _all(outcomes)
            answer = combine(shares)
            rechecked = [RecheckShare.from_bytes(part.recheck) for part in answered if part.recheck is not None]
            if rechecked:
                confirm(answer, rechecked)
            return answer
        except (MessageError, ValueError, ShareMismatch) as error:
            disagreement = AnswersDisagree(str(error))
            disagreement.lost_tag = _tag(shares)
            raise disagreement from error
        except IdentificationError as error:
            error.lost_tag = _tag(shares)
            raise

    async def enrol(self, request: EnrolRequest, row: int, version: int) -> Confirmations:
        """Enrol at row `row` (and the following, for several), on top of version `version`.

        The same request again gives the same confirmations, wherever the first attempt broke off.
        """
        bodies = [
            EnrolCall(request.payload, request.signature, sealed, row, version).to_bytes() for sealed in request.sealed
        ]
        return await self._change("enrolments", bodies, Operation.ENROL, request.fields().gallery, row)

    async def delete(self, gallery: str, row: int, version: int) -> Confirmations:
        """Delete a row for ever, at all three."""
        return await self._change_row("deletions", Operation.DELETE, gallery, row, version)

    async def pause(self, gallery: str, row: int, version: int) -> Confirmations:
        """Let a row match nothing until it is resumed."""
        return await self._change_row("pauses", Operation.PAUSE, gallery, row, version)

    async def resume(self, gallery: str, row: int, version: int) -> Confirmations:
        """Let a paused row match again."""
        return await self._change_row("resumptions", Operation.RESUME, gallery, row, version)

    async def open_row(self, request: OpenRequest) -> tuple[OpenAnswer, OpenAnswer, OpenAnswer]:
        """Have a payer's row opened: three parts that only this payer can read (`audit.openings`)."""
        answers = await self._call_all("openings", [request.to_bytes()] * GUARDIANS, _SEARCH_TIMEOUT)
        try:
            first, second, third = (OpenAnswer.from_bytes(body) for body in answers)
        except MessageError as error:
            raise AnswersDisagree(str(error)) from error
        return first, second, third

    async def status(self) -> tuple[Status | None, Status | None, Status | None]:
        """Each guardian's own word, None where it can't be reached."""

        async def one(index: int) -> Status | None:
            try:
                response = await self._clients[index].get("/v1/status", extensions=self._extensions(index), timeout=3.0)
                return Status.from_bytes(response.content)
            except (httpx.HTTPError, MessageError):
                return None

        first, second, third = await asyncio.gather(*(one(index) for index in range(GUARDIANS)))
        return first, second, third

    async def _change_row(self, path: str, operation: Operation, gallery: str, row: int, version: int) -> Confirmations:
        body = RowCall(gallery, row, version).to_bytes()
        return await self._change(path, [body] * GUARDIANS, operation, gallery, row)

    async def _change(
        self, path: str, bodies: Sequence[bytes], operation: Operation, gallery: str, row: int
    ) -> Confirmations:
        answers = await self._call_all(path, bodies, _CHANGE_TIMEOUT)
        try:
            first, second, third = (Confirmation.from_bytes(body) for body in answers)
            for confirmation, identity in zip((first, second, third), self._identities, strict=True):
                identity.check(confirmation)
        except MessageError as error:
            raise AnswersDisagree(str(error)) from error
        said = {
            (word.gallery, word.row, word.count, word.version, word.operation)
            for word in (first.fields, second.fields, third.fields)
        }
        if len(said) != 1 or (first.fields.gallery, first.fields.row) != (gallery, row):
            raise AnswersDisagree("The guardians confirmed different changes.")
        if first.fields.operation != operation:
            raise AnswersDisagree("The guardians confirmed another operation.")
        return first, second, third

    async def _call_all(self, path: str, bodies: Sequence[bytes], timeout: float) -> list[bytes]:
        return _all(await self._outcomes(path, bodies, timeout))

    async def _outcomes(
        self, path: str, bodies: Sequence[bytes], timeout: float
    ) -> Sequence[bytes | IdentificationError]:
        return await asyncio.gather(*(self._call(index, path, body, timeout) for index, body in enumerate(bodies)))

    async def _call(self, index: int, path: str, body: bytes, timeout: float) -> bytes | IdentificationError:
        try:
            response = await self._clients[index].post(
                f"/v1/{path}",
                content=body,
                headers={"content-type": _CBOR},
                extensions=self._extensions(index),
                timeout=httpx.Timeout(timeout, connect=2.0),
            )
        except httpx.HTTPError as error:
            failure = GuardianUnavailable(index, f"Guardian {index} can't be reached: {type(error).__name__}.")
            failure.__cause__ = error
            return failure
        if response.status_code == httpx.codes.OK:
            return response.content
        try:
            problem = Problem.from_bytes(response.content)
        except MessageError:
            return GuardianUnavailable(index, f"Guardian {index} gave no sensible answer.")
        if problem.code == Problem.UNREACHABLE:
            return GuardianUnavailable(index if problem.guardian is None else problem.guardian, problem.detail)
        kind = BY_REASON.get(problem.code, RequestRefused)
        return kind(problem.code, problem.detail, problem.guardian)

    def _extensions(self, index: int) -> dict[str, str]:
        return {"sni_hostname": self._identities[index].server_name}


def _all(outcomes: Sequence[bytes | IdentificationError]) -> list[bytes]:
    """The bodies if all three came; else raises the failure that says most."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, IdentificationError)]
    if failures:
        raise min(failures, key=_rank)
    return [outcome for outcome in outcomes if isinstance(outcome, bytes)]


def _tag(shares: Sequence[AnswerShare]) -> int | None:
    """The tag of an answer of which these parts came; None if no row can have taken it in."""
    return next((share.tag for share in shares if not share.several), None)


def _tls(certificate: Path, key: Path, identity: GuardianIdentity) -> ssl.SSLContext:
    """TLS 1.3 with the relay's own certificate, to a server with exactly the guardian's, or its announced next one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        said = error.strerror or "not a certificate and its key"
        raise IdentificationError(f"The relay's files {certificate} and {key} can't be used: {said}.") from error
    context.load_verify_locations(cadata="\n".join(one.certificate for one in identity.valid))
    return context


def _rank(failure: IdentificationError) -> int:
    """Which of several failures says most: who did not answer at all, then a refusal, then hearsay."""
    if isinstance(failure, GuardianUnavailable):
        return 0 if isinstance(failure.__cause__, httpx.HTTPError) else 2
    return 1
