"""`facefare audit`: copy the guardians' transparency logs and check them, offline."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from facefare.audit.errors import AuditError
from facefare.audit.fetching import fetch as fetch_logs
from facefare.audit.openings import Opening
from facefare.audit.own_log import COMPARE_WITHIN, Before, Shown, compare, not_logged, remember
from facefare.audit.receipts import Receipt
from facefare.audit.reconciliation import PayerChecks, WalletWord, searches_in, sites_from_json, stations_in
from facefare.audit.reconciliation import reconcile as reconcile_logs
from facefare.audit.report import report_html
from facefare.audit.verifier import TOLERANCE_S, GuardianKeys, parse_trust
from facefare.audit.verifier import verify as verify_folder
from facefare.files import read_text, sentence

app = typer.Typer(no_args_is_help=True, help="Check the guardians' transparency logs.")


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="The folder with the three published logs.")],
    trust: Annotated[Path | None, typer.Option(help="The guardians' keys, from a source you trust.")] = None,
    tolerance: Annotated[int, typer.Option(help="Seconds the three may lie apart.", min=0)] = TOLERANCE_S,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
) -> None:
    """Check three logs: signatures, cosignatures, history, and that each has what the others have."""
    try:
        if not path.is_dir():
            raise AuditError(f"{path} is no folder; `facefare audit fetch` makes one.")
        keys = _keys(trust or path / "trust")
        report = verify_folder(path, keys, tolerance_s=tolerance)
    except (AuditError, OSError) as error:
        typer.echo(_sentence(error), err=True)
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


@app.command()
def fetch(
    urls: Annotated[list[str], typer.Argument(help="Where guardians 0, 1 and 2 publish their logs.")],
    folder: Annotated[Path, typer.Option("--to", help="The folder to be verified; a copy in it is continued.")],
) -> None:
    """Copy the three published logs into a folder; checkpoints copied before are kept in `seen`."""
    try:
        fetch_logs(urls, folder)
    except (AuditError, OSError) as error:
        typer.echo(_sentence(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(f"Now: facefare audit verify {folder} --trust FILE")


@app.command("my-log")
def my_log(
    folder: Annotated[Path, typer.Argument(help="With what the app or `facefare payer open-log` gave you.")],
    trust: Annotated[Path, typer.Option(help="The guardians' keys, from a source you trust.")],
    logs: Annotated[Path | None, typer.Option(help="A verified copy of the logs: each entry must be in all.")] = None,
) -> None:
    """Check, as a payer, that the access log you are shown leaves out no identification of you."""
    last = folder / "last-comparison.json"
    try:
        given = read_text(folder / "own-log.json")
        shown = Shown.from_json(given)
        opened = Opening.from_json(given).read([pair.log for pair in _keys(trust)])
        before = Before.from_json(read_text(last)) if last.exists() else None
        result = compare(opened, shown, before)
        missing = [] if logs is None else not_logged(logs, shown, now=int(datetime.now(UTC).timestamp() * 1000))
    except (AuditError, OSError) as error:
        typer.echo(f"The check could not be made: {_sentence(error)}", err=True)
        raise typer.Exit(2) from error
    since = f"since {_utc(opened.since // 1000)}" if opened.since else "from the beginning"
    typer.echo(f"The guardians have counted {since} (era {opened.era}).")
    for access in missing:
        typer.echo(f"NOT IN EVERY LOG: {access.terminal} at {_utc(access.at // 1000)}")
    if result.gone:
        typer.echo(f"GONE: {result.gone} that you were shown at the last comparison.")
    if result.complete:
        typer.echo(f"{result.compared} identifications since the last comparison, all shown.")
        if result.lost:
            typer.echo(f"{len(result.lost)} of yours the wallet says it never got an answer to; that should be rare.")
        last.write_text(remember(opened, shown, result, before).to_json() + "\n")
    else:
        typer.echo(
            "INCOMPLETE: you were identified and it was not shown to you (or something was shown that never was). "
            "Fetch again in a minute, in case an answer was on its way; if it stays so, tell a guardian."
        )
    if result.compared > COMPARE_WITHIN:
        typer.echo(f"Compare at least every {COMPARE_WITHIN} payments: among so many, a set could be left out unseen.")
    if missing or not result.complete:
        raise typer.Exit(1)


@app.command()
def reconcile(
    logs: Annotated[Path, typer.Argument(help="A verified copy of the three logs.")],
    wallet: Annotated[Path, typer.Argument(help="What `facefare wallet searches` has written (JSON, hashes).")],
    sites: Annotated[Path, typer.Argument(help="For each terminal: honest strangers and error rates (JSON).")],
    checks: Annotated[Path | None, typer.Option(help="Payers' own comparisons: checked, incomplete (JSON).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the public report here.")] = None,
) -> None:
    """Compare searches with payments: identifications nobody was shown, and searches that nothing explains."""
    try:
        said = WalletWord.from_json(read_text(wallet))
        stations = stations_in(logs, said)
        result = reconcile_logs(
            searches_in(logs),
            said,
            sites_from_json(read_text(sites)),
            PayerChecks() if checks is None else PayerChecks.from_json(read_text(checks)),
        )
    except (AuditError, OSError) as error:
        typer.echo(_sentence(error), err=True)
        raise typer.Exit(2) from error
    for alarm in result.alarms:
        typer.echo(f"ALARM: {alarm}")
    for finding in result.excesses:
        typer.echo(f"UNEXPLAINED: {finding}")
    for one in result.terminals:
        typer.echo(
            f"{one.terminal}: {one.searches} searches in {one.days} days, {one.unpaid} without a payment, "
            f"{one.expected:.0f} expected; {one.smallest_found:.0f} extra a day would be found in 9 of 10 such reports"
        )
    for station in stations:
        typer.echo(f"{station.station}: {station.enrolled} enrolments, {station.compared} comparisons before one")
    if html is not None:
        html.write_text(report_html(result, stations))
    typer.echo("Nothing unexplained." if result.ok else "See above.")
    if not result.ok:
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
        typer.echo(_sentence(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"Entry {proof.index} of {origin}: {entry.terminal}, {entry.purpose}, {entry.time} ms.")


def _utc(seconds: int) -> str:
    last = int(datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp())  # a witness can write any 63-bit time
    return datetime.fromtimestamp(min(seconds, last), UTC).isoformat(timespec="seconds")


def _keys(path: Path) -> tuple[GuardianKeys, ...]:
    return parse_trust(read_text(path))


def _sentence(error: AuditError | OSError) -> str:
    return sentence(error) if isinstance(error, OSError) else str(error)
