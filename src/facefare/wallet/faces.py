"""Which row of which gallery is whose, and the changes that three guardians must confirm.

A change is written down as pending, carried to the guardians, and written down as confirmed with their
three signed confirmations; a crash in between leaves it pending, and it is carried again before anything
else. A gallery has at most one pending change (the database sees to it), so versions follow each other:
every change is based on the version before it. The sealed request is erased when the change ends.

A dispute can't wait for the guardians: it stops the payer's faces in its own transaction, a stopped face is paused
for all who ask here, and the guardians are told when they can be. Only its payer's resuming ends that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, Engine, Row, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from facefare.guardian.errors import MessageError, RefusalCode
from facefare.guardian.messages import (
    Confirmation,
    EnrolPayload,
    EnrolRequest,
    GalleryStatus,
    Operation,
    Status,
    sha256,
)
from facefare.identification.errors import IdentificationError, RequestRefused, StaleGallery
from facefare.ledger.ids import new_id
from facefare.mpc.answers import Answer, Match, NoMatch
from facefare.wallet import access, agreement, consents, lookalikes, stations, tables
from facefare.wallet.access import Identification
from facefare.wallet.consents import Consent, Profile
from facefare.wallet.errors import (
    AlreadyEnrolled,
    CannotCompare,
    ChangeUnconfirmed,
    GalleryBusy,
    InvalidEnrolment,
    NotEnrolled,
    SeeStaff,
    UnknownGallery,
    WalletError,
)
from facefare.wallet.pending_keys import PendingKeys

ENROLMENT, LOOKALIKE, REFUSED = "enrolment", "lookalike", "refused"
"""In access logs: the purpose of a comparison before an enrolment, and what came of it."""

SYNTHETIC = bytes(32)
"""In place of a consent's hash: references of nobody, let into galleries made as demo only."""


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


@dataclass(frozen=True)
class Face:
    """A payer's face in one gallery: pending, active, paused or deleted.

    Paused from when a dispute stopped it, even where the guardians don't have it paused yet.
    `lookalike`: another payer's was taken for the same, so it pays with a second factor only.
    """

    id: str
    payer_id: str
    gallery_id: str
    row: int
    state: str
    payer_key: bytes | None = None
    """Raw Ed25519 key by which the payer may have the row's accumulator opened."""
    lookalike: bool = False


@dataclass(frozen=True)
class Change:
    """A change of a gallery's rows, based on `base_version`; `face_id` is none for synthetic references."""

    id: str
    gallery_id: str
    operation: Operation
    row: int
    base_version: int
    face_id: str | None


# --- galleries ---


@dataclass(frozen=True)
class Gallery:
    """A gallery as the wallet knows it: what a search must name, and among how many it looks."""

    id: str
    version: int
    live: int


def open_gallery(connection: Connection, gallery_id: str, *, kind: str) -> None:
    """Know a gallery (`live` or `demo`) that is still empty at the guardians; once is enough.

    Raises WalletError for another kind than these, or than it had.
    """
    if kind not in ("live", "demo"):
        raise WalletError("A gallery is of kind live or demo.")
    connection.execute(
        upsert(tables.gallery)
        .values(id=gallery_id, kind=kind, version=0, next_row=0, live=0)
        .on_conflict_do_nothing(index_elements=["id"])
    )
    known = select(tables.gallery.c.kind).where(tables.gallery.c.id == gallery_id)
    if connection.execute(known).scalar_one() != kind:
        raise WalletError(f"{gallery_id} is there already, of the other kind; that can't be changed.")


def gallery(connection: Connection, gallery_id: str) -> Gallery:
    """The gallery now; raises UnknownGallery."""
    row = connection.execute(select(tables.gallery).where(tables.gallery.c.id == gallery_id)).one_or_none()
    if row is None:
        raise UnknownGallery(f"This wallet has no gallery {gallery_id}.")
    return Gallery(row.id, row.version, row.live)


# --- whose row ---

_FACES = select(tables.face, lookalikes.marked().label("lookalike"))


def in_row(connection: Connection, gallery_id: str, row: int) -> Face | None:
    """The face in this row, whatever its state, unless it was deleted."""
    columns = tables.face.c
    found = connection.execute(
        _FACES.where(columns.gallery_id == gallery_id, columns.row == row, columns.state != "deleted")
    ).one_or_none()
    return None if found is None else _face(found)


def owned(connection: Connection, payer_id: str, face_id: str) -> Face:
    """This face of the payer, deleted or not; raises NotEnrolled."""
    columns = tables.face.c
    found = connection.execute(_FACES.where(columns.id == face_id, columns.payer_id == payer_id)).one_or_none()
    if found is None:
        raise NotEnrolled("You have no such face here.")
    return _face(found)


def of_payer(connection: Connection, payer_id: str) -> list[Face]:
    """The payer's faces that are not deleted."""
    columns = tables.face.c
    rows = connection.execute(
        _FACES.where(columns.payer_id == payer_id, columns.state != "deleted").order_by(columns.id)
    )
    return [_face(row) for row in rows]


def stop(connection: Connection, payer_id: str) -> bool:
    """Let none of the payer's faces pay, from this transaction on, until the payer resumes; whether there is one."""
    columns = tables.face.c
    stopped = update(tables.face).where(columns.payer_id == payer_id, columns.state != "deleted").values(stopped=True)
    return connection.execute(stopped).rowcount > 0


def confirmations_of(connection: Connection, face_id: str) -> list[Confirmation]:
    """All the guardians' signed confirmations about this face, oldest change first."""
    rows = connection.execute(
        select(tables.confirmation.c.payload, tables.confirmation.c.signature)
        .join(tables.change, tables.change.c.id == tables.confirmation.c.change_id)
        .where(tables.change.c.face_id == face_id)
        .order_by(tables.change.c.id, tables.confirmation.c.guardian)
    )
    return [Confirmation(payload=row.payload, signature=row.signature) for row in rows]


def confirmations_of_payer(connection: Connection, payer_id: str) -> list[Confirmation]:
    """All the guardians' signed confirmations about the payer's faces, deleted ones too, oldest change first."""
    ids = connection.execute(
        select(tables.face.c.id).where(tables.face.c.payer_id == payer_id).order_by("id")
    ).scalars()
    return [word for face_id in ids.all() for word in confirmations_of(connection, face_id)]


# --- changes ---


class Changes:
    """Carries changes of galleries to the guardians, one at a time for each gallery."""

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

        Before the row is live, the guardians look for the same face among those enrolled. One: both are lookalikes from
        now on, and both payers find that in their access logs. Several: it is not enrolled.

        Raises InvalidEnrolment, UnknownStation, UnknownConsent, UnknownGallery, AlreadyEnrolled, SeeStaff,
        CannotCompare, GalleryBusy, ChangeUnconfirmed.
        """
        try:
            gallery_id = request.fields().gallery
        except MessageError as error:
            raise InvalidEnrolment(str(error)) from error
        async with self._turn(gallery_id):
            await self._finish_pending(gallery_id)
            around = await asyncio.to_thread(self._may_begin, request)
            other = await self._look_for(request, around)
            change = await asyncio.to_thread(self._begin_enrolment, request, around.version, other)
            await self._carry(change, request)
            return await asyncio.to_thread(self._face_of, change.face_id)

    async def alter(self, payer_id: str, operation: Operation) -> list[Face]:
        """Pause, resume or delete the payer's faces in all galleries; returns them as they are now.

        Asked again after ChangeUnconfirmed, it finishes what it began. Raises NotEnrolled where no face is
        in a state that allows it, GalleryBusy, ChangeUnconfirmed.
        """
        altered = []
        for face in await asyncio.to_thread(self._faces_of, payer_id):
            async with self._turn(face.gallery_id):
                change = await self._finish_pending(face.gallery_id)
                released = operation is Operation.RESUME and await asyncio.to_thread(self._release, face)
                if change is None or (change.face_id, change.operation) != (face.id, operation):
                    change = await asyncio.to_thread(self._begin, face, operation)
                    if change is None and not released:
                        continue
                    if change is not None:
                        await self._carry(change, None)
                altered.append(await asyncio.to_thread(self._face_of, face.id))
        if not altered:
            raise NotEnrolled(f"There is no face to {operation.value}.")
        return [face for face in altered if face is not None]

    async def finish_all_pending(self) -> None:
        """Carry again whatever is pending in any gallery, and have the guardians pause what a dispute stopped.

        A gallery where that fails does not keep the others from it. Raises what `alter` raises.
        """
        await asyncio.to_thread(self._shred_orphans)
        await _in_each(await asyncio.to_thread(self._unfinished_galleries), self._finish, WalletError)

    async def agree(self, gallery_id: str) -> None:
        """Be at the guardians' version again after a crash or a restored backup; see `agreement`.

        Raises ChangeUnconfirmed where they can't be asked or are not at one version.
        """
        async with self._turn(gallery_id):
            before = await asyncio.to_thread(self._known, gallery_id)
            try:
                await self._finish_pending(gallery_id)
                before = await asyncio.to_thread(self._known, gallery_id)
            except ChangeUnconfirmed as error:
                if not isinstance(error.__cause__, StaleGallery):
                    raise
            theirs = agreement.common(await self._guardians.status(), gallery_id)
            if await asyncio.to_thread(self._adopt, theirs, before):
                await self._finish_pending(gallery_id)
                theirs = agreement.common(await self._guardians.status(), gallery_id)
            for row in await asyncio.to_thread(self._strangers, theirs):
                await self._carry(await asyncio.to_thread(self._begin_erasure, gallery_id, row), None)

    async def agree_everywhere(self) -> None:
        """The same for every gallery; one that can't be brought to agree does not keep the others from it."""
        await _in_each(await asyncio.to_thread(self._galleries), self.agree, ChangeUnconfirmed)

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
                await asyncio.to_thread(self._lose, around.id, error.lost_tag)
            raise CannotCompare(_NOT_COMPARED) from error
        if isinstance(answer, NoMatch):
            return None
        other = None
        if isinstance(answer, Match):
            other = await asyncio.to_thread(self._tell, request, answer)
        if other is None:  # several, or a row of nobody: none of them could be told
            await asyncio.to_thread(self._refuse, request)
            raise SeeStaff("The enrolment was not made; please see the staff.")
        return other

    def _turn(self, gallery_id: str) -> asyncio.Lock:
        return self._turns.setdefault(gallery_id, asyncio.Lock())

    async def _finish(self, gallery_id: str) -> None:
        """Carry again what is pending in a gallery, and have paused what a dispute stopped there."""
        async with self._turn(gallery_id):
            await self._finish_pending(gallery_id)
            for face in await asyncio.to_thread(self._stopped, gallery_id):
                change = await asyncio.to_thread(self._begin, face, Operation.PAUSE)
                if change is not None:
                    await self._carry(change, None)

    async def _finish_pending(self, gallery_id: str) -> Change | None:
        """Carry again what a crash or an absent guardian left pending; the change, if there was one."""
        pending = await asyncio.to_thread(self._pending, gallery_id)
        if pending is None:
            return None
        await self._carry(*pending)
        return pending[0]

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
                raise ChangeUnconfirmed("Not all guardians confirmed the change yet; try again.") from error
            await asyncio.to_thread(self._end, change, "refused", ())
            await asyncio.to_thread(self._shred, change)
            raise InvalidEnrolment(f"The guardians refused: {error}") from error
        except IdentificationError as error:
            raise ChangeUnconfirmed("Not all guardians confirmed the change yet; try again.") from error
        await asyncio.to_thread(self._end, change, "confirmed", confirmations)
        await asyncio.to_thread(self._shred, change)

    # What follows runs in a worker thread, one transaction each.

    def _may_begin(self, request: EnrolRequest) -> Gallery:
        """The gallery as it is, for an enrolment that may be made; raises what `enrol` does."""
        columns = tables.face.c
        with self._engine.begin() as connection:
            _, locked, consent = _vouched_for(connection, request)
            if consent is not None:
                consents.check_present(connection, consent)
            if (
                consent is not None
                and connection.execute(
                    select(columns.id).where(
                        columns.payer_id == consent.payer_id,
                        columns.gallery_id == locked.id,
                        columns.state != "deleted",
                    )
                ).one_or_none()
            ):
                raise AlreadyEnrolled(_ALREADY)
            return Gallery(locked.id, locked.version, locked.live)

    def _tell(self, request: EnrolRequest, answer: Match) -> Face | None:
        """Write the comparison into the access log of whoever was found; None where that is nobody."""
        fields = request.fields()
        with self._engine.begin() as connection:
            other = in_row(connection, fields.gallery, answer.row)
            if other is not None:
                found = Identification(
                    other.id,
                    other.gallery_id,
                    answer.tag,
                    fields.issued_at,
                    fields.enrolment_id,
                    sha256(request.payload),
                )
                access.record(
                    connection, other.payer_id, by=fields.station, purpose=ENROLMENT, outcome=LOOKALIKE, found=found
                )
            return other

    def _refuse(self, request: EnrolRequest) -> None:
        with self._engine.begin() as connection:
            fields, _, consent = _vouched_for(connection, request)
            if consent is not None:
                access.record(connection, consent.payer_id, by=fields.station, purpose=ENROLMENT, outcome=REFUSED)

    def _lose(self, gallery_id: str, tag: int) -> None:
        with self._engine.begin() as connection:
            access.record_lost(connection, gallery_id, tag)

    def _begin_enrolment(self, request: EnrolRequest, version: int, other: Face | None) -> Change:
        with self._engine.begin() as connection:
            fields, locked, consent = _vouched_for(connection, request)
            if locked.version != version:  # somebody was enrolled whom the new face was not compared with
                raise GalleryBusy("The gallery changed meanwhile; make a new enrolment.")
            face_id = None
            if consent is not None:
                face_id = new_id("fac")
                try:
                    connection.execute(
                        insert(tables.face).values(
                            id=face_id,
                            payer_id=consent.payer_id,
                            gallery_id=locked.id,
                            consent_id=consent.id,
                            row=locked.next_row,
                            payer_key=fields.payer_key,
                            state="pending",
                        )
                    )
                except IntegrityError as error:
                    if "one_face_a_gallery" in str(error.orig):
                        raise AlreadyEnrolled(_ALREADY) from error
                    raise GalleryBusy(_BUSY) from error  # its row is promised to another enrolment
                if other is not None:
                    lookalikes.pair(connection, face_id, other.id)
                    access.record(connection, consent.payer_id, by=fields.station, purpose=ENROLMENT, outcome=LOOKALIKE)
            change = Change(new_id("chg"), locked.id, Operation.ENROL, locked.next_row, locked.version, face_id)
            sealed = request.to_bytes()
            return _pend(
                connection,
                change,
                enrolment_id=fields.enrolment_id,
                sealed_request=sealed if self._keys is None else self._keys.lock(change.id, sealed),
            )

    def _begin(self, face: Face, operation: Operation) -> Change | None:
        """The change, pending; None where the face's state does not allow it."""
        columns = tables.face.c
        with self._engine.begin() as connection:
            locked = _locked_gallery(connection, face.gallery_id)
            state = connection.execute(select(columns.state).where(columns.id == face.id)).scalar_one()
            if state not in _FROM[operation]:
                return None
            return _pend(connection, Change(new_id("chg"), locked.id, operation, face.row, locked.version, face.id))

    def _release(self, face: Face) -> bool:
        """End what a dispute began, as far as the wallet goes; whether there was anything to end."""
        columns = tables.face.c
        with self._engine.begin() as connection:
            released = update(tables.face).where(columns.id == face.id, columns.stopped).values(stopped=False)
            return connection.execute(released).rowcount > 0

    def _begin_erasure(self, gallery_id: str, row: int) -> Change:
        with self._engine.begin() as connection:
            locked = _locked_gallery(connection, gallery_id)
            return _pend(connection, Change(new_id("chg"), gallery_id, Operation.DELETE, row, locked.version, None))

    def _known(self, gallery_id: str) -> agreement.Known:
        with self._engine.connect() as connection:
            return agreement.known(connection, gallery_id)

    def _adopt(self, theirs: GalleryStatus, before: agreement.Known) -> bool:
        with self._engine.begin() as connection:
            return agreement.adopt(connection, theirs, before)

    def _strangers(self, theirs: GalleryStatus) -> list[int]:
        with self._engine.connect() as connection:
            return agreement.strangers(connection, theirs)

    def _galleries(self) -> list[str]:
        with self._engine.connect() as connection:
            return list(connection.execute(select(tables.gallery.c.id).order_by(tables.gallery.c.id)).scalars())

    def _faces_of(self, payer_id: str) -> list[Face]:
        with self._engine.connect() as connection:
            return of_payer(connection, payer_id)

    def _pending(self, gallery_id: str) -> tuple[Change, EnrolRequest | None] | None:
        columns = tables.change.c
        with self._engine.connect() as connection:
            row = connection.execute(
                select(tables.change).where(columns.gallery_id == gallery_id, columns.state == "pending")
            ).one_or_none()
        if row is None:
            return None
        change = Change(row.id, row.gallery_id, Operation(row.operation), row.row, row.base_version, row.face_id)
        sealed = row.sealed_request
        if sealed is not None and self._keys is not None:
            sealed = self._keys.unlock(change.id, sealed)
        return change, sealed and EnrolRequest.from_bytes(sealed)

    def _shred_orphans(self) -> None:
        if self._keys is None:
            return
        columns = tables.change.c
        with self._engine.begin() as connection:
            # Enrolments that are being written down now hold this lock's counterpart on their gallery.
            connection.execute(select(tables.gallery.c.id).with_for_update())
            pending = set(connection.execute(select(columns.id).where(columns.state == "pending")).scalars())
            self._keys.shred_all_but(pending)

    def _unfinished_galleries(self) -> list[str]:
        change = tables.change.c
        pending = select(change.gallery_id).where(change.state == "pending")
        stopped = select(tables.face.c.gallery_id).where(*_NOT_PAUSED_YET)
        with self._engine.connect() as connection:
            return list(connection.execute(pending.union(stopped)).scalars())

    def _stopped(self, gallery_id: str) -> list[Face]:
        """Faces that a dispute stopped and that the guardians don't have paused."""
        query = _FACES.where(tables.face.c.gallery_id == gallery_id, *_NOT_PAUSED_YET)
        with self._engine.connect() as connection:
            return [_face(row) for row in connection.execute(query)]

    def _end(self, change: Change, state: str, confirmations: Sequence[Confirmation]) -> None:
        columns = tables.change.c
        with self._engine.begin() as connection:
            _locked_gallery(connection, change.gallery_id)
            ended = connection.execute(
                update(tables.change)
                .where(columns.id == change.id, columns.state == "pending")
                .values(state=state, sealed_request=None, ended_at=func.now())
            )
            if ended.rowcount == 0:
                return  # another process carried it too, and was faster
            if state == "refused":
                # The row was promised to this face but is empty: another may have it.
                connection.execute(update(tables.change).where(columns.id == change.id).values(face_id=None))
                connection.execute(tables.face.delete().where(tables.face.c.id == change.face_id))
                return
            count = confirmations[0].fields.count
            known = change.face_id is not None or change.operation is Operation.ENROL
            connection.execute(
                update(tables.gallery)
                .where(tables.gallery.c.id == change.gallery_id)
                .values(
                    # A row that was erased long ago is confirmed as it was then, and nothing changes.
                    version=max(change.base_version, confirmations[0].fields.version),
                    next_row=func.greatest(tables.gallery.c.next_row, change.row + count),
                    live=tables.gallery.c.live + (_LIVE[change.operation] * count if known else 0),
                )
            )
            connection.execute(
                insert(tables.confirmation),
                [
                    {
                        "change_id": change.id,
                        "guardian": confirmation.fields.guardian,
                        "payload": confirmation.payload,
                        "signature": confirmation.signature,
                    }
                    for confirmation in confirmations
                ],
            )
            connection.execute(
                update(tables.face).where(tables.face.c.id == change.face_id).values(state=_TO[change.operation])
            )
            if change.operation is Operation.DELETE and change.face_id is not None:
                lookalikes.forget(connection, change.face_id)

    def _shred(self, change: Change) -> None:
        if self._keys is not None:
            self._keys.shred(change.id)

    def _face_of(self, face_id: str | None) -> Face | None:
        with self._engine.connect() as connection:
            row = connection.execute(_FACES.where(tables.face.c.id == face_id)).one_or_none()
        return None if row is None else _face(row)


_FROM = {
    Operation.PAUSE: {"active"},
    Operation.RESUME: {"paused"},
    Operation.DELETE: {"active", "paused"},
}
_NOT_PAUSED_YET = (tables.face.c.stopped, tables.face.c.state == "active")
_LIVE = {Operation.ENROL: 1, Operation.DELETE: -1, Operation.PAUSE: 0, Operation.RESUME: 0}
_TO = {
    Operation.ENROL: "active",
    Operation.PAUSE: "paused",
    Operation.RESUME: "active",
    Operation.DELETE: "deleted",
}
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


_BUSY = "Another change of this gallery is under way; try again."
_ALREADY = "The payer's face is enrolled here already; delete it first to enrol it anew."
_NOT_COMPARED = (
    "The guardians could not compare the face with those enrolled; nothing was enrolled. Make a new request."
)


def _vouched_for(
    connection: Connection, request: EnrolRequest
) -> tuple[EnrolPayload, Row[tuple[object, ...]], Consent | None]:
    """What a station signed, the gallery (locked), and the consent in force; None for references of nobody.

    Raises InvalidEnrolment, UnknownStation, UnknownGallery, UnknownConsent.
    """
    fields = stations.verified(connection, request)
    locked = _locked_gallery(connection, fields.gallery)
    if fields.consent_sha256 != SYNTHETIC:
        return fields, locked, consents.in_force(connection, fields.consent_sha256, Profile.HANDS_FREE)
    if locked.kind != "demo":
        raise InvalidEnrolment("References without consent are for galleries made as demo.")
    return fields, locked, None


def _locked_gallery(connection: Connection, gallery_id: str) -> Row[tuple[object, ...]]:
    row = connection.execute(
        select(tables.gallery).where(tables.gallery.c.id == gallery_id).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise UnknownGallery(f"This wallet has no gallery {gallery_id}.")
    return row


def _pend(
    connection: Connection,
    change: Change,
    *,
    enrolment_id: bytes | None = None,
    sealed_request: bytes | None = None,
) -> Change:
    try:
        connection.execute(
            insert(tables.change).values(
                id=change.id,
                gallery_id=change.gallery_id,
                operation=change.operation.value,
                row=change.row,
                base_version=change.base_version,
                face_id=change.face_id,
                enrolment_id=enrolment_id,
                sealed_request=sealed_request,
                state="pending",
            )
        )
    except IntegrityError as error:
        if "uq_gallery_change_enrolment_id" in str(error.orig):
            raise InvalidEnrolment("This enrolment was sent before; make a new one.") from error
        raise GalleryBusy(_BUSY) from error
    return change


def _face(row: Row[tuple[object, ...]]) -> Face:
    state = "paused" if row.stopped and row.state == "active" else row.state
    return Face(row.id, row.payer_id, row.gallery_id, row.row, state, row.payer_key, row.lookalike)


async def _in_each(
    galleries: Iterable[str], work: Callable[[str], Awaitable[None]], failing: type[WalletError]
) -> None:
    """Do it in each gallery: one where it is `failing` keeps the others from nothing, and that is raised at the end."""
    failed: WalletError | None = None
    for gallery_id in galleries:
        try:
            await work(gallery_id)
        except failing as error:
            failed = error
    if failed is not None:
        raise failed
