"""Consent, given once for one purpose, and the signed receipt that proves what was agreed to.

The receipt has the structure of ISO/IEC TS 27560:2023 and is a JWS (RFC 7515, compact, EdDSA as in
RFC 8037), so the payer can verify it with the operator's public key alone. The enrolment station signs the
SHA-256 of exactly these bytes, which ties a face's row to the consent it rests on.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, insert, select, update

from facefare.ledger.ids import new_id
from facefare.wallet import payers, tables
from facefare.wallet.errors import PayerNotPresent, UnknownConsent, WalletError

CODE_GOOD_FOR = timedelta(minutes=15)
"""How long a station can enrol after the payer, present with a passkey, showed the consent's code."""


@dataclass(frozen=True)
class Notice:
    """What the payer was shown before agreeing."""

    version: str
    language: str
    url: str
    operator: str
    contact: str
    retention_days: int
    minimum_age: int = 16
    """GDPR, article 8, where a member state sets no lower one."""


class Profile(StrEnum):
    """Where the reference is kept: a consent is for one of these. What an operator offers by itself is `HELD`."""

    HANDS_FREE = "hands_free"
    HELD = "held"


@dataclass(frozen=True)
class Consent:
    """A consent in force; `receipt_sha256` (32 bytes) is what the enrolment station signs."""

    id: str
    payer_id: str
    receipt: str
    receipt_sha256: bytes

    @property
    def profile(self) -> Profile:
        """What was agreed to, as the receipt says it."""
        record = json.loads(_unpacked(self.receipt.split(".")[1]))
        return Profile(record["pii_processing"].get("profile", Profile.HANDS_FREE))


def give(
    connection: Connection,
    payer_id: str,
    notice: Notice,
    key: Ed25519PrivateKey,
    *,
    of_age: bool = False,
    profile: Profile = Profile.HANDS_FREE,
) -> Consent:
    """Record that the payer agreed to pay by face under `notice` in this profile, and sign the receipt.

    `of_age`: the payer stated to be of `notice.minimum_age`; the receipt says so. Raises AccountClosed.
    """
    payers.check_open(connection, payer_id)
    id, now = new_id("con"), datetime.now(UTC)
    receipt = signed(_record(id, payer_id, notice, now, of_age=of_age, profile=profile), key)
    consent = Consent(id, payer_id, receipt, hashlib.sha256(receipt.encode()).digest())
    connection.execute(
        insert(tables.consent).values(
            id=id,
            payer_id=payer_id,
            notice_version=notice.version,
            receipt=receipt,
            receipt_sha256=consent.receipt_sha256,
            retention_days=notice.retention_days,
            given_at=now,
        )
    )
    return consent


def in_force(connection: Connection, receipt_sha256: bytes, profile: Profile) -> Consent:
    """The consent with this receipt; raises UnknownConsent where there is none for `profile` or it was withdrawn."""
    columns = tables.consent.c
    row = connection.execute(
        select(tables.consent)
        .where(columns.receipt_sha256 == receipt_sha256, columns.withdrawn_at.is_(None))
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownConsent("No consent in force has this receipt; ask the payer to agree again.")
    consent = Consent(row.id, row.payer_id, row.receipt, row.receipt_sha256)
    if consent.profile is not profile:
        raise UnknownConsent("The payer agreed to the other way of paying by face only; ask them to agree to this one.")
    return consent


def show(connection: Connection, consent: Consent) -> None:
    """The payer is there, proved by a passkey, and shows the consent's code: a station may enrol for a while."""
    until = datetime.now(UTC) + CODE_GOOD_FOR
    connection.execute(update(tables.consent).where(tables.consent.c.id == consent.id).values(present_until=until))


def check_present(connection: Connection, consent: Consent) -> None:
    """Raises PayerNotPresent where the payer has to be there to be enrolled, and did not show so just now."""
    columns, payer = tables.consent.c, tables.payer.c
    row = connection.execute(
        select(columns.present_until, payer.presence_asked)
        .join(tables.payer, payer.id == columns.payer_id)
        .where(columns.id == consent.id)
    ).one()
    if row.presence_asked and (row.present_until is None or row.present_until <= datetime.now(UTC)):
        raise PayerNotPresent("This code is not good any more; ask the payer to show it again, with the passkey.")


def of_payer(connection: Connection, payer_id: str) -> list[Consent]:
    """The payer's consents in force, oldest first."""
    columns = tables.consent.c
    rows = connection.execute(
        select(tables.consent).where(columns.payer_id == payer_id, columns.withdrawn_at.is_(None)).order_by(columns.id)
    )
    return [Consent(row.id, row.payer_id, row.receipt, row.receipt_sha256) for row in rows]


def receipt_of(connection: Connection, payer_id: str, consent_id: str) -> str:
    """The signed receipt of the payer's consent, withdrawn or not; raises UnknownConsent."""
    columns = tables.consent.c
    receipt = connection.execute(
        select(columns.receipt).where(columns.id == consent_id, columns.payer_id == payer_id)
    ).scalar_one_or_none()
    if not receipt:
        raise UnknownConsent("You gave no such consent, or it was withdrawn too long ago to be kept.")
    return str(receipt)


def withdraw(connection: Connection, payer_id: str, profile: Profile | None = None) -> None:
    """Withdraw the payer's consents, all or those for one profile; faces must be deleted by the caller."""
    columns = tables.consent.c
    ended = [one.id for one in of_payer(connection, payer_id) if profile in (None, one.profile)]
    connection.execute(update(tables.consent).where(columns.id.in_(ended)).values(withdrawn_at=datetime.now(UTC)))


def verified(receipt: str, key: Ed25519PublicKey) -> dict[str, object]:
    """The record inside a receipt; raises WalletError unless `key` signed it."""
    try:
        header, payload, signature = receipt.split(".")
        key.verify(_unpacked(signature), f"{header}.{payload}".encode())
        if json.loads(_unpacked(header)).get("alg") != "EdDSA":
            raise ValueError
        record: dict[str, object] = json.loads(_unpacked(payload))
    except (ValueError, InvalidSignature) as error:
        raise WalletError("This is not a receipt signed by this operator.") from error
    return record


def key_of(jwks: str, receipt: str) -> Ed25519PublicKey:
    """Of a JWK set (RFC 7517), the key that the receipt names; raises WalletError where there is none."""
    try:
        named = json.loads(_unpacked(receipt.split(".")[0]))["kid"]
        for known in json.loads(jwks)["keys"]:
            key = Ed25519PublicKey.from_public_bytes(_unpacked(known["x"]))
            if key_id(key) == named:
                return key
    except (ValueError, KeyError, TypeError) as error:
        raise WalletError("This is not a receipt, or not a set of keys.") from error
    raise WalletError("None of these keys is the one that the receipt names.")


def key_id(key: Ed25519PublicKey) -> str:
    """The key's JWK thumbprint (RFC 7638, RFC 8037)."""
    canonical = json.dumps(
        {"crv": "Ed25519", "kty": "OKP", "x": _packed(key.public_bytes_raw())}, separators=(",", ":")
    )
    return _packed(hashlib.sha256(canonical.encode()).digest())


def jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """The public key that verifies receipts, as a JWK (RFC 8037)."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _packed(key.public_bytes_raw()),
        "kid": key_id(key),
        "alg": "EdDSA",
        "use": "sig",
    }


_PROCESSING: dict[Profile, dict[str, object]] = {
    Profile.HANDS_FREE: {
        "purpose_description": "Recognise you at a gate or till where you look at the camera"
        " to pay, and charge your account.",
        "pii_type": "face template, split into three shares",
        "collection_method": "camera of an enrolment station, after a liveness check",
        "processing_method": "secret-shared comparison by three guardians; no one of them can"
        " see a face, and none learns who matched",
        "withdrawal_method": "DELETE /v1/payers/me/face, or the button in the app",
        "recipient_third_parties": ["guardian 0", "guardian 1", "guardian 2"],
    },
    Profile.HELD: {
        "purpose_description": "Compare you, at a gate or till to which you show your phone's code and at whose"
        " camera you look to pay, with the reference in that code, and charge your account.",
        "pii_type": "face template, kept on your own device; a salted hash of it at the operator",
        "collection_method": "camera of your own device, or of an enrolment station that keeps nothing",
        "processing_method": "one-to-one comparison in the terminal's memory, which forgets both at once",
        "withdrawal_method": "DELETE /v1/payers/me/devices, or the button in the app",
        "recipient_third_parties": [],
    },
}


def _record(
    id: str, payer_id: str, notice: Notice, now: datetime, *, of_age: bool, profile: Profile
) -> dict[str, object]:
    """ISO/IEC TS 27560:2023, clause 6: metadata, processing, parties, event."""
    described = _PROCESSING[profile]
    return {
        "schema_version": "ISO/IEC TS 27560:2023",
        "record_id": id,
        "pii_principal_id": payer_id,
        "pii_processing": {
            "privacy_notice": notice.url,
            "privacy_notice_version": notice.version,
            "language": notice.language,
            "profile": profile.value,
            "purposes": [
                {
                    "purpose": "payment",
                    "purpose_description": described["purpose_description"],
                    "lawful_basis": "explicit consent, GDPR Article 9(2)(a)",
                    "pii_information": [
                        {
                            "pii_type": described["pii_type"],
                            "sensitive_pii_category": "biometric data",
                            "pii_optional": True,
                        }
                    ],
                    "pii_controllers": ["operator"],
                    **(
                        {"condition": f"the payer states to be {notice.minimum_age} years old or more"}
                        if of_age
                        else {}
                    ),
                    "collection_method": described["collection_method"],
                    "processing_method": described["processing_method"],
                    "retention_period": f"P{notice.retention_days}D after the last payment, or until"
                    " deletion by you, whichever is sooner",
                    "withdrawal_method": described["withdrawal_method"],
                    "recipient_third_parties": described["recipient_third_parties"],
                }
            ],
        },
        "party_identification": [
            {
                "party_id": "operator",
                "party_name": notice.operator,
                "party_role": "PII controller",
                "party_contact": notice.contact,
            }
        ],
        "event": {"event_time": now.isoformat(), "event_type": "explicit consent", "event_state": "given"},
    }


def signed(record: dict[str, object], key: Ed25519PrivateKey, *, kind: str = "consent-receipt+jws") -> str:
    """A record of the operator as a JWS (RFC 7515) of this media type."""
    header = {"alg": "EdDSA", "kid": key_id(key.public_key()), "typ": kind}
    signing_input = ".".join(
        _packed(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()) for part in (header, record)
    )
    return f"{signing_input}.{_packed(key.sign(signing_input.encode()))}"


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
