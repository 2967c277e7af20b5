"""Carries changes of galleries to the three guardians, and back their word for them.

A change is written down as pending, carried to the guardians, and written down as confirmed with their three signed
confirmations; a crash in between leaves it pending, and it is carried again before anything else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from facefare.guardian.errors import MessageError, RefusalCode
from facefare.guardian.messages import Confirmation, EnrolRequest, Operation, Status
from facefare.identification.errors import IdentificationError, RequestRefused, StaleGallery
from facefare.mpc.answers import Answer, Match, NoMatch
from facefare.wallet import access, agreement, changes, enrolments, faces, galleries
from facefare.wallet.changes import Change
from facefare.wallet.enrolments import SYNTHETIC
from facefare.wallet.errors import (
    CannotCompare,
    ChangeUnconfirmed,
    InvalidEnrolment,
    NotEnrolled,
    SeeStaff,
    WalletError,
)
from facefare.wallet.faces import Face
from facefare.wallet.galleries import Gallery
from facefare.wallet.pending_keys import PendingKeys

P = ParamSpec("P")
T = TypeVar("T")


class GalleryKeepers(Protocol):
    """The three guardians, as far as changes of a gallery go; each change returns all three confirmations."""

    async def check(self, request: EnrolRequest, version: int, threshold: int) -> Answer:
        """Whether the one template that is to be enrolled matches none, one or several of the live rows."""

    async def enrol(self, request: EnrolRequest, row: int, version: int) -> Sequence[Confirmation]:
        """Fill rows from `row` on, based on `version`."""

    async def delete(self, gallery: str, row: int, version: int) -> Sequence[Confirmation]:
        """Erase a row."""

    async def pause(self, gallery: str, row: int, version: int) -> Sequence[Confirmation]:
        """Leave a row out of searches."""

    async def resume(self, gallery: str, row: int, version: int) -> Sequence[Confirmation]:
        """Take a paused row back into searches."""

    async def status(self) -> Sequence[Status | None]:
        """What each of the three says of itself, None where it does not answer."""


# What is wrong with the request itself: no guardian can have applied it.
_REFUSED_BY_ALL = {
    RefusalCode.UNKNOWN_GALLERY,
    RefusalCode.UNKNOWN_STATION,
    RefusalCode.BAD_SIGNATURE,
    RefusalCode.WRONG_MODEL,
    RefusalCode.STALE_REQUEST,
    RefusalCode.SEALED_MISMATCH,
    RefusalCode.NOT_OPENABLE,
    RefusalCode.NOT_WELL_FORMED,
    RefusalCode.DEMO_KEY_ON_LIVE_GALLERY,
}
_NOT_COMPARED = (
    "The guardians could not compare the face with those enrolled; nothing was enrolled. Make a new request."
)
_UNCONFIRMED = "Not all guardians confirmed the change yet; try again."


class Changes:
    """Makes changes of galleries with the guardians, one at a time for each gallery."""

    def __init__(
        self,
        engine: Engine,
        guardians: GalleryKeepers,
        keys: PendingKeys | None = None,
        *,
        threshold: Callable[[int], int] | None = None,
    ) -> None:
        """With `keys`, nothing of a sealed enrolment outlives it in the database's files; see `pending_keys`.

        `threshold`: at which a new face is taken for one of so many enrolled ones; raises CalibrationError where there
        is none. Without a threshold nobody is enrolled.
        """
        self._engine = engine
        self._keys = keys
        self._threshold = threshold
        self._guardians = guardians
        self._turns: dict[str, asyncio.Lock] = {}

    async def enrol(self, request: EnrolRequest) -> Face | None:
        """Enrol what a station brought; the payer's active face, or None for synthetic references.

        Raises InvalidEnrolment, UnknownStation, UnknownConsent, UnknownGallery, AlreadyEnrolled, SeeStaff,
        CannotCompare, GalleryBusy, ChangeUnconfirmed.
        """
        try:
            gallery_id = request.fields().gallery
        except MessageError as error:
            raise InvalidEnrolment(str(error)) from error
        async with self._turn(gallery_id):
            await self._finish_pending(gallery_id)
            around = await self._written(enrolments.may_begin, request)
            other = await self._look_for(request, around)
            change = await self._written(enrolments.begin, request, around.version, other, self._lock)
            await self._carry(change, request)
            return None if change.face_id is None else await self._written(faces.get, change.face_id)

    async def alter(self, payer_id: str, operation: Operation) -> list[Face]:
        """Pause, resume or delete the payer's faces in all galleries; returns them as they are now.

        Asked again after ChangeUnconfirmed, it finishes what it began. Raises NotEnrolled where no face is
        in a state that allows it, GalleryBusy, ChangeUnconfirmed.
        """
        altered = []
        for face in await self._written(faces.of_payer, payer_id):
            async with self._turn(face.gallery_id):
                change = await self._finish_pending(face.gallery_id)
                released = operation is Operation.RESUME and await self._written(faces.release, face.id)
                if change is None or (change.face_id, change.operation) != (face.id, operation):
                    change = await self._written(changes.begin, face, operation)
                    if change is None and not released:
                        continue
                    if change is not None:
                        await self._carry(change, None)
                altered.append(await self._written(faces.get, face.id))
        if not altered:
            raise NotEnrolled(f"There is no face to {operation.value}.")
        return altered

    async def finish_all_pending(self) -> None:
        """Carry again whatever is pending in any gallery, and have the guardians pause what a dispute stopped.

        A gallery where that fails does not keep the others from it. Raises what `alter` raises.
        """
        if self._keys is not None:
            await self._written(self._shred_orphans, self._keys)
        await _in_each(await self._written(changes.unfinished_galleries), self._finish, WalletError)

    async def agree(self, gallery_id: str) -> None:
        """Be at the guardians' version again after a crash or a restored backup; see `agreement`.

        Raises ChangeUnconfirmed where they can't be asked or are not at one version.
        """
        async with self._turn(gallery_id):
            before = await self._written(agreement.known, gallery_id)
            try:
                await self._finish_pending(gallery_id)
                before = await self._written(agreement.known, gallery_id)
            except ChangeUnconfirmed as error:
                if not isinstance(error.__cause__, StaleGallery):
                    raise
            theirs = agreement.common(await self._guardians.status(), gallery_id)
            if await self._written(agreement.adopt, theirs, before):
                await self._finish_pending(gallery_id)
                theirs = agreement.common(await self._guardians.status(), gallery_id)
            for row in await self._written(agreement.strangers, theirs):
                await self._carry(await self._written(changes.begin_erasure, gallery_id, row), None)

    async def agree_everywhere(self) -> None:
        """The same for every gallery; one that can't be brought to agree does not keep the others from it."""
        await _in_each(await self._written(galleries.all_ids), self.agree, ChangeUnconfirmed)

    async def _look_for(self, request: EnrolRequest, around: Gallery) -> Face | None:
        """The one enrolled face that is taken for the new one, whose payer is told; None where none is."""
        if request.fields().consent_sha256 == SYNTHETIC:
            return None
        if self._threshold is None:
            raise CannotCompare(_NOT_COMPARED)
        try:
            answer = await self._guardians.check(request, around.version, self._threshold(max(around.live, 1)))
        except RequestRefused as error:
            if error.reason not in _REFUSED_BY_ALL:
                raise CannotCompare(_NOT_COMPARED) from error
            raise InvalidEnrolment(f"The guardians refused: {error}") from error
        except IdentificationError as error:
            if error.lost_tag is not None:
                await self._written(access.record_lost, around.id, error.lost_tag)
            raise CannotCompare(_NOT_COMPARED) from error
        if isinstance(answer, NoMatch):
            return None
        other = await self._written(enrolments.tell, request, answer) if isinstance(answer, Match) else None
        if other is None:  # several, or a row of nobody: none of them could be told
            await self._written(enrolments.refuse, request)
            raise SeeStaff("The enrolment was not made; please see the staff.")
        return other

    async def _finish(self, gallery_id: str) -> None:
        """Carry again what is pending in a gallery, and have paused what a dispute stopped there."""
        async with self._turn(gallery_id):
            await self._finish_pending(gallery_id)
            for face in await self._written(faces.not_paused_yet, gallery_id):
                change = await self._written(changes.begin, face, Operation.PAUSE)
                if change is not None:
                    await self._carry(change, None)

    async def _finish_pending(self, gallery_id: str) -> Change | None:
        """Carry again what a crash or an absent guardian left pending; the change, if there was one."""
        pending = await self._written(changes.pending, gallery_id)
        if pending is None:
            return None
        change, sealed = pending
        await self._carry(change, None if sealed is None else await asyncio.to_thread(self._unlocked, change, sealed))
        return change

    async def _carry(self, change: Change, request: EnrolRequest | None) -> None:
        try:
            match change.operation:
                case Operation.ENROL:
                    if request is None:
                        raise InvalidEnrolment("The sealed request of a pending enrolment is missing.")
                    confirmations = await self._guardians.enrol(request, change.row, change.base_version)
                case Operation.DELETE:
                    confirmations = await self._guardians.delete(change.gallery_id, change.row, change.base_version)
                case Operation.PAUSE:
                    confirmations = await self._guardians.pause(change.gallery_id, change.row, change.base_version)
                case Operation.RESUME:
                    confirmations = await self._guardians.resume(change.gallery_id, change.row, change.base_version)
        except RequestRefused as error:
            if change.operation is not Operation.ENROL or error.reason not in _REFUSED_BY_ALL:
                raise ChangeUnconfirmed(_UNCONFIRMED) from error
            await self._written(changes.refuse, change)
            await self._shred(change)
            raise InvalidEnrolment(f"The guardians refused: {error}") from error
        except IdentificationError as error:
            raise ChangeUnconfirmed(_UNCONFIRMED) from error
        await self._written(changes.confirm, change, confirmations)
        await self._shred(change)

    def _turn(self, gallery_id: str) -> asyncio.Lock:
        return self._turns.setdefault(gallery_id, asyncio.Lock())

    async def _written(self, step: Callable[Concatenate[Connection, P], T], *given: P.args, **more: P.kwargs) -> T:
        """Take one step in a transaction of its own, in a worker thread."""

        def taken() -> T:
            with self._engine.begin() as connection:
                return step(connection, *given, **more)

        return await asyncio.to_thread(taken)

    # --- sealed requests: what the database keeps of them is locked, where there are keys ---

    def _lock(self, change_id: str, sealed: bytes) -> bytes:
        return sealed if self._keys is None else self._keys.lock(change_id, sealed)

    def _unlocked(self, change: Change, sealed: bytes) -> EnrolRequest:
        return EnrolRequest.from_bytes(sealed if self._keys is None else self._keys.unlock(change.id, sealed))

    async def _shred(self, change: Change) -> None:
        if self._keys is not None:
            await asyncio.to_thread(self._keys.shred, change.id)

    @staticmethod
    def _shred_orphans(connection: Connection, keys: PendingKeys) -> None:
        keys.shred_all_but(changes.all_pending_ids(connection))


async def _in_each(
    gallery_ids: Iterable[str], work: Callable[[str], Awaitable[None]], failing: type[WalletError]
) -> None:
    """Do it in each gallery: one where it is `failing` keeps the others from nothing, and that is raised at the end."""
    failed: WalletError | None = None
    for gallery_id in gallery_ids:
        try:
            await work(gallery_id)
        except failing as error:
            failed = error
    if failed is not None:
        raise failed
