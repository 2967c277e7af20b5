"""Transfers a second of the ledger on embedded PostgreSQL, against a plain two-row insert as the floor.

The floor writes the two rows of a double entry and nothing else: no balances, no floors, no exactly-once,
no holds. Both sides go through the same engine with one transaction for each transfer, or for each batch.

    python bench/ledger.py [--seconds S] [--json FILE]
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, text

from facefare.ledger import Account, Kind, Transfer, open_account, post, verify
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.ledger.ids import new_id
from facefare.web.migrations import upgrade

PAYERS = [f"acc_payer{number}" for number in range(1000)]
SHOPS = [f"acc_shop{number}" for number in range(20)]
BATCH = 200

Run = Callable[[Engine, Sequence[tuple[str, str, int]]], None]


def prepare(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        open_account(connection, Account("acc_bank", "EUR", Kind.ASSET, None))
        for shop in SHOPS:
            open_account(connection, Account(shop, "EUR", Kind.LIABILITY, None))
        for payer in PAYERS:
            open_account(connection, Account(payer, "EUR", Kind.LIABILITY, 0))
        post(connection, [moved("acc_bank", payer, 10**12) for payer in PAYERS])
        connection.execute(
            text(
                "CREATE TABLE floor_entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " transfer text NOT NULL, account text NOT NULL, amount bigint NOT NULL,"
                " created_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        )


def moved(debit: str, credit: str, amount: int) -> Transfer:
    return Transfer.now(new_id("tr"), debit=debit, credit=credit, amount=amount, currency="EUR", reason="bench")


def by_ledger(engine: Engine, movements: Sequence[tuple[str, str, int]]) -> None:
    with engine.begin() as connection:
        post(connection, [moved(*movement) for movement in movements])


_FLOOR = text(
    "INSERT INTO floor_entry (transfer, account, amount)"
    " SELECT * FROM unnest(CAST(:transfer AS text[]), CAST(:account AS text[]), CAST(:amount AS bigint[]))"
)


def by_floor(engine: Engine, movements: Sequence[tuple[str, str, int]]) -> None:
    rows = [
        (id, account, signed)
        for debit, credit, amount in movements
        for id in [new_id("tr")]
        for account, signed in ((debit, -amount), (credit, amount))
    ]
    with engine.begin() as connection:
        connection.execute(
            _FLOOR, {"transfer": [r[0] for r in rows], "account": [r[1] for r in rows], "amount": [r[2] for r in rows]}
        )


def rate(run: Run, engine: Engine, *, seconds: float, batch: int, writers: int) -> float:
    """Transfers a second by `writers` threads, each with `batch` transfers in a transaction."""
    until = time.perf_counter() + seconds

    def work(seed: int) -> int:
        chance, done = random.Random(seed), 0
        while time.perf_counter() < until:
            run(
                engine,
                [(chance.choice(PAYERS), chance.choice(SHOPS), chance.randint(1, 500)) for _ in range(batch)],
            )
            done += batch
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        total = sum(pool.map(work, range(writers)))
    return total / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded_postgres(Path(folder) / "data") as url:
        engine = make_engine(url)
        prepare(engine)
        figures: dict[str, float] = {}
        for name, batch, writers in (("", 1, 1), ("four_writers_", 1, 4), ("batched_", BATCH, 1)):
            # Alternating halves, so that what else the machine does falls on both sides.
            halves = [
                (
                    rate(by_floor, engine, seconds=arguments.seconds / 2, batch=batch, writers=writers),
                    rate(by_ledger, engine, seconds=arguments.seconds / 2, batch=batch, writers=writers),
                )
                for _ in range(2)
            ]
            floor, ours = (sum(half[side] for half in halves) / 2 for side in (0, 1))
            figures |= {
                f"{name}transfers_per_s": round(ours, 1),
                f"{name}floor_per_s": round(floor, 1),
                f"{name}ratio": round(ours / floor, 3),
            }
            print(f"{name or 'one at a time'}: {ours:.0f} transfers/s, floor {floor:.0f}/s, ratio {ours / floor:.2f}")
        broken = verify(engine)
        engine.dispose()
    if broken:
        raise SystemExit(f"The books are not in order: {broken}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
