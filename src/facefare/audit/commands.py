"""`facefare audit`: check the guardians' transparency logs, offline."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from facefare.audit.errors import AuditError
from facefare.audit.receipts import Receipt
from facefare.audit.verifier import TOLERANCE_S, GuardianKeys, parse_trust
from facefare.audit.verifier import verify as verify_folder

app = typer.Typer(no_args_is_help=True, help="Check the guardians' transparency logs, offline.")


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="The folder with the three published logs.")],
    trust: Annotated[Path | None, typer.Option(help="The guardians' keys, from a source you trust.")] = None,
    tolerance: Annotated[int, typer.Option(help="Seconds the three may lie apart.", min=0)] = TOLERANCE_S,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Check three logs: signatures, cosignatures, history, and that each has what the others have."""
    try:
        keys = _keys(trust or path / "trust")
        report = verify_folder(path, keys, tolerance_s=tolerance)
    except AuditError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if trust is None:
        typer.echo("The keys are those that came with the logs; compare them with the guardians' own pages:")
        for pair in keys:
            typer.echo(f"  {pair.log}\n  {pair.witness}")
    for pair, entries, time in zip(keys, report.entries, report.cosigned, strict=True):
        when = "not co-signed by both others" if time is None else f"co-signed {_utc(time)}"
        typer.echo(f"{pair.log.name}: {entries} entries, {when}")
    for finding in report.findings:
        typer.echo(f"{finding.fault}: {finding.log}: {finding.detail}")
    typer.echo(f"{report.compared} entries compared in all three logs, {report.pending} too young to compare.")
    typer.echo("Nothing wrong was found." if report.ok else f"{len(report.findings)} faults were found.")
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(report) | {"ok": report.ok}, indent=2) + "\n")
    if not report.ok:
        raise typer.Exit(1)


@app.command("verify-receipt")
def verify_receipt(
    receipt: Annotated[Path, typer.Argument(help="A receipt file.")],
    trust: Annotated[Path, typer.Option(help="The guardians' keys, from a source you trust.")],
) -> None:
    """Check that one entry is in a guardian's log, and show it."""
    try:
        proof = Receipt.from_bytes(receipt.read_bytes())
        keys = _keys(trust)
        origin = proof.note.partition(b"\n")[0].decode(errors="replace")
        number = next((n for n, pair in enumerate(keys) if pair.log.name == origin), None)
        if number is None:
            typer.echo("The receipt is from a log the trust file does not name.", err=True)
            raise typer.Exit(1)
        others = [pair.witness for n, pair in enumerate(keys) if n != number]
        entry = proof.verify(keys[number].log, others)
    except (AuditError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"Entry {proof.index} of {origin}: {entry.terminal}, {entry.purpose}, {entry.time} ms.")


def _utc(seconds: int) -> str:
    last = int(datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp())  # a witness can write any 63-bit time
    return datetime.fromtimestamp(min(seconds, last), UTC).isoformat(timespec="seconds")


def _keys(path: Path) -> tuple[GuardianKeys, ...]:
    try:
        return parse_trust(path.read_text())
    except OSError as error:
        raise typer.BadParameter(f"{path} can't be read: {error.strerror}.") from error
