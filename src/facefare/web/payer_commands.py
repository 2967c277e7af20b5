"""`facefare payer …`: what payers do on their own machine to check the access log that the wallet shows them.

The two private keys here never leave the machine: the one given at enrolment, by which the guardians open the own row,
and the one-time key that what they open is sealed to.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.audit.openings import Opening, SealedPart
from facefare.client import ApiError, PayerClient
from facefare.identification.requests import prepare_opening
from facefare.keyfiles import read_ed25519, write_new

app = typer.Typer(help="For payers: check what the wallet shows you.", no_args_is_help=True)

_TRIES = 3


class CheckError(Exception):
    """The payer's own check can't be made; the message says why."""


@app.command("new-key")
def new_key(file: Annotated[Path, typer.Argument(help="Where to keep the private key (PEM).")]) -> None:
    """Make the key that you give to the enrolment station; prints its public half, 64 hex digits."""
    key = Ed25519PrivateKey.generate()
    write_new(file, key)
    typer.echo(key.public_key().public_bytes_raw().hex())


@app.command("open-log")
def open_log(
    wallet: Annotated[str, typer.Argument(help="https://…, where you pay.")],
    folder: Annotated[Path, typer.Option("--to", help="The folder for `facefare audit my-log`.")],
    key: Annotated[Path, typer.Option(help="The private key of the one you gave at enrolment (PEM).")],
    token: Annotated[str, typer.Option(envvar="FACEFARE_PAYER_TOKEN", prompt="Your token (ptk_…)", hide_input=True)],
    face: Annotated[str, typer.Option(help="fac_…, if you have several.")] = "",
) -> None:
    """Fetch your access log, and have the guardians open what they counted, sealed to you."""
    try:
        private = read_ed25519(key)
        with httpx.Client(base_url=wallet, timeout=30) as http:
            fetch_own_log(PayerClient(http, token), private, folder, face=face)
    except (ApiError, CheckError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"Now: facefare audit my-log {folder} --trust FILE --logs COPY")


def fetch_own_log(payer: PayerClient, key: Ed25519PrivateKey, folder: Path, *, face: str = "") -> None:
    """Write own-log.json into `folder`: the access log, what the guardians opened, and the key to it, of one moment.

    Raises CheckError, ApiError, OSError.
    """
    chosen = face or _only_face(payer)
    for _ in range(_TRIES):
        shown = payer.identifications(chosen)
        if shown["payer_key"] != key.public_key().public_bytes_raw().hex():
            raise CheckError("Another key than this one was given at enrolment, or none: the guardians open nothing.")
        request, recipient = prepare_opening(shown["gallery"], shown["row"], key=key, now=datetime.now(UTC))
        answers = payer.open_row(request.to_bytes())
        if payer.identifications(chosen) == shown:
            break
    else:
        raise CheckError("You are being identified right now; try again in a minute.")
    parts = tuple(SealedPart(sealed, signature) for sealed, signature in answers)
    opening = Opening(shown["gallery"], request.fields().opening_id, recipient, parts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own-log.json").unlink(missing_ok=True)
    kept = os.open(folder / "own-log.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(kept, "wb") as file:
        file.write((json.dumps({**shown, **opening.fields()}, indent=1) + "\n").encode())


def _only_face(payer: PayerClient) -> str:
    faces = payer.account().faces
    if len(faces) != 1:
        raise CheckError("Name one of your faces with --face; GET /v1/payers/me lists them.")
    return faces[0].id
