"""After an enrolment, and after a deletion, its sealed shares are in no byte that the wallet's database ever wrote."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text

from facefare.guardian.messages import Operation
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.wallet import consents, faces, galleries, payers, pins, stations
from facefare.wallet.carrying import Changes
from facefare.wallet.consents import Notice
from facefare.wallet.errors import ChangeUnconfirmed, InvalidEnrolment
from facefare.wallet.pending_keys import PendingKeys
from facefare.web.migrations import upgrade

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Engine, Path]]:
    """A server of this test's own, and the folder of all its files: tables, indexes, write-ahead log."""
    folder = tmp_path / "data"
    with embedded_postgres(folder) as url:
        engine = make_engine(url)
        upgrade(engine)
        with engine.begin() as connection:
            galleries.open_gallery(connection, "gal_town", kind="live")
        yield engine, folder
        engine.dispose()


def enrol(engine: Engine, changes: Changes, requests: Any, label: str) -> str:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        consent = consents.give(connection, payer.id, NOTICE, Ed25519PrivateKey.generate())
    asyncio.run(changes.enrol(requests.enrolment(label, consent.receipt_sha256)))
    return payer.id


def written(engine: Engine, folder: Path) -> bytes:
    """Every byte in the server's files, with all that was in memory written out."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_switch_wal()"))
        connection.execute(text("CHECKPOINT"))
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_sealed_share_is_nowhere_in_the_databases_files(
    server: tuple[Engine, Path], tmp_path: Path, guardians: Any, requests: Any
) -> None:
    engine, folder = server
    with engine.begin() as connection:
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
    keys = tmp_path / "keys"
    label, unlocked = os.urandom(16).hex(), os.urandom(16).hex()
    changes = Changes(engine, guardians, PendingKeys(keys), threshold=lambda _: -2000)
    payer = enrol(engine, changes, requests, label)
    assert label.encode() not in written(engine, folder)
    asyncio.run(changes.alter(payer, Operation.DELETE))
    assert label.encode() not in written(engine, folder)
    assert list(keys.iterdir()) == []
    # The search finds what is there: without keys, the write-ahead log remembers what the table forgot.
    enrol(engine, Changes(engine, guardians, threshold=lambda _: -2000), requests, unlocked)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(sealed_request) FROM gallery_change")).scalar_one() == 0
    assert unlocked.encode() in written(engine, folder)


def base_backup(engine: Engine, to: Path) -> bytes:
    """Every byte of a physical backup of the whole server, its write-ahead log included, as an operator makes them."""
    with engine.connect() as connection:
        name = "SELECT setting || '/pg_basebackup' FROM pg_config WHERE name = 'BINDIR'"
        program = connection.execute(text(name)).scalar_one()
    url = engine.url
    asked = [program, "-h", str(url.query["host"]), "-U", str(url.username)]
    subprocess.run([*asked, "-D", str(to), "-X", "stream", "-c", "fast"], check=True, capture_output=True, timeout=60)
    return b"".join(path.read_bytes() for path in sorted(to.rglob("*")) if path.is_file())


def test_no_share_no_token_and_no_pin_is_in_a_base_backup(
    server: tuple[Engine, Path], tmp_path: Path, guardians: Any, requests: Any
) -> None:
    engine, _ = server
    with engine.begin() as connection:
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
        payer, token = payers.register(connection, "EUR")
        pins.set_pin(connection, payer.id, "80264971")
    done, pending, unlocked = (os.urandom(16).hex() for _ in range(3))
    changes = Changes(engine, guardians, PendingKeys(tmp_path / "keys"), threshold=lambda _: -2000)
    enrol(engine, changes, requests, done)
    guardians.lose_answer = True
    with pytest.raises(ChangeUnconfirmed):  # a request that waits for the guardians is kept, locked
        enrol(engine, changes, requests, pending)
    backup = base_backup(engine, tmp_path / "first")
    assert payer.id.encode() in backup, "it is the backup of this database"
    for secret in (done, pending, token, "80264971"):
        assert secret.encode() not in backup
    guardians.lose_answer = False
    asyncio.run(changes.finish_all_pending())
    # The search finds what is there: without keys, what waits is readable.
    guardians.lose_answer = True
    with pytest.raises(ChangeUnconfirmed):
        enrol(engine, Changes(engine, guardians, threshold=lambda _: -2000), requests, unlocked)
    backup = base_backup(engine, tmp_path / "second")
    assert unlocked.encode() in backup
    assert pending.encode() not in backup


def test_an_enrolment_left_by_a_crash_is_carried_again_with_its_key_and_orphaned_keys_go(
    engine: Engine, tmp_path: Path, guardians: Any, requests: Any
) -> None:
    with engine.begin() as connection:
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
        galleries.open_gallery(connection, "gal_town", kind="live")
    keys = PendingKeys(tmp_path)
    keys.lock("chg_never_came_to_be", b"data")
    guardians.lose_answer = True
    with pytest.raises(ChangeUnconfirmed):
        enrol(engine, Changes(engine, guardians, keys, threshold=lambda _: -2000), requests, "ada")
    assert len(list(tmp_path.iterdir())) == 2
    guardians.lose_answer = False
    asyncio.run(Changes(engine, guardians, PendingKeys(tmp_path)).finish_all_pending())
    assert list(tmp_path.iterdir()) == []
    with engine.connect() as connection:
        assert faces.in_row(connection, "gal_town", 0) is not None


def test_what_was_locked_opens_with_its_own_key_only_and_not_after_shredding(tmp_path: Path) -> None:
    keys = PendingKeys(tmp_path)
    locked, other = keys.lock("chg_a", b"sealed"), keys.lock("chg_b", b"sealed")
    assert keys.unlock("chg_a", locked) == b"sealed"
    for change, data in (("chg_b", locked), ("chg_a", other), ("chg_a", b""), ("chg_c", locked)):
        with pytest.raises(InvalidEnrolment):
            keys.unlock(change, data)
    keys.shred("chg_a")
    keys.shred("chg_a")
    with pytest.raises(InvalidEnrolment):
        keys.unlock("chg_a", locked)
