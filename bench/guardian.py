"""A guardian's share store at full size: load, memory, refresh while it serves, a lost disk.

Three real guardians (`facefare guardian serve`) on this machine, over TLS loopback, asked through the relay as a wallet
asks. A search's time here includes sealing, HTTP, policy, request log and transparency log.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from rich.console import Console

from demo.machine import free_ports
from facefare.guardian.ceremony import Folder, perform_on_one_machine
from facefare.guardian.gallery import CHUNK, Bits, Change, Record, Refreshed, head_after, standing_of
from facefare.guardian.messages import Operation
from facefare.guardian.policy import Limits
from facefare.guardian.registry import GalleryDefinition, Terminal
from facefare.guardian.store import ShareStore
from facefare.identification.calibration import Calibration, Threshold
from facefare.identification.relay import Guardians
from facefare.identification.requests import prepare_search
from facefare.mpc.sharing import shamir_from_replicated

_D = 128
_GALLERY = GalleryDefinition("gal_bench", "demo", "synthetic", _D, 200, 8191, -4000, -100)
_TERMINAL = "trm_bench"
_ENROLLED_AT_ONCE = 1000


@dataclass(frozen=True)
class _Templates:
    vector: NDArray[np.float32]
    model_id: str = "synthetic"


def guardian(
    rows: Annotated[int, typer.Option(help="References in the gallery.")] = 1_000_000,
    searches: Annotated[int, typer.Option(help="Searches timed while nothing else is done.")] = 40,
    rechecks: Annotated[bool, typer.Option(help="Make every search again in a secret order.")] = True,
) -> None:
    """Time load, refresh and recovery of a whole share store, and weigh it."""
    with tempfile.TemporaryDirectory(prefix="facefare-bench-") as base:
        asyncio.run(_run(Path(base), rows, searches, rechecks, Console()))


async def _run(base: Path, rows: int, searches: int, rechecks: bool, console: Console) -> None:
    key = Ed25519PrivateKey.generate()
    identities = perform_on_one_machine(
        base,
        ports=free_ports(6),
        galleries=[_GALLERY],
        terminals=[Terminal(_TERMINAL, key.public_key().public_bytes_raw(), (_GALLERY.id,))],
        limits=Limits(
            terminal_rate=1e3,
            terminal_burst=1e4,
            terminal_daily=10_000_000,
            overall_rate=1e3,
            overall_burst=1e4,
            recheck_permille=1000 if rechecks else 0,
        ),
    )
    folders = [Folder(base / f"guardian-{index}") for index in range(3)]
    with console.status(f"building three stores of {rows:,} references"):
        people, calibration = _fill(folders, rows)
    for name, probe in _load(folders[0], rows).items():
        console.print(f"{name}: {probe}")
    relay = base / "relay"
    processes = [_serve(folder) for folder in folders]
    try:
        async with Guardians(identities, certificate=relay / "relay.pem", key=relay / "relay-key.pem") as guardians:
            rng = np.random.default_rng(3)

            async def search() -> float:
                row = int(rng.integers(rows))
                request = prepare_search(
                    _Templates(people(row)), calibration=calibration, guardians=identities, gallery=_GALLERY.id,
                    terminal=_TERMINAL, key=key, now=datetime.now(UTC),
                )  # fmt: skip
                start = time.monotonic()
                answer = await guardians.search(request, rows // _ENROLLED_AT_ONCE, -2000)
                if getattr(answer, "row", None) != row:
                    raise SystemExit(f"Row {row} was searched for, and the answer is {answer}.")
                return time.monotonic() - start

            async def searched_during(work: Awaitable[object]) -> list[float]:
                task, times = asyncio.ensure_future(work), []
                while not task.done():
                    times.append(await search())
                await task
                return times

            await _in_session(guardians)
            await search()
            times = [await search() for _ in range(searches)]
            _print_times(console, "a search", times)
            for index, process in enumerate(processes):
                console.print(f"guardian {index} resident after it: {_memory(process.pid, 'VmRSS'):.0f} MB")
            if rechecks:
                await _reordered(folders[0])
                _print_times(console, "a search made again", [await search() for _ in range(searches)])
                for index, process in enumerate(processes):
                    held, most = _memory(process.pid, "VmRSS"), _memory(process.pid, "VmHWM")
                    console.print(f"guardian {index} with a secret order: {held:.0f} MB, at most {most:.0f} MB so far")
            start = time.monotonic()
            await _command("refresh", folders[0])
            console.print(f"refresh of all shares, nothing else asked: {time.monotonic() - start:.1f} s")
            start = time.monotonic()
            times = await searched_during(_command("refresh", folders[0]))
            console.print(f"refresh of all shares, one search after the other: {time.monotonic() - start:.1f} s")
            _print_times(console, "a search meanwhile", times)
            processes[1].kill()
            processes[1].wait()
            _lose_disk(folders[1], key)
            start = time.monotonic()
            processes[1] = _serve(folders[1])
            await _in_session(guardians)
            met = time.monotonic()
            await _whole(guardians)
            whole = time.monotonic()
            console.print(
                f"a guardian that lost its disk: met after {met - start:.1f} s, whole {whole - met:.1f} s later"
            )
            await search()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _fill(folders: list[Folder], rows: int) -> tuple["_People", Calibration]:
    """Give each guardian its shares of the same synthetic people, as a transfer does."""
    people = _People(rows)
    centre = np.mean([people(row) for row in range(0, rows, max(1, rows // 4000))], axis=0)
    calibration = Calibration("synthetic", centre, 160.0, 200, 8191, (Threshold(10_000_000, 1e-3, -2000),))
    stores = [ShareStore(folder.shares) for folder in folders]
    galleries = [store.load(_GALLERY) for store in stores]
    records, head = [], galleries[0].head
    for number, first in enumerate(range(0, rows, _ENROLLED_AT_ONCE)):
        change = Change(Operation.ENROL, first, _ENROLLED_AT_ONCE, number.to_bytes(32, "big"), bytes(16))
        head = head_after(head, number + 1, change)
        records.append(Record(number + 1, head, 1, change))
    chunks = [Refreshed(number, 0, bytes(16)) for number in range(-(-rows // CHUNK))]
    for store, gallery in zip(stores, galleries, strict=True):
        store.expect(gallery, standing_of(head, chunks), len(records), head)
        store.take_history(gallery, len(records), records)
    rng = np.random.default_rng(1)
    for chunk in chunks:
        first = chunk.number * CHUNK
        count = min(CHUNK, rows - first)
        row = np.zeros((CHUNK, _D + 2), np.int16)
        row[:count, :_D] = np.rint(160 * (people.block(first, count) - centre))
        row[:count, _D] = -(row[:count, :_D].astype(np.int32) ** 2).sum(axis=1)
        used = np.packbits(np.arange(CHUNK) < count, bitorder="little").view(np.uint64)
        c0, c1 = (rng.integers(0, 65536, row.shape, np.uint16) for _ in range(2))
        components = [c0, c1, row.view(np.uint16) - c0 - c1]
        for i in range(3):
            shares = shamir_from_replicated(components[i], components[(i + 1) % 3])
            stores[i].take_chunk(galleries[i], chunk, Bits(used, used, np.zeros(64, np.uint64)), shares)
    for store, gallery in zip(stores, galleries, strict=True):
        store.finish_arrival(gallery)
        store.close()
    return people, calibration


class _People:
    """Synthetic templates: unit vectors around a centre; any two are far apart."""

    def __init__(self, rows: int) -> None:
        if rows % _ENROLLED_AT_ONCE:
            raise typer.BadParameter(f"Rows are a multiple of {_ENROLLED_AT_ONCE}.")
        centre = np.random.default_rng(0).normal(size=_D)
        self._centre = centre * (0.91 / np.linalg.norm(centre))

    def block(self, first: int, count: int) -> NDArray[np.float64]:
        """(count, D) of one chunk."""
        spread = np.random.default_rng(first).standard_normal((count, _D))
        spread *= 0.41 / np.linalg.norm(spread, axis=1, keepdims=True)
        templates = self._centre + spread
        block: NDArray[np.float64] = templates / np.linalg.norm(templates, axis=1, keepdims=True)
        return block

    def __call__(self, row: int) -> NDArray[np.float32]:
        first = row // CHUNK * CHUNK
        template: NDArray[np.float32] = self.block(first, row - first + 1)[-1].astype(np.float32)
        return template


_LOAD = """
import sys, time
from pathlib import Path
from facefare.guardian.ceremony import Folder
from facefare.guardian.store import ShareStore
folder = Folder(Path(sys.argv[1]))
before = int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1])
start = time.monotonic()
registry = folder.registry()
loaded = [ShareStore(folder.shares).load(definition) for definition in registry.galleries()]
seconds = time.monotonic() - start
status = {l.split(":")[0]: l.split()[1] for l in open("/proc/self/status") if len(l.split()) > 1}
print(seconds, int(status["VmRSS"]) - before, status["VmHWM"], sum(g.rows for g in loaded))
"""


def _load(folder: Folder, rows: int) -> dict[str, str]:
    """Load the store in a process of its own: time, bytes a row, memory."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(folder.path)], capture_output=True, text=True, check=True, timeout=300
    )
    seconds, added, most, found = done.stdout.split()
    if int(found) != rows:
        raise SystemExit(f"{found} rows were loaded instead of {rows}.")
    disk = sum(file.stat().st_size for file in folder.path.glob("shares.db*"))
    return {
        f"load of {rows:,} references": f"{float(seconds):.1f} s",
        "bytes a row in memory": f"{int(added) * 1024 / rows:.0f}, on the disk {disk / rows:.0f}",
        "most memory of a process that loads": f"{int(most) / 1024:.0f} MB",
    }


def _serve(folder: Folder) -> subprocess.Popen[bytes]:
    with _log(folder).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "facefare", "guardian", "serve", str(folder.path)], stdout=log, stderr=log
        )


def _log(folder: Folder) -> Path:
    return folder.path / "bench.log"


async def _command(name: str, folder: Folder) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "facefare", "guardian", name, str(folder.path), stdout=subprocess.DEVNULL
    )
    if await process.wait():
        raise SystemExit(f"facefare guardian {name} failed.")


async def _in_session(guardians: Guardians) -> None:
    for _ in range(3000):
        statuses = await guardians.status()
        if all(status is not None and status.connected for status in statuses):
            return
        await asyncio.sleep(0.1)
    raise SystemExit("The guardians did not meet.")


async def _reordered(folder: Folder) -> None:
    for _ in range(3000):
        if b"secret_order_ready" in _log(folder).read_bytes():
            return
        await asyncio.sleep(0.1)
    raise SystemExit("The rows were not brought into a secret order.")


async def _whole(guardians: Guardians) -> None:
    for _ in range(6000):
        statuses = await guardians.status()
        if len({status and status.galleries for status in statuses}) == 1:
            return
        await asyncio.sleep(0.1)
    raise SystemExit("The guardian did not catch up.")


def _lose_disk(folder: Folder, key: Ed25519PrivateKey) -> None:
    for file in folder.path.glob("*.db*"):
        file.unlink()
    registry = folder.registry()
    registry.add_gallery(_GALLERY)
    registry.add_terminal(Terminal(_TERMINAL, key.public_key().public_bytes_raw(), (_GALLERY.id,)))
    registry.close()


def _memory(pid: int, what: str) -> float:
    """MB as the kernel counts them: VmRSS, resident now; VmHWM, the most that ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


def _print_times(console: Console, what: str, times: list[float]) -> None:
    ordered = sorted(times)
    console.print(
        f"{what} ({len(times)}): median {statistics.median(times) * 1e3:.0f} ms, "
        f"95th percentile {ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1e3:.0f} ms, "
        f"slowest {ordered[-1] * 1e3:.0f} ms; load {os.getloadavg()[0]:.1f}"
    )
