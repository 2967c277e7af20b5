"""What payers do with their own money, face and data; nobody else can reach these."""

import asyncio
import base64
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Generic, TypeVar

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from facefare.guardian.messages import MessageError, OpenRequest, Operation, RefusalCode
from facefare.identification.errors import IdentificationError, RequestRefused
from facefare.ledger import balance_of
from facefare.ledger.currency import MAX_AMOUNT
from facefare.ledger.database import brief_locks
from facefare.payments import attempts, intents, receipts, scanned, top_ups
from facefare.payments.disputes import Dispute, open_dispute
from facefare.payments.receipts import Receipt
from facefare.wallet import access, consents, faces, payers, pins
from facefare.wallet.access import Access, Identification
from facefare.wallet.consents import Profile
from facefare.wallet.errors import NotEnrolled, WalletError
from facefare.wallet.payers import Payer
from facefare.web.api.attempts import AttemptOut, IntentId
from facefare.web.api.enrolments import FaceOut, shown
from facefare.web.api.errors import GuardiansAway, NoticeUnknown, OpeningRefused, TooYoung
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import CountedAccount, Services, SignedIn, Transaction, WithServices

router = APIRouter(prefix="/v1/payers", tags=["payer"], responses=DOCUMENTED)

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A page of a list, newest first; ask for the next one with `starting_after` = the last id."""

    data: list[Item]
    has_more: bool


FaceId = Annotated[str, Path(pattern=r"^fac_[0-9a-z]{26}$")]
ReceiptId = Annotated[str, Path(pattern=r"^rcp_[0-9a-z]{26}$")]
Limit = Annotated[int, Query(ge=1, le=100)]
StartingAfter = Annotated[str | None, Query(pattern=r"^[a-z]{2,3}_[0-9a-z]{26}$")]


class Registration(BaseModel):
    """Which currency the prepaid account holds."""

    model_config = ConfigDict(extra="forbid")

    currency: Annotated[str, Field(max_length=16, examples=["EUR"])]


class Registered(BaseModel):
    """The new payer; the token is shown this once."""

    id: str
    token: str


class PayerOut(BaseModel):
    """A payer's own view; money in minor units."""

    id: str
    currency: str
    available: int
    on_hold: int
    daily_limit: int | None
    faces: list[FaceOut]


class ConsentIn(BaseModel):
    """The version of the privacy notice that was read, and that the payer is old enough to agree to it."""

    model_config = ConfigDict(extra="forbid")

    notice_version: Annotated[str, Field(max_length=64)]
    of_age: Annotated[bool, Field(strict=True, description="The payer states to be of the notice's minimum age.")]
    profile: Annotated[Profile, Field(description="The payer's own phone, or three guardians.")] = Profile.HELD


class NoticeOut(BaseModel):
    """The privacy notice in force; `profiles`: what this operator offers, the one to be proposed first."""

    version: str
    url: str
    operator: str
    contact: str
    minimum_age: int
    profiles: list[Profile]


class ConsentOut(BaseModel):
    """The signed receipt (JWS, ISO/IEC TS 27560); verify it with /v1/consent_keys."""

    id: str
    receipt: str
    receipt_sha256: str


class TopUp(BaseModel):
    """An amount of test money."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int, Field(strict=True, description="Minor units; more than 0.")]


class ReceiptOut(BaseModel):
    """What moved, where and when, and what was left; amounts in minor units. `explained`: why a fare is what it is."""

    id: str
    kind: str
    amount: int
    currency: str
    place: str | None
    payment_intent: str | None
    balance_after: int
    at: datetime
    explained: list[str]


def _receipt_out(found: Receipt) -> ReceiptOut:
    fields = {name: value for name, value in vars(found).items() if name != "lines"}
    return ReceiptOut(**fields, explained=found.explained)


class PaymentOut(BaseModel):
    """A payment or an attempt at one."""

    id: str
    state: str
    amount: int
    captured: int
    tip: int
    refunded: int
    currency: str
    place: str
    reason: str | None
    created_at: datetime


class AskedOut(PaymentOut):
    """What a terminal's code asks for; `at_most` is more than the amount where the rest of a ride decides."""

    at_most: int


class IdentificationOut(BaseModel):
    """A search that was answered with the payer's face: the guardians' tag (16 hex digits) and the signed request.

    `at` (ms since 1970) is when the terminal signed. `query_id` and `request_sha256`, by which its entry in the
    guardians' public logs is found, are null once the place is forgotten.
    """

    at: int
    tag: str
    terminal: str
    gallery: str
    purpose: str
    query_id: str | None
    request_sha256: str | None


class AccessOut(BaseModel):
    """One use of the payer's face, or one look at the payer's data: who, what for, and what came of it.

    `identification`: by the guardians; null for a payment by a device, and for people who looked.
    """

    id: str
    at: datetime
    by: str
    purpose: str
    outcome: str
    identification: IdentificationOut | None


def _identification_out(entry: Access, found: Identification) -> IdentificationOut:
    return IdentificationOut(
        at=found.issued_at,
        tag=f"{found.tag:016x}",
        terminal=entry.by,
        gallery=found.gallery_id,
        purpose=entry.purpose,
        query_id=_hex(found.query_id),
        request_sha256=_hex(found.request_sha256),
    )


def _access_out(entry: Access) -> AccessOut:
    return AccessOut(
        id=entry.id,
        at=entry.at,
        by=entry.by,
        purpose=entry.purpose,
        outcome=entry.outcome,
        identification=None if entry.found is None else _identification_out(entry, entry.found),
    )


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


class IdentificationsOut(BaseModel):
    """What `facefare audit my-log` compares with what the guardians open: every identification of one face.

    `lost`: tags of answers that never came whole, of anybody. `payer_key` (64 hex digits): whose requests the guardians
    open the row for; null where none was given at enrolment.
    """

    gallery: str
    row: int
    payer_key: str | None
    accesses: list[IdentificationOut]
    lost: list[str]


class OpeningIn(BaseModel):
    """A request to open one's own row, signed by the key that was given at enrolment."""

    model_config = ConfigDict(extra="forbid")

    request: Annotated[str, Field(max_length=4096, description="Base64 of the signed request.")]


class OpeningOut(BaseModel):
    """Base64 of what guardians 0, 1 and 2 sealed to the payer, and of their signatures; nobody else can read it."""

    sealed: list[str]
    signatures: list[str]


class NewPin(BaseModel):
    """4 to 8 digits that are not all the same."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    pin: Annotated[SecretStr, Field(max_length=8)]


class Limits(BaseModel):
    """The most to be charged in a day (UTC), in minor units; null for no limit."""

    model_config = ConfigDict(extra="forbid")

    daily_limit: Annotated[int | None, Field(strict=True, ge=0, le=MAX_AMOUNT)]


class DisputeOut(BaseModel):
    """What became of "this wasn't me": refunded, under_review or declined."""

    id: str
    payment_intent: str
    state: str
    created_at: datetime


class FacesOut(BaseModel):
    """The faces after the change, and the guardians' signed confirmations (base64 of CBOR)."""

    faces: list[FaceOut]
    confirmations: list[str]


@router.post("", status_code=201)
def register(body: Registration, _: CountedAccount, connection: Transaction) -> Registered:
    """Open an account."""
    payer, token = payers.register(connection, body.currency)
    return Registered(id=payer.id, token=token)


@router.get("/me")
def me(payer: SignedIn, services: WithServices, connection: Transaction) -> PayerOut:
    """The balance and the faces."""
    balance = balance_of(connection, payer.account_id)
    return PayerOut(
        id=payer.id,
        currency=payer.currency,
        available=balance.available,
        on_hold=balance.on_hold,
        daily_limit=payer.daily_limit,
        faces=shown(services, faces.of_payer(connection, payer.id)),
    )


@router.get("/notice")
def notice(services: WithServices) -> NoticeOut:
    """What there is to agree to: the notice in force, and the ways of paying by face that are offered here."""
    said = services.notice
    return NoticeOut(
        version=said.version,
        url=said.url,
        operator=said.operator,
        contact=said.contact,
        minimum_age=said.minimum_age,
        profiles=[profile for profile in (Profile.HELD, Profile.HANDS_FREE) if profile in services.profiles],
    )


@router.post("/me/consents", status_code=201)
def consent(body: ConsentIn, payer: SignedIn, services: WithServices, connection: Transaction) -> ConsentOut:
    """Agree to pay by face."""
    if body.notice_version != services.notice.version:
        raise NoticeUnknown(f"The current notice is {services.notice.version}; read it and agree to that one.")
    services.check_offered(body.profile)
    if not body.of_age:
        raise TooYoung(f"Who pays by face here is {services.notice.minimum_age} years old or more.")
    given = consents.give(
        connection, payer.id, services.notice, services.receipt_key, of_age=True, profile=body.profile
    )
    return ConsentOut(id=given.id, receipt=given.receipt, receipt_sha256=given.receipt_sha256.hex())


@router.get("/me/consents")
def given_consents(payer: SignedIn, connection: Transaction) -> list[ConsentOut]:
    """The consents in force, oldest first."""
    return [
        ConsentOut(id=given.id, receipt=given.receipt, receipt_sha256=given.receipt_sha256.hex())
        for given in consents.of_payer(connection, payer.id)
    ]


@router.post("/me/top_ups", status_code=201)
def top_up(
    body: TopUp,
    payer: SignedIn,
    services: WithServices,
    connection: Transaction,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> ReceiptOut:
    """Add money from the test funding source, once for each Idempotency-Key."""
    receipt_id = top_ups.from_test_funds(
        connection, payer, body.amount, funding=services.funding, idempotency_key=idempotency_key
    )
    return _receipt_out(receipts.read(connection, payer.id, receipt_id))


@router.get("/me/receipts/{receipt_id}")
def receipt(receipt_id: ReceiptId, payer: SignedIn, connection: Transaction) -> ReceiptOut:
    """One receipt."""
    return _receipt_out(receipts.read(connection, payer.id, receipt_id))


@router.get("/me/receipts")
def receipt_list(
    payer: SignedIn, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[ReceiptOut]:
    """Receipts, newest first."""
    found = receipts.of_payer(connection, payer.id, limit=limit + 1, before=starting_after)
    return Page(data=[_receipt_out(item) for item in found[:limit]], has_more=len(found) > limit)


@router.get("/me/payments")
def payment_list(
    payer: SignedIn, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[PaymentOut]:
    """Payments, newest first."""
    found = intents.of_payer(connection, payer.id, limit=limit + 1, before=starting_after)
    return Page(data=[PaymentOut(**vars(item)) for item in found[:limit]], has_more=len(found) > limit)


@router.get("/me/codes/{intent_id}")
def asked_by_code(
    intent_id: IntentId,
    payer: SignedIn,  # noqa: ARG001 - any
    connection: Transaction,
    services: WithServices,
) -> AskedOut:
    """What a terminal's code asks for, and where, for the payer to see before saying yes."""
    asks = scanned.look(connection, intent_id, services.rules)
    return AskedOut(**{**vars(asks.intent), "amount": asks.least, "at_most": asks.most})


@router.post("/me/codes/{intent_id}/pay")
def pay_by_code(intent_id: IntentId, payer: SignedIn, services: WithServices) -> AttemptOut:
    """Pay what a terminal's code asks for, without a face; once, however often it is sent."""
    with brief_locks(services.engine) as connection:
        return AttemptOut(**vars(scanned.pay(connection, payer, intent_id, services.rules)))


@router.post("/me/payments/{intent_id}/confirm")
def confirm(intent_id: IntentId, payer: SignedIn, services: WithServices, connection: Transaction) -> AttemptOut:
    """Give the second factor for a payment that waits for it."""
    return AttemptOut(**vars(attempts.confirm_in_app(connection, payer, intent_id, services.rules)))


@router.post("/me/payments/{intent_id}/dispute", status_code=201)
async def dispute(intent_id: IntentId, payer: SignedIn, services: WithServices) -> DisputeOut:
    """Say "this wasn't me": the money is back at once up to a limit; the face, and the device that paid, are paused."""
    opened = await asyncio.to_thread(_dispute, services, payer, intent_id)
    with suppress(WalletError):  # it is stopped already: the guardians are told when they can be
        await services.changes.alter(payer.id, Operation.PAUSE)
    return DisputeOut(**vars(opened))


@router.put("/me/pin", status_code=204)
def set_pin(body: NewPin, payer: SignedIn, connection: Transaction) -> None:
    """Set or replace the PIN; a locked one is unlocked."""
    pins.set_pin(connection, payer.id, body.pin.get_secret_value())


@router.put("/me/limits", status_code=204)
def set_limits(body: Limits, payer: SignedIn, connection: Transaction) -> None:
    """Set the payer's own limits."""
    payers.set_daily_limit(connection, payer.id, body.daily_limit)


@router.get("/me/access_log")
def access_list(
    payer: SignedIn, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[AccessOut]:
    """Every time that the face was recognised, newest first."""
    found = access.of_payer(connection, payer.id, limit=limit + 1, before=starting_after)
    return Page(data=[_access_out(item) for item in found[:limit]], has_more=len(found) > limit)


@router.get("/me/faces/{face_id}/identifications")
def identifications(face_id: FaceId, payer: SignedIn, connection: Transaction) -> IdentificationsOut:
    """Every identification of one of your faces, deleted or not, for your own check that none is missing."""
    face = faces.owned(connection, payer.id, face_id)
    return IdentificationsOut(
        gallery=face.gallery_id,
        row=face.row,
        payer_key=_hex(face.payer_key),
        accesses=[
            _identification_out(entry, entry.found)
            for entry in access.of_face(connection, face.id)
            if entry.found is not None
        ],
        lost=[f"{tag:016x}" for tag in access.lost(connection, face.gallery_id)],
    )


@router.post("/me/openings")
async def open_row(body: OpeningIn, payer: SignedIn, services: WithServices) -> OpeningOut:
    """Have the guardians open what they keep of your row, sealed to you; the wallet only carries it."""
    try:
        request = OpenRequest.from_bytes(base64.b64decode(body.request, validate=True))
        fields = request.fields()
    except (MessageError, ValueError) as error:
        raise OpeningRefused("The request is not base64 of a well-formed opening.") from error
    await asyncio.to_thread(_check_own_row, services, payer, fields.gallery, fields.row)
    try:
        answers = await services.guardians.open_row(request)
    except RequestRefused as error:
        if error.reason == RefusalCode.RATE_LIMITED:
            raise OpeningRefused("You asked a moment ago. Try again in a minute.") from error
        raise OpeningRefused(f"The guardians refused: {error}") from error
    except IdentificationError as error:
        raise GuardiansAway("The guardians can't all be reached now; try again later.") from error
    return OpeningOut(
        sealed=[base64.b64encode(part.sealed).decode() for part in answers],
        signatures=[base64.b64encode(part.signature).decode() for part in answers],
    )


@router.post("/me/face/pause")
async def pause(payer: SignedIn, services: WithServices) -> FacesOut:
    """Stop all payments by face until resumed."""
    return await _altered(services, payer, Operation.PAUSE)


@router.post("/me/face/resume")
async def resume(payer: SignedIn, services: WithServices) -> FacesOut:
    """Pay by face again."""
    return await _altered(services, payer, Operation.RESUME)


@router.delete("/me/face")
async def delete(payer: SignedIn, services: WithServices) -> FacesOut:
    """Withdraw the consent to be searched hands-free, and erase the face at all three guardians; devices stay."""
    await asyncio.to_thread(_withdraw, services, payer)
    return await _altered(services, payer, Operation.DELETE)


async def _altered(services: Services, payer: Payer, operation: Operation) -> FacesOut:
    altered = await services.changes.alter(payer.id, operation)
    return await asyncio.to_thread(_with_confirmations, services, altered)


def _with_confirmations(services: Services, altered: list[faces.Face]) -> FacesOut:
    with services.engine.connect() as connection:
        confirmations = [
            base64.b64encode(confirmation.to_bytes()).decode()
            for face in altered
            for confirmation in faces.confirmations_of(connection, face.id)[-3:]
        ]
    return FacesOut(faces=shown(services, altered), confirmations=confirmations)


def _check_own_row(services: Services, payer: Payer, gallery_id: str, row: int) -> None:
    with services.engine.connect() as connection:
        if all((face.gallery_id, face.row) != (gallery_id, row) for face in faces.of_payer(connection, payer.id)):
            raise NotEnrolled("That row is not your face's.")


def _dispute(services: Services, payer: Payer, intent_id: str) -> Dispute:
    with services.engine.begin() as connection:
        return open_dispute(connection, payer, intent_id, services.rules)


def _withdraw(services: Services, payer: Payer) -> None:
    with services.engine.begin() as connection:
        consents.withdraw(connection, payer.id, Profile.HANDS_FREE)
