"""Faces brought by enrolment stations."""

import base64
import binascii
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from facefare.guardian.errors import MessageError
from facefare.guardian.messages import EnrolRequest
from facefare.wallet import faces
from facefare.wallet.errors import InvalidEnrolment, SeeStaff
from facefare.wallet.faces import Face
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import Services, WithServices

router = APIRouter(prefix="/v1", tags=["station"], responses=DOCUMENTED)


class Enrolment(BaseModel):
    """A sealed enrolment, signed by a registered station over the hash of the payer's consent receipt."""

    model_config = ConfigDict(extra="forbid")

    request: Annotated[str, Field(max_length=9_000_000, description="Base64 of the signed request.")]


class FaceOut(BaseModel):
    """A face as its payer sees it; `confirmed_by`: the guardians that signed its last change.

    `lookalike`: somebody else's enrolled face was taken for it, so it never pays without PIN or phone.
    """

    id: str
    gallery: str
    state: str
    lookalike: bool
    confirmed_by: list[int]


class EnrolmentOut(BaseModel):
    """All that a station is told. Who it is about finds the rest in the own app, and nobody learns who else it is."""

    outcome: Literal["done", "see_staff"]


@router.post("/enrolments", status_code=201)
async def enrol(body: Enrolment, services: WithServices) -> EnrolmentOut:
    """Enrol the face of the payer whose consent the station signed for."""
    try:
        request = EnrolRequest.from_bytes(base64.b64decode(body.request, validate=True))
    except (MessageError, binascii.Error, ValueError) as error:
        raise InvalidEnrolment("The request is not base64 of a well-formed enrolment.") from error
    try:
        face = await services.changes.enrol(request)
    except SeeStaff:
        return EnrolmentOut(outcome="see_staff")
    return EnrolmentOut(outcome="see_staff" if face is not None and face.lookalike else "done")


def shown(services: Services, found: list[Face]) -> list[FaceOut]:
    """The faces with who confirmed their last change."""
    with services.engine.connect() as connection:
        return shown_in(connection, found)


def shown_in(connection: Connection, found: list[Face]) -> list[FaceOut]:
    """The same, as this transaction sees it."""
    return [
        FaceOut(
            id=face.id,
            gallery=face.gallery_id,
            state=face.state,
            lookalike=face.lookalike,
            confirmed_by=[word.fields.guardian for word in faces.confirmations_of(connection, face.id)[-3:]],
        )
        for face in found
    ]
