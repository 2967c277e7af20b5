"""`facefare web …`: files from npm for the pages, and the screen of a terminal as a page."""

import json
import sys
import threading
from typing import Annotated

import typer

from facefare.serving import listening, run
from facefare.settings import Settings
from facefare.terminal.screen import Shown, State
from facefare.web.pages import networks
from facefare.web.pages.assets import install
from facefare.web.pages.errors import AssetError
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import NAMES, language

app = typer.Typer(help="The pages.", no_args_is_help=True)


@app.command()
def assets(
    for_tests: Annotated[bool, typer.Option("--for-tests", help="Also what only the browser tests need.")] = False,
) -> None:
    """Get the pinned files from npm once; does nothing when they are there."""
    cache_dir = Settings.read().cache_dir
    folder = cache_dir / "web"
    try:
        install(folder, for_tests=for_tests, on_step=_say)
        networks.pack(cache_dir, on_step=_say)
    except AssetError as error:
        typer.echo(str(error), err=True)
        typer.echo("Until then the pages work, but no face can be read in the browser.", err=True)
        raise typer.Exit(1) from error
    except (OSError, ValueError) as error:
        typer.echo("The networks are not there yet: facefare models install, and then this again.", err=True)
        raise typer.Exit(1) from error
    _say(f"The pages' files are in {folder}")


def _say(step: str) -> None:
    typer.echo(step, err=True)


@app.command()
def screen(
    host: str = "127.0.0.1",
    port: int = 8090,
    tag: Annotated[str, typer.Option("--language", help=f"One of {', '.join(NAMES)}.")] = "en",
    mute: Annotated[bool, typer.Option("--mute", help="Without sounds; the screen says everything.")] = False,
) -> None:
    """Show the states that a terminal prints: `facefare gate serve … | facefare web screen`."""
    shows = KioskScreen(language(tag), muted=mute)
    with listening(host, port) as listener:
        threading.Thread(target=_follow, args=(shows,), daemon=True).start()
        run(shows.app(), listener, lambda: _say(f"The screen is at http://{host}:{port}"), timeout_graceful_shutdown=1)


def _follow(shows: KioskScreen) -> None:
    """Show each screen event on standard input; at its end the terminal is gone."""
    last = Shown(State.OUT_OF_SERVICE, 0, "EUR")
    for line in sys.stdin:
        try:
            event = json.loads(line)
            if event.pop("event") != "screen":
                continue
            last = Shown(**{**event, "state": State(event["state"])})
        except (ValueError, KeyError, TypeError, AttributeError):
            last = Shown(State.OUT_OF_SERVICE, last.amount, last.currency)
        shows.show(last)
    shows.show(Shown(State.OUT_OF_SERVICE, last.amount, last.currency))
