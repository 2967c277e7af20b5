"""Changes of galleries as they are written down: pending, then confirmed or refused.

Invariants:
  - a gallery has at most one pending change (the database sees to it), so versions follow each other: every change is
    based on the version before it;
  - a change that is confirmed has the signed confirmations of all three guardians beside it;
  - a sealed request is erased when its change ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from facefare.guardian.messages import Confirmation, Operation
from facefare.ledger.ids import new_id
from facefare.wallet import faces, galleries, lookalikes, tables
from facefare.wallet.errors import GalleryBusy, InvalidEnrolment
from facefare.wallet.faces import Face


@dataclass(frozen=True)
class Change:
    """A change of a gallery's rows, based on `base_version`; `face_id` is none for synthetic references."""

    id: str
    gallery_id: str
    operation: Operation
    row: int
    base_version: int
    face_id: str | None


_FROM = {
    Operation.PAUSE: {"active"},
    Operation.RESUME: {"paused"},
    Operation.DELETE: {"active", "paused"},
}
_TO = {
    Operation.ENROL: "active",
    Operation.PAUSE: "paused",
    Operation.RESUME: "active",
    Operation.DELETE: "deleted",
}
_LIVE = {Operation.ENROL: 1, Operation.DELETE: -1, Operation.PAUSE: 0, Operation.RESUME: 0}


def begin(connection: Connection, face: Face, operation: Operation) -> Change | None:
    """Write down that a face is to be altered; None where its state does not allow it. Raises GalleryBusy."""
    gallery = galleries.locked(connection, face.gallery_id)
    columns = tables.face.c
    state = connection.execute(select(columns.state).where(columns.id == face.id)).scalar_one()
    if state not in _FROM[operation]:
        return None
    change = Change(new_id("chg"), gallery.id, operation, face.row, gallery.version, face.id)
    pend(connection, change)
    return change


def begin_erasure(connection: Connection, gallery_id: str, row: int) -> Change:
    """Write down that a row of nobody's is to be erased; raises GalleryBusy."""
    version = galleries.locked(connection, gallery_id).version
    change = Change(new_id("chg"), gallery_id, Operation.DELETE, row, version, None)
    pend(connection, change)
    return change


def pend(
    connection: Connection,
    change: Change,
    *,
    enrolment_id: bytes | None = None,
    sealed_request: bytes | None = None,
) -> None:
    """Write a change down; raises InvalidEnrolment for an enrolment sent before, GalleryBusy beside another change."""
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
        raise GalleryBusy("Another change of this gallery is under way; try again.") from error


def pending(connection: Connection, gallery_id: str) -> tuple[Change, bytes | None] | None:
    """The gallery's pending change, with its sealed request as it was written down; None where none is pending."""
    columns = tables.change.c
    row = connection.execute(
        select(tables.change).where(columns.gallery_id == gallery_id, columns.state == "pending")
    ).one_or_none()
    if row is None:
        return None
    change = Change(row.id, row.gallery_id, Operation(row.operation), row.row, row.base_version, row.face_id)
    return change, row.sealed_request


def all_pending_ids(connection: Connection) -> set[str]:
    """Every pending change, while nobody writes another one down until the transaction ends."""
    # Enrolments that are being written down hold this lock's counterpart on their gallery.
    connection.execute(select(tables.gallery.c.id).with_for_update())
    columns = tables.change.c
    return set(connection.execute(select(columns.id).where(columns.state == "pending")).scalars())


def unfinished_galleries(connection: Connection) -> list[str]:
    """Galleries with a pending change, or with a face that a dispute stopped and that is not paused yet."""
    change = tables.change.c
    waiting = select(change.gallery_id).where(change.state == "pending")
    stopped = select(tables.face.c.gallery_id).where(*faces.NOT_PAUSED_YET)
    return list(connection.execute(waiting.union(stopped)).scalars())


def confirm(connection: Connection, change: Change, confirmations: Sequence[Confirmation]) -> None:
    """End a pending change with the guardians' word for it; nothing where another process was faster."""
    if not _end(connection, change, "confirmed"):
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


def refuse(connection: Connection, change: Change) -> None:
    """End a pending enrolment that no guardian took; nothing where another process was faster."""
    if not _end(connection, change, "refused"):
        return
    # The row was promised to this face but is empty: another may have it.
    connection.execute(update(tables.change).where(tables.change.c.id == change.id).values(face_id=None))
    connection.execute(tables.face.delete().where(tables.face.c.id == change.face_id))


def _end(connection: Connection, change: Change, state: str) -> bool:
    columns = tables.change.c
    galleries.locked(connection, change.gallery_id)
    ended = connection.execute(
        update(tables.change)
        .where(columns.id == change.id, columns.state == "pending")
        .values(state=state, sealed_request=None, ended_at=func.now())
    )
    return ended.rowcount > 0
