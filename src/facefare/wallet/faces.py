"""Which row of which gallery is whose, and whether it may be searched.

A dispute can't wait for the guardians: it stops the payer's faces in its own transaction, a stopped face is paused
for all who ask here, and the guardians are told when they can be. Only its payer's resuming ends that.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, exists, or_, select, update

from facefare.guardian.messages import Confirmation, Operation
from facefare.wallet import lookalikes, tables
from facefare.wallet.errors import NotEnrolled


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


_FACES = select(tables.face, lookalikes.marked().label("lookalike"))
NOT_PAUSED_YET = (tables.face.c.stopped, tables.face.c.state == "active")
"""In a query of faces: those that a dispute stopped and that the guardians don't have paused."""


def get(connection: Connection, face_id: str) -> Face:
    """This face, whosever and whatever its state."""
    return _face(connection.execute(_FACES.where(tables.face.c.id == face_id)).one())


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


def stopped_since(connection: Connection, payer_id: str, when: datetime) -> bool:
    """Whether a face of the payer was paused or deleted after `when`, or is stopped by a dispute; resumed or not."""
    of_face, asked = tables.face.c, tables.change.c
    ended = exists().where(
        asked.face_id == of_face.id,
        asked.operation.in_((Operation.PAUSE.value, Operation.DELETE.value)),
        asked.created_at > when,
    )
    found = select(of_face.id).where(of_face.payer_id == payer_id, or_(of_face.stopped, ended)).limit(1)
    return connection.execute(found).first() is not None


def release(connection: Connection, face_id: str) -> bool:
    """End what a dispute began, as far as the wallet goes; whether there was anything to end."""
    columns = tables.face.c
    released = update(tables.face).where(columns.id == face_id, columns.stopped).values(stopped=False)
    return connection.execute(released).rowcount > 0


def not_paused_yet(connection: Connection, gallery_id: str) -> list[Face]:
    """The gallery's faces that a dispute stopped and that the guardians don't have paused."""
    query = _FACES.where(tables.face.c.gallery_id == gallery_id, *NOT_PAUSED_YET)
    return [_face(row) for row in connection.execute(query)]


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


def _face(row: Row[tuple[object, ...]]) -> Face:
    state = "paused" if row.stopped and row.state == "active" else row.state
    return Face(row.id, row.payer_id, row.gallery_id, row.row, state, row.payer_key, row.lookalike)
