"""`facefare till …`: run a till, its camera and its screen in one process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from starlette.types import ASGIApp

from facefare.biometrics import FacePipeline, Template
from facefare.biometrics.errors import BiometricsError
from facefare.client import AttemptReply
from facefare.identification.errors import CalibrationError
from facefare.serving import listening, server
from facefare.settings import Settings
from facefare.terminal.charging import Charging, charging
from facefare.terminal.commands import frames_from, say, ticking
from facefare.terminal.configuration import Configuration
from facefare.terminal.errors import ConfigurationError, TerminalError
from facefare.terminal.held_lane import Ask, lane
from facefare.terminal.till import Sale, Till
from facefare.web.pages.languages import NAMES, language
from facefare.web.pages.till_screen import TillScreen

app = typer.Typer(help="A till: amount, tip, a look, receipt.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """A till: amount, tip, a look, receipt."""


@app.command()
def serve(
    configuration: Annotated[Path, typer.Argument(help="The terminal's TOML file, with a section [till].")],
    camera: Annotated[int | None, typer.Option(help="Number of a camera of this machine.")] = None,
    source: Annotated[Path | None, typer.Option(help="A video file or a folder of pictures instead.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for new pictures in the folder, as a camera would send.")] = False,
    port: Annotated[int, typer.Option(help="The screen is at http://localhost:PORT, for this machine only.")] = 8091,
    tag: Annotated[str, typer.Option("--language", help=f"One of {', '.join(NAMES)}.")] = "en",
    mute: Annotated[bool, typer.Option("--mute", help="Without sounds; the screen says everything.")] = False,
) -> None:
    """Serve one till until SIGINT, SIGTERM or the end of the source; one line of JSON for each payment that ended."""
    try:
        terminal = Configuration.load(configuration)
        if terminal.till is None:
            raise ConfigurationError(f"{configuration}: the section [till] is missing.")
        pipeline = FacePipeline.load(Settings.read().cache_dir / "models", terminal.embedder)
        terminal.calibration.require_model(pipeline.model_id)
        codes_only = None if terminal.held is None else terminal.held.codes_only
        screen = TillScreen(language(tag), terminal.till, codes_only, muted=mute)
        sale = Sale(terminal.till.currency)
        with (
            listening("127.0.0.1", port) as listener,
            frames_from(camera, source, follow=follow) as frames,
            charging(terminal, configuration.with_suffix(".lost")) as purse,
            lane(terminal, pipeline, _by_face(purse, sale), purse.answers, sale, say) as (approach, ask),
        ):
            till = Till(
                approach,
                ask,
                purse,
                screen,
                terminal.till,
                sale,
                done=lambda attempt: say("attempt", asdict(attempt)),
                codes=purse.codes(terminal.codes) if terminal.codes else None,
            )
            with ticking(till.tick), _served(screen.app_for(till), listener):
                say("ready", {"screen": f"http://localhost:{port}"})
                till.run(frames)
    except (TerminalError, BiometricsError, CalibrationError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _by_face(purse: Charging, sale: Sale) -> Ask:
    def search(probe: Template) -> AttemptReply:
        offer = sale.offer
        return purse.attempt(probe, amount=sale.amount, currency=sale.currency, tip=offer.tip, purchase=offer.purchase)

    return search


@contextmanager
def _served(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    screen = server(app, timeout_graceful_shutdown=1)
    thread = threading.Thread(target=screen.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield
    finally:
        screen.should_exit = True
        thread.join(3)
