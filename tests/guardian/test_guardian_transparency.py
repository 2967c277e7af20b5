"""The transparency logs of three running guardians: complete, equal, co-signed, whatever happens in between."""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

import pytest
from three_guardians import TERMINAL, Trio, run, synthetic_templates, three_guardians
from typer.testing import CliRunner

from facefare.audit.commands import app as audit
from facefare.audit.entries import Entry, entry_of_enrolment, entry_of_search
from facefare.audit.log import read_frames
from facefare.audit.verifier import Fault, Report, parse_trust, verify
from facefare.guardian.messages import sha256
from facefare.identification.errors import IdentificationError
from facefare.identification.relay import Guardians


def entries(trio: Trio, index: int) -> list[bytes]:
    with (trio.folder(index) / "log" / "entries").open("rb") as file:
        return list(read_frames(file))


def published(trio: Trio, to: Path, size: int, within: float = 60) -> Report:
    """Fetch until checkpoints over `size` entries are co-signed by everyone; the last report."""
    urls = [f"http://127.0.0.1:{identity.public_port}" for identity in trio.identities]
    trust = parse_trust((trio.base / "trust").read_text())
    deadline = time.monotonic() + within
    while True:
        result = CliRunner().invoke(audit, ["fetch", *urls, "--to", str(to)])
        if result.exit_code == 0:
            report = verify(to, trust)
            if (report.ok and report.entries == (size,) * 3) or time.monotonic() > deadline:
                return report
        assert time.monotonic() < deadline, result.output
        time.sleep(0.5)


@pytest.fixture(scope="module")
def quiet_trio(tmp_path_factory):
    """Three guardians that nobody else asks."""
    with three_guardians(tmp_path_factory.mktemp("logs")) as running:
        yield running


def test_every_answer_is_in_all_three_published_logs_and_says_nothing_of_a_person(
    quiet_trio: Trio, tmp_path: Path
) -> None:
    trio, asked = quiet_trio, []

    async def scene(guardians: Guardians) -> None:
        person, *strangers = synthetic_templates(6, seed=21)
        await trio.enrol(guardians, person)
        before = len(entries(trio, 0))
        for face in (person, *strangers):
            request = trio.search_request(face)
            asked.append(request)
            await guardians.search(request, trio.version["gal_demo"], -2000)
            assert len(entries(trio, 0)) == before + len(asked), "it is there before the answer"

    run(trio, scene)
    size = len(entries(trio, 0))
    report = published(trio, tmp_path / "copy", size)
    assert report.ok
    assert report.entries == (size,) * 3
    assert None not in report.cosigned
    expected = []
    for request in asked:
        fields = request.fields()
        entry = entry_of_search(
            terminal=fields.terminal,
            purpose="payment",
            issued_at=fields.issued_at,
            gallery=fields.gallery,
            query_id=fields.query_id,
            request_sha256=sha256(request.payload),
        )
        assert fields.query_id not in entry.to_bytes()
        assert fields.gallery.encode() not in entry.to_bytes()
        expected.append(entry.to_bytes())
    for index in range(3):
        with (tmp_path / "copy" / str(index) / "entries").open("rb") as file:
            assert list(read_frames(file))[-len(expected) :] == expected, "who was it is not to be seen: same form"
    assert Entry.from_bytes(expected[0]).terminal == TERMINAL


def test_an_enrolment_is_in_all_three_logs_before_it_is_confirmed_and_once(quiet_trio: Trio) -> None:
    trio = quiet_trio

    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=23)
        request = trio.enrol_request(person, payer_key=bytes(range(32)))
        before, row, version = len(entries(trio, 0)), trio.rows["gal_demo"], trio.version["gal_demo"]
        trio.follow(await guardians.enrol(request, row, version))
        await guardians.enrol(request, row, version)  # asked again, it confirms again
        fields = request.fields()
        expected = entry_of_enrolment(
            station=fields.station,
            issued_at=fields.issued_at,
            gallery=fields.gallery,
            enrolment_id=fields.enrolment_id,
            request_sha256=sha256(request.payload),
        ).to_bytes()
        for index in range(3):
            assert entries(trio, index)[before:] == [expected]
        for secret in (fields.enrolment_id, fields.consent_sha256, bytes(range(32)), fields.gallery.encode()):
            assert secret not in expected
        trio.follow(await guardians.delete("gal_demo", row, trio.version["gal_demo"]))
        assert len(entries(trio, 0)) == before + 1

    run(trio, scene)


def test_a_refused_search_leaves_no_entry_anywhere(quiet_trio: Trio) -> None:
    trio = quiet_trio
    before = [entries(trio, index) for index in range(3)]

    async def scene(guardians: Guardians) -> None:
        with pytest.raises(IdentificationError):
            await guardians.search(trio.search_request(synthetic_templates(1)[0], terminal="trm_nobody"), 0, -2000)

    run(trio, scene)
    assert [entries(trio, index) for index in range(3)] == before


@pytest.mark.parametrize("lazy", [0, 1])
def test_a_guardian_that_answers_without_logging_is_found_from_outside(tmp_path: Path, lazy: int) -> None:
    with three_guardians(tmp_path / "trio") as trio:
        trio.stop(lazy)
        trio.start(
            lazy, "from facefare.guardian.transparency import Transparency\nTransparency.append = lambda *_: None"
        )
        asyncio.run(trio.ready())

        async def scene(guardians: Guardians) -> None:
            for face in synthetic_templates(2, seed=60):
                await trio.search(guardians, face)
            await trio.checkpointed([index for index in range(3) if index != lazy])
            await asyncio.sleep(1)  # a checkpoint's time has whole seconds
            await trio.search(guardians, synthetic_templates(1, seed=61)[0])
            await trio.checkpointed([index for index in range(3) if index != lazy])

        run(trio, scene)
        urls = [f"http://127.0.0.1:{identity.public_port}" for identity in trio.identities]
        deadline, unlogged = time.monotonic() + 30, []
        while len(unlogged) < 2 and time.monotonic() < deadline:
            result = CliRunner().invoke(audit, ["fetch", *urls, "--to", str(tmp_path / "copy")])
            assert result.exit_code == 0, result.output
            report = verify(tmp_path / "copy", parse_trust((trio.base / "trust").read_text()), tolerance_s=0)
            unlogged = [finding for finding in report.findings if finding.fault is Fault.UNLOGGED]
            time.sleep(0.2)
        assert len(unlogged) >= 2
        assert {finding.log for finding in unlogged} == {trio.identities[lazy].log_key.partition("+")[0]}


_DIE_BEFORE_LOGGING = """
import os
from facefare.guardian.transparency import Transparency
Transparency.append = lambda *_: os._exit(9)
"""


@pytest.mark.parametrize("index", [0, 1, 2])
def test_killed_between_agreeing_and_logging_the_three_logs_are_one_again(
    quiet_trio: Trio, tmp_path: Path, index: int
) -> None:
    trio = quiet_trio

    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=30 + index)
        trio.stop(index)
        trio.start(index, _DIE_BEFORE_LOGGING)
        await trio.ready()
        with contextlib.suppress(IdentificationError):
            await trio.search(guardians, face)
        process = trio.processes[index]
        assert process is not None
        process.wait(timeout=20)
        trio.start(index)
        await trio.ready()
        await trio.search(guardians, face)

    run(trio, scene)
    assert entries(trio, 0) == entries(trio, 1) == entries(trio, 2)
    assert published(trio, tmp_path / "copy", len(entries(trio, 0))).ok


def test_a_guardian_that_lost_its_log_gets_it_back_and_signs_no_second_history(
    quiet_trio: Trio, tmp_path: Path
) -> None:
    trio = quiet_trio
    size = len(entries(trio, 0))
    assert published(trio, tmp_path / "copy", size).ok
    trio.stop(1)
    shutil.rmtree(trio.folder(1) / "log")
    trio.start(1)
    asyncio.run(trio.ready())

    async def scene(guardians: Guardians) -> None:
        await trio.search(guardians, synthetic_templates(1, seed=44)[0])

    run(trio, scene)
    assert entries(trio, 1) == entries(trio, 0)
    assert published(trio, tmp_path / "copy", size + 1).ok, "checkpoints seen before still fit"


def test_logs_that_contradict_stop_the_service_until_somebody_has_looked(tmp_path: Path) -> None:
    with three_guardians(tmp_path) as trio:

        async def scene(guardians: Guardians) -> None:
            for face in synthetic_templates(3, seed=50):
                await trio.search(guardians, face)

        run(trio, scene)
        trio.stop(2)
        log = trio.folder(2) / "log"
        whole = entries(trio, 2)
        shutil.rmtree(log)
        from facefare.audit.log import Log
        from facefare.guardian.ceremony import Folder

        with Log(log, Folder(trio.folder(2)).log_signer().key) as forged:
            forged.append([whole[0], whole[2]])
        trio.start(2)
        with pytest.raises(TimeoutError):
            asyncio.run(trio.ready(timeout=12))
        assert "logs_contradict" in trio.log(2)
