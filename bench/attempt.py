"""A whole attempt at the gate: from the first frame that shows the sign of will to the answer on the screen.

Real processes, pictures at 15 a second, 10,000 synthetic references beside the payer's. The goals are 95 in 100 within
500 ms (a contactless smart card takes 300 to 350 ms, Transport for London's figures), and 30 attempts a minute at one
gate. Guardians, wallet, database and gate all share this machine's cores; the pictures are rendered before.

With `--held` a payer stands before a second gate that takes codes and holds up a phone: from the first picture with
the code to the gate's answer, the picture's way to the gate included.
"""

import base64
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from demo.held import HeldScenario
from demo.machine import CURRENCY, Machine, MachineError, running
from demo.scenario import Scenario
from facefare.biometrics import FacePipeline
from facefare.client import PayerClient
from facefare.identification.calibration import Calibration
from facefare.settings import Settings

_LATE = 0.1
STAGES = ("gather", "embed", "identify_and_charge", "total")


SHOWN = "shown_to_green"
GOAL_MS = 500


def attempt(
    walks: Annotated[int, typer.Option(help="How often the payer walks up.")] = 30,
    rate: Annotated[
        float | None,
        typer.Option(help="Walks a minute; a walk that begins late is counted. One after another if none."),
    ] = None,
    held: Annotated[
        bool, typer.Option("--held", help="The payer stands there and shows a code: from the code shown to green.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Time whole attempts at a gate, stage by stage."""
    console = Console()
    pipeline = FacePipeline.load(Settings.read().cache_dir / "models")
    times: dict[str, list[float]] = {stage: [] for stage in (*STAGES, *([SHOWN] if held else []))}
    outcomes: dict[str, int] = {}
    begin = _codes if held else _faces
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        with (
            running(Calibration.default(), lambda text: progress.update(task, description=text)) as machine,
            httpx.Client(base_url=machine.wallet_url, timeout=120) as http,
            begin(machine, pipeline, http, walks, partial(progress.update, task)) as walk,
        ):
            progress.update(task, description="walks", completed=0, total=walks)
            begun, late = time.monotonic(), 0
            for number in range(walks):
                if rate is not None:
                    due = begun + number * 60 / rate
                    late += time.monotonic() > due + _LATE
                    time.sleep(max(0.0, due - time.monotonic()))
                try:
                    event = walk()
                except MachineError:  # the walk ended before the gate had seen enough
                    outcomes["no attempt"] = outcomes.get("no attempt", 0) + 1
                    continue
                outcomes[event["outcome"]] = outcomes.get(event["outcome"], 0) + 1
                for stage, values in times.items():
                    values.append(event["times"][stage])
                progress.advance(task)
            reached = 60 * walks / max(time.monotonic() - begun, 60 * walks / rate if rate else 0.0)
    table = Table(title=f"{walks} attempts, milliseconds; outcomes {outcomes}")
    for title in ("stage", "median", "p95", "slowest"):
        table.add_column(title, justify="left" if title == "stage" else "right")
    figures = {}
    for stage, values in times.items():
        values.sort()
        p95 = values[math.ceil(0.95 * len(values)) - 1]  # nearest rank
        figures[stage] = {"median": statistics.median(values), "p95": p95, "max": values[-1]}
        table.add_row(stage, *(f"{figures[stage][key]:.0f}" for key in ("median", "p95", "max")))
    console.print(table)
    whole = SHOWN if held else "total"
    console.print(f"95 in 100 within {figures[whole]['p95']:.0f} ms ({whole}); the goal is {GOAL_MS}.")
    console.print(f"{reached:.1f} walks a minute" + (f", {late} of {walks} began late" if rate else ""))
    result = {"walks": walks, "outcomes": outcomes, "ms": figures, "asked_rate": rate, "rate": reached, "late": late}
    if json_file:
        json_file.write_text(json.dumps(result, indent=2))


@contextmanager
def _faces(
    machine: Machine, pipeline: FacePipeline, http: httpx.Client, walks: int, say: Callable[..., None]
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Walks of a payer among 10,000 synthetic ones; the pictures are rendered before."""
    scenario = Scenario(machine, pipeline, http, lambda _: None)
    scenario.enrol_synthetic(lambda what, done, total: say(description=what, completed=done, total=total))
    scenario.enrol("A", top_up=100_000)
    say(description="pictures", completed=0, total=None)
    scenario.rehearse("A", walks)
    yield lambda: scenario.walk("A")


@contextmanager
def _codes(
    machine: Machine, pipeline: FacePipeline, http: httpx.Client, walks: int, say: Callable[..., None]
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Walks of a payer with a phone to the second gate, which takes codes only and asks no guardian."""
    del walks  # a code is good for half a minute: nothing can be rendered before
    payer, _ = PayerClient.register(http, CURRENCY)
    payer.top_up(100_000, "bench")
    scenario, numbers = HeldScenario(machine, pipeline, lambda _: None, http, payer), count(1)
    with scenario.second_gate() as (gate, _):
        say(description="a reference for the phone")
        announced = base64.b64decode(gate.event("opening_key", within=60)["announcement"])
        scenario.reference_goes_to_the_phone()

        def walk() -> dict[str, Any]:
            event, seconds = scenario.shows_code(gate, announced, next(numbers))
            event["times"][SHOWN] = 1e3 * seconds
            return event

        yield walk


if __name__ == "__main__":
    typer.run(attempt)
