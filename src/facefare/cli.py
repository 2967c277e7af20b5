"""The `facefare` command: one sub-command per room, each defined in the room's own `commands.py`."""

import typer

main = typer.Typer(name="facefare", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@main.callback()
def _root() -> None:
    """Pay a fare or a coffee by looking at a camera."""
