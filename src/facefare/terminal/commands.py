"""`facefare gate …`: run a gate."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer

from facefare.biometrics import FacePipeline, Template, decode
from facefare.biometrics.errors import BiometricsError, ImageError
from facefare.biometrics.frames import Frames, open_source
from facefare.client import AttemptReply, TerminalClient
from facefare.identification.errors import CalibrationError
from facefare.identification.requests import prepare_search
from facefare.settings import Settings
from facefare.terminal.configuration import Configuration
from facefare.terminal.errors import TerminalError
from facefare.terminal.gate import Gate
from facefare.terminal.held_lane import lane
from facefare.terminal.lost_answers import LostAnswers
from facefare.terminal.screen import Shown

app = typer.Typer(help="A gate: camera, attempt, screen.", no_args_is_help=True)

_TIMEOUT = 6.0
"""Seconds for the wallet's answer; by then the person has taken out a card."""
_POLL = 0.005


class JsonScreen:
    """Prints each state as a line of JSON."""

    def show(self, shown: Shown) -> None:
        """Print it."""
        _say("screen", {**asdict(shown), "state": shown.state.value})


@app.command()
def serve(
    configuration: Annotated[Path, typer.Argument(help="The terminal's TOML file.")],
    camera: Annotated[int | None, typer.Option(help="Number of a camera of this machine.")] = None,
    source: Annotated[Path | None, typer.Option(help="A video file or a folder of pictures instead.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for new pictures in the folder, as a camera would send.")] = False,
) -> None:
    """Serve one lane until SIGINT, SIGTERM or the end of the source; one line of JSON for each event."""
    if (camera is None) == (source is None) or (follow and (source is None or not source.is_dir())):
        raise typer.BadParameter("Name a camera or a source; only a folder can be followed.")
    try:
        settings = Settings()
        terminal = Configuration.load(configuration)
        pipeline = FacePipeline.load(settings.cache_dir / "models", terminal.embedder)
        terminal.calibration.require_model(pipeline.model_id)
        with (
            httpx.Client(base_url=terminal.wallet, timeout=_TIMEOUT) as http,
            _asking(terminal, http, configuration.with_suffix(".lost")) as asking,
            lane(terminal, pipeline, asking, _say) as (approach, ask),
        ):
            gate = Gate(
                approach,
                ask,
                JsonScreen(),
                terminal.fare,
                done=lambda attempt: _say("attempt", asdict(attempt)),
            )
            if follow and source is not None:
                gate.run(_followed(source))
            else:
                with open_source(source if source is not None else camera or 0) as frames:
                    gate.run(frames)
    except (TerminalError, BiometricsError, CalibrationError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


@contextmanager
def _asking(terminal: Configuration, http: httpx.Client, lost: Path) -> Iterator[Callable[[Template], AttemptReply]]:
    """Seal a template and have it searched and charged; what came of an answer that was lost is taken back."""
    client = TerminalClient(http, terminal.id, terminal.key)
    answers, stopped = LostAnswers(lost, client.undo), threading.Event()

    def ask(probe: Template) -> AttemptReply:
        terminal.calibration.require_model(probe.model_id)
        search = prepare_search(
            probe.vector,
            calibration=terminal.calibration,
            guardians=terminal.guardians,
            gallery=terminal.gallery,
            terminal=terminal.id,
            key=terminal.key,
            now=datetime.now(UTC),
        )
        with answers.waiting(search.fields().query_id):
            return client.attempt(
                amount=terminal.fare.amount, currency=terminal.fare.currency, search=search.to_bytes()
            )

    settling = threading.Thread(target=answers.settle_until, args=(stopped,), daemon=True)
    settling.start()
    try:
        yield ask
    finally:
        stopped.set()
        settling.join(_TIMEOUT + 1)


def _followed(folder: Path) -> Frames:
    """Pictures of a folder in the order of their names, and those that come later; each is read once."""
    last = ""
    while True:
        new = sorted(file for file in folder.glob("*.png") if file.name > last)
        for file in new:
            last = file.name
            with suppress(FileNotFoundError, ImageError):  # tidied up meanwhile, or damaged: wait for the next
                yield decode(file.read_bytes())
        if not new:
            time.sleep(_POLL)


def _say(event: str, facts: dict[str, object]) -> None:
    typer.echo(json.dumps({"event": event, **facts}))
