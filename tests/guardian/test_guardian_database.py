"""Formats of a guardian's files: an older one is brought up, a newer or an unknown one is refused untouched."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from facefare.guardian.database import REQUESTS, SHARES, Kind, open_database
from facefare.guardian.errors import StoreError
from facefare.guardian.gallery import Change
from facefare.guardian.messages import Operation
from facefare.guardian.registry import GalleryDefinition, Registry
from facefare.guardian.request_log import RequestLog
from facefare.guardian.store import ShareStore

DEFINITION = GalleryDefinition("gal_a", "live", "m", 128, 200, 8191, -4000, -100)


def run_sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]


@pytest.fixture
def unnumbered(tmp_path: Path) -> Path:
    """A share store as programs from before formats were numbered left it, with a row."""
    path = tmp_path / "shares.db"
    registry = Registry(path)
    registry.add_gallery(DEFINITION)
    registry.close()
    store = ShareStore(path)
    gallery = store.load(DEFINITION)
    store.prepare(gallery, Change(Operation.ENROL, 3, 1, bytes(32), bytes(16)), np.full((1, 130), 7, np.uint16))
    store.commit(gallery)
    store.close()
    run_sql(path, "DROP TABLE arrivals", "DROP TABLE heads", "PRAGMA user_version=0")
    return path


def test_a_file_from_before_formats_were_numbered_is_brought_up_with_all_that_is_in_it(unnumbered: Path) -> None:
    registry = Registry(unnumbered)
    assert registry.galleries() == [DEFINITION]
    registry.close()
    store = ShareStore(unnumbered)
    gallery = store.load(DEFINITION)
    assert (gallery.version, gallery.rows) == (1, 4)
    assert (gallery.shares[3] == 7).all()
    assert store.arriving(gallery) is None
    store.close()
    assert run_sql(unnumbered, "PRAGMA user_version") == [(len(SHARES.steps),)]


def test_an_upgrade_that_breaks_off_leaves_the_format_before(unnumbered: Path) -> None:
    broken = Kind("share store", (SHARES.steps[0], (*SHARES.steps[1], "CREATE NONSENSE")))
    with pytest.raises(StoreError, match="can't be opened"):
        open_database(unnumbered, broken)
    assert run_sql(unnumbered, "PRAGMA user_version") == [(1,)]
    assert run_sql(unnumbered, "SELECT count(*) FROM sqlite_master WHERE name = 'heads'") == [(0,)]
    ShareStore(unnumbered).close()


@pytest.mark.parametrize("opener", [ShareStore, Registry, RequestLog])
def test_a_newer_format_is_refused_and_untouched(tmp_path: Path, opener: type) -> None:
    path = tmp_path / "file.db"
    opener(path).close()
    run_sql(path, "PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="format 99, written by a newer program"):
        opener(path)
    assert path.read_bytes() == before


def test_a_format_from_before_the_first_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    run_sql(path, "CREATE TABLE chunks (id INTEGER PRIMARY KEY, gallery TEXT, number INTEGER, shares BLOB)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="Move it aside"):
        ShareStore(path)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shares.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(StoreError, match="can't be opened"):
        open_database(path, REQUESTS)
