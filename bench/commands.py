"""`facefare bench …`: the figures, each beside a named peer."""

import typer

from bench.attempt import attempt
from bench.face import face
from bench.guardian import guardian
from bench.held import held
from bench.identification import identification
from bench.ledger import ledger
from bench.pages import pages
from bench.payments import payments

app = typer.Typer(help="Measure, beside a named peer.", no_args_is_help=True)
app.command("attempt")(attempt)
app.command("face")(face)
app.command("guardian")(guardian)
app.command("held")(held)
app.command("identification")(identification)
app.command("ledger")(ledger)
app.command("pages")(pages)
app.command("payments")(payments)


@app.callback()
def _root() -> None:
    """Measure, beside a named peer."""
