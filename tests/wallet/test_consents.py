"""Consent receipts: what the payer can verify, and what no longer counts."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from facefare.wallet import consents, payers
from facefare.wallet.consents import Notice, Profile
from facefare.wallet.errors import NotAuthenticated, UnknownConsent, WalletError

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)
KEY = Ed25519PrivateKey.generate()


def given(connection: Connection) -> consents.Consent:
    payer, _ = payers.register(connection, "EUR")
    return consents.give(connection, payer.id, NOTICE, KEY)


def test_a_receipt_names_notice_operator_purpose_and_retention(connection: Connection) -> None:
    consent = given(connection)
    record = consents.verified(consent.receipt, KEY.public_key())
    processing = record["pii_processing"]
    assert isinstance(processing, dict)
    assert record["schema_version"] == "ISO/IEC TS 27560:2023"
    assert (record["record_id"], record["pii_principal_id"]) == (consent.id, consent.payer_id)
    assert processing["privacy_notice_version"] == "7"
    assert processing["purposes"][0]["purpose"] == "payment"
    assert processing["purposes"][0]["retention_period"].startswith("P395D")
    assert record["party_identification"][0]["party_name"] == "Example"  # type: ignore[index]
    assert hashlib.sha256(consent.receipt.encode()).digest() == consent.receipt_sha256


def test_an_altered_receipt_or_another_operators_is_not_verified(connection: Connection) -> None:
    receipt = given(connection).receipt
    header, payload, signature = receipt.split(".")
    other = given(connection).receipt.split(".")[1]
    for forged in (f"{header}.{other}.{signature}", f"{header}.{payload}.AAAA", "", "a.b", receipt + "."):
        with pytest.raises(WalletError):
            consents.verified(forged, KEY.public_key())
    with pytest.raises(WalletError):
        consents.verified(receipt, Ed25519PrivateKey.generate().public_key())


def test_a_withdrawn_consent_is_not_in_force(connection: Connection) -> None:
    consent = given(connection)
    assert consents.in_force(connection, consent.receipt_sha256, Profile.HANDS_FREE) == consent
    assert consents.of_payer(connection, consent.payer_id) == [consent]
    consents.withdraw(connection, consent.payer_id)
    assert consents.of_payer(connection, consent.payer_id) == []
    with pytest.raises(UnknownConsent):
        consents.in_force(connection, consent.receipt_sha256, Profile.HANDS_FREE)


def test_a_key_has_the_thumbprint_of_its_standard() -> None:
    # RFC 8037, appendix A.2 and A.3.
    public = consents.Ed25519PublicKey.from_public_bytes(
        bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    )
    assert consents.jwk(public)["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert consents.key_id(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_token_opens_its_own_account_only(connection: Connection) -> None:
    ada, token = payers.register(connection, "EUR")
    payers.register(connection, "EUR")
    assert payers.by_token(connection, token) == ada
    with pytest.raises(NotAuthenticated):
        payers.by_token(connection, token[:-1])


def test_a_receipt_is_for_the_profile_that_was_agreed_to_and_for_no_other(connection: Connection) -> None:
    payer, _ = payers.register(connection, "EUR")
    held = consents.give(connection, payer.id, NOTICE, KEY, profile=Profile.HELD)
    assert held.profile is Profile.HELD
    assert consents.in_force(connection, held.receipt_sha256, Profile.HELD) == held
    with pytest.raises(UnknownConsent, match="other way"):
        consents.in_force(connection, held.receipt_sha256, Profile.HANDS_FREE)
    processing = consents.verified(held.receipt, KEY.public_key())["pii_processing"]
    assert isinstance(processing, dict)
    assert processing["purposes"][0]["recipient_third_parties"] == []
    assert "guardian" not in str(processing)
