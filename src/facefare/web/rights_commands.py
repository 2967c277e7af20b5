"""`facefare fares …`, `facefare consent …`, `facefare wallet retention …`: tariffs, receipts, forgetting on time."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from facefare.fares.errors import FaresError
from facefare.fares.gtfs import read_gtfs
from facefare.fares.tariff import load_tariff
from facefare.files import read_text
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import Operation
from facefare.identification.relay import Guardians
from facefare.payments import closing, retention, staff, tariffs
from facefare.payments.disputes import WINDOW
from facefare.payments.tariffs import FarePoint
from facefare.settings import Settings
from facefare.wallet import consents
from facefare.wallet.carrying import Changes
from facefare.wallet.errors import WalletError
from facefare.wallet.pending_keys import PendingKeys
from facefare.web.commands import database, plain_errors, receipt_key
from facefare.web.pages import staff as console_staff

fares = typer.Typer(help="Tariffs, and which gate charges which.", no_args_is_help=True)
consent = typer.Typer(help="Consent receipts.", no_args_is_help=True)
retention_app = typer.Typer(help="Forget on time, and prove it.", no_args_is_help=True)
pay_outs = typer.Typer(help="Money of closed accounts.", no_args_is_help=True)


@fares.command("import")
def import_fares(
    path: Annotated[Path, typer.Argument(help="Our JSON file, or the folder of a GTFS feed with Fares v2.")],
    tariff: Annotated[str, typer.Option(help="For GTFS: the tariff's id.")] = "",
    effective_from: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="For GTFS: the fare day it takes effect.")
    ] = None,
    fare_medium: Annotated[str, typer.Option(help="For GTFS: take this fare_media_id's prices.")] = "",
    tap_out: Annotated[
        list[str] | None, typer.Option(help="For GTFS: a network where leaving is tapped too; may be repeated.")
    ] = None,
) -> None:
    """Add a tariff's new versions; those that are known are never changed."""
    with plain_errors():
        if path.is_dir():
            if not tariff or effective_from is None:
                raise FaresError("A GTFS feed needs --tariff and --effective-from.")
            read = read_gtfs(
                path,
                tariff_id=tariff,
                effective_from=effective_from.date(),
                fare_medium=fare_medium,
                tap_out=frozenset(tap_out or ()),
            )
        else:
            read = load_tariff(path)
        with database(Settings.read()) as engine, engine.begin() as connection:
            added = tariffs.import_tariff(connection, read)
        typer.echo(f"{read.id}: {', '.join(map(str, added)) if added else 'nothing new'}")


@fares.command("list")
def list_fares() -> None:
    """Every version of every tariff, and the day it takes effect."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        for known in tariffs.listed(connection):
            typer.echo(f"{known.tariff_id}  {known.currency}  from {known.effective_from}")


@fares.command()
def assign(
    terminal: Annotated[str, typer.Argument(help="trm_…, a gate.")],
    tariff: Annotated[str, typer.Option()],
    stop: Annotated[str, typer.Option()],
    kind: Annotated[str, typer.Option(help="entry, exit, or flat where leaving is not tapped.")],
    network: Annotated[str, typer.Option()] = "",
) -> None:
    """Let a gate charge a tariff's fares at a stop."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        tariffs.assign(connection, terminal, FarePoint(tariff, stop, kind, network))


@fares.command()
def grant(
    payer: Annotated[str, typer.Argument(help="pay_…")],
    tariff: Annotated[str, typer.Option()],
    category: Annotated[str, typer.Option(help="A rider category of the tariff.")],
    through: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last fare day.")],
) -> None:
    """Give a payer a concession."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        tariffs.grant(connection, payer, tariff, category, through.date())


@consent.command("verify")
def verify_consent(
    file: Annotated[Path, typer.Argument(help="The receipt as downloaded (.jws).")],
    keys: Annotated[Path, typer.Option(help="The operator's keys, as /v1/consent_keys gives them (JSON).")],
) -> None:
    """Check who signed a consent receipt, and print what was agreed; exit code 1 if it isn't genuine."""
    with plain_errors():
        receipt = read_text(file).strip()
        said = consents.verified(receipt, consents.key_of(read_text(keys), receipt))
    typer.echo(json.dumps(said, indent=1, ensure_ascii=False))


@retention_app.command("run")
def run_retention() -> None:
    """Forget what may not be kept any longer, and sign a record of it; exit code 1 if something is left to do."""
    settings = Settings.read()
    now = datetime.now(UTC)
    with plain_errors(), database(settings) as engine:
        with engine.begin() as connection:
            counts = retention.forget(connection, now)
            counts["reasons of staff"] = console_staff.forget_reasons(connection, before=now - WINDOW)
            unused = retention.unused_faces(connection, retention_days=settings.retention_days, now=now)
        deleted, late = asyncio.run(_delete(settings, engine, unused)) if unused else (0, [])
        counts["faces unused for too long"] = deleted
        with engine.begin() as connection:
            run = retention.record(connection, counts, late=late, key=receipt_key(settings), now=now)
    typer.echo(run.record)
    if late:
        raise typer.Exit(1)


async def _delete(settings: Settings, engine: Engine, payer_ids: list[str]) -> tuple[int, list[str]]:
    async with Guardians(
        [GuardianIdentity.from_file(path) for path in settings.guardians],
        certificate=settings.relay_dir / "relay.pem",
        key=settings.relay_dir / "relay-key.pem",
    ) as guardians:
        return await delete_unused(
            Changes(engine, guardians, PendingKeys(settings.data_dir / "wallet" / "pending")), payer_ids
        )


async def delete_unused(changes: Changes, payer_ids: list[str]) -> tuple[int, list[str]]:
    """Delete the faces of these payers; how many were, and what could not be done now, in words."""
    deleted, late = 0, []
    for payer_id in payer_ids:
        try:
            deleted += len(await changes.alter(payer_id, Operation.DELETE))
        except WalletError as error:
            late.append(f"a face could not be deleted: {type(error).__name__}")
    return deleted, late


@retention_app.command("list")
def list_retention() -> None:
    """The signed records of past runs, newest first."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        for run in retention.runs(connection):
            typer.echo(f"{run.ran_at.isoformat()}  {run.record}")


def dispute_details(
    dispute: Annotated[str, typer.Argument(help="dsp_…, under review.")],
    staff_name: Annotated[str, typer.Option("--staff", help="Who looks; the payer will read it.")],
    why: Annotated[str, typer.Option(help="What for; the payer will read it.")],
) -> None:
    """Show the details of an open dispute; the look is written into the payer's access log."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        shown = staff.details(connection, dispute, staff=staff_name, why=why)
    typer.echo(json.dumps(vars(shown), indent=1, default=str))


@pay_outs.command("paid")
def pay_out_paid(pay_out: Annotated[str, typer.Argument(help="out_…")]) -> None:
    """Say that a closed account's money was sent."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        closing.paid(connection, pay_out)
