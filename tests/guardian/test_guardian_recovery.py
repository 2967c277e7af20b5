"""What a crash, a backup or a changed disk leaves behind, with three real guardians."""

import asyncio
import contextlib
import os
import random
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from three_guardians import DEMO, LIVE, STATION, Trio, gallery, run, synthetic_templates

from facefare.guardian.ceremony import Folder
from facefare.guardian.gallery import Change
from facefare.guardian.messages import Operation
from facefare.guardian.store import ShareStore
from facefare.identification.errors import (
    GalleriesDiffer,
    GuardianUnavailable,
    IdentificationError,
    StorageFull,
)
from facefare.identification.relay import Guardians
from facefare.mpc.answers import Match, NoMatch


async def heads(guardians: Guardians) -> set[tuple[tuple[int, bytes], ...]]:
    statuses = await guardians.status()
    return {tuple((g.version, g.head) for g in status.galleries) for status in statuses if status}


def backup(trio: Trio, index: int, to: Path) -> None:
    """Copy the share store of a stopped guardian."""
    to.mkdir()
    for file in trio.folder(index).glob("shares.db*"):
        shutil.copy(file, to / file.name)


def restore(trio: Trio, index: int, source: Path) -> None:
    for file in trio.folder(index).glob("shares.db*"):
        file.unlink()
    for file in source.iterdir():
        shutil.copy(file, trio.folder(index) / file.name)


@pytest.mark.parametrize("index", [0, 2])
def test_a_guardian_restored_from_a_backup_catches_up_before_it_answers(trio: Trio, tmp_path: Path, index: int) -> None:
    async def scene(guardians: Guardians) -> None:
        before, gone, after, *crowd = synthetic_templates(40, seed=60 + index)
        first = (await trio.enrol(guardians, before))[0].fields.row
        deleted = (await trio.enrol(guardians, gone))[0].fields.row
        trio.stop(index)
        backup(trio, index, tmp_path / "backup")
        trio.start(index)
        await trio.ready()
        trio.follow(await guardians.delete(DEMO, deleted, trio.version[DEMO]))
        await trio.enrol(guardians, np.stack(crowd))
        last = (await trio.enrol(guardians, after))[0].fields.row
        passing = (await trio.enrol(guardians, crowd[0]))[0].fields.row
        trio.follow(await guardians.delete(DEMO, passing, trio.version[DEMO]))
        trio.stop(index)
        restore(trio, index, tmp_path / "backup")
        trio.start(index)
        await trio.ready()
        assert "caught_up" in trio.log(index)
        assert len(await heads(guardians)) == 1
        assert await trio.search(guardians, before) == Match(first)
        assert await trio.search(guardians, after) == Match(last)
        assert await trio.search(guardians, gone) == NoMatch()
        assert await trio.search(guardians, crowd[5]) == Match(deleted + 6)

    run(trio, scene)


@pytest.mark.parametrize("index", [0, 1])
def test_who_is_paused_matches_nothing_after_a_restore_whether_the_backup_knows_of_the_pause(
    trio: Trio, tmp_path: Path, index: int
) -> None:
    async def scene(guardians: Guardians) -> None:
        early, late, resumed = synthetic_templates(3, seed=460 + index)
        rows = [(await trio.enrol(guardians, face))[0].fields.row for face in (early, late, resumed)]
        for row in (rows[0], rows[2]):
            trio.follow(await guardians.pause(DEMO, row, trio.version[DEMO]))
        trio.stop(index)
        backup(trio, index, tmp_path / "backup")
        trio.start(index)
        await trio.ready()
        trio.follow(await guardians.pause(DEMO, rows[1], trio.version[DEMO]))
        trio.follow(await guardians.resume(DEMO, rows[2], trio.version[DEMO]))
        trio.stop(index)
        restore(trio, index, tmp_path / "backup")
        trio.start(index)
        await trio.ready()
        assert await trio.search(guardians, early) == NoMatch()
        assert await trio.search(guardians, late) == NoMatch()
        assert await trio.search(guardians, resumed) == Match(rows[2])

    run(trio, scene)


def test_a_guardian_with_another_history_is_refused_and_named(trio: Trio, tmp_path: Path) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=70)
        request = trio.enrol_request(person, gallery=LIVE, station=STATION, key=trio.keys[STATION])
        trio.follow(await guardians.enrol(request, trio.rows[LIVE], trio.version[LIVE]))
        trio.stop(1)
        backup(trio, 1, tmp_path / "backup")
        store = ShareStore(Folder(trio.folder(1)).shares)
        altered = store.load(gallery(LIVE, "live"))
        store.prepare(altered, Change(Operation.PAUSE, 0, 1, bytes(32), bytes(16)))
        store.commit(altered)
        store.close()
        trio.start(1)
        await trio.ready()
        with pytest.raises(GalleriesDiffer) as refused:
            await guardians.search(trio.search_request(person, gallery=LIVE), trio.version[LIVE], -2000)
        assert refused.value.guardian == 1
        await trio.search(guardians, person)  # the other gallery is not concerned
        trio.stop(1)
        restore(trio, 1, tmp_path / "backup")
        trio.start(1)
        await trio.ready()
        answer = await guardians.search(trio.search_request(person, gallery=LIVE), trio.version[LIVE], -2000)
        assert answer == Match(trio.rows[LIVE] - 1)

    run(trio, scene)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_killed_in_the_middle_of_changes_the_three_agree_again_and_nothing_is_half_done(trio: Trio, index: int) -> None:
    chance = random.Random(index)

    async def scene(guardians: Guardians) -> None:
        people = synthetic_templates(900, seed=80 + index)
        request = trio.enrol_request(people)
        row, version = trio.rows[DEMO], trio.version[DEMO]
        attempt = asyncio.create_task(guardians.enrol(request, row, version))
        await asyncio.sleep(chance.uniform(0.02, 0.25))
        trio.stop(index)
        with contextlib.suppress(IdentificationError):
            await attempt
        trio.start(index)
        await trio.ready()
        assert len(await heads(guardians)) == 1
        trio.follow(await guardians.enrol(request, row, version))
        assert await trio.search(guardians, people[450]) == Match(row + 450)
        deletion = asyncio.create_task(guardians.delete(DEMO, row, trio.version[DEMO]))
        await asyncio.sleep(chance.uniform(0.0, 0.03))
        trio.stop(index)
        with contextlib.suppress(IdentificationError):
            await deletion
        trio.start(index)
        await trio.ready()
        trio.follow(await guardians.delete(DEMO, row, trio.version[DEMO]))
        assert len(await heads(guardians)) == 1
        assert await trio.search(guardians, people[0]) == NoMatch()
        assert await trio.search(guardians, people[1]) == Match(row + 1)

    run(trio, scene)


_DIE = """
import os
from facefare.guardian.store import ShareStore
{point} = ShareStore.{point}
def die(*arguments):
    if {early}:
        os._exit(9)
    {point}(*arguments)
    os._exit(9)
ShareStore.{point} = die
"""


@pytest.mark.parametrize(
    ("index", "point", "early"),
    [(0, "prepare", False), (2, "prepare", True), (1, "commit", True), (0, "commit", False), (2, "commit", False)],
)
def test_dying_at_the_worst_moment_of_a_change_leaves_it_done_at_all_three_or_at_none(
    trio: Trio, index: int, point: str, early: bool
) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=100 + index + 10 * early + 20 * (point == "commit"))
        trio.stop(index)
        trio.start(index, _DIE.format(point=point, early=early))
        await trio.ready()
        request, row, version = trio.enrol_request(person), trio.rows[DEMO], trio.version[DEMO]
        with pytest.raises(GuardianUnavailable):
            await guardians.enrol(request, row, version)
        process = trio.processes[index]
        assert process is not None
        assert process.wait(timeout=10) == 9
        trio.start(index)
        await trio.ready()
        (agreed,) = await heads(guardians)
        if point == "prepare":
            assert trio.version[DEMO] == version
        trio.follow(await guardians.enrol(request, row, version))
        assert trio.version[DEMO] == version + 1
        assert await trio.search(guardians, person) == Match(row)
        if (point, early) == ("commit", False):
            assert agreed[0][0] == version + 1  # one had committed, so the others must have followed

    run(trio, scene)


def test_a_guardian_whose_disk_is_full_refuses_and_nothing_changes(trio: Trio) -> None:
    process = trio.processes[1]
    assert process is not None

    async def scene(guardians: Guardians) -> None:
        person, other = synthetic_templates(2, seed=90)
        row = (await trio.enrol(guardians, person))[0].fields.row
        before = await heads(guardians)
        os.truncate(trio.base / "guardian-1.log", 0)  # the limit is on every file, and this one may grow
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            for change in (
                lambda: guardians.delete(DEMO, row, trio.version[DEMO]),
                lambda: guardians.enrol(trio.enrol_request(other), row + 1, trio.version[DEMO]),
                lambda: trio.search(guardians, person),
            ):
                with pytest.raises(StorageFull) as refused:
                    await change()
                assert refused.value.guardian == 1
        finally:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert await heads(guardians) == before
        assert await trio.search(guardians, person) == Match(row)
        trio.follow(await guardians.delete(DEMO, row, trio.version[DEMO]))
        assert await trio.search(guardians, person) == NoMatch()
        assert len(await heads(guardians)) == 1

    run(trio, scene)
