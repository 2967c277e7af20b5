"""The `facefare` command: one sub-command per room, each defined in the room's own `commands.py`.

Packages that stand on top of this one add theirs through the entry-point group `facefare.commands`.
Invariant: only what was asked for is loaded. So a gate starts without the wallet's code, and a guardian's process has
none that could see a face, a name or money.
"""

import ctypes
import resource
import sys
from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer

from facefare.errors import SettingsError
from facefare.files import sentence

_GROUP = "facefare.commands"

# What `facefare --help` says, and where it is defined.
_ROOMS = {
    "audit": ("Check the guardians' transparency logs.", "facefare.audit.commands:app"),
    "calibrate": (
        "Write the thresholds for a site's cameras, from consenting volunteers; nothing else of them is written.",
        "facefare.evaluation.commands:calibrate",
    ),
    "consent": ("Consent receipts.", "facefare.web.rights_commands:consent"),
    "evaluate": (
        "Measure error rates on a public set or consenting volunteers; never on traffic.",
        "facefare.evaluation.commands:evaluate",
    ),
    "fares": ("Tariffs, and which gate charges which.", "facefare.web.rights_commands:fares"),
    "gate": ("A gate: camera, attempt, screen.", "facefare.terminal.commands:app"),
    "guardian": ("One of the three guardians: keys, registrations, service.", "facefare.guardian.commands:app"),
    "ledger": ("The books.", "facefare.web.commands:ledger"),
    "models": ("The networks that find and embed faces.", "facefare.biometrics.commands:app"),
    "payer": ("For payers: check what the wallet shows you.", "facefare.web.payer_commands:app"),
    "station": ("An enrolment station: code, guided capture, reference.", "facefare.terminal.station_commands:app"),
    "till": ("A till: amount, tip, a look, receipt.", "facefare.web.till_commands:app"),
    "wallet": ("The wallet: payers, payments and the HTTP API.", "facefare.web.commands:app"),
    "web": ("The pages.", "facefare.web.pages.commands:app"),
}
_INSIDE = {
    "ledger": {
        "export": "facefare.web.money_commands:export",
        "reconcile": "facefare.web.money_commands:reconcile",
        "settle": "facefare.web.money_commands:settle",
    },
    "wallet": {
        "api-keys": "facefare.web.money_commands:keys",
        "assessment": "facefare.web.audit_commands:assessment",
        "dispute": "facefare.web.rights_commands:dispute_details",
        "key-proof": "facefare.web.staff_commands:key_proof",
        "pay-outs": "facefare.web.rights_commands:pay_outs",
        "retention": "facefare.web.rights_commands:retention_app",
        "searches": "facefare.web.audit_commands:searches",
        "staff": "facefare.web.staff_commands:app",
    },
}


def main() -> None:
    """Run the command that the arguments name; what settings or the machine refuse ends it with a sentence, code 1."""
    try:
        command_line(sys.argv[1:2])()
    except SettingsError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(sentence(error))


def command_line(asked: Collection[str] | None = None) -> typer.Typer:
    """The command with these rooms, or all; the other rooms are names with a line of help."""
    root = typer.Typer(name="facefare", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    root.callback()(_root)
    others = {
        point.name: (f"Of another package: facefare {point.name} --help", point.value)
        for point in entry_points(group=_GROUP)
    }
    for name, (line, where) in {**_ROOMS, **others}.items():
        if asked is not None and name not in asked:
            root.add_typer(typer.Typer(help=line), name=name)
        else:
            _add(root, name, _room(name, where))
    return root


_PR_SET_DUMPABLE = 4


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"facefare {version('facefare')}")
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Pay a fare or a coffee by looking at a camera."""
    # Memory holds keys, shares, and for moments faces: a crash writes none of it to a disk, nor to a crash reporter.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


@cache
def _room(name: str, where: str) -> Any:
    room = _load(name, where)
    for inner, inner_where in _INSIDE.get(name, {}).items():
        _add(room, inner, _load(inner, inner_where))
    return room


def _load(name: str, where: str) -> Any:
    return EntryPoint(name, where, _GROUP).load()


def _add(parent: typer.Typer, name: str, command: Any) -> None:
    if isinstance(command, typer.Typer):
        parent.add_typer(command, name=name)
    else:
        parent.command(name)(command)
