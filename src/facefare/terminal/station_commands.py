"""`facefare station …`: an enrolment station, one person at a time."""

import base64
import json
from pathlib import Path
from typing import Annotated

import httpx
import segno
import typer

from facefare.biometrics import FacePipeline
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.frames import open_source
from facefare.client import ApiError, StationClient
from facefare.identification.errors import IdentificationError
from facefare.settings import Settings
from facefare.terminal.enrolling import HandsFree, Station, attend, read_wish
from facefare.terminal.errors import TerminalError
from facefare.terminal.station import NotLiveError, NotOnePersonError

app = typer.Typer(help="An enrolment station: code, guided capture, reference.", no_args_is_help=True)

_TIMEOUT = 90.0
"""Seconds: the wallet may have to wait for a guardian."""


@app.callback()
def _several() -> None:
    pass


@app.command()
def enrol(
    configuration: Annotated[Path, typer.Argument(help="The station's TOML file; see the operator guide.")],
    camera: Annotated[int | None, typer.Option(help="Number of a camera of this machine.")] = None,
    source: Annotated[Path | None, typer.Option(help="A video file or a folder of pictures instead.")] = None,
    code: Annotated[
        str, typer.Option(help="What the payer's code says, if the camera can't read it: base64 or hexadecimal.")
    ] = "",
    picture: Annotated[Path | None, typer.Option(help="For a phone: write the code it reads here (SVG).")] = None,
) -> None:
    """Enrol one person; a line of JSON for each event, at last `enrolled`, `see_staff` or `handed_over`."""
    if (camera is None) == (source is None):
        raise typer.BadParameter("Name a camera or a source.")
    try:
        wish = read_wish(_bytes(code)) if code else None
        if code and wish is None:
            raise typer.BadParameter("That is not what a payer's code says.")
        station = Station.load(configuration)
        pipeline = FacePipeline.load(Settings.read().cache_dir / "models", station.embedder)
        station.calibration.require_model(pipeline.model_id)
        with open_source(source if source is not None else camera or 0) as frames:
            wish, reference = attend(frames, pipeline, lambda event, word: _say(event, word=word), wish)
        if isinstance(wish, HandsFree):
            with httpx.Client(base_url=station.wallet, timeout=_TIMEOUT) as http:
                done = StationClient(http).enrol(station.enrolment(reference, wish).to_bytes())
            _say("enrolled" if done else "see_staff")
            return
        handed = base64.b64encode(station.hand_over(reference, wish)).decode()
        if picture is not None:
            segno.make(handed, error="l").save(str(picture), kind="svg", border=4, scale=6)
        _say("handed_over", code=handed)
    except (TerminalError, BiometricsError, IdentificationError, ApiError, NotLiveError, NotOnePersonError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _bytes(code: str) -> bytes:
    if set(code) <= set("0123456789abcdefABCDEF.:"):
        return code.encode()
    try:
        return base64.b64decode(code, validate=True)
    except ValueError as error:
        raise typer.BadParameter("A code is base64 or hexadecimal.") from error


def _say(event: str, **facts: object) -> None:
    typer.echo(json.dumps({"event": event, **facts}))
