"""A guardian that lost its disk, or was away for 50,000 changes, gets whole galleries from the other two."""

import asyncio
import contextlib
import os
import shutil
import time

import numpy as np
import pytest
from three_guardians import DEMO, LIVE, STATION, THRESHOLD, Trio, gallery, run, synthetic_templates, three_guardians
from typer.testing import CliRunner

from facefare.guardian import backups
from facefare.guardian.ceremony import Folder
from facefare.guardian.commands import app
from facefare.guardian.gallery import Change, columns_of, head_after
from facefare.guardian.messages import Operation
from facefare.guardian.store import ShareStore
from facefare.identification.errors import GalleriesDiffer, IdentificationError
from facefare.identification.relay import Guardians
from facefare.mpc.answers import Match, NoMatch

ROWS = 17_000  # five chunks, more than are replayed
CROWD = synthetic_templates(ROWS, seed=7)
DELETED, PAUSED = 4100, 9000


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    """17,000 people in the demo gallery, one deleted, one paused; one person in the live gallery."""
    with three_guardians(tmp_path_factory.mktemp("transfers")) as running:

        async def fill(guardians: Guardians) -> None:
            await running.enrol_many(guardians, ROWS)
            running.follow(await guardians.delete(DEMO, DELETED, running.version[DEMO]))
            running.follow(await guardians.pause(DEMO, PAUSED, running.version[DEMO]))
            request = running.enrol_request(
                synthetic_templates(1, seed=70)[0], gallery=LIVE, station=STATION, key=running.keys[STATION]
            )
            running.follow(await guardians.enrol(request, 0, running.version[LIVE]))

        run(running, fill)
        yield running


def lose_disk(trio: Trio, index: int) -> None:
    """What the operator of a guardian does whose disk was lost: an empty store, and the registrations again."""
    folder = Folder(trio.folder(index))
    registry = folder.registry()
    galleries, terminal = registry.galleries(), registry.terminal("trm_gate1")
    stations = [registry.station(name) for name in ("stn_desk", "stn_demo")]
    registry.close()
    for file in trio.folder(index).glob("*.db*"):
        file.unlink()
    shutil.rmtree(folder.sums)
    shutil.rmtree(folder.log)
    registry = folder.registry()
    for one in galleries:
        registry.add_gallery(one)
    registry.add_terminal(terminal)
    for station in stations:
        registry.add_station(station)
    registry.close()


async def standings(guardians: Guardians) -> list[tuple[tuple[int, bytes, int, int, int], ...]]:
    statuses = await guardians.status()
    return [tuple((g.version, g.head, g.rows, g.live, g.epoch) for g in one.galleries) for one in statuses if one]


async def whole_again(trio: Trio, guardians: Guardians, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        found = await standings(guardians)
        if len(found) == 3 and len(set(found)) == 1:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{[[one[0] for one in part] for part in found]} {trio.log(0)[-1000:]}")
        await asyncio.sleep(0.1)


async def everyone_is_found(trio: Trio, guardians: Guardians) -> None:
    await trio.ready()
    for row in (0, 4095, 4096, 12_345, ROWS - 1):
        assert await trio.search(guardians, CROWD[row]) == Match(row)
    for row in (DELETED, PAUSED):
        assert await trio.search(guardians, CROWD[row]) == NoMatch()
    assert trio.rows[DEMO] == ROWS


_SLOW = """
import time
from facefare.guardian.transfers import Transfer
run = Transfer.run
def slow(*arguments):
    time.sleep(0.4)
    return run(*arguments)
Transfer.run = slow
"""

_DIE = """
import os
from facefare.guardian.store import ShareStore
{point}, calls = ShareStore.{point}, []
def die(*arguments):
    calls.append(1)
    if len(calls) == {call} and {early}:
        os._exit(9)
    result = {point}(*arguments)
    if len(calls) == {call}:
        os._exit(9)
    return result
ShareStore.{point} = die
"""


@pytest.mark.parametrize("index", [0, 1])
def test_a_guardian_that_lost_its_disk_gets_everything_back_while_other_galleries_are_served(
    trio: Trio, index: int
) -> None:
    (person,) = synthetic_templates(1, seed=70)

    async def scene(guardians: Guardians) -> None:
        trio.stop(index)
        lose_disk(trio, index)
        trio.start(index, _SLOW)
        version = trio.version[DEMO]
        await trio.ready()
        served = 0
        while len(set(await standings(guardians))) > 1:
            request = trio.search_request(person, gallery=LIVE)
            assert await guardians.search(request, trio.version[LIVE], THRESHOLD) == Match(0)
            served += 1
            with contextlib.suppress(GalleriesDiffer):
                answer = await guardians.search(trio.search_request(CROWD[3]), version, THRESHOLD)
                assert answer == Match(3), "it is answered from the whole gallery or not at all"
        assert served > 1
        await everyone_is_found(trio, guardians)
        assert trio.version[DEMO] == version
        trio.follow(await guardians.pause(DEMO, 1, version))
        trio.follow(await guardians.resume(DEMO, 1, trio.version[DEMO]))

    run(trio, scene)


@pytest.mark.parametrize(
    ("lacking", "dying", "point", "call", "early"),
    [
        (1, 1, "take_history", 1, False),
        (1, 1, "take_chunk", 3, True),
        (0, 0, "take_chunk", 3, False),
        (2, 2, "finish_arrival", 1, True),
        (2, 2, "finish_arrival", 1, False),
        (2, 0, "records", 1, True),
    ],
)
def test_killed_in_the_middle_of_a_transfer_it_goes_on_where_it_was(
    trio: Trio, lacking: int, dying: int, point: str, call: int, early: bool
) -> None:
    async def scene(guardians: Guardians) -> None:
        trio.stop(lacking, dying) if lacking != dying else trio.stop(lacking)
        lose_disk(trio, lacking)
        for index in {lacking, dying}:
            trio.start(index, _DIE.format(point=point, call=call, early=early) if index == dying else "")
        process = trio.processes[dying]
        assert process is not None
        assert await asyncio.to_thread(process.wait, 60) == 9
        trio.start(dying)
        await trio.ready()
        await whole_again(trio, guardians)
        if point == "take_chunk":
            assert f'"steps": {1 + 5 - 2 + (0 if early else -1)}' in trio.log(lacking).replace("steps=", '"steps": ')
        await everyone_is_found(trio, guardians)

    run(trio, scene)


def test_a_guardian_killed_at_random_moments_of_a_transfer_ends_up_whole(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        trio.stop(1)
        lose_disk(trio, 1)
        for moment in (0.3, 0.7, 1.2):
            trio.start(1, _SLOW)
            await trio.ready()
            await asyncio.sleep(moment)
            trio.stop(1)
        trio.start(1)
        await trio.ready()
        await whole_again(trio, guardians)
        await everyone_is_found(trio, guardians)

    run(trio, scene)


def append_changes(trio: Trio, index: int, count: int) -> None:
    """Let a stopped guardian's history go on by pauses and resumptions, far faster than by serving them."""
    store = ShareStore(Folder(trio.folder(index)).shares)
    demo = store.load(gallery(DEMO, "demo"))
    version, head, rows = demo.version, demo.head, []
    for number in range(count):
        operation = (Operation.PAUSE, Operation.RESUME)[number % 2]
        change = Change(operation, 5, 1, number.to_bytes(32, "big"), bytes(16))
        version += 1
        head = head_after(head, version, change)
        rows.append((DEMO, version, *columns_of(change), head, 1_000 + number))
    store._database.execute("BEGIN")
    store._database.executemany(f"INSERT INTO sequence VALUES ({','.join('?' * 10)})", rows)
    store._database.execute("COMMIT")
    store.close()


def test_a_guardian_more_than_fifty_thousand_changes_behind_catches_up_though_the_others_compacted(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(guardians: Guardians) -> None:
        before = trio.version[DEMO]
        trio.stop(0, 1, 2)
        for index in (0, 2):
            append_changes(trio, index, 50_100)
        monkeypatch.setattr(backups, "_KEPT_CHANGES", 50_000)
        done = CliRunner().invoke(app, ["compact", str(trio.folder(2))])
        assert int(done.output.split()[0]) >= 100, "changes behind the kept ones, one guardian only"
        for index in range(3):
            trio.start(index)
        await trio.ready()
        await whole_again(trio, guardians)
        await everyone_is_found(trio, guardians)
        assert trio.version[DEMO] == before + 50_100
        assert await trio.search(guardians, CROWD[5]) == Match(5)

    run(trio, scene)


def test_a_guardian_far_behind_with_another_history_is_refused_and_named(trio: Trio, tmp_path) -> None:
    async def scene(guardians: Guardians) -> None:
        trio.stop(1)
        files = list(trio.folder(1).glob("shares.db*"))
        for file in files:
            shutil.copy(file, tmp_path / file.name)
        lose_disk(trio, 1)
        store = ShareStore(Folder(trio.folder(1)).shares)
        demo = store.load(gallery(DEMO, "demo"))
        shares = np.ones((1, demo.columns), np.uint16)
        store.prepare(demo, Change(Operation.ENROL, 0, 1, bytes(32), bytes(16)), shares)
        store.commit(demo)
        store.close()
        trio.start(1)
        await trio.ready()
        with pytest.raises(GalleriesDiffer) as refused:
            await guardians.search(trio.search_request(CROWD[3]), (await standings(guardians))[0][0][0], THRESHOLD)
        assert refused.value.guardian == 1
        assert "history_differs" in trio.log(0)
        trio.stop(1)
        for file in trio.folder(1).glob("shares.db*"):
            file.unlink()
        for file in files:
            shutil.copy(tmp_path / file.name, file)
        trio.start(1)
        await trio.ready()
        await everyone_is_found(trio, guardians)

    run(trio, scene)


_IMPATIENT = "import facefare.guardian.upkeep as u\nu._TRANSFER_PAUSE = 1.0\n"
_FULL_TWICE = """
from facefare.guardian.errors import StoreFull
from facefare.guardian.store import ShareStore
take, calls = ShareStore.take_chunk, []
def full(*arguments):
    calls.append(1)
    if len(calls) < 3:
        raise StoreFull("full")
    take(*arguments)
ShareStore.take_chunk = full
"""
_ONE_HELPER_LIES = """
from facefare.guardian.gallery import Gallery
chunk, calls = Gallery.chunk, []
def lie(self, number):
    bits, shares = chunk(self, number)
    calls.append(1)
    return (bits._replace(live=bits.used) if number == 2 and len(calls) < 6 else bits), shares
Gallery.chunk = lie
"""


@pytest.mark.parametrize(("index", "fault"), [(2, _FULL_TWICE), (1, _ONE_HELPER_LIES)])
def test_what_the_receiver_can_not_keep_is_refused_and_tried_again_later(trio: Trio, index: int, fault: str) -> None:
    async def scene(guardians: Guardians) -> None:
        trio.stop(0, index, 2) if index != 2 else trio.stop(0, 2)
        os.truncate(trio.base / "guardian-2.log", 0)
        lose_disk(trio, 2)
        for one in {0, 2, index}:
            trio.start(one, (_IMPATIENT if one == 0 else "") + (fault if one == index else ""))
        await trio.ready()
        await whole_again(trio, guardians)
        refused = trio.log(2)
        assert ("transfer_refused" if fault is _FULL_TWICE else "history_differs") in refused
        await everyone_is_found(trio, guardians)
        for one in {0, 2, index}:
            trio.stop(one)
            trio.start(one)
        await trio.ready()
        with contextlib.suppress(IdentificationError):
            assert await trio.search(guardians, CROWD[PAUSED]) == NoMatch()

    run(trio, scene)
