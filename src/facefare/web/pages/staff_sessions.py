"""Who of the staff is signed in: a random cookie of which only a hash is kept, ended by signing out or after 8 hours.

Invariants:
  - a session ends with the passkey that began it, and with its member;
  - a session of the operator's own token is found by a MAC under that token, so it ends with the token.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select

from facefare.web.pages import tables
from facefare.web.pages.sessions import hashed
from facefare.web.pages.staff import OPERATOR, Member, Role

LASTS = timedelta(hours=8)
FRESH_FOR = timedelta(minutes=10)
"""How long after signing in somebody may let others in: an unattended console makes no lasting way in."""
_MIN_TOKEN = 32


@dataclass(frozen=True, repr=False)
class StaffKey:
    """The operator's own token, which lets a manager in before there is staff."""

    token: str

    def __post_init__(self) -> None:
        if len(self.token) < _MIN_TOKEN:
            raise ValueError(f"The console's token has at least {_MIN_TOKEN} characters.")

    def fits(self, token: str) -> bool:
        """Whether this is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(self.token.encode(), token.encode())

    def hashed(self, session: str) -> bytes:
        """What is kept of a session that this token began."""
        key = HKDF(SHA256(), 32, salt=None, info=b"facefare pages: staff").derive(self.token.encode())
        return hmac.digest(key, session.encode(), hashlib.sha256)


@dataclass(frozen=True)
class Seat:
    """A member who is signed in, since when, and with which passkey, if it was one."""

    member: Member
    since: datetime
    credential_id: bytes | None

    @property
    def fresh(self) -> bool:
        """Whether the member signed in a moment ago."""
        return datetime.now(UTC) - self.since < FRESH_FOR


def begin(connection: Connection, member: Member, by: StaffKey | bytes | None) -> str:
    """A new session's token, shown this once.

    `by`: the operator's own token, the id of a passkey, or None for the member's own token.
    """
    now, session = datetime.now(UTC), secrets.token_urlsafe(32)
    operators = isinstance(by, StaffKey)
    connection.execute(delete(tables.staff_session).where(tables.staff_session.c.expires_at < now))
    connection.execute(
        insert(tables.staff_session).values(
            token_sha256=by.hashed(session) if isinstance(by, StaffKey) else hashed(session),
            staff_id=None if operators else member.id,
            credential_id=None if operators else by,
            expires_at=now + LASTS,
        )
    )
    return session


def seat_of(connection: Connection, session: str, key: StaffKey | None, *, passkeys_only: bool) -> Seat | None:
    """Whose session this is; None where it has ended, or began in a way that is not taken (any more)."""
    sessions, members = tables.staff_session.c, tables.staff_member.c
    row = connection.execute(
        select(
            sessions.created_at.label("since"),
            sessions.credential_id,
            sessions.staff_id,
            members.name,
            members.role,
        )
        .outerjoin(tables.staff_member, sessions.staff_id == members.id)
        .where(_is(session, key), sessions.expires_at > datetime.now(UTC), members.revoked_at.is_(None))
    ).one_or_none()
    if row is None or (passkeys_only and row.credential_id is None):
        return None
    member = OPERATOR if row.staff_id is None else Member(row.staff_id, row.name, Role(row.role))
    return Seat(member, row.since, row.credential_id)


def end(connection: Connection, session: str, key: StaffKey | None) -> None:
    """Sign out."""
    connection.execute(delete(tables.staff_session).where(_is(session, key)))


def end_all(connection: Connection, member: Member, *, tokens_only: bool = False) -> None:
    """Sign a member out everywhere, or only where no passkey began the session."""
    columns = tables.staff_session.c
    whose = columns.staff_id.is_(None) if member == OPERATOR else columns.staff_id == member.id
    which = [whose, columns.credential_id.is_(None)] if tokens_only else [whose]
    connection.execute(delete(tables.staff_session).where(*which))


def _is(session: str, key: StaffKey | None) -> ColumnElement[bool]:
    columns = tables.staff_session.c
    members = (columns.token_sha256 == hashed(session)) & columns.staff_id.is_not(None)
    if key is None:
        return members
    return or_(members, (columns.token_sha256 == key.hashed(session)) & columns.staff_id.is_(None))
