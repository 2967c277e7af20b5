"""`facefare wallet staff …` and `… key-proof`: who may use the console, and a terminal's proof of its key."""

from pathlib import Path
from typing import Annotated

import typer

from facefare.keyfiles import read_ed25519
from facefare.payments import merchants
from facefare.settings import Settings
from facefare.web.commands import database, plain_errors
from facefare.web.pages import staff, staff_passkeys
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.staff import Role

app = typer.Typer(help="The operator's staff, in the console.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="As payers and auditors read it.")],
    role: Annotated[Role, typer.Option(help="What the member may do.")],
) -> None:
    """Let somebody into the console by a token, which is printed this once; it ends with the first passkey."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        member, token = staff.add(connection, name, role)
    typer.echo(f"{member.id}\n{token}")


@app.command()
def invite(member: Annotated[str, typer.Argument(help="stf_…")]) -> None:
    """Let a member make a passkey, whatever else was lost; prints a link that works once, within a day."""
    settings = Settings.read()
    with plain_errors(), database(settings) as engine, engine.begin() as connection:
        invitation = staff.invite(connection, member)
    typer.echo(f"{settings.origin or 'http://localhost:8000'}{PREFIX}/console/join#{invitation}")


@app.command("list")
def list_members() -> None:
    """Everybody, with their roles."""
    with plain_errors(), database(Settings.read()) as engine, engine.connect() as connection:
        owners = [passkey.staff_id for passkey in staff_passkeys.of(connection)]
        for one in staff.everybody(connection):
            state = f"revoked {one.revoked_at:%Y-%m-%d}" if one.revoked_at else "in force"
            typer.echo(f"{one.id}  {one.role.value}  {one.name}  {state}, passkeys: {owners.count(one.id)}")


@app.command()
def revoke(member: Annotated[str, typer.Argument(help="stf_…")]) -> None:
    """Let a member do nothing from now on."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        staff.revoke(connection, member)


def key_proof(
    key: Annotated[Path, typer.Argument(help="The terminal's private key (PEM).")],
    merchant: Annotated[str, typer.Option(help="mer_…")],
    terminal: Annotated[str, typer.Option(help="trm_…")],
) -> None:
    """Print a terminal's public key and the proof that it has it, both in hex; run it where the key is."""
    private = read_ed25519(key)
    public = private.public_key().public_bytes_raw()
    typer.echo(f"{public.hex()}\n{private.sign(merchants.key_statement(merchant, terminal, public)).hex()}")
