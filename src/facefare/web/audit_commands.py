"""`facefare wallet searches`: what an auditor needs of the wallet to compare payments with the public logs."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from facefare.payments.searches import between
from facefare.settings import Settings
from facefare.web.commands import database, plain_errors


def searches(
    file: Annotated[Path, typer.Argument(help="Where to write it (JSON), for `facefare audit reconcile`.")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC).")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC).")],
) -> None:
    """Write which searches of some days led to a payment and which ones payers see: hashes and counts only."""
    since, until = first.replace(tzinfo=UTC), last.replace(tzinfo=UTC) + timedelta(days=1)
    with plain_errors(), database(Settings()) as engine, engine.connect() as connection:
        found = between(connection, since, until)
        period = {"since": int(since.timestamp() * 1000), "until": int(until.timestamp() * 1000)}
        file.write_text(json.dumps(asdict(found) | period, indent=1) + "\n")
    typer.echo(
        f"{len(found.paid)} paid, {len(found.visible)} visible to their payers, {found.lost_answers} answers lost."
    )
