"""`facefare demo`: everything on this machine, the scenario, and then the pages to look around in."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo import audit, held
from demo.machine import MachineError, running
from demo.scenario import Scenario, Step
from facefare.biometrics import FacePipeline
from facefare.biometrics.errors import BiometricsError
from facefare.identification.calibration import Calibration
from facefare.settings import Settings


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the scenario; exit code 0 if all came out.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what happened, with times.")] = None,
) -> None:
    """Start everything on this machine, play the scenario, and keep serving until Ctrl-C."""
    console = Console()
    try:
        with (
            _stopping_on_sigterm(),
            Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            ) as progress,
        ):
            task = progress.add_task("Loading the networks", total=None)
            pipeline = FacePipeline.load(Settings.read().cache_dir / "models")

            def say(text: str) -> None:
                progress.update(task, description=text, total=None)
                console.print(f"[dim]{text}[/dim]")

            def advance(what: str, done: int, total: int) -> None:
                progress.update(task, description=what, completed=done, total=total)

            def on_step(step: Step) -> None:
                console.print(("[green]ok[/green]   " if step.ok else "[red]FAIL[/red] ") + step.name)
                progress.update(task, description="The scenario", completed=0, total=None)

            with (
                running(Calibration.default(), say) as machine,
                httpx.Client(base_url=machine.wallet_url, timeout=120) as http,
            ):
                scenario = Scenario(machine, pipeline, http, on_step)
                scenario.play(advance)
                steps = scenario.steps + audit.play(machine, scenario.payers["B"], scenario.check_keys["B"], on_step)
                # Payer A, whom no guardian knows any more, goes on with the reference on her own phone.
                steps += held.play(machine, pipeline, on_step, owner=scenario.payers["A"])
                progress.stop()
                console.print(_table(steps))
                if json_file:
                    json_file.write_text(json.dumps([asdict(step) for step in steps], indent=2))
                if not once:
                    console.print(
                        f"The payer's app: [bold]{machine.wallet_url}/app/[/bold]"
                        f"  (sign in as payer B with the key {scenario.tokens['B']})\n"
                        f"The gate's screen: [bold]{machine.screen_url}/[/bold]\n"
                        f"The operator's console: [bold]{machine.wallet_url}/app/console/[/bold]"
                        f"  (staff key {machine.staff_token})\n"
                        "Ctrl-C stops everything.",
                        soft_wrap=True,
                    )
                    threading.Event().wait()
    except KeyboardInterrupt:
        console.print("Stopped.")
        return
    except (MachineError, BiometricsError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    if not all(step.ok for step in steps):
        raise typer.Exit(1)


def _table(steps: list[Step]) -> Table:
    table = Table(title="What happened", show_lines=True)
    for title in ("", "Step", "Expected", "Came out", "ms"):
        table.add_column(title, justify="right" if title == "ms" else "left", overflow="fold")
    for step in steps:
        total = step.facts.get("times", {}).get("total")
        table.add_row(
            "[green]ok[/green]" if step.ok else "[red]FAIL[/red]",
            step.name,
            step.expected,
            step.got,
            "" if total is None else f"{total:.0f}",
        )
    return table


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that no process is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
