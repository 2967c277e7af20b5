"""Wallet and guardians at one version of a gallery again, after a crash or a restored backup of the wallet.

The guardians are right about which rows there are, the wallet about whose they are. So the wallet takes over
the guardians' version, and has every row erased that nobody here is known for. It does so only if all three
guardians say the same and are ahead of it; guardians that are behind were restored from a backup, and that
is for their operators to settle, so nothing is done then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from facefare.guardian.messages import Confirmation, GalleryStatus, Status
from facefare.wallet import tables
from facefare.wallet.errors import ChangeUnconfirmed


@dataclass(frozen=True)
class Known:
    """What the wallet has: the gallery's version, and the change that is pending, if any."""

    version: int
    pending: str | None


def known(connection: Connection, gallery_id: str) -> Known:
    """What the wallet has of this gallery now."""
    change = tables.change.c
    pending = select(change.id).where(change.gallery_id == gallery_id, change.state == "pending").scalar_subquery()
    row = connection.execute(
        select(tables.gallery.c.version, pending.label("pending")).where(tables.gallery.c.id == gallery_id)
    ).one()
    return Known(row.version, row.pending)


def common(statuses: Sequence[Status | None], gallery_id: str) -> GalleryStatus:
    """The gallery as all three guardians have it; raises ChangeUnconfirmed unless they say the same."""
    said = [one for status in statuses if status is not None for one in status.galleries if one.gallery == gallery_id]
    if len(said) != len(statuses) or len({(one.version, one.head, one.rows) for one in said}) != 1:
        raise ChangeUnconfirmed("The guardians are not at one version of the gallery yet; try again.")
    return said[0]


def adopt(connection: Connection, theirs: GalleryStatus, before: Known) -> bool:
    """Take over the guardians' version if they are ahead; whether that was so.

    A pending change is based on the new version, an enrolment on the next free row. Nothing is done where the
    wallet is not as it was `before` the guardians were asked: then somebody else is at work.
    """
    columns = tables.gallery.c
    row = connection.execute(
        select(tables.gallery).where(columns.id == theirs.gallery).with_for_update(key_share=True)
    ).one()
    if theirs.version <= row.version or known(connection, theirs.gallery) != before:
        return False
    free = max(row.next_row, theirs.rows)
    connection.execute(
        update(tables.gallery).where(columns.id == theirs.gallery).values(version=theirs.version, next_row=free)
    )
    change = tables.change.c
    pending = connection.execute(
        update(tables.change)
        .where(change.id == before.pending)
        .values(base_version=theirs.version)
        .returning(change.operation, change.face_id)
    ).one_or_none()
    if pending is not None and pending.operation == "enrol":
        connection.execute(update(tables.change).where(change.id == before.pending).values(row=free))
        connection.execute(update(tables.face).where(tables.face.c.id == pending.face_id).values(row=free))
    return True


def strangers(connection: Connection, theirs: GalleryStatus) -> list[int]:
    """Rows at the guardians that nobody here is known for, and that were not erased yet."""
    columns, change, face = tables.gallery.c, tables.change.c, tables.face.c
    paused = select(func.count()).where(face.gallery_id == theirs.gallery, face.state == "paused").scalar_subquery()
    row = connection.execute(
        select(columns.version, columns.live, paused.label("paused")).where(columns.id == theirs.gallery)
    ).one()
    if row.version != theirs.version or theirs.live <= row.live - row.paused:
        return []  # as many as we know of: the usual case, without reading every confirmation
    accounted: set[int] = set()
    ended = connection.execute(
        select(change.row, tables.confirmation.c.payload, tables.confirmation.c.signature)
        .outerjoin(
            tables.confirmation, (tables.confirmation.c.change_id == change.id) & (tables.confirmation.c.guardian == 0)
        )
        .where(change.gallery_id == theirs.gallery, change.state != "refused")
    )
    for first, payload, signature in ended:
        count = 1 if payload is None else Confirmation(payload=payload, signature=signature).fields.count
        accounted.update(range(first, first + count))
    return [number for number in range(theirs.rows) if number not in accounted]
