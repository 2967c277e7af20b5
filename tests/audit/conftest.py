from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.audit.entries import entry_of
from facefare.audit.log import Log
from facefare.audit.notes import KeyKind, NoteSigner
from facefare.audit.verifier import GuardianKeys
from facefare.audit.witness import Witness

NOW = 1_770_000_000  # seconds


def signer(name: str, kind: KeyKind) -> NoteSigner:
    seed = sha256(f"test {name} {kind}".encode()).digest()
    return NoteSigner(name, kind, Ed25519PrivateKey.from_private_bytes(seed))


def request(number: int, seconds_ago: float = 3600):
    """The entry of an answered request, as each guardian writes it."""
    return entry_of(
        terminal="trm_gate1",
        purpose="payment",
        time=int((NOW - seconds_ago) * 1000) + number,
        values={"query": number.to_bytes(16, "big")},
        request_salt=sha256(b"salt %d" % number).digest()[:16],
    ).to_bytes()


class Guardian:
    """A guardian's log and witness, and the ways in which it could cheat."""

    def __init__(self, number, folder, signers):
        self.number, self.folder = number, folder
        self.log_signer, self.witness_signer = signers[number]
        self.log = Log(folder / str(number), self.log_signer.key)
        others = [log.key for n, (log, _) in enumerate(signers) if n != number]
        self.witness = Witness(folder / f"witness{number}", self.witness_signer, others)


class Installation:
    """Three guardians that publish into one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.signers = [
            (
                signer(f"guardian{n}.example/log", KeyKind.LOG),
                signer(f"guardian{n}.example/witness", KeyKind.WITNESS),
            )
            for n in range(3)
        ]
        self.trust = tuple(GuardianKeys(log.key, witness.key) for log, witness in self.signers)
        self.guardians = [Guardian(n, folder, self.signers) for n in range(3)]
        (folder / "trust").write_text("".join(f"{keys.log} {keys.witness}\n" for keys in self.trust))
        (folder / "seen").mkdir()

    def answer(self, *numbers, without=(), seconds_ago=3600.0):
        for guardian in self.guardians:
            if guardian.number not in without:
                guardian.log.append([request(number, seconds_ago) for number in numbers])

    def publish(self, now=NOW):
        """Each signs, and the other two co-sign what they can check."""
        for guardian in self.guardians:
            note = guardian.log.sign_checkpoint(guardian.log_signer)
            for other in self.guardians:
                if other is not guardian:
                    self.cosign(guardian, other, note, now)

    def cosign(self, guardian, other, note, now=NOW):
        last = other.witness.last_note(guardian.log.key.name)
        old = int(last.text.split("\n")[1]) if last else 0
        proof = guardian.log.consistency_proof(old, guardian.log.size) if old else []
        guardian.log.attach([other.witness.cosign(note, proof, now)], [other.witness_signer.key])

    def keep_seen(self, name):
        """What somebody kept of the checkpoints published so far."""
        for guardian in self.guardians:
            note = guardian.log.note
            (self.folder / "seen" / f"{name}{guardian.number}").write_bytes(note.to_bytes())

    def close(self):
        for guardian in self.guardians:
            guardian.log.close()


@pytest.fixture
def installation(tmp_path):
    made = Installation(tmp_path)
    yield made
    made.close()
