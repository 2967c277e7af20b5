"""The sum is always zero: sixteen writers at once, and writers killed in the middle."""

import importlib.util
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Engine, text

from facefare.ledger import Transfer, balance_of, post, verify
from facefare.ledger.errors import HoldEnded, InsufficientFunds, InvalidTransfer

WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ledger_writer", WRITER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hold_of(id: str, amount: int, writer: ModuleType) -> Transfer:
    return Transfer.hold(
        id,
        debit=writer.PAYERS[0],
        credit=writer.SHOP,
        amount=amount,
        currency="EUR",
        reason="test",
        expires_at=datetime.now(UTC) + timedelta(minutes=5),
    )


def test_sixteen_writers_lose_and_double_nothing(engine: Engine, writer: ModuleType) -> None:
    writer.open_books(engine, funds=2000)

    def work(number: int) -> list[str]:
        chance = random.Random(number)
        ids = [f"t{number}_{step}" for step in range(25)]
        return [id for id in ids if writer.one_payment(engine, id, chance)]

    with ThreadPoolExecutor(16) as pool:
        done = [id for ids in pool.map(work, range(16)) for id in ids]
    assert verify(engine) == []
    with engine.connect() as connection:
        ended = set(connection.execute(text("SELECT hold_id FROM ledger_transfer WHERE hold_id IS NOT NULL")).scalars())
    assert ended == set(done)
    assert len(done) > 100


def test_sixteen_writers_with_one_id_post_it_once(engine: Engine, writer: ModuleType) -> None:
    writer.open_books(engine, funds=2000)
    pay = Transfer.now("once", debit=writer.PAYERS[0], credit=writer.SHOP, amount=100, currency="EUR", reason="test")

    def work(_: int) -> int:
        with engine.begin() as connection:
            return len(post(connection, [pay]))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 1
    with engine.connect() as connection:
        assert balance_of(connection, writer.PAYERS[0]).available == 1900


def test_sixteen_writers_cannot_overdraw_an_account(engine: Engine, writer: ModuleType) -> None:
    writer.open_books(engine, funds=500)

    def work(number: int) -> bool:
        try:
            with engine.begin() as connection:
                post(connection, [hold_of(f"h{number}", 100, writer)])
        except InsufficientFunds:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 5
    assert verify(engine) == []


def test_sixteen_writers_end_a_hold_once(engine: Engine, writer: ModuleType) -> None:
    writer.open_books(engine, funds=500)
    hold = hold_of("h", 100, writer)
    with engine.begin() as connection:
        post(connection, [hold])

    def work(number: int) -> bool:
        try:
            with engine.begin() as connection:
                post(connection, [hold.capture(f"c{number}") if number % 2 else hold.void(f"v{number}")])
        except HoldEnded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 1
    assert verify(engine) == []


def test_sixteen_refunds_at_once_give_back_no_more_than_was_taken(engine: Engine, writer: ModuleType) -> None:
    writer.open_books(engine, funds=500)
    hold = hold_of("h", 100, writer)
    with engine.begin() as connection:
        post(connection, [hold, hold.capture("c")])

    def work(number: int) -> bool:
        refund = Transfer.now(
            f"r{number}",
            debit=writer.SHOP,
            credit=writer.PAYERS[0],
            amount=30,
            currency="EUR",
            reason="refund",
            reverses_id="c",
        )
        try:
            with engine.begin() as connection:
                post(connection, [refund])
        except InvalidTransfer:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 3
    assert verify(engine) == []


def test_of_sixteen_writers_killed_in_the_middle_nothing_is_lost_doubled_or_half_done(
    engine: Engine, database_url: str, writer: ModuleType
) -> None:
    writer.open_books(engine, funds=100_000)
    processes = [
        subprocess.Popen([sys.executable, str(WRITER), database_url, str(seed), "4"], stdout=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    said: list[str] = []
    for process in processes:  # one after the other, so that the others go on writing
        assert process.stdout is not None
        said += [process.stdout.readline() for _ in range(60)]  # it is well under way
        process.send_signal(signal.SIGKILL)
    for process in processes:
        assert process.stdout is not None
        said += process.stdout.read().splitlines(keepends=True)
        assert process.wait() == -signal.SIGKILL
    # A backend whose client is gone notices at its next read; until then its transaction is not undone.
    deadline = time.monotonic() + 10
    with engine.connect() as connection:
        while connection.execute(text("SELECT count(*) FROM pg_stat_activity WHERE xact_start < now()")).scalar():
            assert time.monotonic() < deadline
            connection.rollback()
    assert verify(engine) == []
    done = {line.split()[1] for line in said if line.startswith("done ") and line.endswith("\n")}
    begun = {line.split()[1] for line in said if line.startswith("begin ") and line.endswith("\n")}
    with engine.connect() as connection:
        holds = (
            connection.execute(text("SELECT id FROM ledger_transfer WHERE kind = 'hold' ORDER BY id")).scalars().all()
        )
        ended = set(connection.execute(text("SELECT hold_id FROM ledger_transfer WHERE hold_id IS NOT NULL")).scalars())
    assert len(holds) == len(set(holds))
    assert done <= ended <= set(holds) <= begun
    assert len({id.rpartition("_")[0] for id in done}) == 16, "each of the sixteen wrote"
    captured = "SELECT sum(amount) FROM ledger_transfer WHERE kind = 'capture' AND credit_account = :shop"
    with engine.connect() as connection:
        taken = connection.execute(text(captured), {"shop": writer.SHOP}).scalar_one()
        assert balance_of(connection, writer.SHOP).posted == taken
        left = sum(balance_of(connection, payer).posted for payer in writer.PAYERS)
    assert left + taken == 100_000 * len(writer.PAYERS)
