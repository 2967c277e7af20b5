"""`kill -9` and full disks in the middle of a batch of searches, and what no crash may ever repeat."""

import asyncio
import collections
import contextlib
import shutil
from collections.abc import Sequence

import numpy as np
import pytest
from three_guardians import DEMO, THRESHOLD, Trio, run, synthetic_templates, three_guardians
from typer.testing import CliRunner

from facefare.guardian.commands import app
from facefare.guardian.messages import SearchRequest
from facefare.identification.errors import GuardianUnavailable, IdentificationError
from facefare.identification.relay import Answer, Guardians
from facefare.mpc.answers import Match

BATCH = 6
PEOPLE = synthetic_templates(40, seed=21)

# Each stretch of a stream that a guardian ever makes, for the tests to compare: a hash of the key, and the place.
_NOTE_STREAMS = """
import hashlib, os
from facefare.mpc.streams import Stream
made = Stream.__init__
def noting(self, key, operation, part=0):
    line = f"{{hashlib.sha256(key).hexdigest()}} {{operation}} {{part}}\\n"
    with open({file!r}, "a") as notes:
        notes.write(line)
    made(self, key, operation, part)
Stream.__init__ = noting
"""

# The leader waits until six searches are there, so that they make one batch.
_TOGETHER = f"""
import time
from facefare.guardian.engine import Engine
announce = Engine._announce
def patient(self, session):
    end = time.monotonic() + 3
    while 0 < len(self._waiting) < {BATCH} and time.monotonic() < end:
        time.sleep(0.01)
    return announce(self, session)
Engine._announce = patient
"""

_DIE = """
import os
from {module} import {owner}
point = {owner}.{name}
def die(*arguments, **named):
    now = {when}
    if now and {early}:
        os._exit(9)
    result = point(*arguments, **named)
    if now:
        os._exit(9)
    return result
{owner}.{name} = die
"""


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    with three_guardians(tmp_path_factory.mktemp("crashes")) as running:

        async def fill(guardians: Guardians) -> None:
            await running.enrol(guardians, PEOPLE)

        run(running, fill)
        running.stop(0, 1, 2)
        for index in range(3):
            start(running, index)
        asyncio.run(running.ready())
        yield running


def start(trio: Trio, index: int, prelude: str = "") -> None:
    notes = str(trio.base / f"streams-{index}")
    together = _TOGETHER if index == 0 else ""
    trio.start(index, _NOTE_STREAMS.format(file=notes) + together + prelude)


async def ask(
    trio: Trio, guardians: Guardians, requests: Sequence[SearchRequest]
) -> list[Answer | IdentificationError]:
    async def one(request: SearchRequest) -> Answer | IdentificationError:
        try:
            return await guardians.search(request, trio.version[DEMO], THRESHOLD)
        except IdentificationError as error:
            return error

    return list(await asyncio.gather(*(one(request) for request in requests)))


def requests_for(trio: Trio, rows: range) -> list[SearchRequest]:
    return [trio.search_request(PEOPLE[row]) for row in rows]


def logs(trio: Trio) -> set[bytes]:
    return {(trio.folder(index) / "log" / "entries").read_bytes() for index in range(3)}


def no_stream_was_used_twice(trio: Trio) -> None:
    for index in range(3):
        lines = (trio.base / f"streams-{index}").read_text().splitlines()
        assert lines
        ((most, times),) = collections.Counter(lines).most_common(1)
        assert times == 1, f"guardian {index} took from {most} more than once"


@pytest.mark.parametrize(
    ("index", "module", "owner", "name", "early"),
    [
        (0, "facefare.guardian.request_log", "RequestLog", "append", False),
        (1, "facefare.mpc.party", "Party", "identify", True),
        (2, "facefare.mpc.party", "Party", "identify", False),
        (1, "facefare.guardian.transparency", "Transparency", "append", True),
        (2, "facefare.guardian.transparency", "Transparency", "append", False),
        (0, "facefare.guardian.accumulators", "Accumulators", "keep", False),
    ],
)
def test_killed_in_a_batch_of_searches_each_is_answered_rightly_or_not_at_all_and_never_later(
    trio: Trio, index: int, module: str, owner: str, name: str, early: bool
) -> None:
    async def scene(guardians: Guardians) -> None:
        trio.stop(index)
        when = "arguments[1].shape[1] > 1" if name == "identify" else "True"  # the first of a session is a trial run
        start(trio, index, _DIE.format(module=module, owner=owner, name=name, when=when, early=early))
        await trio.ready()
        requests = requests_for(trio, range(BATCH))
        outcomes = await ask(trio, guardians, requests)
        assert all(outcome == Match(n) for n, outcome in enumerate(outcomes) if isinstance(outcome, Match))
        assert sum(isinstance(outcome, IdentificationError) for outcome in outcomes) >= 1
        process = trio.processes[index]
        assert process is not None
        assert await asyncio.to_thread(process.wait, 20) == 9
        start(trio, index)
        await trio.ready()
        again = await ask(trio, guardians, requests)
        for first, second in zip(outcomes, again, strict=True):
            assert isinstance(second, IdentificationError) or isinstance(first, IdentificationError)
            if isinstance(second, Match):  # only what no guardian had accepted yet can still be asked
                assert owner == "RequestLog"
        fresh = await ask(trio, guardians, requests_for(trio, range(BATCH)))
        assert fresh == [Match(n) for n in range(BATCH)]
        await asyncio.sleep(0.5)
        assert len(logs(trio)) == 1, "the three logs have the same entries in the same order"
        no_stream_was_used_twice(trio)

    run(trio, scene)


def test_killed_at_random_moments_of_batches_no_answer_is_wrong_and_no_stream_is_used_twice(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        for index, moment in ((0, 0.02), (1, 0.05), (2, 0.09), (1, 0.01)):
            task = asyncio.create_task(ask(trio, guardians, requests_for(trio, range(10, 10 + BATCH))))
            await asyncio.sleep(moment)
            trio.stop(index)
            outcomes = await task
            assert all(isinstance(one, IdentificationError) or one == Match(10 + n) for n, one in enumerate(outcomes))
            start(trio, index)
            await trio.ready()
        assert (await ask(trio, guardians, requests_for(trio, range(BATCH)))) == [Match(n) for n in range(BATCH)]
        no_stream_was_used_twice(trio)

    run(trio, scene)


def test_a_machine_set_back_to_a_snapshot_repeats_no_stream_and_answers_no_query_again(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        trio.stop(1)
        snapshot = trio.base / "snapshot"
        shutil.copytree(trio.folder(1), snapshot)
        start(trio, 1)
        await trio.ready()
        requests = requests_for(trio, range(BATCH))
        assert (await ask(trio, guardians, requests)) == [Match(n) for n in range(BATCH)]
        trio.stop(1)
        shutil.rmtree(trio.folder(1))
        shutil.copytree(snapshot, trio.folder(1))
        start(trio, 1)
        await trio.ready()
        assert all(isinstance(outcome, IdentificationError) for outcome in await ask(trio, guardians, requests))
        assert (await ask(trio, guardians, requests_for(trio, range(3)))) == [Match(n) for n in range(3)]
        no_stream_was_used_twice(trio)

    run(trio, scene)


_FULL = """
from facefare.guardian.errors import StoreFull
from {module} import {owner}
point, calls = {owner}.{name}, []
def full(*arguments, **named):
    calls.append(1)
    if len(calls) <= {calls}:
        raise StoreFull("full")
    return point(*arguments, **named)
{owner}.{name} = full
"""


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("name", ["prepare_refresh", "commit_refresh"])
def test_a_full_disk_in_a_refresh_leaves_every_chunk_old_or_new_at_all_three(trio: Trio, index: int, name: str) -> None:
    async def scene(guardians: Guardians) -> None:
        statuses = await guardians.status()
        (epoch,) = {one.epoch for status in statuses if status for one in status.galleries if one.gallery == DEMO}
        trio.stop(index)
        start(trio, index, _FULL.format(module="facefare.guardian.store", owner="ShareStore", name=name, calls=1))
        await trio.ready()
        CliRunner().invoke(app, ["refresh", str(trio.folder(0)), "--no-wait"])
        await asyncio.sleep(2.5)
        await trio.ready()
        assert (await ask(trio, guardians, requests_for(trio, range(3)))) == [Match(n) for n in range(3)]
        done = await asyncio.to_thread(CliRunner().invoke, app, ["refresh", str(trio.folder(0))])
        assert done.exit_code == 0, done.output
        statuses = await guardians.status()
        (after,) = {one.epoch for status in statuses if status for one in status.galleries if one.gallery == DEMO}
        assert after > epoch
        assert (await ask(trio, guardians, requests_for(trio, range(3)))) == [Match(n) for n in range(3)]

    run(trio, scene)


def test_a_disk_that_fills_up_between_preparing_and_committing_completes_the_change_once_there_is_room(
    trio: Trio,
) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=901)
        trio.stop(1)
        start(trio, 1, _FULL.format(module="facefare.guardian.store", owner="ShareStore", name="commit", calls=3))
        await trio.ready()
        request, row, version = trio.enrol_request(person), trio.rows[DEMO], trio.version[DEMO]
        with pytest.raises(GuardianUnavailable):
            await guardians.enrol(request, row, version)
        await trio.ready()
        assert trio.version[DEMO] == version + 1, "two had committed it, so the third followed"
        assert await trio.search(guardians, person) == Match(row)
        trio.follow(await guardians.enrol(request, row, version))
        assert trio.version[DEMO] == version + 1

    run(trio, scene)


def test_no_room_for_a_rows_accumulator_refuses_its_enrolment(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=902)
        trio.stop(2)
        fault = _FULL.format(module="facefare.guardian.accumulators", owner="Accumulators", name="reserve", calls=1)
        start(trio, 2, fault)
        await trio.ready()
        request, row, version = trio.enrol_request(person), trio.rows[DEMO], trio.version[DEMO]
        with pytest.raises(IdentificationError, match="disk of guardian 2"):
            await guardians.enrol(request, row, version)
        trio.follow(await guardians.enrol(request, row, version))
        assert await trio.search(guardians, person) == Match(row)

    run(trio, scene)


def test_an_accumulators_file_that_can_not_grow_stays_as_it_is(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facefare.guardian import accumulators
    from facefare.guardian.errors import StoreFull

    sums = accumulators.Accumulators(tmp_path / "gal_a.sums")
    sums.begin(100)[:] = np.arange(200, dtype=np.uint64).reshape(2, 100)
    sums.keep()

    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(accumulators.os, "posix_fallocate", no_room)
        with pytest.raises(StoreFull):
            sums.reserve(70_000)
        with contextlib.suppress(StoreFull):
            sums.begin(70_000)
    assert [file.name for file in tmp_path.iterdir()] == ["gal_a.sums"]
    assert sums.components(7) == (7, 107)
    sums.begin(70_000)
    sums.keep()
    assert sums.components(7) == (7, 107)
