"""Faces brought by enrolment stations."""

import asyncio
import base64
import binascii
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from facefare.guardian.errors import MessageError
from facefare.guardian.messages import EnrolRequest
from facefare.wallet import faces
from facefare.wallet.errors import InvalidEnrolment
from facefare.wallet.faces import Face
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import Services, WithServices

router = APIRouter(prefix="/v1", tags=["station"], responses=DOCUMENTED)


class Enrolment(BaseModel):
    """A sealed enrolment, signed by a registered station over the hash of the payer's consent receipt."""

    model_config = ConfigDict(extra="forbid")

    request: Annotated[str, Field(max_length=9_000_000, description="Base64 of the signed request.")]


class FaceOut(BaseModel):
    """A face as its payer sees it; `confirmed_by`: the guardians that signed its last change."""

    id: str
    gallery: str
    state: str
    confirmed_by: list[int]


class EnrolmentOut(BaseModel):
    """The face, or nothing for synthetic references of a demo."""

    face: FaceOut | None


@router.post("/enrolments", status_code=201)
async def enrol(body: Enrolment, services: WithServices) -> EnrolmentOut:
    """Enrol the face of the payer whose consent the station signed for."""
    try:
        request = EnrolRequest.from_bytes(base64.b64decode(body.request, validate=True))
    except (MessageError, binascii.Error, ValueError) as error:
        raise InvalidEnrolment("The request is not base64 of a well-formed enrolment.") from error
    face = await services.changes.enrol(request)
    if face is None:
        return EnrolmentOut(face=None)
    return EnrolmentOut(face=(await asyncio.to_thread(shown, services, [face]))[0])


def shown(services: Services, found: list[Face]) -> list[FaceOut]:
    """The faces with who confirmed their last change."""
    with services.engine.connect() as connection:
        return [
            FaceOut(
                id=face.id,
                gallery=face.gallery_id,
                state=face.state,
                confirmed_by=[
                    confirmation.fields.guardian for confirmation in faces.confirmations_of(connection, face.id)[-3:]
                ],
            )
            for face in found
        ]
