"""`facefare ledger settle|export|reconcile` and `facefare wallet api-keys …`: merchants' money, and their keys."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from facefare.ledger.currency import shown
from facefare.payments import api_keys, settlements
from facefare.payments import reconciliation as books
from facefare.payments.api_keys import AUDITOR, Scope
from facefare.settings import Settings
from facefare.web.commands import database, plain_errors

keys = typer.Typer(help="API keys of merchants' own systems.", no_args_is_help=True)

_Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC; yesterday if none.")]
_JsonFile = Annotated[Path | None, typer.Option("--json", help="Write it as JSON too.")]


class Form(StrEnum):
    """What an export is written as."""

    CSV = "csv"
    JSON = "json"


def _yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


def settle(day: _Day = None) -> None:
    """Settle a day for every merchant; run again, it does nothing."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        done = settlements.settle(connection, (day or _yesterday()).date())
    table = Table("settlement", "merchant", "carried", "taken", "given back", "paid out")
    for one in done:
        amounts = (one.carried, one.taken, one.given_back, one.paid_out)
        table.add_row(one.id, one.merchant_id, *(shown(amount, one.currency) for amount in amounts))
    Console().print(table)


def export(
    file: Path,
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC).")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC).")],
    form: Annotated[Form, typer.Option("--format")] = Form.CSV,
) -> None:
    """Write the settlements of some days with all their movements; nothing in it says who paid."""
    with plain_errors(), database(Settings.read()) as engine, engine.connect() as connection:
        chosen = settlements.between(connection, first.date(), last.date())
        write = settlements.as_csv if form is Form.CSV else settlements.as_json
        file.write_text(write(connection, chosen), encoding="utf-8", newline="")


def reconcile(
    report: Annotated[Path, typer.Argument(help="Itemised balance report of the card processor (CSV).")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC).")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC).")],
    json_file: _JsonFile = None,
) -> None:
    """List every difference between our books and the card processor's report; exit code 1 if there is one."""
    since, until = first.replace(tzinfo=UTC), last.replace(tzinfo=UTC) + timedelta(days=1)
    with plain_errors(), database(Settings.read()) as engine, engine.connect() as connection:
        found = books.reconcile(connection, report, since=since, until=until)
    table = Table("what", "category", "name", "currency", "here", "there", "reference")
    for one in found.differences:
        table.add_row(*(str("" if value is None else value) for value in asdict(one).values()))
    if found.differences:
        Console().print(table)
    fees = ", ".join(shown(amount, currency) for currency, amount in sorted(found.fees.items())) or "none"
    typer.echo(f"{found.same} movements are the same, {len(found.differences)} differ. Fees of the processor: {fees}.")
    if json_file:
        json_file.write_text(json.dumps(asdict(found), indent=2))
    if found.differences:
        raise typer.Exit(1)


@keys.command("create")
def create_key(
    merchant: Annotated[str, typer.Argument(help="mer_…")],
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; several times.")] = [],  # noqa: B006
    auditor: Annotated[bool, typer.Option("--auditor", help="May read settlements and check the books.")] = False,
) -> None:
    """Make a key; prints it, this once."""
    scopes = {*scope, *(AUDITOR if auditor else ())}
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        made, text = api_keys.create(connection, merchant, name, scopes)
    typer.echo(f"{made.id}\n{text}")


@keys.command("list")
def list_keys(merchant: Annotated[str, typer.Argument(help="mer_…")]) -> None:
    """Keys of a merchant, without their secret part."""
    with plain_errors(), database(Settings.read()) as engine, engine.connect() as connection:
        found = api_keys.of_merchant(connection, merchant)
    for one in found:
        state = f"revoked {one.revoked_at:%Y-%m-%d}" if one.revoked_at else "in force"
        typer.echo(f"{one.id}  {one.prefix}…  {one.name}  {' '.join(sorted(one.scopes))}  {state}")


@keys.command("revoke")
def revoke_key(key: Annotated[str, typer.Argument(help="key_…")]) -> None:
    """Refuse a key from now on."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        api_keys.revoke(connection, key)
