"""What payers ask of their data and their account: see it, take it away, take consent back, leave; and travel debts."""

import asyncio
import base64
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from facefare.fares.explain import render
from facefare.guardian.messages import Operation
from facefare.payments import closing, export, retention, travel, travel_periods
from facefare.wallet import consents, faces, lookalikes, payers
from facefare.wallet.consents import Profile
from facefare.web.api.enrolments import FaceOut, shown, shown_in
from facefare.web.api.payers import Limit, Page, StartingAfter
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import Services, SignedIn, Transaction, WithServices

router = APIRouter(prefix="/v1", tags=["payer"], responses=DOCUMENTED)

ConsentId = Annotated[str, Path(pattern=r"^con_[0-9a-z]{26}$")]


class ConfirmationOut(BaseModel):
    """A guardian's signed word that it did something to the payer's row.

    `signed` (base64 of CBOR) verifies with the guardian's public key.
    """

    guardian: int
    operation: str
    gallery: str
    row: int
    version: int
    at: datetime
    signed: str


class PayOutOut(BaseModel):
    """Money of a closed account, in minor units; `paid_at` once it is with the payer."""

    id: str
    amount: int
    currency: str
    created_at: datetime
    paid_at: datetime | None


class ClosedOut(BaseModel):
    """The account is closed; the token still reads what is kept."""

    pay_out: PayOutOut | None


class RideOut(BaseModel):
    """One tap: where, until that is forgotten, and why the ride cost what it did. Amounts in minor units."""

    payment_intent: str
    at: datetime
    stop: str | None
    kind: str | None
    cost: int
    under_way: bool
    explained: list[str]


class TravelOut(BaseModel):
    """Whether gates open (`good`, `denied`), what is owed, and what is travelled and not paid yet (`at_risk`).

    `charged_by`: when the card on file is charged for travel on account, at the latest.
    """

    standing: Literal["new", "good", "denied"]
    owed: int
    at_risk: int
    currency: str
    charged_by: datetime | None


class OwedOut(BaseModel):
    """What is owed still, in minor units."""

    owed: int


class RetentionOut(BaseModel):
    """A run of the job that forgets on time; the record is a JWS, verify it with /v1/consent_keys."""

    id: str
    ran_at: datetime
    record: str


@router.get("/payers/me/export")
def everything(payer: SignedIn, connection: Transaction) -> Response:
    """Everything that is kept about the payer, as JSON."""
    text = export.as_json(export.everything(connection, payer), payer.id)
    return Response(text, media_type="application/json", headers=_as_file(f"{payer.id}.json"))


@router.get("/payers/me/export.html", response_class=HTMLResponse)
def readable(payer: SignedIn, connection: Transaction) -> HTMLResponse:
    """The same, to read."""
    text = export.as_html(export.everything(connection, payer), payer.id)
    return HTMLResponse(text, headers=_as_file(f"{payer.id}.html"))


@router.get("/payers/me/consents/{consent_id}/receipt", response_class=Response)
def consent_receipt(consent_id: ConsentId, payer: SignedIn, connection: Transaction) -> Response:
    """A consent's signed receipt as a file, for `facefare consent verify`."""
    receipt = consents.receipt_of(connection, payer.id, consent_id)
    return Response(receipt, media_type="application/jose", headers=_as_file(f"{consent_id}.jws"))


@router.delete("/payers/me/consents")
async def withdraw(payer: SignedIn, services: WithServices) -> list[FaceOut]:
    """Take all consents back; faces are erased at all three guardians. The faces that were."""
    enrolled = await asyncio.to_thread(_withdraw, services, payer.id)
    if not enrolled:
        return []
    altered = await services.changes.alter(payer.id, Operation.DELETE)
    return await asyncio.to_thread(shown, services, altered)


class Word(BaseModel):
    """The wallet's word (a JWS), good for an hour, that a face was given up: bring it where you go on."""

    word: Annotated[str, Field(max_length=4096)]


@router.post("/payers/me/face/give_up")
async def give_up(payer: SignedIn, services: WithServices) -> Word:
    """If another account of yours has your face now: withdraw consent here, erase the face, take the word for it."""
    await asyncio.to_thread(_withdraw, services, payer.id, Profile.HANDS_FREE)
    given_up = await services.changes.alter(payer.id, Operation.DELETE)
    return Word(word=lookalikes.given_up([face.id for face in given_up], services.receipt_key))


@router.post("/payers/me/face/same_person")
def same_person(body: Word, payer: SignedIn, services: WithServices, connection: Transaction) -> list[FaceOut]:
    """Bring the word of your other account, whose face was taken for this one: it was yours, so nobody looks alike."""
    lookalikes.join(connection, payer.id, body.word, services.receipt_key)
    return shown_in(connection, faces.of_payer(connection, payer.id))


@router.get("/payers/me/face/confirmations")
def confirmations(payer: SignedIn, connection: Transaction) -> list[ConfirmationOut]:
    """All that the guardians signed about the payer's faces, deleted ones too, oldest first."""
    return [
        ConfirmationOut(
            guardian=word.fields.guardian,
            operation=word.fields.operation,
            gallery=word.fields.gallery,
            row=word.fields.row,
            version=word.fields.version,
            at=datetime.fromtimestamp(word.fields.time / 1000).astimezone(),
            signed=base64.b64encode(word.to_bytes()).decode(),
        )
        for word in faces.confirmations_of_payer(connection, payer.id)
    ]


@router.delete("/payers/me")
def close(payer: SignedIn, connection: Transaction) -> ClosedOut:
    """Close the account; what money is left is paid out. The face must be deleted before."""
    pay_out = closing.close(connection, payer)
    return ClosedOut(pay_out=None if pay_out is None else PayOutOut(**vars(pay_out)))


@router.get("/payers/me/pay_outs")
def pay_outs(payer: SignedIn, connection: Transaction) -> list[PayOutOut]:
    """What was paid out, oldest first."""
    return [PayOutOut(**vars(pay_out)) for pay_out in closing.of_payer(connection, payer.id)]


@router.get("/payers/me/travel")
def standing(payer: SignedIn, connection: Transaction) -> TravelOut:
    """Whether gates open for the payer; `denied` ends when what is owed is paid."""
    now = travel.standing_of(connection, payer)
    return TravelOut(
        standing=now.state.value,
        owed=now.owed,
        at_risk=now.at_risk,
        currency=payer.currency,
        charged_by=travel_periods.next_charge(connection, payer),
    )


@router.get("/payers/me/rides")
def rides(
    payer: SignedIn, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[RideOut]:
    """Taps, newest first; `starting_after` takes the id of a tap's payment."""
    found = travel.rides(connection, payer.id, limit=limit + 1, before=starting_after)
    return Page(
        data=[
            RideOut(
                payment_intent=ride.payment_intent,
                at=ride.at,
                stop=ride.stop,
                kind=ride.kind,
                cost=ride.cost,
                under_way=ride.under_way,
                explained=[render(line, payer.currency) for line in ride.lines],
            )
            for ride in found[:limit]
        ],
        has_more=len(found) > limit,
    )


@router.post("/payers/me/debt/pay")
def pay_debt(payer: SignedIn, connection: Transaction) -> OwedOut:
    """Pay what is owed from the balance; gates open again at once."""
    travel.recover(connection, payers.locked(connection, payer.id))
    return OwedOut(owed=travel.owed_by(connection, payer))


@router.get("/retention_runs", tags=["operation"])
def retention_runs(connection: Transaction) -> list[RetentionOut]:
    """The newest runs of the job that forgets on time: proof, for anyone, that it runs."""
    return [RetentionOut(**vars(run)) for run in retention.runs(connection)]


def _withdraw(services: Services, payer_id: str, profile: Profile | None = None) -> bool:
    with services.engine.begin() as connection:
        consents.withdraw(connection, payer_id, profile)
        return bool(faces.of_payer(connection, payer_id))


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
