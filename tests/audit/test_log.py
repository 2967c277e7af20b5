import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facefare.audit.checkpoints import open_checkpoint
from facefare.audit.errors import LogBusy, LogCorrupt, LogError, NoteError, ProofInvalid
from facefare.audit.log import Log
from facefare.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from facefare.audit.notes import KeyKind, NoteSigner


def signer(name, kind):
    return NoteSigner(name, kind, Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


SIGNER = signer("log.example", KeyKind.LOG)
OTHER = signer("other.example", KeyKind.LOG)


def fill(folder, count=20, checkpoint_at=12):
    with Log(folder, SIGNER.key) as log:
        log.append([b"entry %d" % n for n in range(checkpoint_at)])
        log.sign_checkpoint(SIGNER)
        for n in range(checkpoint_at, count):
            log.append([b"entry %d" % n])
        return log.root()


def test_what_was_appended_is_there_after_opening_again(tmp_path):
    root = fill(tmp_path)
    with Log(tmp_path, SIGNER.key) as log:
        assert (log.size, log.root()) == (20, root)
        assert [log.entry(n) for n in (0, 12, 19)] == [b"entry 0", b"entry 12", b"entry 19"]
        assert log.append([b"next"]) == range(20, 21)


def test_its_proofs_verify(tmp_path):
    fill(tmp_path)
    with Log(tmp_path, SIGNER.key) as log:
        before = open_checkpoint(log.note, SIGNER.key)
        now = open_checkpoint(log.sign_checkpoint(SIGNER), SIGNER.key)
        verify_consistency(12, 20, before.root, now.root, log.consistency_proof(12, 20))
        for n in range(20):
            verify_inclusion(n, 20, leaf_hash(log.entry(n)), log.inclusion_proof(n, 20), now.root)
        with pytest.raises(ProofInvalid):
            verify_inclusion(3, 20, leaf_hash(log.entry(4)), log.inclusion_proof(3, 20), now.root)
        for wrong in ((20, 20), (0, 21), (-1, 5)):
            with pytest.raises(LogError):
                log.inclusion_proof(*wrong)


def test_a_log_has_one_writer(tmp_path):
    with Log(tmp_path, SIGNER.key), pytest.raises(LogBusy):
        Log(tmp_path, SIGNER.key)


def test_a_log_is_signed_with_its_own_key_and_keeps_only_its_witnesses_cosignatures(tmp_path):
    witness = signer("witness.example", KeyKind.WITNESS)
    with Log(tmp_path, SIGNER.key) as log:
        log.append([b"x"])
        with pytest.raises(LogError):
            log.sign_checkpoint(OTHER)
        with pytest.raises(LogError):
            log.attach([], [])
        note = log.sign_checkpoint(SIGNER)
        with pytest.raises(NoteError):
            log.attach([witness.sign(note.text, 5)], [])
        with pytest.raises(NoteError):
            log.attach([witness.sign("another\n", 5)], [witness.key])
        log.attach([witness.sign(note.text, 5)], [witness.key])
    with Log(tmp_path, SIGNER.key) as log:
        assert log.note.time_signed_by(witness.key) == 5
        assert log.sign_checkpoint(SIGNER) == log.note  # nothing new: the cosignature stays


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_a_crash_at_any_byte_loses_only_what_was_half_written(tmp_path, data):
    """Cut `entries` anywhere after the checkpoint, and leave the indexes in any state."""
    whole = tmp_path / "whole"
    if not whole.exists():
        fill(whole)
        with Log(whole, SIGNER.key) as log:
            ends = [log._end_of(n) for n in range(21)]
        (tmp_path / "ends.txt").write_text(" ".join(map(str, ends)))
    ends = [int(end) for end in (tmp_path / "ends.txt").read_text().split()]
    broken = tmp_path / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    cut = data.draw(st.integers(ends[12], ends[20]))
    os.truncate(broken / "entries", cut)
    for name in ("ends", "hashes"):
        size = (broken / name).stat().st_size
        os.truncate(broken / name, data.draw(st.integers(0, size)))
        with (broken / name).open("ab") as file:
            file.write(data.draw(st.binary(max_size=100)))
    kept = max(n for n in range(21) if ends[n] <= cut)
    try:
        log = Log(broken, SIGNER.key)
    except LogCorrupt:
        # Allowed only where an index that had been made durable was damaged, which no crash does.
        pytest.fail("a log that has every signed entry must open")
    with log:
        assert log.size == kept
        assert [log.entry(n) for n in range(kept)] == [b"entry %d" % n for n in range(kept)]
        log.append([b"after"])
    with Log(broken, SIGNER.key) as log:
        assert log.entry(kept) == b"after"


def test_entries_that_a_checkpoint_was_signed_for_cannot_be_cut_off_or_changed(tmp_path):
    fill(tmp_path / "log")
    for name, harm in (
        ("cut", lambda data: data[:60]),
        ("changed", lambda data: data.replace(b"entry 3", b"entry X")),
        ("gone", lambda data: b""),
    ):
        copy = tmp_path / name
        shutil.copytree(tmp_path / "log", copy)
        for index in ("ends", "hashes"):
            (copy / index).write_bytes(b"")
        entries = copy / "entries"
        entries.write_bytes(harm(entries.read_bytes()))
        with pytest.raises(LogCorrupt):
            Log(copy, SIGNER.key)


def test_a_checkpoint_of_another_log_does_not_open(tmp_path):
    fill(tmp_path)
    with pytest.raises(LogCorrupt):
        Log(tmp_path, OTHER.key)


def test_a_full_disk_stops_the_log_until_it_is_opened_again(tmp_path, monkeypatch):
    with Log(tmp_path, SIGNER.key) as log:
        log.append([b"one"])

        def full(descriptor):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("facefare.audit.log.os.fsync", full)
            with pytest.raises(LogError, match="No space left"):
                log.append([b"two"])
        with pytest.raises(LogError, match="opened again"):
            log.append([b"three"])
    with Log(tmp_path, SIGNER.key) as log:
        log.append([b"three"])
        assert log.entry(0) == b"one"


def test_an_entry_acknowledged_before_a_kill_is_there_after_it(tmp_path):
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from facefare.audit.log import Log
        from facefare.audit.notes import NoteKey
        log = Log(Path(sys.argv[1]), NoteKey.parse(sys.argv[2]))
        n = 0
        while True:
            log.append([b"%d" % n])
            print(n, flush=True)
            n += 1
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log"), str(SIGNER.key)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    with Log(tmp_path / "log", SIGNER.key) as log:
        assert log.size > max(acknowledged)
        assert [log.entry(n) for n in range(log.size)] == [b"%d" % n for n in range(log.size)]
