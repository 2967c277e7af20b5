"""What somebody with docs/wire-format.md alone makes of the vectors: CBOR, standard cryptography, nothing of ours."""

import hmac
import json
import re
import struct
from hashlib import sha256
from pathlib import Path

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from facefare.guardian import messages

VECTORS = json.loads(Path(__file__).with_name("wire_vectors.json").read_text())
DOCUMENT = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()
HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


def raw(*path):
    value = VECTORS
    for name in path:
        value = value[name]
    return bytes.fromhex(value)


def signed_by(name, message):
    Ed25519PublicKey.from_public_bytes(raw("keys", f"ed25519 {name}", "public")).verify(
        message["signature"], message["payload"]
    )
    return cbor2.loads(message["payload"])


def unsealed(index, sealed, info):
    key = X25519PrivateKey.from_private_bytes(raw("keys", f"x25519 {index}", "private"))
    return HPKE.decrypt(sealed, key, info=cbor2.dumps(info))


def test_a_search_request_opens_to_the_coordinates():
    request = cbor2.loads(raw("search request"))
    fields = signed_by("terminal", request)
    assert (fields["v"], fields["purpose"]) == (1, "payment")
    components = {}
    for i, sealed in enumerate(request["sealed"]):
        assert sha256(sealed).digest() == fields["sealed_sha256"][i]
        info = ["facefare-sealed-share-1", "search", fields["gallery"], i, fields["query_id"]]
        share = unsealed(f"guardian {i}", sealed, info)
        half = (len(share) - 32) // 2
        for j, salt, component in (
            (i, share[:16], share[32 : 32 + half]),
            ((i + 1) % 3, share[16:32], share[32 + half :]),
        ):
            signed = fields["component_sha256"][j]
            assert sha256(b"facefare/component/1" + salt + component).digest() == signed
            assert components.setdefault(j, component) == component
    words = zip(*(struct.unpack(f"<{half // 4}I", components[j]) for j in range(3)), strict=True)
    values = [(sum(three) + 2**31) % 2**32 - 2**31 for three in words]
    assert values == VECTORS["coordinates"]
    fields["purpose"] = "attendance"
    with pytest.raises(InvalidSignature):
        signed_by("terminal", {**request, "payload": cbor2.dumps(fields)})


@pytest.mark.parametrize(("name", "meaning"), [("row 7", 7), ("none", None), ("several", "several")])
def test_answers_say_what_they_are_named(name, meaning):
    shares = [
        struct.unpack("<BB6xQQQQQ", cbor2.loads(bytes.fromhex(part))["share"]) for part in VECTORS["answers"][name]
    ]
    assert [share[0] for share in shares] == [0, 1, 2]
    assert len({(share[1], share[6]) for share in shares}) == 1
    for i in range(3):
        assert shares[i][2:4] == shares[i - 1][4:6]
    if shares[0][1]:
        assert meaning == "several"
        return
    parity, row = (shares[0][n] ^ shares[1][n] ^ shares[2][n] for n in (2, 3))
    assert meaning == (row if parity else None)


def times(a, b):
    """In GF(2^64), bit by bit."""
    product = 0
    for i in range(64):
        product ^= (a << i) * (b >> i & 1)
    for i in range(126, 63, -1):
        product ^= (0x1000000000000001B << (i - 64)) * (product >> i & 1)
    return product


@pytest.mark.parametrize(("name", "row"), [("row 7", 7), ("none", None)])
def test_rechecks_have_the_label_of_the_row_that_was_answered(name, row):
    shares = [
        struct.unpack("<BBxxIQQQQQ", cbor2.loads(bytes.fromhex(part))["recheck"])
        for part in VECTORS["rechecked answers"][name]
    ]
    assert [share[:3] for share in shares] == [(i, 0, 100) for i in range(3)]
    for i in range(3):
        assert shares[i][4:6] == shares[i - 1][6:8]
    label, alpha, beta = (shares[0][n] ^ shares[1][n] ^ shares[2][n] for n in (3, 4, 5))
    assert label == (0 if row is None else times(alpha, row + 1) ^ beta)


def test_an_opening_is_the_xor_of_three_components():
    opening = signed_by("payer", cbor2.loads(raw("open request")))
    total = 0
    for i, part in enumerate(VECTORS["sealed"]["opened"]):
        answer = cbor2.loads(bytes.fromhex(part))
        info = ["facefare-opened-row-1", opening["gallery"], i, opening["opening_id"]]
        form, guardian, *_, own, _following = cbor2.loads(unsealed("recipient", answer["sealed"], info))
        assert (form, guardian) == (2, i)
        lines = [
            "facefare opened row",
            opening["gallery"],
            i,
            opening["opening_id"].hex(),
            sha256(answer["sealed"]).hexdigest(),
        ]
        log = Ed25519PublicKey.from_public_bytes(raw("keys", f"ed25519 log {i}", "public"))
        log.verify(answer["signature"], "".join(f"{line}\n" for line in lines).encode())
        total ^= int.from_bytes(own, "big")
    assert total == 0x1234


def test_a_log_entry_commits_to_what_the_query_id_opens():
    fields = cbor2.loads(raw("search payload"))
    entry = cbor2.loads(raw("log entry", "bytes"))
    salt = hmac.digest(fields["query_id"], b"facefare audit request salt v1", "sha256")[:16]
    values = {
        "gallery": fields["gallery"].encode(),
        "query": fields["query_id"],
        "request": sha256(raw("search payload")).digest(),
    }
    for name, value in values.items():
        key = hmac.digest(salt, b"facefare audit salt v1\x00" + name.encode(), "sha256")
        assert entry["commitments"][name] == hmac.digest(key, name.encode() + b"\x00" + value, "sha256")
    assert (entry["terminal"], entry["purpose"], entry["time"]) == ("trm_gate1", "payment", fields["issued_at"])


def test_a_sessions_key_and_stream():
    key = HKDF(hashes.SHA256(), 16, salt=None, info=b"facefare/mpc/session/1").derive(
        raw("session", "nonce of 1") + raw("session", "nonce of 0")
    )
    assert key == raw("session", "key 1")
    block = (3).to_bytes(8, "big") + b"\x01" + bytes(7)
    stream = Cipher(algorithms.AES(key), modes.CTR(block)).encryptor().update(bytes(80))
    assert stream == raw("session", "operation 3, part 1")


def test_a_succession_is_signed_by_the_present_key():
    document, signature = VECTORS["succession"]
    key = Ed25519PublicKey.from_public_bytes(raw("keys", "ed25519 guardian 0", "public"))
    key.verify(bytes.fromhex(signature), b"facefare/succession/1" + document.encode())
    assert json.loads(document)["index"] == 0


def test_a_confirmation_is_signed_by_its_guardian():
    fields = signed_by("guardian 0", cbor2.loads(raw("confirmation")))
    assert (fields["operation"], fields["row"], fields["guardian"]) == ("enrol", 7, 0)


@pytest.mark.parametrize(
    "name",
    [
        "SearchPayload", "EnrolPayload", "OpenPayload", "ConfirmationPayload", "SearchCall", "SearchAnswer",
        "EnrolCall", "Confirmation", "RowCall", "OpenRequest", "OpenAnswer", "Status", "GalleryStatus",
    ],
)  # fmt: skip
def test_the_document_names_every_field_of_a_message_in_its_order(name):
    stated = re.findall(rf"\b{name}\b[:| ]([^\n]*(?:\n`[^\n]*)*)", DOCUMENT)
    fields = list(getattr(messages, name)._FIELDS)
    assert any(re.findall(r"`([a-z_0-9]+)`", text)[: len(fields)] == fields for text in map(_plain, stated)), stated


def _plain(text):
    """Without values in backquotes that are no field."""
    for value in ("payment", "enrol", "delete", "pause", "resume"):
        text = text.replace(f"`{value}`", "")
    return text
