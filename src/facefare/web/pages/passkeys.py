"""Passkeys (WebAuthn level 3), of payers and of the operator's staff: ceremonies, and what is kept of a key.

Invariants:
  - a challenge is good for one answer, within five minutes, in the browser that asked for it, and for whom it was made:
    a payer's passkey is never looked for among the staff's, nor the other way round;
  - the person is verified by the device (fingerprint, face or PIN of the device) every time;
  - the user handle is random: it says nothing of the account.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import webauthn
from sqlalchemy import Column, Connection, Row, Table, delete, insert, select, update
from webauthn.helpers import base64url_to_bytes, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from facefare.web.pages import tables
from facefare.web.pages.errors import PasskeyRefused
from facefare.web.pages.sessions import hashed

GOOD_FOR = timedelta(minutes=5)


@dataclass(frozen=True)
class Ring:
    """The passkeys of one kind of people: where they are kept, and which column says whose."""

    name: str
    table: Table
    owner: Column[str]


PAYERS = Ring("payer", tables.passkey, tables.passkey.c.payer_id)
STAFF = Ring("staff", tables.staff_passkey, tables.staff_passkey.c.staff_id)


@dataclass(frozen=True, repr=False)
class Begun:
    """What the browser is asked, as JSON, and the token of the ceremony for its cookie."""

    options: str
    token: str


@dataclass(frozen=True)
class RelyingParty:
    """Whom the passkey is for: this site."""

    origin: str
    name: str

    @property
    def id(self) -> str:
        """The origin's host."""
        return urlsplit(self.origin).hostname or ""


@dataclass(frozen=True, repr=False)
class Ceremony:
    """One under way: the challenge that must be signed; the user handle where a passkey is being made."""

    challenge: bytes
    user_handle: bytes | None


def take(connection: Connection, ring: Ring, token: str) -> Ceremony:
    """The ring's ceremony with this token, which ends with it. Raises PasskeyRefused.

    Commit before the answer is checked, so that a wrong answer uses the challenge up as well.
    """
    columns = tables.ceremony.c
    row = connection.execute(
        delete(tables.ceremony)
        .where(columns.token_sha256 == hashed(token), columns.ring == ring.name, columns.expires_at > datetime.now(UTC))
        .returning(columns.challenge, columns.user_handle)
    ).one_or_none()
    if row is None:
        raise PasskeyRefused("This took too long, or was answered before. Please try again.")
    return Ceremony(row.challenge, row.user_handle)


def ask_to_register(connection: Connection, site: RelyingParty, ring: Ring, owner_id: str | None, label: str) -> Begun:
    """Options for a new passkey of somebody who has some, or of somebody new (None); `label`: as the device shows it.

    Passkeys that the owner has are excluded: registering one again would replace it, and with it the secret
    that its PRF extension gives.
    """
    known = connection.execute(select(ring.table).where(ring.owner == owner_id)).all() if owner_id else []
    handle = known[0].user_handle if known else secrets.token_bytes(32)
    options = webauthn.generate_registration_options(
        rp_id=site.id,
        rp_name=site.name,
        user_id=handle,
        user_name=label,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=row.credential_id) for row in known],
    )
    return Begun(options_to_json(options), _begin(connection, ring, options.challenge, handle))


def made(site: RelyingParty, ceremony: Ceremony, answer: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a new passkey, by column, once its answer was found right. Raises PasskeyRefused."""
    try:
        if ceremony.user_handle is None:
            raise ValueError("this ceremony makes no passkey")
        verified = webauthn.verify_registration_response(
            credential=json.dumps(answer),
            expected_challenge=ceremony.challenge,
            expected_rp_id=site.id,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise PasskeyRefused("This passkey could not be registered. Please try again.") from error
    return {
        "credential_id": verified.credential_id,
        "user_handle": ceremony.user_handle,
        "public_key": verified.credential_public_key,
        "sign_count": verified.sign_count,
    }


def keep(connection: Connection, ring: Ring, owner_id: str, new: dict[str, Any]) -> None:
    """Keep what was `made`, with what else the ring's table has."""
    connection.execute(
        insert(ring.table).values({ring.owner: owner_id, **{ring.table.c[k]: v for k, v in new.items()}})
    )


def ask_to_sign_in(connection: Connection, site: RelyingParty, ring: Ring) -> Begun:
    """Options for any passkey of this site: the device offers the ones it has."""
    options = webauthn.generate_authentication_options(
        rp_id=site.id, user_verification=UserVerificationRequirement.REQUIRED
    )
    return Begun(options_to_json(options), _begin(connection, ring, options.challenge, None))


def sign_in(
    connection: Connection, site: RelyingParty, ring: Ring, ceremony: Ceremony, answer: dict[str, Any]
) -> Row[Any]:
    """The row of the ring's passkey that answered; raises PasskeyRefused."""
    columns = ring.table.c
    try:
        credential_id = base64url_to_bytes(answer["rawId"])
        row = connection.execute(
            select(ring.table).where(columns.credential_id == credential_id).with_for_update()
        ).one_or_none()
        if row is None:
            raise PasskeyRefused("This passkey is not known here. It may belong to an account that was deleted.")
        verified = webauthn.verify_authentication_response(
            credential=json.dumps(answer),
            expected_challenge=ceremony.challenge,
            expected_rp_id=site.id,
            expected_origin=site.origin,
            credential_public_key=row.public_key,
            credential_current_sign_count=row.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise PasskeyRefused("The passkey's answer was not right. Please try again.") from error
    connection.execute(
        update(ring.table)
        .where(columns.credential_id == credential_id)
        .values(sign_count=verified.new_sign_count, used_at=datetime.now(UTC))
    )
    return row


def _begin(connection: Connection, ring: Ring, challenge: bytes, handle: bytes | None) -> str:
    now = datetime.now(UTC)
    connection.execute(delete(tables.ceremony).where(tables.ceremony.c.expires_at < now))
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(tables.ceremony).values(
            token_sha256=hashed(token),
            ring=ring.name,
            challenge=challenge,
            user_handle=handle,
            expires_at=now + GOOD_FOR,
        )
    )
    return token
