import pytest

from facefare.audit.checkpoints import Checkpoint, open_checkpoint
from facefare.audit.errors import Inconsistent, NoteError, WitnessRefusal
from facefare.audit.log import Log
from facefare.audit.notes import KeyKind, NoteKey, NoteSigner
from facefare.audit.witness import Witness

NOW = 1_770_000_000


@pytest.fixture
def log_and_witness(installation, tmp_path):
    guardian, other = installation.guardians[:2]
    with Log(tmp_path / "extra", guardian.log_signer.key) as log:
        yield log, guardian.log_signer, other.witness


def test_a_growing_log_is_cosigned_each_time(log_and_witness):
    log, signer, witness = log_and_witness
    size = 0
    for count in (0, 1, 1, 0, 5, 2, 30):
        log.append([b"%d" % n for n in range(count)])
        note = log.sign_checkpoint(signer)
        proof = log.consistency_proof(size, log.size) if size else []
        signature = witness.cosign(note, proof, NOW)
        assert witness._signer.key.verify(note.text, signature.blob) == NOW
        size = log.size


def test_a_fork_is_refused_and_both_signed_notes_are_kept_as_evidence(log_and_witness):
    log, signer, witness = log_and_witness
    log.append([b"a", b"b"])
    first = log.sign_checkpoint(signer)
    witness.cosign(first, [], NOW)
    other = Checkpoint(log.key.name, 2, bytes(32)).sign(signer)
    with pytest.raises(Inconsistent) as caught:
        witness.cosign(other, [], NOW)
    for evidence in (caught.value.before, caught.value.after):
        assert evidence in (first.to_bytes(), other.to_bytes())
    assert caught.value.before != caught.value.after
    assert witness.last_note(log.key.name) == first


def test_another_history_is_refused_whatever_proof_it_comes_with(log_and_witness, tmp_path, installation):
    log, signer, witness = log_and_witness
    log.append([b"a", b"b", b"c"])
    witness.cosign(log.sign_checkpoint(signer), [], NOW)
    with Log(tmp_path / "second", signer.key) as forked:
        forked.append([b"a", b"X", b"c", b"d"])
        note = forked.sign_checkpoint(signer)
        for proof in ([], forked.consistency_proof(3, 4), [bytes(32)] * 3):
            with pytest.raises(WitnessRefusal):
                witness.cosign(note, proof, NOW)


def test_a_log_that_shrank_is_refused(log_and_witness, tmp_path):
    log, signer, witness = log_and_witness
    log.append([b"a", b"b"])
    witness.cosign(log.sign_checkpoint(signer), [], NOW)
    with Log(tmp_path / "second", signer.key) as shorter:
        shorter.append([b"a"])
        with pytest.raises(WitnessRefusal, match="it had 2"):
            witness.cosign(shorter.sign_checkpoint(signer), [], NOW)


def test_a_witness_that_was_restarted_remembers(log_and_witness, installation):
    log, signer, witness = log_and_witness
    log.append([b"a", b"b"])
    witness.cosign(log.sign_checkpoint(signer), [], NOW)
    again = Witness(witness._folder, witness._signer, [log.key])
    with pytest.raises(Inconsistent):
        again.cosign(Checkpoint(log.key.name, 2, bytes(32)).sign(signer), [], NOW)


def test_an_unknown_log_a_strangers_signature_and_a_wrong_empty_root_are_refused(log_and_witness):
    _, signer, witness = log_and_witness
    stranger = NoteSigner(signer.name, KeyKind.LOG, witness._signer.private)
    for note in (
        Checkpoint("nobody.example", 1, bytes(32)).sign(signer),
        Checkpoint(signer.name, 1, bytes(32)).sign(stranger),
        Checkpoint(signer.name, 0, bytes(32)).sign(signer),
    ):
        with pytest.raises(WitnessRefusal):
            witness.cosign(note, [], NOW)


def test_a_witness_needs_a_key_of_its_own_kind(tmp_path, installation):
    with pytest.raises(NoteError):
        Witness(tmp_path / "w", installation.guardians[0].log_signer, [])


def test_a_checkpoint_is_only_taken_from_the_log_it_names(installation):
    signer = installation.guardians[0].log_signer
    note = Checkpoint("another.example", 0, bytes(32)).sign(signer)
    with pytest.raises(NoteError, match="another log"):
        open_checkpoint(note, NoteKey(signer.name, KeyKind.LOG, signer.key.public))
