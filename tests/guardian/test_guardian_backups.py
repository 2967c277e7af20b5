"""Backups, restores and compaction of a guardian's folder that nobody serves: what survives which kill."""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from three_guardians import free_ports, gallery

from facefare.guardian import backups
from facefare.guardian.ceremony import Folder, perform_on_one_machine
from facefare.guardian.errors import BackupError
from facefare.guardian.gallery import Change
from facefare.guardian.messages import Operation
from facefare.guardian.store import ShareStore

GALLERY = gallery("gal_a", "live")
PEOPLE = 6000


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A guardian's folder with 6,000 rows, one of them deleted."""
    base = tmp_path_factory.mktemp("filled")
    perform_on_one_machine(base, ports=free_ports(6), galleries=[GALLERY])
    store = ShareStore(Folder(base / "guardian-0").shares)
    loaded = store.load(GALLERY)
    chance = np.random.default_rng(1)
    for first in range(0, PEOPLE, 1000):
        shares = chance.integers(0, 2**16, (1000, 130), np.uint16)
        store.prepare(loaded, Change(Operation.ENROL, first, 1000, first.to_bytes(32, "big"), bytes(16)), shares)
        store.commit(loaded)
    store.prepare(loaded, Change(Operation.DELETE, 3, 1, bytes(32), bytes(16)))
    store.commit(loaded)
    store.close()
    return base / "guardian-0"


@pytest.fixture
def folder(filled, tmp_path):
    return Folder(Path(shutil.copytree(filled, tmp_path / "guardian-0")))


def contents(folder):
    store = ShareStore(folder.shares)
    loaded = store.load(GALLERY)
    found = (loaded.version, loaded.head, loaded.rows, loaded.shares.copy(), loaded.live.copy())
    store.close()
    return found


def same(a, b):
    return a[:3] == b[:3] and np.array_equal(a[3], b[3]) and np.array_equal(a[4], b[4])


def run(command, folder, *arguments, prelude="", kill_after=None):
    program = f"{prelude}\nfrom facefare.guardian.commands import app; app()"
    process = subprocess.Popen([sys.executable, "-c", program, command, str(folder.path), *map(str, arguments)])
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    return process.wait(timeout=60)


def test_a_backup_gives_back_what_was_there_then(folder, tmp_path):
    before = contents(folder)
    header = backups.back_up(folder, tmp_path / "b")
    assert header["galleries"] == {"gal_a": {"version": 7, "epoch": 0}}
    store = ShareStore(folder.shares)
    loaded = store.load(GALLERY)
    store.prepare(loaded, Change(Operation.DELETE, 5, 1, b"x" * 32, bytes(16)))
    store.commit(loaded)
    store.close()
    assert not same(contents(folder), before)
    backups.restore(folder, tmp_path / "b")
    assert same(contents(folder), before)
    with pytest.raises(BackupError, match="never written over"):
        backups.back_up(folder, tmp_path / "b")


def test_another_guardians_backup_and_anything_else_is_refused(folder, tmp_path):
    backups.back_up(folder, tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    (tmp_path / "other").write_bytes(data.replace(b'"guardian": 0', b'"guardian": 1'))
    (tmp_path / "forged").write_bytes(data.replace(b'"epoch": 0', b'"epoch": 9'))
    (tmp_path / "text").write_text("hello")
    (tmp_path / "short").write_bytes(data[: data.index(b"}}") + 100])
    before = contents(folder)
    for name in ("other", "forged", "text", "short"):
        with pytest.raises(BackupError):
            backups.restore(folder, tmp_path / name)
    assert same(contents(folder), before)
    assert not list(folder.path.glob("*.tmp"))


def test_a_backup_killed_in_the_middle_restores_nothing_and_its_unsealed_copy_does_not_stay(folder, tmp_path):
    prelude = (
        "import os\nimport facefare.guardian.backups as b\nb.AESGCM.encrypt = None\nb._seal = lambda *_: os._exit(9)"
    )
    assert run("backup", folder, tmp_path / "b", prelude=prelude) == 9
    assert (folder.path / "backup.tmp").exists()
    with backups.serving_alone(folder):
        assert not (folder.path / "backup.tmp").exists()
    backups.back_up(folder, tmp_path / "b")
    backups.restore(folder, tmp_path / "b")


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_of_compacting_or_backing_up_the_store_is_whole(folder, tmp_path, seed):
    before = contents(folder)
    moment = random.Random(seed).uniform(0.3, 1.2)
    run("compact", folder, kill_after=moment)
    assert same(contents(folder), before)
    run("backup", folder, tmp_path / "b", kill_after=moment)
    assert same(contents(folder), before)
    if (tmp_path / "b").exists():
        with contextlib.suppress(BackupError):
            backups.restore(folder, tmp_path / "b")
        assert same(contents(folder), before)


def test_pruning_keeps_the_newest_and_ends_the_others(folder, tmp_path, monkeypatch):
    stamps = iter(["20260101T000000Z", "20260102T000000Z", "20260103T000000Z"])
    monkeypatch.setattr(backups.time, "strftime", lambda *_: next(stamps))
    names = [backups.back_up(folder, tmp_path / str(n))["name"] for n in range(3)]
    assert backups.prune(folder, keep=1) == names[:2]
    backups.restore(folder, tmp_path / "2")
    for n in (0, 1):
        with pytest.raises(BackupError, match="destroyed"):
            backups.restore(folder, tmp_path / str(n))


def test_a_backup_that_found_no_room_leaves_no_key_that_pruning_would_count(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    keys = folder.path / "keys" / "backups"
    before = set(keys.glob("*")) if keys.exists() else set()
    monkeypatch.setattr(backups, "_seal", full)
    with pytest.raises(BackupError, match="No space left"):
        backups.back_up(folder, tmp_path / "full.backup")
    assert set(keys.glob("*")) == before


def test_compacting_drops_only_what_nobody_can_need(folder, monkeypatch):
    store = ShareStore(folder.shares)
    loaded = store.load(GALLERY)
    for number, operation in enumerate((Operation.PAUSE, Operation.RESUME, Operation.PAUSE)):
        store.prepare(loaded, Change(operation, 8, 1, bytes([number]) * 32, bytes(16)))
        store.commit(loaded)
    shares = np.ones((1, 130), np.uint16)
    store.prepare(loaded, Change(Operation.ENROL, PEOPLE, 1, b"k" * 32, bytes(16), key=b"p" * 32), shares)
    store.commit(loaded)
    heads = [store.head_at(loaded, version) for version in range(loaded.version + 1)]
    store.close()
    before = contents(folder)
    assert backups.compact(folder)[0] == 0, "all of it is young"
    monkeypatch.setattr(backups, "_KEPT_MS", -1000)
    monkeypatch.setattr(backups, "_KEPT_CHANGES", 1)
    assert backups.compact(folder)[0] == 6 + 2, "six enrolments without a key, two superseded changes"
    assert same(contents(folder), before)
    store = ShareStore(folder.shares)
    loaded = store.load(GALLERY)
    assert store.payer_key(loaded, PEOPLE) == b"p" * 32
    assert store.last(loaded, Operation.DELETE, 3) is not None
    assert store.last(loaded, Operation.PAUSE, 8) is not None
    assert [store.head_at(loaded, version) for version in range(loaded.version + 1)] == heads
    store.close()
