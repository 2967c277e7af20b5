"""Makes `held_vectors.json`, which implementations in other languages check themselves against.

Run as a program it prints the file anew. Every key is a hash of its name; nothing in it is anybody's face.
"""

import hashlib
import json
from datetime import UTC, datetime

import cbor2
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.identification.held import code, documents
from facefare.identification.held.code import Holding
from facefare.identification.held.documents import Announcement, Signed

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def seed(name: str) -> bytes:
    return hashlib.sha256(f"facefare test vector: {name}".encode()).digest()


OPERATOR = Ed25519PrivateKey.from_private_bytes(seed("operator"))
DEVICE = Ed25519PrivateKey.from_private_bytes(seed("device"))
TERMINAL = X25519PrivateKey.from_private_bytes(seed("terminal"))
REFERENCE = np.random.default_rng(8).integers(-20, 21, 128).astype(np.int8).tobytes()
SALT = seed("salt")[:16]
COUNTER = 41


def make() -> dict[str, str]:
    operator = documents.operator_id(OPERATOR.public_key())
    announcement = Announcement(
        v=1,
        kind="terminal-key",
        operator=operator,
        terminal="trm_gate1",
        model="dlib-resnet-v1",
        public_key=TERMINAL.public_key().public_bytes_raw(),
        not_before=documents.seconds(NOW) - 3600,
        not_after=documents.seconds(NOW) + 3600,
    )
    holding = Holding(DEVICE, REFERENCE, SALT, "dlib-resnet-v1")
    device_key = DEVICE.public_key().public_bytes_raw()
    through = documents.seconds(NOW) // documents.DAY + 30
    given = code.new_pass(OPERATOR, device_key, holding.commitment, self_made=True, through_day=through)
    named = documents.key_id(announcement.public_key)
    expires = documents.seconds(NOW) + code.LIFETIME.seconds
    statement = documents.statement(operator, named, holding.commitment, COUNTER, expires)
    registration = documents.registration(operator, seed("consent"), holding.commitment)
    inner = [
        operator,
        REFERENCE,
        SALT,
        device_key,
        COUNTER,
        expires,
        DEVICE.sign(statement),
        1,
        through,
        given.signature,
    ]
    values = {
        "operator_seed": seed("operator"),
        "operator_id": operator,
        "device_seed": seed("device"),
        "device_key": device_key,
        "terminal_private_key": seed("terminal"),
        "terminal_key_id": named,
        "reference": REFERENCE,
        "salt": SALT,
        "commitment": holding.commitment,
        "consent_sha256": seed("consent"),
        "registration": registration,
        "registration_signature": DEVICE.sign(registration),
        "announcement": Signed.sign(announcement, OPERATOR).to_bytes(),
        "statement": statement,
        "statement_signature": DEVICE.sign(statement),
        "pass_payload": documents.pass_payload(
            operator, device_key, holding.commitment, self_made=True, through_day=through
        ),
        "pass_signature": given.signature,
        "sealed_content": cbor2.dumps(inner),
        "hpke_info": b"facefare/held-code/1" + named,
        # HPKE draws a fresh key for each code, so this one is an example: opens with the terminal's key.
        "code": code.make(holding, given, announcement, counter=COUNTER, now=NOW),
    }
    return {
        "now": NOW.isoformat(),
        "device_id": documents.device_id(device_key),
        **{name: value.hex() for name, value in values.items()},
    }


if __name__ == "__main__":
    print(json.dumps(make(), indent=1))
