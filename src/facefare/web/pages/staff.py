"""The operator's staff: who may do what in the console, how they are let in, and what was done.

Invariants:
  - a role is allowed what `ALLOWED` says and no more; a route names what it needs;
  - tokens and invitations are kept as hashes; an invitation is good once, for a day, and a newer one replaces it;
  - who changes the staff is a manager at that moment, and takes nothing from themselves: one who can get in is left;
  - what a member changes or reads of a payer is written down, under the member's name, and never changed;
    only why a payer's details were read is forgotten when the payer's own traces are.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_replace

from facefare.ledger.ids import new_id
from facefare.web.pages import tables
from facefare.web.pages.errors import InvitationOver, NotYourJob, UnknownMember
from facefare.web.pages.sessions import hashed

INVITED_FOR = timedelta(days=1)
READ_PAYER = "read_payer"


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
    """A new member, and the token that is shown this once; it ends with the member's first passkey."""
    token = "fst_" + secrets.token_urlsafe(32)
    return _added(connection, name, role, hashed(token)), token


def add_invited(connection: Connection, name: str, role: Role) -> tuple[Member, str]:
    """A new member who can do nothing before there is a passkey, and the invitation that is shown this once."""
    member = _added(connection, name, role, None)
    return member, invite(connection, member.id)


def invite(connection: Connection, member_id: str) -> str:
    """What lets a member make a passkey, once, within a day; raises UnknownMember."""
    columns = tables.staff_member.c
    in_force = select(columns.id).where(columns.id == member_id, columns.revoked_at.is_(None)).with_for_update()
    _check_known(connection.execute(in_force).one_or_none())
    invitation = "inv_" + secrets.token_urlsafe(32)
    values = {"token_sha256": hashed(invitation), "expires_at": datetime.now(UTC) + INVITED_FOR}
    added = insert_or_replace(tables.staff_invitation).values(staff_id=member_id, **values)
    connection.execute(added.on_conflict_do_update(index_elements=["staff_id"], set_=values))
    return invitation


def invited(connection: Connection, invitation: str) -> Member:
    """Whose invitation this is; raises InvitationOver."""
    columns, members = tables.staff_invitation.c, tables.staff_member.c
    row = connection.execute(
        select(tables.staff_member)
        .join(tables.staff_invitation, columns.staff_id == members.id)
        .where(
            columns.token_sha256 == hashed(invitation),
            columns.expires_at > datetime.now(UTC),
            members.revoked_at.is_(None),
        )
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise InvitationOver("This invitation is not known, was used, or is older than a day. Ask for another one.")
    return _shown(row)


def everybody(connection: Connection) -> list[Member]:
    """All members, oldest first, revoked ones too."""
    return [_shown(row) for row in connection.execute(select(tables.staff_member).order_by(tables.staff_member.c.id))]


def by_token(connection: Connection, token: str) -> Member | None:
    """Whose token this is; None where it is not known, or the member was revoked."""
    columns = tables.staff_member.c
    row = connection.execute(
        select(tables.staff_member).where(columns.token_sha256 == hashed(token), columns.revoked_at.is_(None))
    ).one_or_none()
    return None if row is None else _shown(row)


def check_still_may(connection: Connection, member: Member, what: May) -> None:
    """Raises NotYourJob for a member who was allowed this when the page was asked for, and is not any more.

    Changes to the staff happen one after the other from here to the transaction's end: two managers who revoke each
    other at once leave one.
    """
    columns = tables.staff_member.c
    rows = connection.execute(select(tables.staff_member).order_by(columns.id).with_for_update()).all()
    now = {row.id: _shown(row) for row in rows} | {OPERATOR.id: OPERATOR}
    if now[member.id].revoked_at is not None:
        raise NotYourJob("Your role does not allow this.")
    now[member.id].check(what)


def change_role(connection: Connection, member_id: str, role: Role) -> Member:
    """Give a member another role, at once; raises UnknownMember."""
    return _changed(connection, member_id, role=role.value)


def revoke(connection: Connection, member_id: str) -> Member:
    """Let a member do nothing from now on; raises UnknownMember."""
    for table in (tables.staff_session, tables.staff_passkey, tables.staff_invitation):
        connection.execute(delete(table).where(table.c.staff_id == member_id))
    return _changed(connection, member_id, revoked_at=func.now())


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


def _added(connection: Connection, name: str, role: Role, token_sha256: bytes | None) -> Member:
    id = new_id("stf")
    connection.execute(insert(tables.staff_member).values(id=id, name=name, role=role.value, token_sha256=token_sha256))
    return Member(id, name, role)


def _changed(connection: Connection, member_id: str, **values: object) -> Member:
    columns = tables.staff_member.c
    row = connection.execute(
        update(tables.staff_member)
        .where(columns.id == member_id, columns.revoked_at.is_(None))
        .values(**values)
        .returning(tables.staff_member)
    ).one_or_none()
    return _shown(_check_known(row))


def _check_known(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise UnknownMember("There is no such member of the staff, or not any more.")
    return row


def _shown(row: Row[Any]) -> Member:
    return Member(row.id, row.name, Role(row.role), row.created_at, row.revoked_at)
