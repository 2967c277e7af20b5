"""The operator's staff: who may do what in the console, who is signed in, and what was done.

Invariants:
  - a role is allowed what `ALLOWED` says and no more; a route names what it needs;
  - tokens and sessions are kept as hashes; a member who is revoked, or whose session is eight hours old, is out;
  - what a member changes or reads of a payer is written down, under the member's name, and never changed;
    only why a payer's details were read is forgotten when the payer's own traces are.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, delete, func, insert, select, update

from facefare.ledger.ids import new_id
from facefare.web.pages import tables
from facefare.web.pages.errors import NotYourJob, UnknownMember
from facefare.web.pages.sessions import hashed

LASTS = timedelta(hours=8)
READ_PAYER = "read_payer"
_MIN_TOKEN = 32


class May(StrEnum):
    """What a route of the console needs."""

    SEE_FIGURES = "see_figures"
    SEE_PAYMENTS = "see_payments"
    REFUND = "refund"
    HANDLE_DISPUTES = "handle_disputes"
    SEE_BOOKS = "see_books"
    SETTLE = "settle"
    CHANGE_TARIFFS = "change_tariffs"
    CHANGE_TERMINALS = "change_terminals"
    CHANGE_STAFF = "change_staff"
    SEE_ACTIONS = "see_actions"


class Role(StrEnum):
    """What a member of the staff is."""

    VIEWER = "viewer"
    SUPPORT = "support"
    MANAGER = "manager"
    AUDITOR = "auditor"


ALLOWED: Mapping[Role, frozenset[May]] = {
    Role.VIEWER: frozenset({May.SEE_FIGURES}),
    Role.SUPPORT: frozenset({May.SEE_FIGURES, May.SEE_PAYMENTS, May.REFUND, May.HANDLE_DISPUTES}),
    Role.MANAGER: frozenset(May),
    Role.AUDITOR: frozenset({May.SEE_FIGURES, May.SEE_BOOKS, May.SEE_ACTIONS}),
}
"""Auditors see the books and what the staff did, and no single payment before it is settled."""


@dataclass(frozen=True)
class Member:
    """One of the staff."""

    id: str
    name: str
    role: Role
    created_at: datetime | None = None
    revoked_at: datetime | None = None

    def may(self, what: May) -> bool:
        """Whether the role allows it."""
        return what in ALLOWED[self.role]

    def check(self, what: May) -> None:
        """Raises NotYourJob."""
        if not self.may(what):
            raise NotYourJob("Your role does not allow this.")


OPERATOR = Member("operator", "operator", Role.MANAGER)
"""Who signs in with the operator's own token, to let the first member in."""


@dataclass(frozen=True)
class Action:
    """What a member did, and what it was about."""

    at: datetime
    staff: str
    action: str
    about: str


def add(connection: Connection, name: str, role: Role) -> tuple[Member, str]:
    """A new member, and the token that is shown this once."""
    token, id = "fst_" + secrets.token_urlsafe(32), new_id("stf")
    connection.execute(
        insert(tables.staff_member).values(id=id, name=name, role=role.value, token_sha256=hashed(token))
    )
    return Member(id, name, role), token


def everybody(connection: Connection) -> list[Member]:
    """All members, oldest first, revoked ones too."""
    return [_shown(row) for row in connection.execute(select(tables.staff_member).order_by(tables.staff_member.c.id))]


def change_role(connection: Connection, member_id: str, role: Role) -> Member:
    """Give a member another role, at once; raises UnknownMember."""
    return _changed(connection, member_id, role=role.value)


def revoke(connection: Connection, member_id: str) -> Member:
    """Let a member do nothing from now on; raises UnknownMember."""
    connection.execute(delete(tables.staff_session).where(tables.staff_session.c.staff_id == member_id))
    return _changed(connection, member_id, revoked_at=func.now())


def begin_session(connection: Connection, token: str) -> tuple[Member, str] | None:
    """Sign a member in: the session's own token; None where the member's is not known or was revoked."""
    columns, now = tables.staff_member.c, datetime.now(UTC)
    row = connection.execute(
        select(tables.staff_member).where(columns.token_sha256 == hashed(token), columns.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        return None
    connection.execute(delete(tables.staff_session).where(tables.staff_session.c.expires_at < now))
    session = secrets.token_urlsafe(32)
    connection.execute(
        insert(tables.staff_session).values(token_sha256=hashed(session), staff_id=row.id, expires_at=now + LASTS)
    )
    return _shown(row), session


def member_of(connection: Connection, session: str) -> Member | None:
    """Whose session this is; None where it has ended, or its member was revoked."""
    columns, sessions = tables.staff_member.c, tables.staff_session.c
    row = connection.execute(
        select(tables.staff_member)
        .join(tables.staff_session, sessions.staff_id == columns.id)
        .where(
            sessions.token_sha256 == hashed(session),
            sessions.expires_at > datetime.now(UTC),
            columns.revoked_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else _shown(row)


def end_session(connection: Connection, session: str) -> None:
    """Sign out."""
    connection.execute(delete(tables.staff_session).where(tables.staff_session.c.token_sha256 == hashed(session)))


def note(connection: Connection, member: Member, action: str, about: str) -> None:
    """Write down what a member does, in the transaction that does it."""
    connection.execute(
        insert(tables.staff_action).values(id=new_id("act"), staff=member.name, action=action, about=about)
    )


def actions(connection: Connection, *, limit: int) -> list[Action]:
    """What was done, newest first."""
    columns = tables.staff_action.c
    rows = connection.execute(select(tables.staff_action).order_by(columns.id.desc()).limit(limit))
    return [Action(row.at, row.staff, row.action, row.about) for row in rows]


def forget_reasons(connection: Connection, *, before: datetime) -> int:
    """Of looks at a payer's details, keep that they happened and forget why; how many there were."""
    columns = tables.staff_action.c
    why = (columns.action == READ_PAYER, columns.at < before, columns.about.contains(": "))
    forgotten = update(tables.staff_action).where(*why).values(about=func.split_part(columns.about, ": ", 1))
    return connection.execute(forgotten).rowcount


def _changed(connection: Connection, member_id: str, **values: object) -> Member:
    columns = tables.staff_member.c
    row = connection.execute(
        update(tables.staff_member)
        .where(columns.id == member_id, columns.revoked_at.is_(None))
        .values(**values)
        .returning(tables.staff_member)
    ).one_or_none()
    if row is None:
        raise UnknownMember("There is no such member of the staff, or not any more.")
    return _shown(row)


def _shown(row: object) -> Member:
    fields = {name: getattr(row, name) for name in ("id", "name", "created_at", "revoked_at")}
    return Member(**fields, role=Role(getattr(row, "role")))  # noqa: B009 - a row's columns have no types


@dataclass(frozen=True, repr=False)
class StaffKey:
    """Checks the operator's own token and the cookies that it gives."""

    token: str

    def __post_init__(self) -> None:
        if len(self.token) < _MIN_TOKEN:
            raise ValueError(f"The console's token has at least {_MIN_TOKEN} characters.")

    def fits(self, token: str) -> bool:
        """Whether this is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(self.token.encode(), token.encode())

    def cookie(self, now: datetime) -> str:
        """Good until eight hours from `now`; tokens of sessions have no dot."""
        until = str(int((now + LASTS).timestamp()))
        return f"{until}.{self._mac(until)}"

    def accepts(self, cookie: str, now: datetime) -> bool:
        """Whether the cookie is one of ours and has not ended."""
        until, _, mac = cookie.partition(".")
        return (
            hmac.compare_digest(mac.encode(), self._mac(until).encode())
            and until.isdecimal()
            and int(until) > now.timestamp()
        )

    def _mac(self, text: str) -> str:
        key = HKDF(SHA256(), 32, salt=None, info=b"facefare pages: staff").derive(self.token.encode())
        return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
