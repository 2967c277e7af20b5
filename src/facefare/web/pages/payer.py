"""Routes of the payer's app: one payer's own money, face and data, for that payer only."""

import asyncio
import io
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import segno
from fastapi import APIRouter, Form, Query
from sqlalchemy import Connection
from starlette.responses import RedirectResponse, Response

from facefare.guardian.messages import Confirmation, Operation
from facefare.ledger import balance_of
from facefare.ledger.currency import MINOR_UNITS
from facefare.payments import attempts, intents, receipts, travel
from facefare.payments.disputes import Dispute, open_dispute
from facefare.payments.errors import UnknownIntent
from facefare.wallet import consents, devices, faces, lookalikes, payers, pins
from facefare.wallet.consents import Consent, Profile
from facefare.wallet.errors import PayerNotPresent, UnknownConsent, WalletError
from facefare.wallet.faces import Face
from facefare.wallet.payers import Payer
from facefare.web.api.errors import TooYoung
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import payer_passkeys
from facefare.web.pages.payer_phone import ENDED
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.visitor import Present, Shown, SignedIn, Visitor

router = APIRouter()

_PAGE = 20
_CheckKey = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")]
_StartingAfter = Annotated[str | None, Query(pattern=r"^[a-z]{2,3}_[0-9a-z]{26}$")]


@router.get("/")
def home(payer: Visitor, services: WithServices, shown: Shown) -> Response:
    """The balance, the face, the last payments; for a visitor, what this is."""
    if payer is None:
        return shown.page("welcome.html", operator=services.notice.operator)
    with services.engine.connect() as connection:
        return shown.page(
            "home.html",
            payer=payer,
            balance=balance_of(connection, payer.account_id),
            faces=faces.of_payer(connection, payer.id),
            phones=[device for device in devices.of_payer(connection, payer.id) if device.state not in ENDED],
            receipts=receipts.of_payer(connection, payer.id, limit=5),
            waiting=[
                intent
                for intent in intents.of_payer(connection, payer.id, limit=5)
                if intent.state == "requires_confirmation"
            ],
            operator=services.notice.operator,
            owed=travel.owed_by(connection, payer),
        )


@router.get("/offline")
def offline(shown: Shown) -> Response:
    """What the service worker shows without a network; nothing personal is on it."""
    return shown.page("offline.html")


@router.get("/receipts")
def receipt_list(
    payer: SignedIn, services: WithServices, shown: Shown, starting_after: _StartingAfter = None
) -> Response:
    """Receipts, newest first."""
    with services.engine.connect() as connection:
        found = receipts.of_payer(connection, payer.id, limit=_PAGE + 1, before=starting_after)
    older = found[_PAGE - 1].id if len(found) > _PAGE else None
    return shown.page("receipts.html", receipts=found[:_PAGE], older=older)


@router.get("/receipts/{receipt_id}")
def receipt(receipt_id: str, payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """One receipt."""
    with services.engine.connect() as connection:
        found = receipts.read(connection, payer.id, receipt_id)
    return shown.page("receipt.html", receipt=found, contact=services.notice.contact)


@router.post("/receipts/{receipt_id}/dispute")
async def dispute(receipt_id: str, payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """'That wasn't me': the money is back at once up to a limit; the face, and the phone that paid, are paused."""
    opened = await asyncio.to_thread(_dispute, services, payer, receipt_id)
    with suppress(WalletError):  # it is stopped already: the guardians are told when they can be
        await services.changes.alter(payer.id, Operation.PAUSE)
    return shown.page("disputed.html", dispute=opened)


@router.post("/payments/{intent_id}/confirm")
def confirm(intent_id: str, payer: SignedIn, services: WithServices) -> Response:
    """Say yes to a payment that waits for a second factor."""
    with services.engine.begin() as connection:
        attempts.confirm_in_app(connection, payer, intent_id, services.rules)
    return RedirectResponse(f"{PREFIX}/", status_code=303)


@router.get("/trips")
def trips(payer: SignedIn, services: WithServices, shown: Shown, starting_after: _StartingAfter = None) -> Response:
    """Taps at gates, newest first, and why each ride cost what it did."""
    with services.engine.connect() as connection:
        found = travel.rides(connection, payer.id, limit=_PAGE + 1, before=starting_after)
    older = found[_PAGE - 1].payment_intent if len(found) > _PAGE else None
    return shown.page("trips.html", rides=found[:_PAGE], older=older, payer=payer)


@router.post("/debt/pay")
def pay_debt(payer: SignedIn, services: WithServices) -> Response:
    """Pay what is owed from the balance; gates open again at once."""
    with services.engine.begin() as connection:
        travel.recover(connection, payers.locked(connection, payer.id))
    return RedirectResponse(f"{PREFIX}/", status_code=303)


# --- the face ---


@router.get("/face")
def face_page(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """What is kept of the face and where, and the switches."""
    return _face(services, payer, shown, done=None)


@router.post("/face/pause")
async def pause(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Stop all payments by face until resumed."""
    await services.changes.alter(payer.id, Operation.PAUSE)
    return await asyncio.to_thread(_face, services, payer, shown, done="Paused. Nobody can charge you by face now.")


@router.post("/face/resume")
async def resume(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Pay by face again."""
    await services.changes.alter(payer.id, Operation.RESUME)
    return await asyncio.to_thread(_face, services, payer, shown, done="On again. You can pay by looking.")


@router.get("/face/delete")
def delete_page(payer: SignedIn, shown: Shown) -> Response:  # noqa: ARG001 - only for who is signed in
    """What deleting does, before it is done."""
    return shown.page("delete_face.html")


@router.post("/face/delete")
async def delete(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Withdraw that consent, erase the face at all three guardians, and show their confirmations; phones stay."""
    await asyncio.to_thread(_withdraw, services, payer)
    deleted = await services.changes.alter(payer.id, Operation.DELETE)
    return await asyncio.to_thread(_deleted, services, shown, deleted)


@router.post("/face/same-person")
def same_person(
    payer: SignedIn, services: WithServices, shown: Shown, word: Annotated[str, Form(max_length=4096)]
) -> Response:
    """Bring the word of one's other account, in which this face was deleted: nobody else looks like that."""
    with services.engine.begin() as connection:
        lookalikes.join(connection, payer.id, word.strip(), services.receipt_key)
    return _face(services, payer, shown, done="Thank you. We know now that both accounts are yours.")


# --- safety ---


@router.get("/safety")
def safety(payer: SignedIn, shown: Shown) -> Response:
    """PIN, limit, passkeys."""
    return _safety(payer, shown, done=None)


@router.post("/safety/pin")
def set_pin(payer: SignedIn, services: WithServices, shown: Shown, pin: Annotated[str, Form(max_length=8)]) -> Response:
    """Set or replace the PIN."""
    with services.engine.begin() as connection:
        pins.set_pin(connection, payer.id, pin)
    return _safety(payer, shown, done="Your new PIN is set.")


@router.post("/safety/limit")
def set_limit(
    payer: SignedIn,
    services: WithServices,
    shown: Shown,
    limit: Annotated[int | None, Form(ge=0, le=10_000_000)] = None,
) -> Response:
    """Set the most to be charged in a day, in whole units of the currency; nothing: no limit."""
    minor = None if limit is None else limit * 10 ** MINOR_UNITS[payer.currency]
    with services.engine.begin() as connection:
        payers.set_daily_limit(connection, payer.id, minor)
    return _safety(replace(payer, daily_limit=minor), shown, done="Your limit is set.")


# --- consent ---


@router.get("/consent")
def consent_page(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """The ways to pay by face that are offered, side by side, and 'no'."""
    with services.engine.connect() as connection:
        given = consents.of_payer(connection, payer.id)
    hands_free = Profile.HANDS_FREE in services.profiles
    return shown.page("consent.html", notice=services.notice, given=given, hands_free=hands_free)


@router.post("/consent")
def consent(
    payer: SignedIn,
    services: WithServices,
    notice_version: Annotated[str, Form(max_length=64)],
    profile: Annotated[Profile, Form()],
    of_age: Annotated[bool, Form()] = False,
) -> Response:
    """Agree to the notice that was shown, in one profile; then on to what enrols for it."""
    notice = services.notice
    if notice_version != notice.version:
        return RedirectResponse(f"{PREFIX}/consent", status_code=303)
    if not of_age:
        raise TooYoung(f"Who pays by face here is {notice.minimum_age} years old or more.")
    services.check_offered(profile)
    with services.engine.begin() as connection:
        if _given(connection, payer, profile) is None:
            consents.give(connection, payer.id, notice, services.receipt_key, of_age=True, profile=profile)
    following = "phone/setup" if profile is Profile.HELD else "consent/code"
    return RedirectResponse(f"{PREFIX}/{following}", status_code=303)


@router.get("/consent/code")
def consent_code_page(payer: SignedIn, present: Present, services: WithServices, shown: Shown) -> Response:
    """The consent's code for a station, and its receipt to keep: to who used the passkey a moment ago."""
    with services.engine.begin() as connection:
        given = _given(connection, payer, Profile.HANDS_FREE)
        if given is None:
            return RedirectResponse(f"{PREFIX}/consent", status_code=303)
        if not present:
            return shown.page("show_code.html", passkey=payer_passkeys.has_one(connection, payer.id))
        consents.show(connection, given)
    return shown.page(
        "consented.html",
        consent=given,
        notice=services.notice,
        logs=services.guardians.log_keys,
        minutes=int(consents.CODE_GOOD_FOR.total_seconds() // 60),
    )


@router.get("/consent/code.svg")
def consent_code(payer: SignedIn, present: Present, services: WithServices, key: _CheckKey = None) -> Response:
    """What a station reads: which consent it enrols for, by its receipt's hash, and the payer's check key, if any."""
    with services.engine.connect() as connection:
        given = _given(connection, payer, Profile.HANDS_FREE)
    if given is None:
        raise UnknownConsent("There is no consent in force.")
    if not present:
        raise PayerNotPresent("Please confirm with your passkey again.")
    words = [given.receipt_sha256.hex(), *([] if key is None else [key])]
    code = segno.make(".".join(words).upper(), error="m")
    picture = io.BytesIO()
    code.save(picture, kind="svg", border=4, scale=6, dark="#000", light="#fff", svgclass=None, lineclass=None)
    return Response(picture.getvalue(), media_type="image/svg+xml")


@router.post("/consent/withdraw")
def withdraw(payer: SignedIn, services: WithServices) -> Response:
    """Take consent back where no face is enrolled; deleting a face withdraws it as well."""
    _withdraw(services, payer)
    return RedirectResponse(f"{PREFIX}/", status_code=303)


def _dispute(services: Services, payer: Payer, receipt_id: str) -> Dispute:
    with services.engine.begin() as connection:
        receipt = receipts.read(connection, payer.id, receipt_id)
        if receipt.payment_intent is None:
            raise UnknownIntent("This is not a payment.")
        return open_dispute(connection, payer, receipt.payment_intent, services.rules)


def _safety(payer: Payer, shown: Shown, *, done: str | None) -> Response:
    unit = 10 ** MINOR_UNITS[payer.currency]
    limit = None if payer.daily_limit is None else payer.daily_limit // unit
    return shown.page("safety.html", payer=payer, limit=limit, done=done)


def _face(services: Services, payer: Payer, shown: Shown, *, done: str | None) -> Response:
    with services.engine.connect() as connection:
        mine = [
            (face, _last(faces.confirmations_of(connection, face.id))) for face in faces.of_payer(connection, payer.id)
        ]
        agreed = _given(connection, payer, Profile.HANDS_FREE) is not None
    return shown.page("face.html", faces=mine, agreed=agreed, done=done, operator=services.notice.operator)


def _deleted(services: Services, shown: Shown, deleted: list[Face]) -> Response:
    with services.engine.connect() as connection:
        proofs = [(face, _last(faces.confirmations_of(connection, face.id))) for face in deleted]
    word = lookalikes.given_up([face.id for face in deleted], services.receipt_key)
    return shown.page("face_deleted.html", proofs=proofs, word=word)


def _last(confirmations: list[Confirmation]) -> list[Confirmation]:
    """Those of the last change, one of each guardian."""
    return confirmations[-3:]


def _given(connection: Connection, payer: Payer, profile: Profile) -> Consent | None:
    given = consents.of_payer(connection, payer.id)
    return next((consent for consent in given if consent.profile is profile), None)


def _withdraw(services: Services, payer: Payer) -> None:
    """What was agreed to for hands-free; a phone's consent ends with the payer's last phone."""
    with services.engine.begin() as connection:
        consents.withdraw(connection, payer.id, Profile.HANDS_FREE)
