"""Makes `wire_vectors.json`: bytes by which another language can check its implementation of the wire format.

    python tests/guardian/wire_vectors.py

Keys come from SHA-256 of names, so all but the HPKE ciphertexts is the same each time. Bytes are in hexadecimal.
"""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.audit.entries import entry_of_search, opening_of, salt_of
from facefare.audit.notes import KeyKind, NoteSigner
from facefare.audit.openings import Components
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import (
    Confirmation,
    EnrolCall,
    EnrolPayload,
    OpenAnswer,
    OpenPayload,
    OpenRequest,
    Operation,
    RowCall,
    SearchAnswer,
    SearchCall,
    SearchPayload,
    SearchRequest,
)
from facefare.guardian.sealing import SealedFor, Share, component_sha256, seal
from facefare.mpc.answers import AnswerShare
from facefare.mpc.recheck import RecheckShare
from facefare.mpc.streams import Stream, session_key

FILE = Path(__file__).with_name("wire_vectors.json")
NOW = 1_770_000_000_000
GALLERY = "gal_vectors"
COORDINATES = [3, -7, 127, -128, 0, 60, -60, 1]


def named(name: str) -> bytes:
    return sha256(f"facefare wire vectors {name}".encode()).digest()


def signing(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(named(name))


def sealing(index: int) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(named(f"sealing {index}"))


def identity(index: int) -> GuardianIdentity:
    public = sealing(index).public_key().public_bytes_raw()
    return GuardianIdentity(
        index, f"g{index}", "h", 1, 2, "", signing(f"guardian {index}").public_key().public_bytes_raw(), public
    )


def components() -> list[bytes]:
    """Components of COORDINATES over Z_2^32, (1, 8) uint32 little-endian."""
    first, second = (np.frombuffer(named(f"share {n}"), "<u4") for n in (0, 1))
    third = np.array(COORDINATES, np.int32).view(np.uint32) - first - second
    return [first.tobytes(), second.tobytes(), third.astype("<u4").tobytes()]


def salts() -> list[bytes]:
    return [named(f"salt {n}")[:16] for n in range(3)]


def component_hashes() -> tuple[bytes, bytes, bytes]:
    first, second, third = (component_sha256(*pair) for pair in zip(salts(), components(), strict=True))
    return first, second, third


def shares() -> list[bytes]:
    """What is sealed to each guardian: two salts, two components."""
    x, salt = components(), salts()
    return [Share(salt[i], salt[(i + 1) % 3], x[i], x[(i + 1) % 3]).to_bytes() for i in range(3)]


def vectors(sealed: dict[str, list[str]]) -> dict[str, object]:
    """All vectors, around sealed shares that were made before (they are different each time)."""
    probe, reference = (tuple(bytes.fromhex(part) for part in sealed[use]) for use in ("search", "enrol"))
    query_id, enrolment_id, opening_id = named("query")[:16], named("enrolment")[:16], named("opening")[:16]
    search = SearchPayload(
        1,
        GALLERY,
        "dlib-resnet-v1",
        "trm_gate1",
        "payment",
        query_id,
        NOW,
        tuple(sha256(part).digest() for part in probe),  # type: ignore[arg-type]
        component_hashes(),
    ).to_bytes()
    payer = signing("payer").public_key().public_bytes_raw()
    hashes = tuple(sha256(part).digest() for part in reference)
    enrols = {
        name: EnrolPayload(
            1,
            GALLERY,
            "dlib-resnet-v1",
            "stn_desk",
            named("consent"),
            enrolment_id,
            NOW,
            hashes,
            component_hashes(),
            key,  # type: ignore[arg-type]
        ).to_bytes()
        for name, key in (("without payer_key", None), ("with payer_key", payer))
    }
    recipient = X25519PrivateKey.from_private_bytes(named("recipient"))
    opening = OpenPayload(1, GALLERY, 7, recipient.public_key().public_bytes_raw(), opening_id, NOW).to_bytes()
    signature = signing("terminal").sign(search)
    answers = [
        [AnswerShare(i, False, part[i], part[(i + 1) % 3], 0x0123456789ABCDEF) for i in range(3)]
        for part in (
            ((1, 2**63), (0, 2**63 + 5), (0, 2)),  # one row: 7
            ((1, 9), (1, 3), (0, 10)),  # none
        )
    ]
    several = [AnswerShare(i, True, (0, 0), (0, 0), 5) for i in range(3)]
    request_sha256 = sha256(search).digest()
    entry = entry_of_search(
        terminal="trm_gate1",
        purpose="payment",
        issued_at=NOW,
        gallery=GALLERY,
        query_id=query_id,
        request_sha256=request_sha256,
    )
    confirmation = Confirmation.sign(
        signing("guardian 0"),
        gallery=GALLERY,
        row=7,
        count=1,
        version=3,
        operation=Operation.ENROL,
        time=NOW,
        guardian=0,
    )
    return {
        "keys": {
            **{
                f"{kind} {name}": {
                    "private": key.private_bytes_raw().hex(),
                    "public": key.public_key().public_bytes_raw().hex(),
                }
                for kind, name, key in (
                    *(("ed25519", name, signing(name)) for name in ("terminal", "station", "payer", "guardian 0")),
                    *(("ed25519", f"log {n}", signing(f"log {n}")) for n in range(3)),
                    *(("x25519", f"guardian {n}", sealing(n)) for n in range(3)),
                    ("x25519", "recipient", recipient),
                )
            }
        },
        "coordinates": COORDINATES,
        "components": [component.hex() for component in components()],
        "salts": [salt.hex() for salt in salts()],
        "component_sha256": [digest.hex() for digest in component_hashes()],
        "shares": [share.hex() for share in shares()],
        "sealed": sealed,
        "search payload": search.hex(),
        "search signature": signature.hex(),
        "search request": SearchRequest(search, signature, probe).to_bytes().hex(),  # type: ignore[arg-type]
        "search call": SearchCall(search, signature, probe[0], 3, -2000).to_bytes().hex(),
        "enrol payloads": {name: payload.hex() for name, payload in enrols.items()},
        "enrol call": EnrolCall(
            enrols["with payer_key"], signing("station").sign(enrols["with payer_key"]), reference[0], 7, 2
        )
        .to_bytes()
        .hex(),
        "row call": RowCall(GALLERY, 7, 3).to_bytes().hex(),
        "confirmation": confirmation.to_bytes().hex(),
        "open payload": opening.hex(),
        "open request": OpenRequest(opening, signing("payer").sign(opening)).to_bytes().hex(),
        "answers": {
            name: [SearchAnswer(share.to_bytes()).to_bytes().hex() for share in parts]
            for name, parts in (("row 7", answers[0]), ("none", answers[1]), ("several", several))
        },
        "rechecked answers": {
            name: [
                SearchAnswer(share.to_bytes(), recheck.to_bytes()).to_bytes().hex()
                for share, recheck in zip(parts, rechecks(label), strict=True)
            ]
            for name, parts, label in (("row 7", answers[0], LABEL_OF_ROW_7), ("none", answers[1], 0))
        },
        "session": {
            "nonce of 1": named("nonce of 1").hex(),
            "nonce of 0": named("nonce of 0").hex(),
            "key 1": session_key(named("nonce of 1"), named("nonce of 0")).hex(),
            "operation 3, part 1": Stream(session_key(named("nonce of 1"), named("nonce of 0")), 3, 1)
            .take((40,), np.uint16)
            .tobytes()
            .hex(),
        },
        "succession": list_of_succession(),
        "log entry": {
            "bytes": entry.to_bytes().hex(),
            "salt": salt_of(query_id).hex(),
            "opening of query": opening_of("query", query_id, salt_of(query_id)).salt.hex(),
        },
    }


def list_of_succession() -> list[str]:
    """The next identity of guardian 0 and the signature over it."""
    successor = replace(identity(0), signing_key=signing("next").public_key().public_bytes_raw())
    document, signature = identity(0).announce(successor, signing("guardian 0")).succession or ("", b"")
    return [document, signature.hex()]


ALPHA, BETA = 0x8000000000000001, 0x1122334455667788
LABEL_OF_ROW_7 = BETA ^ 0b1101100 ^ 8
"""alpha (7 + 1) + beta with alpha = x^63 + 1: x^63 x^3 = x^66 = x^2 (x^4 + x^3 + x + 1), and 1 x^3."""


def rechecks(label: int) -> list[RecheckShare]:
    """Shares of a recheck that found this label, all rows below 100."""
    parts = [int.from_bytes(named(f"recheck {n}")[:8], "little") for n in range(6)]
    labels = [parts[0], parts[1], label ^ parts[0] ^ parts[1]]
    keys = [(parts[2], parts[3]), (parts[4], parts[5]), (ALPHA ^ parts[2] ^ parts[4], BETA ^ parts[3] ^ parts[5])]
    return [RecheckShare(i, False, 100, labels[i], keys[i], keys[(i + 1) % 3]) for i in range(3)]


def log(index: int) -> NoteSigner:
    return NoteSigner(f"g{index}.example/log", KeyKind.LOG, signing(f"log {index}"))


def opened_components() -> list[Components]:
    """Of a row whose accumulator is 0x1234."""
    parts = (0x1111, 0x2222, 0x1234 ^ 0x1111 ^ 0x2222)
    return [Components(i, 1, NOW, 9, parts[i], parts[(i + 1) % 3]) for i in range(3)]


def fresh_seals() -> dict[str, list[str]]:
    recipient = X25519PrivateKey.from_private_bytes(named("recipient")).public_key().public_bytes_raw()
    return {
        "search": [
            seal(s, identity(n), SealedFor.SEARCH, GALLERY, named("query")[:16]).hex() for n, s in enumerate(shares())
        ],
        "enrol": [
            seal(s, identity(n), SealedFor.ENROL, GALLERY, named("enrolment")[:16]).hex()
            for n, s in enumerate(shares())
        ],
        "opened": [
            OpenAnswer(**vars(part.give(recipient, GALLERY, named("opening")[:16], log(n)))).to_bytes().hex()
            for n, part in enumerate(opened_components())
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(fresh_seals()), indent=1) + "\n")
