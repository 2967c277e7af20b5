"""`facefare gate …`: run a gate."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import httpx
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.biometrics import FacePipeline, decode
from facefare.biometrics.errors import BiometricsError, ImageError
from facefare.biometrics.frames import Frames, open_source
from facefare.client import ApiError, TerminalClient
from facefare.identification.errors import CalibrationError
from facefare.keyfiles import write_new
from facefare.settings import Settings
from facefare.terminal.beside import beside
from facefare.terminal.charging import TIMEOUT, charging
from facefare.terminal.configuration import Configuration
from facefare.terminal.errors import TerminalError
from facefare.terminal.fares import Fare, FixedFare, TariffFare
from facefare.terminal.gate import Gate
from facefare.terminal.held_lane import lane
from facefare.terminal.screen import Shown

app = typer.Typer(help="A gate: camera, attempt, screen.", no_args_is_help=True)

_POLL = 0.005
_TICK = 0.25


class JsonScreen:
    """Prints each state as a line of JSON."""

    def show(self, shown: Shown) -> None:
        """Print it."""
        say("screen", {**asdict(shown), "state": shown.state.value})


@app.command()
def serve(
    configuration: Annotated[Path, typer.Argument(help="The terminal's TOML file.")],
    camera: Annotated[int | None, typer.Option(help="Number of a camera of this machine.")] = None,
    source: Annotated[Path | None, typer.Option(help="A video file or a folder of pictures instead.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for new pictures in the folder, as a camera would send.")] = False,
) -> None:
    """Serve one lane until SIGINT, SIGTERM or the end of the source; one line of JSON for each event."""
    try:
        settings = Settings.read()
        terminal = Configuration.load(configuration)
        pipeline = FacePipeline.load(settings.cache_dir / "models", terminal.embedder)
        terminal.calibration.require_model(pipeline.model_id)
        with (
            frames_from(camera, source, follow=follow) as frames,
            fare_of(terminal, configuration.with_suffix(".fare")) as fare,
            charging(terminal, configuration.with_suffix(".lost")) as purse,
            lane(
                terminal,
                pipeline,
                lambda probe: purse.once(probe, amount=fare.amount, currency=fare.currency),
                purse.answers,
                fare,
                say,
            ) as (approach, ask),
        ):
            gate = Gate(
                approach,
                ask,
                JsonScreen(),
                fare,
                done=lambda attempt: say("attempt", asdict(attempt)),
                codes=purse.codes(terminal.codes) if terminal.codes else None,
            )
            with ticking(gate.tick):
                gate.run(frames)
    except (TerminalError, BiometricsError, CalibrationError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


@app.command("new-key")
def new_key(file: Annotated[Path, typer.Argument(help="Where to keep the private key (PEM); a new file.")]) -> None:
    """Make the key of a gate, a till or a station on its own machine; prints its public half, 64 hex digits."""
    key = Ed25519PrivateKey.generate()
    write_new(file, key)
    typer.echo(key.public_key().public_bytes_raw().hex())


@contextmanager
def fare_of(terminal: Configuration, file: Path) -> Iterator[Fare]:
    """What a passage costs, kept up to date in a thread; `file` keeps the wallet's last word on it.

    Raises ConfigurationError where the wallet has this gate at another place.
    """
    if isinstance(terminal.fare, FixedFare):
        yield terminal.fare
        return
    with httpx.Client(base_url=terminal.wallet, timeout=TIMEOUT) as http:
        fare = TariffFare(terminal.fare, TerminalClient(http, terminal.id, terminal.key).fare, file)
        with suppress(ApiError):  # without a network: the last word, or out of service until it is back
            fare.refresh()
        with beside(lambda stopped: fare.refresh_until(stopped, say), patience=TIMEOUT + 1):
            yield fare


@contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Have `tick` called four times a second, in a thread of its own, as long as this is open."""

    def keep(stopped: threading.Event) -> None:
        while not stopped.wait(_TICK):
            tick()

    with beside(keep, patience=1):
        yield


@contextmanager
def frames_from(camera: int | None, source: Path | None, *, follow: bool) -> Iterator[Frames]:
    """Frames of the camera, or of a file or folder; `follow` waits for new pictures in the folder.

    Raises typer.BadParameter for anything else, SourceError.
    """
    if (camera is None) == (source is None) or (follow and (source is None or not source.is_dir())):
        raise typer.BadParameter("Name a camera or a source; only a folder can be followed.")
    if follow and source is not None:
        yield _followed(source)
        return
    with open_source(source if source is not None else camera or 0) as frames:
        yield frames


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


def say(event: str, facts: dict[str, object]) -> None:
    """Print an event as a line of JSON."""
    typer.echo(json.dumps({"event": event, **facts}))
