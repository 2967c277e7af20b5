"""Routes of the payer's own check: does the list of who looked leave an identification out?

The comparison is the browser's, with a key that only it has; what passes here is what the API passes.
"""

from fastapi import APIRouter
from starlette.responses import Response

from facefare.payments import merchants
from facefare.wallet import faces
from facefare.web.api import payers as api
from facefare.web.api.payers import FaceId, IdentificationsOut, OpeningIn, OpeningOut
from facefare.web.api.services import WithServices
from facefare.web.pages.visitor import Shown, SignedIn

router = APIRouter()


class OwnLog(IdentificationsOut):
    """What a payer compares, with names of places, and the guardians' log keys as this wallet knows them."""

    places: dict[str, str]
    logs: list[str]


@router.get("/access/check")
def check_page(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """The check, of the payer's face."""
    with services.engine.connect() as connection:
        mine = faces.of_payer(connection, payer.id)
    logs = [key.split("+", 2) for key in services.guardians.log_keys]
    return shown.page("check.html", face=mine[0] if mine else None, logs=logs)


@router.get("/access/check/faces/{face_id}")
def own_log(face_id: FaceId, payer: SignedIn, services: WithServices) -> OwnLog:
    """Every identification of one's own face."""
    with services.engine.connect() as connection:
        known = api.identifications(face_id, payer, connection)
        places = merchants.places(connection, {entry.terminal for entry in known.accesses})
    return OwnLog(**known.model_dump(), places=places, logs=list(services.guardians.log_keys))


@router.post("/access/check/openings")
async def open_row(body: OpeningIn, payer: SignedIn, services: WithServices) -> OpeningOut:
    """Have the guardians open the own row; as the API does."""
    return await api.open_row(body, payer, services)
