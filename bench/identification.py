"""Private identification beside plain search: three guardians over TLS loopback, FAISS on the same vectors.

A query's time runs from the moment the guardians have their opened shares of the probes until the last of them has
its part of the answer: input checks and search, over TLS between real processes. What HTTP and opening the seals add
is reported by the demo. Every answer is compared with the plain integer computation.
FAISS: IndexFlatIP, plain float32 vectors; one thread for one probe, two for a batch. The two take turns.
"""

import json
import multiprocessing
import multiprocessing.connection
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import spu_peer
from demo.machine import free_ports
from facefare.guardian.ceremony import Folder, perform_on_one_machine
from facefare.guardian.links import Links
from facefare.mpc import Answer, InputRule, Match, NoMatch, Party, Several, combine, held_by, split
from facefare.mpc.recheck import RecheckShare, SecretOrder, confirm
from facefare.mpc.sharing import shamir_from_replicated
from facefare.settings import Settings

_THRESHOLD = -3000
_SCALE = 160
_NORM = 0.42
_BUILT_AT_ONCE = 65_536


@dataclass(frozen=True)
class Figure:
    """One line of the table; milliseconds a probe, medians. `rechecked_ms`: with a second search in a secret order."""

    rows: int
    dim: int
    batch: int
    private_ms: float
    faiss_ms: float
    ratio: float
    bytes_per_row: float
    rounds: int
    rechecked_ms: float | None = None


def identification(
    rows: Annotated[list[int], typer.Option(help="Gallery sizes.")] = [100_000, 1_000_000],  # noqa: B006
    dim: Annotated[list[int], typer.Option(help="Dimensions of a template.")] = [128],  # noqa: B006
    batch: Annotated[list[int], typer.Option(help="Probes searched together.")] = [1, 16],  # noqa: B006
    queries: Annotated[int, typer.Option(help="Queries timed for each line.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot (PNG).")] = None,
    delay_ms: Annotated[float, typer.Option(help="Add this to every message between guardians.")] = 0.0,
    rechecks: Annotated[bool, typer.Option(help="Time the search with its recheck too.")] = False,
    spu: Annotated[bool, typer.Option(help="Time SecretFlow SPU too, at 100,000 rows (installs it apart).")] = False,
) -> None:
    """Time private identification beside FAISS."""
    console = Console()
    figures: list[Figure] = []
    cases = [(n, d) for d in dim for n in rows]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cases) * len(batch) * queries)
        for n, d in cases:
            progress.update(task, description=f"building {n:,} x {d}")
            with _guardians(n, d, delay_ms / 1e3) as (gallery, pipes):
                for b in batch:
                    progress.update(task, description=f"{n:,} x {d}, {b} at a time")
                    figures.append(_measure(gallery, pipes, b, queries, lambda: progress.advance(task)))
                if rechecks:
                    progress.update(task, description=f"{n:,} x {d}, into a secret order")
                    console.print(f"{n:,} x {d}: {_reorder(pipes):.2f} s to bring the rows into a secret order")
                    for place, figure in enumerate(figures[-len(batch) :], len(figures) - len(batch)):
                        again = _measure(gallery, pipes, figure.batch, queries, lambda: None)
                        figures[place] = replace(figure, rechecked_ms=again.private_ms)
    table = Table(title="Private identification beside FAISS IndexFlatIP (ms a probe, medians)")
    for title in ("rows", "dim", "batch", "private ms", "FAISS ms", "ratio", "bytes a row", "rounds", "rechecked ms"):
        table.add_column(title, justify="right")
    for f in figures:
        table.add_row(
            f"{f.rows:,}", str(f.dim), str(f.batch), f"{f.private_ms:.2f}", f"{f.faiss_ms:.2f}", f"{f.ratio:.2f}",
            f"{f.bytes_per_row:.3f}", str(f.rounds), f"{f.rechecked_ms:.2f}" if f.rechecked_ms else "",
        )  # fmt: skip
    console.print(table)
    if spu:
        with console.status("SecretFlow SPU, three simulated parties"):
            theirs = spu_peer.ms_a_probe(100_000, 128, Settings.read().cache_dir)
        ours = next((f.private_ms for f in figures if (f.rows, f.dim, f.batch) == (100_000, 128, 1)), None)
        console.print(
            f"SecretFlow SPU {spu_peer.VERSION}, ABY3, N = 100,000, D = 128: {theirs:.0f} ms each further probe"
            + (f", {theirs / ours:.0f} times ours" if ours else "")
        )
    if json_file:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))
    if plot:
        _draw(figures, plot)


@contextmanager
def _guardians(
    rows: int, dim: int, delay: float
) -> Iterator[tuple[NDArray[np.int8], list[multiprocessing.connection.Connection]]]:
    """Three guardian processes in session, each with its shares of the same gallery (rows, dim) int8."""
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(1)
    gallery = np.empty((rows, dim), np.int8)
    shares = [np.empty((rows, dim + 2), np.uint16) for _ in range(3)]
    for first in range(0, rows, _BUILT_AT_ONCE):
        part = gallery[first : first + _BUILT_AT_ONCE]
        vectors = rng.standard_normal(part.shape, dtype=np.float32)
        vectors *= _SCALE * _NORM / np.linalg.norm(vectors, axis=1, keepdims=True)
        part[:] = np.rint(vectors)
        row = np.empty((len(part), dim + 2), np.int16)
        row[:, :dim] = part
        row[:, dim] = -(part.astype(np.int32) ** 2).sum(axis=1)
        row[:, dim + 1] = 0
        c0, c1 = (rng.integers(0, 65536, row.shape, np.uint16) for _ in range(2))
        components = [c0, c1, row.view(np.uint16) - c0 - c1]
        for i in range(3):
            shares[i][first : first + len(part)] = shamir_from_replicated(components[i], components[(i + 1) % 3])
    with tempfile.TemporaryDirectory(prefix="facefare-bench-") as base:
        ports = free_ports(6)
        perform_on_one_machine(Path(base), ports=ports, galleries=[])
        pipes, processes = [], []
        for i in range(3):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_guardian, args=(Path(base) / f"guardian-{i}", shares[i], dim, delay, theirs)
            )
            process.start()
            pipes.append(ours)
            processes.append(process)
        shares.clear()
        try:
            yield gallery, pipes
        finally:
            for pipe in pipes:
                pipe.send(None)
            for process in processes:
                process.join(10)
                process.kill()


def _guardian(
    path: Path, shares: NDArray[np.uint16], dim: int, delay: float, pipe: multiprocessing.connection.Connection
) -> None:
    """One guardian: for each batch of probes, check and search; give start, end, bytes, answers, rechecks."""
    folder = Folder(path)
    links = Links(folder.identity, folder.peers(), folder.certificate, folder.tls_key)
    while True:
        try:
            session = links.connect()
            break
        except Exception:
            continue
    session.set_patience(300)
    previous, following = _Counted(session.previous, delay), _Counted(session.following, delay)
    party = Party(folder.identity.index, previous, following)
    rule = InputRule(dim, 1000, 8191)
    live = np.full(-(-len(shares) // 64), ~np.uint64(0))
    if len(shares) % 64:
        live[-1] = (1 << (len(shares) % 64)) - 1
    order = None
    while (probes := pipe.recv()) is not None:
        if isinstance(probes, str):
            order = SecretOrder(shares, np.arange(len(shares), dtype=np.uint64), len(shares))
            while not order.ready:
                party.reorder(order)
            pipe.send(None)
            continue
        thresholds = np.full(probes.shape[1], _THRESHOLD, np.int32)
        before = previous.bytes + following.bytes, max(previous.messages, following.messages)
        start = time.monotonic()
        answers = party.identify(probes, rule, shares, live, thresholds)
        again: list[RecheckShare | None] = [None] * len(answers)
        if order is not None:
            again = [*party.recheck(probes, rule, order, order.everywhere, thresholds)]
        end = time.monotonic()
        sent = previous.bytes + following.bytes - before[0], max(previous.messages, following.messages) - before[1]
        pipe.send((start, end, sent, answers, again))


def _reorder(pipes: list[multiprocessing.connection.Connection]) -> float:
    """Have the rows brought into a secret order; from now on searches are made again. Seconds it took."""
    start = time.monotonic()
    for pipe in pipes:
        pipe.send("reorder")
    for pipe in pipes:
        pipe.recv()
    return time.monotonic() - start


class _Counted:
    """A channel that counts what it sends, and holds each message back for `delay` seconds if that is above 0."""

    def __init__(self, channel: Any, delay: float) -> None:
        self._channel = channel
        self.receive_into = channel.receive_into
        self.bytes = 0
        self.messages = 0
        self._held: queue.SimpleQueue[tuple[float, bytes | memoryview]] | None = None
        if delay > 0:
            self._held = queue.SimpleQueue()
            self._delay = delay
            threading.Thread(target=self._release, args=(self._held,), daemon=True).start()

    def send(self, data: bytes | memoryview) -> None:
        self.bytes += len(data)
        self.messages += 1
        if self._held is None:
            self._channel.send(data)
        else:
            self._held.put((time.monotonic() + self._delay, data))

    def _release(self, held: "queue.SimpleQueue[tuple[float, bytes | memoryview]]") -> None:
        while True:
            due, data = held.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._channel.send(data)


def _measure(
    gallery: NDArray[np.int8],
    pipes: list[multiprocessing.connection.Connection],
    batch: int,
    queries: int,
    advance: Any,
) -> Figure:
    import faiss

    faiss.omp_set_num_threads(1 if batch == 1 else 2)
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery.astype(np.float32))
    rng = np.random.default_rng(2)
    private, plain, sent = [], [], (0, 0)
    for query in range(queries + 2):  # two to warm up
        probes, planted = _probes(rng, gallery, batch)
        parts = split(probes)
        for i, pipe in enumerate(pipes):
            pipe.send(held_by(i, parts))
        replies = [pipe.recv() for pipe in pipes]
        answers = [combine([reply[3][b] for reply in replies]) for b in range(batch)]
        for b, answer in enumerate(answers):
            if replies[0][4][b] is not None:
                confirm(answer, [reply[4][b] for reply in replies])
        vectors = probes.astype(np.float32)
        started = time.monotonic()
        index.search(vectors, 1)
        elapsed = time.monotonic() - started
        expected = [_plain(gallery, probe) for probe in probes] if query in (0, 1, queries + 1) else planted
        if answers != expected:
            raise SystemExit(f"A private answer differs from the plain one: {answers} instead of {expected}.")
        if query >= 2:
            private.append(max(r[1] for r in replies) - min(r[0] for r in replies))
            plain.append(elapsed)
            sent = max(r[2] for r in replies)
            advance()
    ours, theirs = statistics.median(private) * 1e3 / batch, statistics.median(plain) * 1e3 / batch
    rows, dim = gallery.shape
    return Figure(rows, dim, batch, ours, theirs, ours / theirs, sent[0] / rows / batch, sent[1])


def _probes(rng: np.random.Generator, gallery: NDArray[np.int8], batch: int) -> tuple[NDArray[np.int32], list[Answer]]:
    """Probes near one row of the gallery, or near none, and what they should find."""
    rows, dim = gallery.shape
    planted: list[Answer] = []
    probes = np.empty((batch, dim), np.int32)
    for b in range(batch):
        vector = rng.standard_normal(dim)
        vector *= _SCALE * _NORM / float(np.linalg.norm(vector))
        if rng.random() < 0.7:
            row = int(rng.integers(rows))
            planted.append(Match(row))
            vector = gallery[row] + 0.35 * vector
        else:
            planted.append(NoMatch())
        probes[b] = np.rint(vector)
    return probes, planted


def _plain(gallery: NDArray[np.int8], probe: NDArray[np.int32]) -> Answer:
    scores = np.concatenate(
        [
            -((gallery[first : first + _BUILT_AT_ONCE].astype(np.int32) - probe) ** 2).sum(axis=1)
            for first in range(0, len(gallery), _BUILT_AT_ONCE)
        ]
    )
    matched = np.flatnonzero(scores >= _THRESHOLD)
    if len(matched) > 1:
        return Several()
    return Match(int(matched[0])) if len(matched) else NoMatch()


def _draw(figures: list[Figure], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for dim, batch in sorted({(f.dim, f.batch) for f in figures}):
        line = sorted((f.rows, f.private_ms, f.faiss_ms) for f in figures if (f.dim, f.batch) == (dim, batch))
        (drawn,) = axes.plot([x[0] for x in line], [x[1] for x in line], "o-", label=f"private, D={dim}, batch {batch}")
        axes.plot(
            [x[0] for x in line], [x[2] for x in line], "s--", color=drawn.get_color(), alpha=0.6,
            label=f"FAISS, D={dim}, batch {batch}",
        )  # fmt: skip
    axes.set(xlabel="references", ylabel="milliseconds a probe", xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    typer.run(identification)
