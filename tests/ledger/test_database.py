"""The embedded server: shared by processes, stopped by the last one, started again after a crash."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from facefare.ledger.database import brief_locks, embedded_postgres, make_engine
from facefare.ledger.errors import DatabaseUnavailable

USER = """
import sys
from pathlib import Path
from facefare.ledger.database import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def another_user(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql+psycopg://")
    return process


def answers(url: str) -> int:
    engine = make_engine(url)
    with engine.connect() as connection:
        found: int = connection.execute(text("SELECT 1")).scalar_one()
    engine.dispose()
    return found


def server_pid(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_last_of_two_users_stops_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with embedded_postgres(folder) as url:
        pid = server_pid(folder)
        other = another_user(folder)
        other.communicate("")
        assert answers(url) == 1
        assert server_pid(folder) == pid
    assert not running(pid)


def test_a_user_that_was_killed_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    killed = another_user(folder)
    pid = server_pid(folder)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert running(pid)
    with embedded_postgres(folder) as url:
        assert server_pid(folder) == pid
        assert answers(url) == 1
    assert not running(pid)


def test_a_server_that_was_killed_recovers_what_was_committed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with embedded_postgres(folder) as url:
        engine = make_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept AS SELECT 7 AS seven"))
        engine.dispose()
        pid = server_pid(folder)
        os.kill(pid, signal.SIGKILL)
        while running(pid):
            time.sleep(0.01)
    with embedded_postgres(folder) as url:
        engine = make_engine(url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT seven FROM kept")).scalar_one() == 7
        engine.dispose()


def test_a_server_that_cannot_start_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facefare.ledger.database._START_WITHIN", 0.0)
    folder = tmp_path / "data"
    with embedded_postgres(folder):
        pass
    (folder / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(DatabaseUnavailable, match="FACEFARE_DATABASE_URL"), embedded_postgres(folder):
        pass


def test_with_brief_locks_a_transaction_is_on_the_disk_when_its_block_is_left(engine: Engine) -> None:
    for number in range(20):
        with brief_locks(engine) as connection:
            connection.execute(text("INSERT INTO merchant (id, name) VALUES (:id, 'x')"), {"id": f"mer_{number}"})
            written = connection.execute(text("SELECT pg_current_wal_insert_lsn()")).scalar_one()
        with engine.connect() as connection:
            flushed = text("SELECT pg_current_wal_flush_lsn() > CAST(:written AS pg_lsn), count(*) FROM merchant")
            assert tuple(connection.execute(flushed, {"written": written}).one()) == (True, number + 1)


def test_with_brief_locks_what_failed_leaves_nothing(engine: Engine) -> None:
    def fail() -> None:
        with brief_locks(engine) as connection:
            connection.execute(text("INSERT INTO merchant (id, name) VALUES ('mer_1', 'x')"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM merchant")).scalar_one() == 0
