"""The passkeys of the operator's staff: named, listed, withdrawn.

Invariants:
  - a member's first passkey ends the member's token, and the sessions that it began;
  - nobody withdraws their own last passkey; a manager withdraws a colleague's.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from facefare.web.pages import passkeys, staff_sessions, tables
from facefare.web.pages.errors import NotAsExpected, PasskeyRefused
from facefare.web.pages.passkeys import STAFF, Begun, Ceremony, RelyingParty
from facefare.web.pages.staff import Member, Role

_columns = tables.staff_passkey.c
_ID = 16


@dataclass(frozen=True)
class Passkey:
    """As its member sees it."""

    credential_id: bytes
    staff_id: str
    name: str
    created_at: datetime
    used_at: datetime | None

    @property
    def id(self) -> str:
        """What an address names it by: the start of a hash, as a credential's id can be a thousand bytes long."""
        return hashlib.sha256(self.credential_id).hexdigest()[:_ID]


def of(connection: Connection, member_id: str | None = None) -> list[Passkey]:
    """A member's passkeys, or everybody's, oldest first."""
    query = select(tables.staff_passkey).order_by(_columns.created_at)
    if member_id is not None:
        query = query.where(_columns.staff_id == member_id)
    return [
        Passkey(row.credential_id, row.staff_id, row.name, row.created_at, row.used_at)
        for row in connection.execute(query)
    ]


def ask_to_register(connection: Connection, site: RelyingParty, member: Member) -> Begun:
    """Options for a member's new passkey; the device shows it as the console's, beside a wallet's."""
    return passkeys.ask_to_register(connection, site, STAFF, member.id, f"{site.name} console: {member.name}")


def register(
    connection: Connection, site: RelyingParty, ceremony: Ceremony, answer: dict[str, Any], member: Member, name: str
) -> Passkey:
    """Keep a member's new passkey, named by the day where no name is given. Raises PasskeyRefused."""
    new, now = passkeys.made(site, ceremony, answer), datetime.now(UTC)
    kept = Passkey(new["credential_id"], member.id, name or f"{now:%Y-%m-%d}", now, None)
    passkeys.keep(connection, STAFF, member.id, {**new, "name": kept.name})
    members = tables.staff_member
    connection.execute(update(members).where(members.c.id == member.id).values(token_sha256=None))
    staff_sessions.end_all(connection, member, tokens_only=True)
    invitation = tables.staff_invitation
    connection.execute(delete(invitation).where(invitation.c.staff_id == member.id))
    return kept


def sign_in(
    connection: Connection, site: RelyingParty, ceremony: Ceremony, answer: dict[str, Any]
) -> tuple[Member, Passkey]:
    """Whose passkey answered, and which; raises PasskeyRefused."""
    row = passkeys.sign_in(connection, site, STAFF, ceremony, answer)
    members = tables.staff_member
    owner = connection.execute(select(members).where(members.c.id == row.staff_id)).one()
    if owner.revoked_at is not None:
        raise PasskeyRefused("This passkey is not known here. It may belong to an account that was deleted.")
    passkey = Passkey(row.credential_id, row.staff_id, row.name, row.created_at, row.used_at)
    return Member(owner.id, owner.name, Role(owner.role)), passkey


def rename(connection: Connection, member: Member, passkey_id: str, name: str) -> None:
    """Give an own passkey another name; raises NotAsExpected."""
    changed = connection.execute(update(tables.staff_passkey).where(*_one(member.id, passkey_id)).values(name=name))
    _check_found(changed.rowcount)


def withdraw(connection: Connection, member_id: str, passkey_id: str, *, own: bool) -> str:
    """Take a member's passkey back, with the sessions that it began; its name. Raises NotAsExpected."""
    members = tables.staff_member
    connection.execute(select(members.c.id).where(members.c.id == member_id).with_for_update())  # two at once leave one
    if own and [one.id for one in of(connection, member_id)] == [passkey_id]:
        raise NotAsExpected("This is your last passkey. Add another one first.")
    gone = connection.execute(
        delete(tables.staff_passkey).where(*_one(member_id, passkey_id)).returning(_columns.name)
    ).scalar_one_or_none()
    _check_found(gone is not None)
    return str(gone)


def _one(member_id: str, passkey_id: str) -> tuple[Any, ...]:
    id = func.left(func.encode(func.sha256(_columns.credential_id), "hex"), _ID)
    return _columns.staff_id == member_id, id == passkey_id


def _check_found(found: int) -> None:
    if not found:
        raise NotAsExpected("There is no such passkey, or not any more.")
