"""Routes of the payer's own data: who looked, what the guardians signed, the export, the end of the account."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse, Response

from facefare.ledger import balance_of
from facefare.payments import closing, export, intents, merchants
from facefare.wallet import access, faces
from facefare.web.api import rights as api
from facefare.web.api.services import WithServices
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.visitor import Shown, SignedIn

router = APIRouter()

_PAGE = 20
_StartingAfter = Annotated[str | None, Query(pattern=r"^[a-z]{2,3}_[0-9a-z]{26}$")]


@router.get("/access")
def access_log(
    payer: SignedIn, services: WithServices, shown: Shown, starting_after: _StartingAfter = None
) -> Response:
    """Every use of the face and every look at the payer's data; and the attempts that moved no money."""
    with services.engine.connect() as connection:
        found = access.of_payer(connection, payer.id, limit=_PAGE + 1, before=starting_after)
        refused = [
            intent for intent in intents.of_payer(connection, payer.id, limit=_PAGE) if intent.state != "succeeded"
        ]
        places = merchants.places(connection, {entry.by for entry in found})
        enrolled = bool(faces.of_payer(connection, payer.id))
    older = found[_PAGE - 1].id if len(found) > _PAGE else None
    return shown.page(
        "access.html", entries=found[:_PAGE], places=places, older=older, refused=refused, enrolled=enrolled
    )


@router.get("/guardians")
def guardians(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """What the guardians hold of the payer, and everything that they signed about it."""
    with services.engine.connect() as connection:
        mine = faces.of_payer(connection, payer.id)
        signed = [word.fields for word in faces.confirmations_of_payer(connection, payer.id)]
    words = [(said, datetime.fromtimestamp(said.time / 1000, UTC)) for said in reversed(signed)]
    return shown.page("guardians.html", faces=mine, signed=words, numbers=services.calibration.dimensions, payer=payer)


@router.get("/guardians/confirmations.json")
def confirmations(payer: SignedIn, services: WithServices) -> Response:
    """The guardians' signed confirmations as a file, to keep and to verify."""
    with services.engine.connect() as connection:
        signed = api.confirmations(payer, connection)
    text = "[" + ",\n".join(word.model_dump_json() for word in signed) + "]\n"
    return _file(text, "confirmations.json", "application/json")


@router.get("/export")
def everything(payer: SignedIn, services: WithServices) -> Response:
    """Everything that is kept about this payer, for a program."""
    with services.engine.connect() as connection:
        text = export.as_json(export.everything(connection, payer), payer.id)
    return _file(text, "my-data.json", "application/json")


@router.get("/export.html")
def readable(payer: SignedIn, services: WithServices) -> Response:
    """The same, to read."""
    with services.engine.connect() as connection:
        text = export.as_html(export.everything(connection, payer), payer.id)
    return _file(text, "my-data.html", "text/html")


@router.get("/close")
def close_page(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """What closing the account does, before it is done."""
    with services.engine.connect() as connection:
        balance = balance_of(connection, payer.account_id)
        enrolled = bool(faces.of_payer(connection, payer.id))
    return shown.page("close.html", payer=payer, balance=balance, enrolled=enrolled)


@router.post("/close")
def close(payer: SignedIn, services: WithServices) -> Response:
    """Close the account; what money is left is paid out, and every session ends with it."""
    with services.engine.begin() as connection:
        closing.close(connection, payer)
    return RedirectResponse(f"{PREFIX}/", status_code=303)


def _file(text: str, name: str, kind: str) -> Response:
    return Response(text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
