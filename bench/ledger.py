"""Transfers a second of the ledger on embedded PostgreSQL, against a plain two-row insert as the floor.

The floor writes the two rows of a double entry and nothing else: no balances, no floors, no exactly-once,
no holds. Both sides go through the same engine, with one transaction for each transfer, or for each batch,
in turns, so that what else the machine does falls on both.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Engine, text

from facefare.ledger import Account, Kind, Transfer, open_account, post, verify
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.ledger.ids import new_id
from facefare.web.migrations import upgrade

_PAYERS = [f"acc_payer{number}" for number in range(1000)]
_SHOPS = [f"acc_shop{number}" for number in range(20)]
_TURNS = 4

_Movement = tuple[str, str, int]
_Run = Callable[[Engine, Sequence[_Movement]], None]


@dataclass(frozen=True)
class Figure:
    """Transfers a second of the ledger and of the floor, and the first over the second."""

    batch: int
    writers: int
    transfers_per_s: float
    floor_per_s: float
    ratio: float


def ledger(
    seconds: Annotated[float, typer.Option(help="How long each side is timed in each case.")] = 4.0,
    batch: Annotated[int, typer.Option(help="Transfers in a transaction, in the batched case.")] = 200,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Time the ledger beside a plain two-row insert."""
    console = Console()
    cases = [(1, 1), (1, 4), (batch, 1)]
    figures = []
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_postgres(Path(folder) / "data") as url,
        Progress(console=console, transient=True) as progress,
    ):
        engine = make_engine(url)
        task = progress.add_task("", total=len(cases) * _TURNS)
        _prepare(engine)
        for size, writers in cases:
            progress.update(task, description=f"{size} at a time, {writers} writers")
            figures.append(_compare(engine, size, writers, seconds / _TURNS, lambda: progress.advance(task)))
        broken = verify(engine)
        engine.dispose()
    if broken:
        raise SystemExit(f"The books are not in order: {broken}")
    table = Table(title="The ledger beside a plain two-row insert (transfers a second)")
    for title in ("in a transaction", "writers", "ledger", "floor", "ratio"):
        table.add_column(title, justify="right")
    for one in figures:
        speeds = (f"{one.transfers_per_s:,.0f}", f"{one.floor_per_s:,.0f}", f"{one.ratio:.2f}")
        table.add_row(str(one.batch), str(one.writers), *speeds)
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps(_written(figures), indent=2))


def _written(figures: list[Figure]) -> dict[str, object]:
    """One at a time on top, as the figure that counts most; all cases below it."""
    first = asdict(figures[0])
    return {name: first[name] for name in ("transfers_per_s", "floor_per_s", "ratio")} | {
        "batched": asdict(figures[-1]),
        "cases": [asdict(figure) for figure in figures],
    }


def _prepare(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        open_account(connection, Account("acc_bank", "EUR", Kind.ASSET, None))
        for shop in _SHOPS:
            open_account(connection, Account(shop, "EUR", Kind.LIABILITY, None))
        for payer in _PAYERS:
            open_account(connection, Account(payer, "EUR", Kind.LIABILITY, 0))
        post(connection, [_moved("acc_bank", payer, 10**12) for payer in _PAYERS])
        connection.execute(
            text(
                "CREATE TABLE floor_entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " transfer text NOT NULL, account text NOT NULL, amount bigint NOT NULL,"
                " created_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        )


def _compare(engine: Engine, batch: int, writers: int, seconds: float, advance: Callable[[], None]) -> Figure:
    floor = ours = 0.0
    for _ in range(_TURNS):
        floor += _rate(_by_floor, engine, seconds=seconds, batch=batch, writers=writers) / _TURNS
        ours += _rate(_by_ledger, engine, seconds=seconds, batch=batch, writers=writers) / _TURNS
        advance()
    return Figure(batch, writers, round(ours, 1), round(floor, 1), round(ours / floor, 3))


def _rate(run: _Run, engine: Engine, *, seconds: float, batch: int, writers: int) -> float:
    """Transfers a second by `writers` threads, each with `batch` transfers in a transaction."""
    until = time.perf_counter() + seconds

    def work(seed: int) -> int:
        chance, done = random.Random(seed), 0
        while time.perf_counter() < until:
            run(engine, [(chance.choice(_PAYERS), chance.choice(_SHOPS), chance.randint(1, 500)) for _ in range(batch)])
            done += batch
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        total = sum(pool.map(work, range(writers)))
    return total / (time.perf_counter() - started)


def _moved(debit: str, credit: str, amount: int) -> Transfer:
    return Transfer.now(new_id("tr"), debit=debit, credit=credit, amount=amount, currency="EUR", reason="bench")


def _by_ledger(engine: Engine, movements: Sequence[_Movement]) -> None:
    with engine.begin() as connection:
        post(connection, [_moved(*movement) for movement in movements])


_FLOOR = text(
    "INSERT INTO floor_entry (transfer, account, amount)"
    " SELECT * FROM unnest(CAST(:transfer AS text[]), CAST(:account AS text[]), CAST(:amount AS bigint[]))"
)


def _by_floor(engine: Engine, movements: Sequence[_Movement]) -> None:
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


if __name__ == "__main__":
    typer.run(ledger)
