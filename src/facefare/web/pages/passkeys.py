"""Sign-up and sign-in with passkeys (WebAuthn level 3): the payer's device is the only thing that can sign in.

Invariants:
  - a challenge is good for one answer, within five minutes, in the browser that asked for it;
  - the person is verified by the device (fingerprint, face or PIN of the device) every time;
  - the user handle is random: it says nothing of the account, and the account has no name to give away;
  - a passkey vouches for its payer's presence if it is the first, or another that does was used just before it was
    added: a session or token that somebody else came by makes none that does.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import webauthn
from sqlalchemy import Connection, delete, insert, select, update
from webauthn.helpers import base64url_to_bytes, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from facefare.wallet import payers
from facefare.web.pages import tables
from facefare.web.pages.errors import PasskeyRefused
from facefare.web.pages.sessions import hashed

GOOD_FOR = timedelta(minutes=5)


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


@dataclass(frozen=True)
class Known:
    """Whose passkey answered, and whether it vouches for that payer's presence."""

    payer_id: str
    vouches: bool


def take(connection: Connection, token: str) -> Ceremony:
    """The ceremony with this token, which ends with it. Raises PasskeyRefused.

    Commit before the answer is checked, so that a wrong answer uses the challenge up as well.
    """
    columns = tables.ceremony.c
    row = connection.execute(
        delete(tables.ceremony)
        .where(columns.token_sha256 == hashed(token), columns.expires_at > datetime.now(UTC))
        .returning(columns.challenge, columns.user_handle)
    ).one_or_none()
    if row is None:
        raise PasskeyRefused("This took too long, or was answered before. Please try again.")
    return Ceremony(row.challenge, row.user_handle)


def ask_to_register(connection: Connection, site: RelyingParty, payer_id: str | None = None) -> Begun:
    """Options for a new passkey, of a new payer or of one who is signed in.

    Passkeys that the payer has are excluded: registering one again would replace it, and with it the secret
    that its PRF extension gives.
    """
    columns = tables.passkey.c
    known = connection.execute(select(tables.passkey).where(columns.payer_id == payer_id)).all() if payer_id else []
    handle = known[0].user_handle if known else secrets.token_bytes(32)
    options = webauthn.generate_registration_options(
        rp_id=site.id,
        rp_name=site.name,
        user_id=handle,
        user_name=f"{site.name} wallet",
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=row.credential_id) for row in known],
    )
    return Begun(options_to_json(options), _begin(connection, options.challenge, handle))


def register(
    connection: Connection,
    site: RelyingParty,
    ceremony: Ceremony,
    answer: dict[str, Any],
    *,
    payer_id: str | None,
    present: bool,
    currency: str,
) -> Known:
    """Keep a new passkey; its payer is new unless `payer_id` is given. Raises PasskeyRefused.

    `present`: a passkey that vouches for the payer was used just now.
    """
    try:
        verified = webauthn.verify_registration_response(
            credential=json.dumps(answer),
            expected_challenge=ceremony.challenge,
            expected_rp_id=site.id,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise PasskeyRefused("This passkey could not be registered. Please try again.") from error
    if payer_id is None:
        # The account's bearer token is for programs; nobody keeps this one.
        payer_id = payers.register(connection, currency)[0].id
    payers.locked(connection, payer_id)  # two at once are not both the first
    vouches = present or not has_one(connection, payer_id)
    payers.ask_presence(connection, payer_id)
    connection.execute(
        insert(tables.passkey).values(
            credential_id=verified.credential_id,
            payer_id=payer_id,
            user_handle=ceremony.user_handle,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            vouches=vouches,
        )
    )
    return Known(payer_id, vouches)


def has_one(connection: Connection, payer_id: str) -> bool:
    """Whether the payer has a passkey."""
    columns = tables.passkey.c
    query = select(columns.credential_id).where(columns.payer_id == payer_id).limit(1)
    return connection.execute(query).one_or_none() is not None


def ask_to_sign_in(connection: Connection, site: RelyingParty) -> Begun:
    """Options for any passkey of this site: the device offers the ones it has."""
    options = webauthn.generate_authentication_options(
        rp_id=site.id, user_verification=UserVerificationRequirement.REQUIRED
    )
    return Begun(options_to_json(options), _begin(connection, options.challenge, None))


def sign_in(connection: Connection, site: RelyingParty, ceremony: Ceremony, answer: dict[str, Any]) -> Known:
    """Whose passkey answered; raises PasskeyRefused."""
    columns = tables.passkey.c
    try:
        credential_id = base64url_to_bytes(answer["rawId"])
        row = connection.execute(
            select(tables.passkey).where(columns.credential_id == credential_id).with_for_update()
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
        update(tables.passkey)
        .where(columns.credential_id == credential_id)
        .values(sign_count=verified.new_sign_count, used_at=datetime.now(UTC))
    )
    return Known(row.payer_id, row.vouches)


def _begin(connection: Connection, challenge: bytes, handle: bytes | None) -> str:
    now = datetime.now(UTC)
    connection.execute(delete(tables.ceremony).where(tables.ceremony.c.expires_at < now))
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(tables.ceremony).values(
            token_sha256=hashed(token), challenge=challenge, user_handle=handle, expires_at=now + GOOD_FOR
        )
    )
    return token
