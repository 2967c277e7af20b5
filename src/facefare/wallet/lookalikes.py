"""Enrolled faces that the guardians took for one: pairs of them, and when a pair ends.

Invariants:
  - a face in a pair pays with a second factor only, whoever of the two it is;
  - nobody is told who the other is, not even that one's own payer;
  - the other's leaving does not end it: the other's face is still there to be held up to a camera. It ends when both
    accounts say that they are one person's: the one gives its face up, and the other brings the wallet's word of that.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, or_, select

from facefare.wallet import consents, tables
from facefare.wallet.errors import NotTheSamePerson, WalletError

_KIND = "given-up-face"
_GOOD_FOR = timedelta(hours=1)


def pair(connection: Connection, face_id: str, other_id: str) -> None:
    """Note that these two faces were taken for one."""
    connection.execute(
        insert(tables.lookalike),
        [{"face_id": face_id, "other_id": other_id}, {"face_id": other_id, "other_id": face_id}],
    )


def marked() -> ColumnElement[bool]:
    """In a query of faces: whether this one is in a pair."""
    return exists().where(tables.lookalike.c.face_id == tables.face.c.id)


def forget(connection: Connection, face_id: str) -> None:
    """A face was deleted: nothing needs to be known of its own mark any more; the other's stays."""
    connection.execute(delete(tables.lookalike).where(tables.lookalike.c.face_id == face_id))


def given_up(face_ids: Sequence[str], key: Ed25519PrivateKey) -> str:
    """The wallet's word (a JWS), good for an hour, that the payer had these faces deleted to go on elsewhere."""
    until = datetime.now(UTC) + _GOOD_FOR
    return consents.signed(
        {"kind": _KIND, "faces": list(face_ids), "until": until.isoformat()}, key, kind=f"{_KIND}+jws"
    )


def join(connection: Connection, payer_id: str, word: str, key: Ed25519PrivateKey) -> None:
    """End the pairs of the payer's faces with those given up; raises NotTheSamePerson where the word ends none."""
    theirs = _faces_in(word, key)
    columns, face = tables.lookalike.c, tables.face.c
    mine = select(face.id).where(face.payer_id == payer_id, face.state != "deleted")
    gone = select(face.id).where(face.id.in_(theirs), face.state == "deleted")
    ended = connection.execute(
        delete(tables.lookalike).where(
            or_(
                and_(columns.face_id.in_(mine), columns.other_id.in_(gone)),
                and_(columns.face_id.in_(gone), columns.other_id.in_(mine)),
            )
        )
    )
    if not ended.rowcount:
        raise NotTheSamePerson("No face given up by that account was taken for yours.")


def _faces_in(word: str, key: Ed25519PrivateKey) -> list[str]:
    try:
        record = consents.verified(word, key.public_key())
        if record.get("kind") != _KIND or datetime.fromisoformat(str(record["until"])) < datetime.now(UTC):
            raise ValueError
        faces = record["faces"]
        if not isinstance(faces, list):
            raise ValueError
        return [str(face_id) for face_id in faces]
    except (WalletError, ValueError, KeyError, TypeError) as error:
        raise NotTheSamePerson("This is no word of the wallet that a face was given up within the hour.") from error
