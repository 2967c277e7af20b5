"""The `facefare` command: one sub-command per room, each defined in the room's own `commands.py`.

Packages that stand on top of this one add theirs through the entry-point group `facefare.commands`.
"""

from importlib.metadata import entry_points

import typer

from facefare.audit.commands import app as audit
from facefare.biometrics.commands import app as models
from facefare.evaluation.commands import calibrate, evaluate
from facefare.guardian.commands import app as guardian
from facefare.terminal.commands import app as gate
from facefare.terminal.station_commands import app as station
from facefare.web.audit_commands import assessment, searches
from facefare.web.commands import app as wallet
from facefare.web.commands import ledger
from facefare.web.money_commands import export, keys, reconcile, settle
from facefare.web.pages.commands import app as web
from facefare.web.payer_commands import app as payer
from facefare.web.rights_commands import consent, dispute_details, fares, pay_outs, retention_app
from facefare.web.staff_commands import app as staff
from facefare.web.staff_commands import key_proof
from facefare.web.till_commands import app as till

main = typer.Typer(name="facefare", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
main.add_typer(audit, name="audit")
main.add_typer(consent, name="consent")
main.add_typer(fares, name="fares")
main.add_typer(gate, name="gate")
main.add_typer(guardian, name="guardian")
main.add_typer(ledger, name="ledger")
main.add_typer(models, name="models")
main.add_typer(payer, name="payer")
main.add_typer(station, name="station")
main.add_typer(till, name="till")
main.add_typer(wallet, name="wallet")
main.add_typer(web, name="web")
wallet.add_typer(retention_app, name="retention")
wallet.add_typer(pay_outs, name="pay-outs")
wallet.add_typer(staff, name="staff")
wallet.command("dispute")(dispute_details)
wallet.command("key-proof")(key_proof)
wallet.command("searches")(searches)
wallet.command("assessment")(assessment)
ledger.command("settle")(settle)
ledger.command("export")(export)
ledger.command("reconcile")(reconcile)
wallet.add_typer(keys, name="api-keys")
main.command()(calibrate)
main.command()(evaluate)
for _point in entry_points(group="facefare.commands"):
    _command = _point.load()
    if isinstance(_command, typer.Typer):
        main.add_typer(_command, name=_point.name)
    else:
        main.command(_point.name)(_command)


@main.callback()
def _root() -> None:
    """Pay a fare or a coffee by looking at a camera."""
