"""Each way in which a guardian, or whoever publishes its log, could cheat, and that it is found."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from facefare.audit.checkpoints import Checkpoint
from facefare.audit.commands import app
from facefare.audit.entries import entry_of_enrolment, opening_of
from facefare.audit.errors import BundleError, LogError, NoteError, ProofInvalid
from facefare.audit.log import Log
from facefare.audit.receipts import Receipt, receipt_for
from facefare.audit.verifier import Fault, parse_trust, verify

NOW = 1_770_000_000


def found(installation):
    report = verify(installation.folder, installation.trust)
    return {(finding.fault, finding.log.partition(".")[0]) for finding in report.findings}


def forge(installation, number, entries, name="forged"):
    """Let guardian `number` publish another log in place of its own, properly signed."""
    guardian = installation.guardians[number]
    guardian.log.close()
    shutil.rmtree(installation.folder / str(number))
    log = Log(installation.folder / str(number), guardian.log_signer.key)
    log.append(entries)
    log.sign_checkpoint(guardian.log_signer)
    guardian.log = log


def entries_of(installation, number):
    log = installation.guardians[number].log
    return [log.entry(n) for n in range(log.size)]


def test_honest_logs_pass_even_if_they_took_requests_in_another_order(installation):
    installation.answer(*range(9))
    installation.answer(20, without={0})
    installation.answer(21)
    installation.answer(20, without={1, 2})
    installation.publish(NOW - 60)
    installation.keep_seen("early")
    installation.answer(*range(30, 35))
    installation.publish()
    report = verify(installation.folder, installation.trust)
    assert report.ok
    assert (report.entries, report.compared, report.pending) == ((16, 16, 16), 16, 0)
    assert report.cosigned == (NOW, NOW, NOW)


def test_empty_logs_pass(installation):
    installation.publish()
    assert verify(installation.folder, installation.trust).ok


def test_a_log_whose_checkpoint_is_no_longer_renewed_is_found_before_its_entries_can_be_compared(installation):
    installation.answer(1)
    installation.publish(NOW - 600)
    installation.answer(2, without={1}, seconds_ago=300)
    for guardian in installation.guardians:
        if guardian.number != 1:
            note = guardian.log.sign_checkpoint(guardian.log_signer)
            for other in installation.guardians:
                if other is not guardian:
                    installation.cosign(guardian, other, note)
    assert found(installation) == {(Fault.STALE, "guardian1")}


def test_an_entry_on_its_way_is_counted_not_accused(installation):
    installation.answer(1)
    installation.answer(2, without={2}, seconds_ago=5)
    installation.publish()
    report = verify(installation.folder, installation.trust)
    assert report.ok
    assert report.pending == 1


@pytest.mark.parametrize("lazy", [0, 1, 2])
def test_a_guardian_that_answers_without_logging_is_found(installation, lazy):
    installation.answer(1, 2)
    installation.answer(3, without={lazy})
    installation.publish()
    assert found(installation) == {(Fault.UNLOGGED, f"guardian{lazy}")}


def test_two_guardians_that_answer_without_logging_are_found(installation):
    installation.answer(1)
    installation.answer(2, without={0, 1})
    installation.publish()
    assert found(installation) == {(Fault.UNLOGGED, "guardian0"), (Fault.UNLOGGED, "guardian1")}


def test_an_entry_dated_into_the_future_does_not_stay_on_its_way_for_ever(installation):
    installation.answer(1, without={2}, seconds_ago=-10_000)
    installation.publish()
    assert found(installation) == {(Fault.UNLOGGED, "guardian2")}


def test_an_entry_written_long_after_the_fact_is_found(installation):
    installation.answer(1, seconds_ago=7200)
    installation.answer(2, without={1}, seconds_ago=7000)
    installation.answer(3, seconds_ago=600)
    installation.answer(2, without={0, 2}, seconds_ago=7000)
    installation.publish()
    assert found(installation) == {(Fault.BACKDATED, "guardian1")}


def test_a_changed_entry_is_found(installation):
    installation.answer(1, 2, 3)
    installation.publish()
    path = installation.folder / "1" / "entries"
    changed = installation.folder / "elsewhere"
    with Log(changed, installation.guardians[1].log_signer.key) as log:
        first, second, third = entries_of(installation, 1)
        log.append([first, second.replace(b"trm_gate1", b"trm_gate2"), third])
    shutil.copy(changed / "entries", path)
    faults = found(installation)
    assert (Fault.TAMPERED, "guardian1") in faults
    assert all(log == "guardian1" or fault is Fault.UNLOGGED for fault, log in faults)


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda data: b""])
def test_entries_cut_off_are_found(installation, harm):
    installation.answer(1, 2, 3)
    installation.publish()
    path = installation.folder / "2" / "entries"
    path.write_bytes(harm(path.read_bytes()))
    assert (Fault.TRUNCATED, "guardian2") in found(installation)


def test_a_history_written_anew_is_not_cosigned_and_contradicts_what_was_seen(installation):
    installation.answer(1, 2, 3)
    installation.publish()
    installation.keep_seen("kept")
    first, _, third = entries_of(installation, 0)
    forge(installation, 0, [first, third, third[:-1]])
    faults = found(installation)
    assert {(Fault.NOT_COSIGNED, "guardian0"), (Fault.FORKED, "guardian0")} <= faults


def test_a_log_rolled_back_below_a_checkpoint_once_seen_is_found(installation):
    installation.answer(1, 2, 3)
    installation.publish()
    installation.keep_seen("kept")
    forge(installation, 0, entries_of(installation, 0)[:2])
    assert (Fault.TRUNCATED, "guardian0") in found(installation)


def test_two_faces_shown_to_different_people_are_found_by_the_second_checkpoint(installation):
    installation.answer(1, 2, 3)
    installation.publish()
    signer = installation.guardians[0].log_signer
    other = Checkpoint(signer.name, 3, bytes(32)).sign(signer)
    (installation.folder / "seen" / "from-a-payers-phone").write_bytes(other.to_bytes())
    assert (Fault.FORKED, "guardian0") in found(installation)


def test_a_checkpoint_in_a_logs_name_by_another_key_accuses_no_one(installation):
    installation.answer(1)
    installation.publish()
    impostor = replace(installation.guardians[0].log_signer, private=installation.guardians[1].log_signer.private)
    note = Checkpoint(impostor.name, 1, bytes(32)).sign(impostor)
    (installation.folder / "seen" / "slander").write_bytes(note.to_bytes())
    assert found(installation) == set()


def test_a_missing_and_a_wrong_cosignature_are_found(installation):
    installation.answer(1)
    guardian, other, third = installation.guardians
    for each in installation.guardians:
        each.log.sign_checkpoint(each.log_signer)
    installation.cosign(guardian, other, guardian.log.note)
    note = guardian.log.note
    wrong = third.witness_signer.sign("another text\n", NOW)
    path = installation.folder / "0" / "checkpoint"
    path.write_bytes(note.with_signatures([wrong]).to_bytes())
    details = [f.detail for f in verify(installation.folder, installation.trust).findings if "guardian0" in f.log]
    assert details == ["The signature of guardian2.example/witness does not verify."]


def test_one_guardian_cannot_cosign_for_itself_or_for_another(installation):
    installation.answer(1)
    installation.publish()
    guardian = installation.guardians[0]
    note = Checkpoint(guardian.log.key.name, 1, guardian.log.root()).sign(guardian.log_signer)
    note = note.with_signatures([guardian.witness_signer.sign(note.text, NOW)])
    (installation.folder / "0" / "checkpoint").write_bytes(note.to_bytes())
    assert found(installation) == {(Fault.NOT_COSIGNED, "guardian0")}


def test_a_log_that_publishes_nothing_or_anothers_checkpoint_is_found(installation):
    installation.answer(1)
    installation.publish()
    shutil.copy(installation.folder / "1" / "checkpoint", installation.folder / "0" / "checkpoint")
    (installation.folder / "2" / "checkpoint").unlink()
    assert found(installation) == {(Fault.UNSIGNED, "guardian0"), (Fault.UNSIGNED, "guardian2")}


def test_an_entry_with_something_else_in_it_is_found(installation):
    installation.answer(1)
    for guardian in installation.guardians:
        guardian.log.append([b"payer Anna, score -3100"])
    installation.publish()
    assert {fault for fault, _ in found(installation)} == {Fault.MALFORMED}


def test_an_entry_logged_twice_is_found(installation):
    installation.answer(1)
    installation.answer(1, without={0, 1})
    installation.publish()
    assert found(installation) == {(Fault.REPEATED, "guardian2")}


def test_an_enrolment_that_waited_for_hours_and_was_tried_twice_is_no_fault_but_one_left_out_is(installation):
    entry = entry_of_enrolment(
        station="stn_desk",
        issued_at=(NOW - 80_000) * 1000,
        gallery="gal_a",
        enrolment_id=b"e" * 16,
        request_sha256=bytes(32),
    )
    installation.answer(1)
    for guardian in installation.guardians:
        guardian.log.append([entry.to_bytes()] * 2)
    installation.answer(2)
    installation.publish()
    assert found(installation) == set()
    for guardian in installation.guardians[:2]:
        guardian.log.append([replace(entry, terminal="stn_other").to_bytes()])
    installation.answer(3)
    installation.publish()
    assert found(installation) == {(Fault.UNLOGGED, "guardian2")}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_one_changed_bit_anywhere_in_what_is_published_is_found(installation, data):
    if installation.guardians[0].log.note is None:
        installation.answer(1, 2, 3)
        installation.publish()
    path = (
        installation.folder / data.draw(st.sampled_from("012")) / data.draw(st.sampled_from(["checkpoint", "entries"]))
    )
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        assert not verify(installation.folder, installation.trust).ok
    finally:
        path.write_bytes(whole)


# --- receipts ---


def test_a_payer_proves_their_own_entry_offline_and_opens_only_what_they_want(installation):
    installation.answer(*range(7))
    installation.publish()
    others = [installation.trust[n].witness for n in (1, 2)]
    receipt = Receipt.from_bytes(receipt_for(installation.guardians[0].log, 4).to_bytes())
    entry = receipt.verify(installation.trust[0].log, others)
    entry.check(opening_of("query", (4).to_bytes(16, "big"), sha256(b"salt 4").digest()[:16]))
    with pytest.raises(ProofInvalid):
        replace(receipt, index=5).verify(installation.trust[0].log, others)
    with pytest.raises(ProofInvalid):
        replace(receipt, entry=receipt.entry + b"x").verify(installation.trust[0].log, others)
    with pytest.raises(NoteError):
        receipt.verify(installation.trust[1].log, others)
    with pytest.raises(NoteError, match="lacks the cosignature"):
        receipt.verify(installation.trust[0].log, [*others, installation.trust[0].witness])


def test_there_is_no_receipt_for_an_entry_the_checkpoint_does_not_cover(installation):
    installation.answer(1)
    with pytest.raises(BundleError):
        receipt_for(installation.guardians[0].log, 0)
    installation.publish()
    installation.answer(2)
    with pytest.raises(LogError):
        receipt_for(installation.guardians[0].log, 1)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x85\x01\x41a\x00\x80\x00", b"\x85\x01\x41a\x00\x81\x41b\x41c"])
def test_what_is_not_a_receipt_is_refused(data):
    with pytest.raises(BundleError):
        Receipt.from_bytes(data)


# --- the trust file and the command ---


def test_a_trust_file_with_one_key_in_two_places_or_too_few_is_refused(installation):
    lines = (installation.folder / "trust").read_text().splitlines()
    assert parse_trust("# comment\n\n" + "\n".join(lines)) == installation.trust
    for text in ("", "\n".join(lines[:2]), "\n".join([lines[0], lines[1], lines[1]]), "nonsense\n" * 3):
        with pytest.raises(BundleError):
            parse_trust(text)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_passes_honest_logs_and_says_where_the_keys_came_from(installation):
    installation.answer(1, 2)
    installation.publish()
    result = run("verify", installation.folder, "--json", installation.folder / "report.json")
    assert result.exit_code == 0
    assert "compare them" in result.output
    assert "Nothing wrong was found." in result.output
    assert json.loads((installation.folder / "report.json").read_text())["ok"] is True
    quiet = run("verify", installation.folder, "--trust", installation.folder / "trust")
    assert "compare them" not in quiet.output


def test_the_command_fails_on_a_fault_and_on_what_it_cannot_read(installation, tmp_path):
    installation.answer(1)
    installation.answer(2, without={1})
    installation.publish()
    result = run("verify", installation.folder)
    assert result.exit_code == 1
    assert "unlogged: guardian1.example/log" in result.output
    (installation.folder / "seen" / "x").write_bytes(b"not a note")
    assert run("verify", installation.folder).exit_code == 2
    nowhere = run("verify", tmp_path / "nowhere", "--trust", installation.folder / "trust")
    assert nowhere.exit_code == 2, "a slip in a path is no fault of the guardians"
    assert "is no folder" in nowhere.output
    (tmp_path / "nothing").mkdir()
    assert run("verify", tmp_path / "nothing").exit_code == 2


def test_the_command_survives_a_witness_that_writes_an_absurd_time(installation):
    installation.publish(now=2**62)
    result = run("verify", installation.folder)
    assert result.exit_code == 0
    assert "co-signed 9999-12-31" in result.output


def test_the_command_checks_a_receipt(installation):
    installation.answer(1, 2)
    installation.publish()
    path = installation.folder / "receipt"
    receipt = receipt_for(installation.guardians[2].log, 1)
    path.write_bytes(receipt.to_bytes())
    result = run("verify-receipt", path, "--trust", installation.folder / "trust")
    assert result.exit_code == 0
    assert "trm_gate1, payment" in result.output
    path.write_bytes(replace(receipt, index=0).to_bytes())
    assert run("verify-receipt", path, "--trust", installation.folder / "trust").exit_code == 1
