"""The share store: what survives a kill, a full disk and a reopening."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from facefare.guardian.errors import CeremonyError, Refused, StoreError, StoreFull
from facefare.guardian.gallery import CHUNK, Change, Gallery
from facefare.guardian.messages import Operation
from facefare.guardian.registry import GalleryDefinition, Registry, Station, Terminal
from facefare.guardian.request_log import Entry, RequestLog
from facefare.guardian.store import ShareStore

DEFINITION = GalleryDefinition("gal_a", "live", "m", 128, 200, 8191, -4000, -100)
COLUMNS = 130


def shares_of(row: int, count: int = 1) -> np.ndarray:
    """Shares that tell which row they belong to."""
    return np.concatenate(
        [np.random.default_rng(n).integers(1, 2**16, (1, COLUMNS), np.uint16) for n in range(row, row + count)]
    )


def change(store: ShareStore, gallery: Gallery, operation: Operation, row: int, count: int = 1) -> None:
    gallery.check(operation, row, count)
    digest = bytes([list(Operation).index(operation)]) + row.to_bytes(31, "big")
    shares = shares_of(row, count) if operation is Operation.ENROL else None
    store.prepare(gallery, Change(operation, row, count, digest, bytes(16)), shares)
    store.commit(gallery)


def live_rows(gallery: Gallery) -> list[int]:
    return np.flatnonzero(np.unpackbits(gallery.live.view(np.uint8), bitorder="little")).tolist()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_after_any_changes_a_reopened_store_is_the_same(data, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("store") / "shares.db"
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    states: dict[int, str] = {}
    for _ in range(data.draw(st.integers(1, 12))):
        operation = data.draw(st.sampled_from(Operation))
        row = data.draw(st.integers(0, 20).map(lambda n: n * 700))
        count = data.draw(st.integers(1, 100)) if operation is Operation.ENROL else 1
        try:
            change(store, gallery, operation, row, count)
        except Refused:
            continue
        for n in range(row, row + count):
            states[n] = {"enrol": "live", "resume": "live", "pause": "paused", "delete": "deleted"}[operation]
    store.close()
    reopened = ShareStore(path)
    again = reopened.load(DEFINITION)
    assert (again.version, again.head, again.rows) == (gallery.version, gallery.head, gallery.rows)
    assert np.array_equal(again.shares, gallery.shares)
    assert live_rows(again) == sorted(row for row, state in states.items() if state == "live")
    for row, state in states.items():
        assert np.array_equal(again.shares[row : row + 1], shares_of(row)) == (state != "deleted")
    assert len(again.live) == -(-again.rows // 64)
    reopened.close()


def test_a_row_is_enrolled_once_and_a_deleted_row_never_again(tmp_path: Path) -> None:
    store = ShareStore(tmp_path / "shares.db")
    gallery = store.load(DEFINITION)
    change(store, gallery, Operation.ENROL, 5)
    for row in (5, 4):
        with pytest.raises(Refused):
            change(store, gallery, Operation.ENROL, row, count=2)
    change(store, gallery, Operation.DELETE, 5)
    for operation in (Operation.ENROL, Operation.PAUSE, Operation.RESUME):
        with pytest.raises(Refused):
            change(store, gallery, operation, 5)
    for operation in (Operation.DELETE, Operation.PAUSE, Operation.RESUME):
        with pytest.raises(Refused):
            change(store, gallery, operation, 4)
    with pytest.raises(Refused):
        change(store, gallery, Operation.ENROL, 10_000_000)
    assert gallery.version == 2


def test_two_guardians_with_the_same_changes_have_the_same_head_and_others_do_not(tmp_path: Path) -> None:
    heads = []
    for name, row in (("a", 0), ("b", 0), ("c", 1)):
        store = ShareStore(tmp_path / name)
        gallery = store.load(DEFINITION)
        change(store, gallery, Operation.ENROL, row)
        change(store, gallery, Operation.DELETE, row)
        heads.append(gallery.head)
        store.close()
    assert heads[0] == heads[1] != heads[2]


def test_what_is_prepared_is_invisible_until_committed_and_survives_a_reopening(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    change(store, gallery, Operation.ENROL, 0)
    promised = store.prepare(gallery, Change(Operation.ENROL, 1, 1, bytes(32), bytes(16)), shares_of(1))
    assert (gallery.version, gallery.rows) == (1, 1)
    store.close()
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    assert (gallery.version, gallery.rows, gallery.prepared_head) == (1, 1, promised)
    store.commit(gallery)
    assert (gallery.version, gallery.head, gallery.prepared_head) == (2, promised, None)
    assert np.array_equal(gallery.shares, shares_of(0, 2))
    store.prepare(gallery, Change(Operation.DELETE, 1, 1, bytes(32), bytes(16)))
    store.discard(gallery)
    with pytest.raises(StoreError):
        store.commit(gallery)
    assert live_rows(gallery) == [0, 1]
    store.close()


def test_a_deleted_share_is_nowhere_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    change(store, gallery, Operation.ENROL, 0, count=3)
    needle = shares_of(1).tobytes()
    assert any(needle in file.read_bytes() for file in tmp_path.iterdir())
    change(store, gallery, Operation.DELETE, 1)
    assert not store.erasure_pending
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert needle not in content
        assert needle[:64] not in content
    assert not np.array_equal(gallery.shares[1:2], shares_of(1))
    store.close()


def test_a_reader_only_delays_the_erasure(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    store = ShareStore(path)
    store._database.execute("PRAGMA busy_timeout=50")
    gallery = store.load(DEFINITION)
    change(store, gallery, Operation.ENROL, 0)
    reader = Registry(path)
    reader._database.execute("BEGIN")
    reader._database.execute("SELECT * FROM galleries").fetchall()
    change(store, gallery, Operation.DELETE, 0)
    assert store.erasure_pending
    reader.close()
    store.truncate_log()
    assert not store.erasure_pending
    assert shares_of(0).tobytes() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_a_full_disk_refuses_the_write_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    change(store, gallery, Operation.ENROL, 0)
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages + 20}")
    with pytest.raises(StoreFull):
        store.prepare(gallery, Change(Operation.ENROL, 1, 1000, bytes(32), bytes(16)), shares_of(1, 1000))
    # this one can be prepared, but its commit needs a new chunk of a megabyte
    store.prepare(gallery, Change(Operation.ENROL, CHUNK, 1, bytes(32), bytes(16)), shares_of(CHUNK))
    with pytest.raises(StoreFull):
        store.commit(gallery)
    assert (gallery.version, gallery.rows, live_rows(gallery)) == (1, 1, [0])
    store._database.execute("PRAGMA max_page_count=1000000")
    store.commit(gallery)
    assert (gallery.version, live_rows(gallery)) == (2, [0, CHUNK])
    store.close()
    store = ShareStore(path)
    again = store.load(DEFINITION)
    assert (again.version, again.head, live_rows(again)) == (2, gallery.head, [0, CHUNK])
    store.close()


_WRITER = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_guardian_store import COLUMNS, DEFINITION, change, shares_of
from facefare.guardian.messages import Operation
from facefare.guardian.store import ShareStore
store = ShareStore(Path(sys.argv[1]))
gallery = store.load(DEFINITION)
if gallery.prepared_head is not None:
    store.commit(gallery)
print("ready", flush=True)
while True:
    row = gallery.rows
    change(store, gallery, Operation.ENROL, row)
    if row % 3 == 0:
        change(store, gallery, Operation.DELETE, row)
"""


def test_killed_at_any_moment_the_store_opens_with_whole_changes_only(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    here = str(Path(__file__).parent)
    versions = [0]
    for attempt in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), here], stdout=subprocess.PIPE, env={**os.environ}
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.037 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        store = ShareStore(path)
        gallery = store.load(DEFINITION)
        assert gallery.version >= versions[-1]
        versions.append(gallery.version)
        live = set(live_rows(gallery))
        for row in range(gallery.rows):
            assert row in live or row % 3 == 0
            assert np.array_equal(gallery.shares[row : row + 1], shares_of(row)) == (row in live)
        # each kill may have come between a row's enrolment and its deletion
        assert sum(row % 3 == 0 for row in live) <= attempt + 1
        store.close()
    assert versions[-1] > versions[1]


def test_a_hundred_thousand_rows_are_held_in_three_hundred_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    block = np.random.default_rng(0).integers(0, 2**16, (1000, COLUMNS), np.uint16)
    for row in range(0, 100_000, 1000):
        digest = row.to_bytes(32, "big")
        store.prepare(gallery, Change(Operation.ENROL, row, 1000, digest, bytes(16)), block)
        store.commit(gallery)
    assert len(gallery._shares) * COLUMNS * 2 <= 300 * gallery.rows
    store.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 320 * 100_000
    store = ShareStore(path)
    again = store.load(DEFINITION)
    assert again.rows == again.status().live == 100_000
    assert np.array_equal(again.shares[-1000:], block)
    store.close()


def test_a_request_log_remembers_ids_and_the_last_minutes(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    log = RequestLog(path)
    entries = [Entry("trm_a", 1000 + n, "payment", bytes([n]) * 32) for n in range(4)]
    for n, entry in enumerate(entries):
        log.append(entry, bytes([n]) * 16, until=1002 + n)
    with pytest.raises(StoreError):
        log.append(entries[3], bytes([3]) * 16, until=2000)
    log.close()
    log = RequestLog(path)
    assert log.since(0) == entries
    assert log.since(1002) == entries[2:]
    assert set(log.seen()) == {bytes([n]) * 16 for n in (1, 2, 3)}
    log.append(Entry("trm_a", 1002 + 600_000, "payment", bytes(32)), None, until=0)
    assert log.since(0)[:2] == entries[2:]
    assert log.seen() == {}
    log.close()


def test_a_full_disk_refuses_the_log_entry(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "requests.db")
    (pages,) = log._database.execute("PRAGMA page_count").fetchone()
    log._database.execute(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        for n in range(10_000):
            log.append(Entry("trm_a", n, "payment", bytes(32)), n.to_bytes(16, "big"), until=n + 10**9)

    with pytest.raises(StoreFull):
        fill()
    written = len(log.since(0))
    log._database.execute("PRAGMA max_page_count=100000")
    log.append(Entry("trm_a", 10**5, "payment", bytes(32)), b"x" * 16, until=10**9)
    assert len(log.since(0)) == written + 1
    log.close()


def test_registrations_count_at_once_and_definitions_never_change(tmp_path: Path) -> None:
    registry, other = Registry(tmp_path / "shares.db"), Registry(tmp_path / "shares.db")
    registry.add_gallery(DEFINITION)
    registry.add_gallery(DEFINITION)
    with pytest.raises(CeremonyError):
        registry.add_gallery(GalleryDefinition("gal_a", "demo", "m", 128, 200, 8191, -4000, -100))
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    terminal = Terminal("trm_a", key, ("gal_a",), rate=0.1)
    registry.add_terminal(terminal)
    registry.add_station(Station("stn_a", key, ("gal_a",), demo_only=True))
    assert other.gallery("gal_a") == DEFINITION
    assert other.terminal("trm_a") == terminal
    assert other.station("stn_a") == Station("stn_a", key, ("gal_a",), demo_only=True)
    registry.remove("terminals", "trm_a")
    assert other.terminal("trm_a") is None
    with pytest.raises(CeremonyError, match="trm_a is not registered"):
        registry.remove("terminals", "trm_a")
    with pytest.raises(CeremonyError):
        registry.add_terminal(Terminal("gate 1", key, ()))
    with pytest.raises(CeremonyError):
        registry.add_terminal(Terminal("trm_a", bytes(31), ()))
    with pytest.raises(CeremonyError, match="ten minutes"):
        registry.add_terminal(Terminal("trm_a", key, (), rate=0.001))
    registry.close()
    other.close()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "test"},
        {"dimensions": 129},
        {"dimensions": 514},
        {"min_squared_norm": 0},
        {"max_squared_norm": 8192},
        {"min_threshold": -40_000},
        {"max_threshold": 0},
        {"id": "trm_a"},
    ],
)
def test_an_impossible_gallery_is_refused_at_the_ceremony(change: dict) -> None:
    fields = {**DEFINITION.__dict__, **change}
    with pytest.raises(CeremonyError):
        GalleryDefinition(**fields)
