"""Refresh of all shares while three guardians serve, and what dies in the middle of it."""

import asyncio
import contextlib
import time

import httpx
import numpy as np
import pytest
from three_guardians import DEMO, Trio, gallery, run, synthetic_templates, three_guardians
from typer.testing import CliRunner

from facefare.guardian.ceremony import Folder
from facefare.guardian.commands import app
from facefare.guardian.store import ShareStore
from facefare.identification.errors import IdentificationError
from facefare.identification.relay import Guardians
from facefare.mpc.answers import Match, NoMatch
from facefare.mpc.sharing import times_w


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    """Three guardians with 4,500 rows: two chunks."""
    with three_guardians(tmp_path_factory.mktemp("refresh")) as running:

        async def fill(guardians: Guardians) -> None:
            await running.enrol_many(guardians, 4500)

        run(running, fill)
        yield running


def shares_of(trio: Trio, index: int) -> np.ndarray:
    store = ShareStore(Folder(trio.folder(index)).shares)
    shares = store.load(gallery(DEMO, "demo")).shares.copy()
    store.close()
    return shares


def rebuilt(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What guardians 0 and 1 can do together: the line's value at 0, (w s0 - s1) / (w - 1)."""
    # s0 = A + R, s1 = A + R w, so A = s0 - R and R = (s1 - s0) / (w - 1); 1 / (w - 1) = (-2 - w) / 3
    difference = second - first
    return first + (times_w(difference, 1) + difference + difference) * np.uint16(43691)


async def refreshed(trio: Trio, guardians: Guardians, index: int = 0) -> None:
    """Ask guardian `index`'s operator command for a refresh and wait for it."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["refresh", str(trio.folder(index))])
    assert result.exit_code == 0, result.output


async def epochs(guardians: Guardians) -> set[int]:
    statuses = await guardians.status()
    return {one.epoch for status in statuses if status for one in status.galleries if one.gallery == DEMO}


@pytest.mark.parametrize("index", [0, 2])
def test_after_a_refresh_old_and_new_shares_do_not_fit_together_and_everyone_still_matches(
    trio: Trio, index: int
) -> None:
    people = synthetic_templates(1000, seed=7)

    async def scene(guardians: Guardians) -> None:
        before, (epoch,) = [shares_of(trio, n) for n in (0, 1)], await epochs(guardians)
        await refreshed(trio, guardians, index)
        assert await epochs(guardians) == {epoch + 1}
        after = [shares_of(trio, n) for n in (0, 1)]
        truth = rebuilt(*before)
        assert np.array_equal(rebuilt(*after), truth), "two guardians of one epoch rebuild all templates"
        mixed = rebuilt(before[0], after[1])
        assert (mixed == truth).mean() < 0.001, "of two epochs they rebuild nothing"
        assert await trio.search(guardians, people[5]) == Match(5)
        stranger = synthetic_templates(1, seed=1234)[0]
        assert await trio.search(guardians, stranger) == NoMatch()

    run(trio, scene)


def test_searches_are_answered_while_shares_are_refreshed(trio: Trio) -> None:
    people = synthetic_templates(1000, seed=7)

    async def scene(guardians: Guardians) -> None:
        (epoch,) = await epochs(guardians)
        task = asyncio.create_task(refreshed(trio, guardians))
        answers = [await trio.search(guardians, people[n]) for n in range(20)]
        await task
        assert answers == [Match(n) for n in range(20)]
        assert await epochs(guardians) == {epoch + 1}

    run(trio, scene)


def test_a_refresh_gets_its_turn_though_searches_never_pause(trio: Trio) -> None:
    people = synthetic_templates(1000, seed=7)

    async def scene(guardians: Guardians) -> None:
        (epoch,) = await epochs(guardians)
        done = asyncio.Event()

        async def keep_asking(row: int) -> int:
            asked = 0
            while not done.is_set():
                assert await trio.search(guardians, people[row]) == Match(row)
                asked += 1
            return asked

        crowd = [asyncio.create_task(keep_asking(row)) for row in range(6)]
        await asyncio.sleep(0.5)
        try:
            await asyncio.wait_for(refreshed(trio, guardians), 60)
        finally:
            done.set()
        assert min(await asyncio.gather(*crowd)) > 0
        assert await epochs(guardians) == {epoch + 1}

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
    [
        (0, "prepare_refresh", False),
        (2, "prepare_refresh", True),
        (1, "commit_refresh", True),
        (0, "commit_refresh", False),
        (2, "commit_refresh", False),
    ],
)
def test_dying_in_the_middle_of_a_refresh_leaves_old_or_new_shares_never_a_mixture(
    trio: Trio, index: int, point: str, early: bool
) -> None:
    people = synthetic_templates(1000, seed=7)

    async def scene(guardians: Guardians) -> None:
        (epoch,) = await epochs(guardians)
        trio.stop(index)
        trio.start(index, _DIE.format(point=point, early=early))
        await trio.ready()
        asker = Folder(trio.folder((index + 1) % 3))
        CliRunner().invoke(app, ["refresh", str(asker.path), "--no-wait"])
        process = trio.processes[index]
        assert process is not None
        assert await asyncio.to_thread(process.wait, 20) == 9
        trio.start(index)
        await trio.ready()
        assert await trio.search(guardians, people[3]) == Match(3)
        deadline = time.monotonic() + 20
        while await epochs(guardians) not in ({epoch}, {epoch + 1}) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        await refreshed(trio, guardians)
        # The search comes after the refresh at all three, so what they say of themselves then is of after it.
        assert await trio.search(guardians, people[900]) == Match(900)
        assert min(await epochs(guardians)) > epoch

    run(trio, scene)


def test_a_guardian_restored_from_before_a_refresh_gets_the_new_shares_before_it_answers(trio: Trio, tmp_path) -> None:
    people = synthetic_templates(1000, seed=7)

    async def scene(guardians: Guardians) -> None:
        backup = tmp_path / "one.backup"
        done = CliRunner().invoke(app, ["backup", str(trio.folder(1)), str(backup)])
        assert done.exit_code == 0, done.output
        await refreshed(trio, guardians)
        trio.follow(await guardians.delete(DEMO, 17, trio.version[DEMO]))
        assert CliRunner().invoke(app, ["restore", str(trio.folder(1)), str(backup)]).exit_code == 1, "it is running"
        trio.stop(1)
        done = CliRunner().invoke(app, ["restore", str(trio.folder(1)), str(backup)])
        assert done.exit_code == 0, done.output
        trio.start(1)
        await trio.ready()
        assert "chunk_recovered" in trio.log(1)
        assert await trio.search(guardians, people[17]) == NoMatch()
        assert await trio.search(guardians, people[18]) == Match(18)

    run(trio, scene)


def test_a_backup_whose_key_was_destroyed_is_noise_and_one_that_was_altered_is_refused(trio: Trio, tmp_path) -> None:
    backup, folder = tmp_path / "b.backup", trio.folder(2)
    assert CliRunner().invoke(app, ["backup", str(folder), str(backup)]).exit_code == 0
    whole = backup.read_bytes()
    assert b"SQLite" not in whole
    trio.stop(2)
    try:
        for spoilt in (whole[:-1], whole[: len(whole) // 2], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
            backup.write_bytes(spoilt)
            assert CliRunner().invoke(app, ["restore", str(folder), str(backup)]).exit_code == 1
        backup.write_bytes(whole)
        pruned = CliRunner().invoke(app, ["prune-backups", str(folder), "--keep", "0"])
        assert pruned.exit_code == 0, pruned.output
        refused = CliRunner().invoke(app, ["restore", str(folder), str(backup)])
        assert refused.exit_code == 1
        assert "destroyed" in refused.output
    finally:
        trio.start(2)
        asyncio.run(trio.ready())


def test_killed_in_the_middle_of_a_restore_the_guardian_refuses_until_it_is_finished(trio: Trio, tmp_path) -> None:
    import subprocess
    import sys

    backup, folder = tmp_path / "c.backup", trio.folder(0)
    assert CliRunner().invoke(app, ["backup", str(folder), str(backup)]).exit_code == 0
    trio.stop(0)
    prelude = "import os, pathlib\npathlib.Path.replace = lambda *_: os._exit(9)\n"
    command = f"{prelude}from facefare.guardian.commands import app; app()"
    died = subprocess.run([sys.executable, "-c", command, "restore", str(folder), str(backup)], check=False)
    assert died.returncode == 9
    refused = CliRunner().invoke(app, ["serve", str(folder)])
    assert refused.exit_code == 1
    assert "restore" in refused.output
    assert CliRunner().invoke(app, ["restore", str(folder), str(backup)]).exit_code == 0
    trio.start(0)
    asyncio.run(trio.ready())

    async def scene(guardians: Guardians) -> None:
        assert await trio.search(guardians, synthetic_templates(1000, seed=7)[40]) == Match(40)

    run(trio, scene)


def test_compacting_keeps_every_answer_and_refuses_while_the_guardian_runs(trio: Trio) -> None:
    folder = trio.folder(1)
    assert CliRunner().invoke(app, ["compact", str(folder)]).exit_code == 1
    trio.stop(1)
    done = CliRunner().invoke(app, ["compact", str(folder)])
    assert done.exit_code == 0, done.output
    trio.start(1)
    asyncio.run(trio.ready())

    async def scene(guardians: Guardians) -> None:
        assert await trio.search(guardians, synthetic_templates(1000, seed=7)[41]) == Match(41)

    run(trio, scene)


def test_a_guardian_killed_at_random_moments_of_refreshes_never_mixes_epochs(trio: Trio) -> None:
    people = synthetic_templates(1000, seed=7)

    async def scene(guardians: Guardians) -> None:
        for index, moment in ((0, 0.05), (1, 0.12), (2, 0.2)):
            CliRunner().invoke(app, ["refresh", str(trio.folder(index)), "--no-wait"])
            await asyncio.sleep(moment)
            trio.stop(index)
            trio.start(index)
            await trio.ready()
            with contextlib.suppress(IdentificationError, httpx.HTTPError):
                assert await trio.search(guardians, people[60 + index]) == Match(60 + index)

    run(trio, scene)
