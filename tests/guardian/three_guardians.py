"""Three real guardians on this machine, each a process of its own, for tests of any room.

    with three_guardians(tmp_path) as trio:
        async with trio.relay() as guardians:
            await trio.enrol(guardians, templates)
            answer = await trio.search(guardians, probe)

Templates are synthetic: unit vectors around a centre, as face templates are.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.audit.log import read_frames
from facefare.guardian.ceremony import perform_on_one_machine
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import EnrolRequest, SearchRequest
from facefare.guardian.policy import Limits
from facefare.guardian.registry import GalleryDefinition, Station, Terminal
from facefare.identification.calibration import Calibration, Threshold
from facefare.identification.relay import Answer, Confirmations, Guardians
from facefare.identification.requests import prepare_enrolment, prepare_search

D = 128
DEMO, LIVE = "gal_demo", "gal_live"
TERMINAL, STATION, DEMO_STATION = "trm_gate1", "stn_desk", "stn_demo"
THRESHOLD = -2000
GENEROUS = Limits(
    terminal_rate=1000,
    terminal_burst=10_000,
    terminal_daily=10_000_000,
    overall_rate=1000,
    overall_burst=10_000,
    station_rate=1000,
    station_burst=100_000,
    unfinished_checks=1000,
    opening_rate=1000,
    opening_burst=1000,
    openings_rate=1000,
    openings_burst=1000,
)


@dataclass(frozen=True)
class Templates:
    """What an embedder made: one (D,) or several (n, D)."""

    vector: np.ndarray
    model_id: str = "synthetic"


def synthetic_templates(count: int, seed: int = 1) -> np.ndarray:
    """(count, D) unit vectors, about 0.4 from their centre; any two are far apart."""
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(0).normal(size=D)
    centre *= 0.91 / np.linalg.norm(centre)
    spread = random.normal(size=(count, D))
    spread *= 0.41 / np.linalg.norm(spread, axis=1, keepdims=True)
    templates = centre + spread
    return (templates / np.linalg.norm(templates, axis=1, keepdims=True)).astype(np.float32)


def synthetic_calibration() -> Calibration:
    centre = synthetic_templates(4000, seed=99).mean(axis=0)
    return Calibration("synthetic", centre, 160.0, 200, 8191, (Threshold(1_000_000, 1e-3, THRESHOLD),))


def gallery(name: str, kind: str) -> GalleryDefinition:
    return GalleryDefinition(name, kind, "synthetic", D, 200, 8191, -4000, -100)  # type: ignore[arg-type]


class Started:
    """As much of `subprocess.Popen` as the tests need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"guardian {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode


class Nursery:
    """The process that forks guardians (`nursery.py`), and what became of them."""

    def __init__(self) -> None:
        self._started: dict[int, Started] = {}
        self._change = threading.Condition()
        self._newest: int | None = None
        program = [sys.executable, str(Path(__file__).with_name("nursery.py"))]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        atexit.register(self._process.kill)
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, folder: Path, log: Path, prelude: str) -> Started:
        assert self._process.stdin is not None
        with self._change:
            self._newest = None
            self._process.stdin.write(json.dumps([str(folder), str(log), prelude]) + "\n")
            assert self._change.wait_for(lambda: self._newest is not None, 120), "the nursery does not answer"
            return self._started[self._newest]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, pid, code = json.loads(line)
            with self._change:
                if what == "ended":
                    self._started.pop(pid).end(code)
                else:
                    self._started[pid] = Started(pid)
                    self._newest = pid
                    self._change.notify_all()


@functools.cache
def nursery() -> Nursery:
    """The one of this process."""
    return Nursery()


@dataclass
class Trio:
    base: Path
    identities: list[GuardianIdentity]
    keys: dict[str, Ed25519PrivateKey]
    calibration: Calibration
    processes: list[Started | None] = field(default_factory=lambda: [None] * 3)
    version: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def folder(self, index: int) -> Path:
        return self.base / f"guardian-{index}"

    def start(self, index: int, prelude: str = "") -> None:
        """Start one guardian; `prelude` is code that runs in its process before it serves."""
        self.processes[index] = nursery().start(self.folder(index), self.base / f"guardian-{index}.log", prelude)

    def stop(self, *indices: int, how: signal.Signals = signal.SIGKILL) -> None:
        stopping = [process for index in indices if (process := self.processes[index]) is not None]
        for process in stopping:
            process.send_signal(how)
        for process in stopping:
            process.wait(timeout=30)
        for index in indices:
            self.processes[index] = None

    def log(self, index: int) -> str:
        return (self.base / f"guardian-{index}.log").read_text()

    async def checkpointed(self, indices: Sequence[int] = range(3), timeout: float = 30) -> None:
        """Wait until the published checkpoints of these guardians cover all of their logs, co-signed by both others."""
        deadline = time.monotonic() + timeout
        for index in indices:
            log = self.folder(index) / "log"
            while True:
                lines = (log / "checkpoint").read_text().split("\n") if (log / "checkpoint").exists() else []
                with (log / "entries").open("rb") as file:
                    whole = len(list(read_frames(file)))
                if len(lines) > 2 and int(lines[1]) == whole and sum(line.startswith("— ") for line in lines) == 3:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"guardian {index}: {whole} entries, {lines[1:2]} in the checkpoint")
                await asyncio.sleep(0.1)

    def relay(self) -> Guardians:
        relay = self.base / "relay"
        return Guardians(self.identities, certificate=relay / "relay.pem", key=relay / "relay-key.pem")

    async def ready(self, timeout: float = 120) -> None:
        """Wait until the three are in session."""
        deadline = time.monotonic() + timeout
        async with self.relay() as guardians:
            while True:
                statuses = await guardians.status()
                if all(status is not None and status.connected for status in statuses):
                    for one in statuses[0].galleries if statuses[0] else ():
                        self.version[one.gallery] = one.version
                        self.rows[one.gallery] = one.rows
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not in session: {statuses}; {self.log(0)[-2000:]}")
                await asyncio.sleep(0.1)

    def search_request(self, template: np.ndarray, **changes: object) -> SearchRequest:
        details: dict = {
            "gallery": DEMO,
            "terminal": TERMINAL,
            "key": self.keys[TERMINAL],
            "now": datetime.now(UTC),
            **changes,
        }
        return prepare_search(Templates(template), calibration=self.calibration, guardians=self.identities, **details)

    def enrol_request(self, templates: np.ndarray, **changes: object) -> EnrolRequest:
        details: dict = {
            "gallery": DEMO,
            "station": DEMO_STATION,
            "key": self.keys[DEMO_STATION],
            "consent_sha256": bytes(32),
            "now": datetime.now(UTC),
            **changes,
        }
        return prepare_enrolment(
            Templates(templates), calibration=self.calibration, guardians=self.identities, **details
        )

    async def search(self, guardians: Guardians, template: np.ndarray, threshold: int = THRESHOLD) -> Answer:
        return await guardians.search(self.search_request(template), self.version[DEMO], threshold)

    async def enrol(self, guardians: Guardians, templates: np.ndarray) -> Confirmations:
        """Enrol (D,) or up to 1,000 (n, D) at the next free rows of the demo gallery."""
        request = self.enrol_request(templates)
        done = await guardians.enrol(request, self.rows[DEMO], self.version[DEMO])
        self.follow(done)
        return done

    async def enrol_many(self, guardians: Guardians, count: int, seed: int = 7) -> None:
        """Enrol synthetic strangers, 1,000 in a request."""
        templates = synthetic_templates(count, seed)
        for start in range(0, count, 1000):
            await self.enrol(guardians, templates[start : start + 1000])

    def follow(self, done: Confirmations) -> None:
        word = done[0].fields
        self.version[word.gallery] = word.version
        self.rows[word.gallery] = max(self.rows.get(word.gallery, 0), word.row + word.count)


def run(trio: Trio, scene: Callable[[Guardians], Awaitable[None]]) -> None:
    """Play a scene in which the wallet's relay talks to the guardians."""

    async def play() -> None:
        async with trio.relay() as guardians:
            await scene(guardians)

    asyncio.run(play())


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def three_guardians(
    base: Path, limits: Limits | None = GENEROUS, extra_terminals: Sequence[Terminal] = ()
) -> Iterator[Trio]:
    """The ceremony in `base`, three running guardians in session, and their end."""
    keys = {name: Ed25519PrivateKey.generate() for name in (TERMINAL, STATION, DEMO_STATION)}
    public = {name: key.public_key().public_bytes_raw() for name, key in keys.items()}
    identities = perform_on_one_machine(
        base,
        ports=free_ports(9),
        galleries=[gallery(DEMO, "demo"), gallery(LIVE, "live")],
        terminals=[Terminal(TERMINAL, public[TERMINAL], (DEMO, LIVE)), *extra_terminals],
        stations=[
            Station(STATION, public[STATION], (DEMO, LIVE), demo_only=False),
            Station(DEMO_STATION, public[DEMO_STATION], (DEMO, LIVE), demo_only=True),
        ],
        limits=limits,
    )
    trio = Trio(base, identities, keys, synthetic_calibration())
    try:
        for index in range(3):
            trio.start(index)
        asyncio.run(trio.ready())
        yield trio
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            trio.stop(0, 1, 2, how=signal.SIGTERM)
        for process in trio.processes:
            if process is not None:
                process.kill()
                process.wait()
