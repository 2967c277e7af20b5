"""The access log: every identification of a payer, for that payer alone to read and to check.

Invariants:
  - an identification by the guardians is written down with their tag, whatever came of it;
  - what an answer that never came whole may have put on somebody's account is written down too: nobody here knows
    whose it is, so every payer of the gallery is shown its tag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select

from facefare.ledger.ids import new_id
from facefare.wallet import tables

_LOST_SHOWN = 200


@dataclass(frozen=True, repr=False)
class Identification:
    """A search of the guardians that was answered with a payer's row: what it takes to check it.

    Attributes:
        face_id, gallery_id: whose row, and where.
        tag: the guardians' 64-bit tag of their answer. The xor of all of a row's tags is kept by the guardians, in
            shares, so who has all entries can find out that none is missing.
        issued_at: when the terminal signed the request (ms since 1970).
        query_id, request_sha256: (16 and 32 bytes) of the signed request: they say which entry of the guardians'
            public logs is this one's. None once the place is forgotten.
    """

    face_id: str
    gallery_id: str
    tag: int
    issued_at: int
    query_id: bytes | None
    request_sha256: bytes | None


@dataclass(frozen=True)
class Access:
    """One use of a payer's face, or one look at a payer's data: who, what for, and what came of it.

    `found`: what the guardians answered; None for payments by a device, and for people who looked.
    """

    id: str
    at: datetime
    by: str
    purpose: str
    outcome: str
    found: Identification | None = None


def record(
    connection: Connection,
    payer_id: str,
    *,
    by: str,
    outcome: str,
    purpose: str = "payment",
    found: Identification | None = None,
) -> None:
    """Note that `by` (a terminal, or somebody of the staff) had to do with the payer, what for, and the outcome."""
    identification = {} if found is None else {**vars(found), "tag": _packed(found.tag)}
    identification.pop("gallery_id", None)  # the face's
    connection.execute(
        insert(tables.access_log).values(
            id=new_id("acl"), payer_id=payer_id, by=by, purpose=purpose, outcome=outcome, **identification
        )
    )


def recorded(connection: Connection, found: Identification) -> bool:
    """Whether this identification is written down already."""
    columns = tables.access_log.c
    same = select(columns.id).where(columns.face_id == found.face_id, columns.query_id == found.query_id).limit(1)
    return connection.execute(same).one_or_none() is not None


def record_lost(connection: Connection, gallery_id: str, tag: int) -> None:
    """Note the tag of an answer that did not come whole: some row may have taken it in."""
    connection.execute(insert(tables.lost_answer).values(id=new_id("los"), gallery_id=gallery_id, tag=_packed(tag)))


def of_payer(connection: Connection, payer_id: str, *, limit: int, before: str | None = None) -> list[Access]:
    """The payer's entries, newest first, at most `limit`, older than the entry `before`."""
    columns = tables.access_log.c
    query = _ENTRIES.where(columns.payer_id == payer_id).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    return [_access(row) for row in connection.execute(query)]


def of_face(connection: Connection, face_id: str) -> list[Access]:
    """Every identification of one face, oldest first."""
    columns = tables.access_log.c
    return [_access(row) for row in connection.execute(_ENTRIES.where(columns.face_id == face_id).order_by(columns.id))]


def uses_of_face(connection: Connection, face_id: str, since: datetime) -> int:
    """How many identifications of a face were written down since then."""
    columns = tables.access_log.c
    counted = select(func.count()).where(columns.face_id == face_id, columns.at >= since)
    return connection.execute(counted).scalar_one()


def lost(connection: Connection, gallery_id: str) -> Sequence[int]:
    """The newest lost answers' tags, oldest first."""
    columns = tables.lost_answer.c
    newest = select(columns.tag).where(columns.gallery_id == gallery_id).order_by(columns.id.desc()).limit(_LOST_SHOWN)
    return [int.from_bytes(tag, "big") for tag in reversed(connection.execute(newest).scalars().all())]


_ENTRIES = select(tables.access_log, tables.face.c.gallery_id).outerjoin(
    tables.face, tables.face.c.id == tables.access_log.c.face_id
)


def _access(row: Row[tuple[object, ...]]) -> Access:
    found = None
    if row.face_id is not None:
        found = Identification(
            row.face_id,
            row.gallery_id,
            int.from_bytes(row.tag, "big"),
            row.issued_at,
            row.query_id,
            row.request_sha256,
        )
    return Access(row.id, row.at, row.by, row.purpose, row.outcome, found)


def _packed(tag: int) -> bytes:
    return tag.to_bytes(8, "big")
