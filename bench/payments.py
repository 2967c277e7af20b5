"""Payments by face end to end, the search aside: signed requests over HTTP to the wallet on embedded PostgreSQL.

The guardians are replaced by ones that answer at once, so what is timed is all the rest: the terminal's
signature, HTTP, the nonce, the intent, the decision, hold and capture, receipt, access log. Payments come at
a fixed rate whether or not the last one was answered, and each is timed from the moment it was due, so a
wallet that falls behind can't hide it. The goal is 50 a second for a minute on two cores.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import httpx
import numpy as np
import structlog
import typer
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Engine, insert

from facefare.client import ApiError, TerminalClient
from facefare.guardian.messages import (
    Confirmation,
    EnrolRequest,
    OpenAnswer,
    OpenRequest,
    SearchPayload,
    SearchRequest,
    Status,
)
from facefare.identification.calibration import Calibration, Threshold
from facefare.ledger import verify
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.mpc.answers import Answer, Match
from facefare.payments import attempts, merchants, receipts, top_ups, webhooks
from facefare.payments.merchants import Terminal
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS
from facefare.wallet import access, consents, galleries, payers
from facefare.wallet import tables as wallet
from facefare.wallet.consents import Notice
from facefare.web.api import attempts as attempts_api
from facefare.web.api import create_app, signatures
from facefare.web.migrations import upgrade

_PAYERS, _GATES = 500, 20
_FUNDS = 1_000_000
_GALLERY = "gal_bench"
_NOTICE = Notice("1", "en", "http://localhost/privacy", "Bench", "privacy@localhost", 1)
_GOAL = 50.0

_STAGES: dict[str, tuple[ModuleType, str]] = {
    "check signature and nonce": (signatures, "_verified"),
    "write the intent": (attempts_api, "_begin"),
    "decide and charge": (attempts_api, "_conclude"),
    "… lock the payer": (payers, "locked"),
    "… hold and capture": (attempts, "post"),
    "… receipt": (receipts, "write"),
    "… webhooks' outbox": (webhooks, "emit"),
    "… access log": (access, "record"),
}
"""What is timed inside the wallet; those with dots are parts of the one above."""


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a stage."""

    stage: str
    median: float
    p99: float


@dataclass(frozen=True)
class Result:
    """Payments a second and milliseconds from due to answered; `wallet_cpu_ms`: of the wallet's process, a payment."""

    asked_per_s: float
    payments_per_s: float
    seconds: float
    payments: int
    outcomes: dict[str, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    wallet_cpu_ms: float
    stages: list[Cost]


def payments(
    rate: Annotated[float, typer.Option(help="Payments a second.")] = _GOAL,
    seconds: Annotated[float, typer.Option(help="For how long.")] = 60.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Time payments end to end, the search aside, at a fixed rate."""
    console = Console()
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_postgres(Path(folder) / "data") as url,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task("payers, faces, gates", total=round(rate * seconds))
        key = Ed25519PrivateKey.generate()
        engine = make_engine(url)
        _prepare(engine, key)
        with _wallet(url) as (base, pipe):
            progress.update(task, description="warming up")
            _pay(base, key, rate / 2, 2.0, lambda: None)
            pipe.send("forget")
            progress.update(task, description=f"{rate:g} payments a second")
            times, outcomes, took = _pay(base, key, rate, seconds, lambda: progress.advance(task))
            pipe.send("stop")
            cpu, stages = pipe.recv()
        broken = verify(engine, INVARIANTS)
        engine.dispose()
    if broken:
        raise SystemExit(f"The books are not in order: {broken}")
    result = _result(rate, times, outcomes, took, cpu, stages)
    _show(console, result)
    if json_file:
        json_file.write_text(json.dumps(asdict(result), indent=2))


class _Guardians:
    """Answers at once with the row that is written in the first sealed part."""

    log_keys = ("", "", "")

    async def search(self, request: SearchRequest, gallery_version: int, threshold: int) -> Answer:  # noqa: ARG002
        return Match(int.from_bytes(request.sealed[0][:4], "big"))

    async def check(self, request: EnrolRequest, version: int, threshold: int) -> Answer:
        raise NotImplementedError

    async def enrol(self, request: EnrolRequest, row: int, version: int) -> Sequence[Confirmation]:
        raise NotImplementedError

    async def delete(self, gallery: str, row: int, version: int) -> Sequence[Confirmation]:
        raise NotImplementedError

    pause = resume = delete

    async def open_row(self, request: OpenRequest) -> tuple[OpenAnswer, OpenAnswer, OpenAnswer]:
        raise NotImplementedError

    async def status(self) -> Sequence[Status | None]:
        return (None, None, None)


def _prepare(engine: Engine, key: Ed25519PrivateKey) -> None:
    upgrade(engine)
    signer = Ed25519PrivateKey.generate()
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Bench")
        for gate in range(_GATES):
            public = key.public_key().public_bytes_raw()
            merchants.register_terminal(connection, Terminal(f"trm_{gate}", merchant, f"Gate {gate}", public))
        galleries.open_gallery(connection, _GALLERY, kind="live")
        for row in range(_PAYERS):
            payer, _ = payers.register(connection, "EUR")
            consent = consents.give(connection, payer.id, _NOTICE, signer)
            connection.execute(
                insert(wallet.face).values(
                    id=f"fac_{row}",
                    payer_id=payer.id,
                    gallery_id=_GALLERY,
                    consent_id=consent.id,
                    row=row,
                    state="active",
                )
            )
            top_ups.from_test_funds(connection, payer, _FUNDS, funding=Funding.TEST, idempotency_key="bench")


@contextmanager
def _wallet(url: str) -> Iterator[tuple[str, multiprocessing.connection.Connection]]:
    """The wallet in a process of its own; "forget" drops what was timed, "stop" sends it and ends."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(url, port, theirs))
    process.start()
    try:
        base = f"http://127.0.0.1:{port}"
        _wait(base)
        yield base, ours
    finally:
        process.join(10)
        process.kill()


def _serve(url: str, port: int, pipe: multiprocessing.connection.Connection) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    times: dict[str, list[float]] = defaultdict(list)
    for stage, (module, name) in _STAGES.items():
        setattr(module, name, _timed(getattr(module, name), times[stage]))
    app = create_app(
        engine=make_engine(url),
        guardians=_Guardians(),
        calibration=Calibration(
            model="bench",
            mean=np.zeros(2, np.float32),
            scale=160.0,
            min_squared_norm=1,
            max_squared_norm=8191,
            thresholds=(Threshold(10_000, 0.001, -3000),),
        ),
        fpir=0.001,
        receipt_key=Ed25519PrivateKey.generate(),
        notice=_NOTICE,
    )
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    cpu = 0.0
    while pipe.recv() == "forget":
        cpu = time.process_time()
        for values in times.values():
            values.clear()
    pipe.send((time.process_time() - cpu, dict(times)))
    server.should_exit = True
    thread.join(10)


def _timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **more)
        finally:
            times.append(time.perf_counter() - started)

    return timed


def _wait(base: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{base}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("The wallet did not start.")


_started = 0
"""Payments so far: the warm-up's payers must not meet the same gate again."""


def _pay(
    base: str, key: Ed25519PrivateKey, rate: float, seconds: float, advance: Callable[[], None]
) -> tuple[list[float], Counter[str], float]:
    """Seconds from due to answered for each payment, their outcomes, and how long it all took."""
    global _started
    first, count = _started, round(rate * seconds)
    _started += count
    times: list[float] = []
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    with (
        httpx.Client(base_url=base, timeout=30, limits=httpx.Limits(max_connections=64)) as http,
        ThreadPoolExecutor(64) as pool,
    ):
        terminals = [TerminalClient(http, f"trm_{gate}", key) for gate in range(_GATES)]
        began = time.perf_counter() + 0.2

        def one(number: int) -> None:
            gate = (number + number // _PAYERS) % _GATES
            due = began + (number - first) / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            search = _search(key, f"trm_{gate}", number % _PAYERS)
            try:
                outcome = terminals[gate].attempt(amount=280, currency="EUR", search=search).outcome
            except ApiError as error:
                outcome = error.code
            with lock:
                times.append(time.perf_counter() - due)
                outcomes[outcome] += 1
            advance()

        list(pool.map(one, range(first, first + count)))
    return times, outcomes, time.perf_counter() - began


def _search(key: Ed25519PrivateKey, terminal: str, row: int) -> bytes:
    payload = SearchPayload(
        v=1,
        gallery=_GALLERY,
        model="rows",
        terminal=terminal,
        purpose="payment",
        query_id=os.urandom(16),
        issued_at=time.time_ns() // 1_000_000,
        sealed_sha256=(bytes(32), bytes(32), bytes(32)),
        component_sha256=(bytes(32), bytes(32), bytes(32)),
    ).to_bytes()
    share = row.to_bytes(4, "big").ljust(1200, b".")  # about the size of a sealed share
    return SearchRequest(payload, key.sign(payload), (share, share, share)).to_bytes()


def _result(
    rate: float, times: list[float], outcomes: Counter[str], took: float, cpu: float, stages: dict[str, list[float]]
) -> Result:
    costs = [
        Cost(stage, round(statistics.median(values) * 1e3, 2), round(_at(values, 0.99) * 1e3, 2))
        for stage, values in stages.items()
        if values
    ]
    return Result(
        asked_per_s=rate,
        payments_per_s=round(outcomes["accepted"] / took, 2),
        seconds=round(took, 1),
        payments=len(times),
        outcomes=dict(outcomes),
        p50_ms=round(_at(times, 0.5) * 1e3, 1),
        p95_ms=round(_at(times, 0.95) * 1e3, 1),
        p99_ms=round(_at(times, 0.99) * 1e3, 1),
        max_ms=round(max(times) * 1e3, 1),
        wallet_cpu_ms=round(cpu / len(times) * 1e3, 2),
        stages=costs,
    )


def _at(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _show(console: Console, result: Result) -> None:
    console.print(f"{result.payments_per_s:g} payments a second for {result.seconds:g} s: {result.outcomes}")
    console.print(
        f"answered after {result.p50_ms:g} ms (median), {result.p95_ms:g} (p95), {result.p99_ms:g} (p99),"
        f" {result.max_ms:g} (slowest); {result.wallet_cpu_ms:g} ms of the wallet's processor a payment"
    )
    table = Table(title="Inside the wallet, milliseconds")
    table.add_column("stage")
    for title in ("median", "p99"):
        table.add_column(title, justify="right")
    for cost in result.stages:
        table.add_row(cost.stage, f"{cost.median:.2f}", f"{cost.p99:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(payments)
