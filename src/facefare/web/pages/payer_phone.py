"""Routes of the payer-held profile in the app: phones that pay with a code, and what their pages need.

The face, its numbers and the code stay in the browser; what comes here is a public key, a salted hash, signatures.
"""

import base64
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import JSONResponse, RedirectResponse, Response

from facefare.identification.calibration import Calibration
from facefare.payments import held, receipts
from facefare.wallet import consents, devices
from facefare.wallet.consents import Consent, Profile
from facefare.wallet.devices import State
from facefare.wallet.errors import UnknownDevice
from facefare.wallet.payers import Payer
from facefare.web.api import held as api
from facefare.web.api.held import DeviceId, DeviceIn, PassOut, Registered
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import payer_passkeys, words
from facefare.web.pages.rendering import PREFIX
from facefare.web.pages.visitor import Shown, SignedIn, WithSite

router = APIRouter(prefix="/phone")

ENDED = (State.LOST, State.REVOKED)
_Change = Annotated[str, Path(pattern="^(pause|resume|lost|end)$")]


@router.get("")
def phones(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """The payer's phones, what each may do, and what is owed."""
    return _phones(services, payer, shown, done=None)


def _phones(services: Services, payer: Payer, shown: Shown, *, done: str | None) -> Response:
    with services.engine.connect() as connection:
        mine = [(device, held.owed(connection, device.id)) for device in devices.of_payer(connection, payer.id)]
    return shown.page(
        "phone.html",
        phones=[(device, owed) for device, owed in mine if device.state not in ENDED],
        ended=[device for device, _ in mine if device.state in ENDED],
        limit=services.held.self_made_limit,
        payer=payer,
        operator=services.notice.operator,
        done=done,
    )


@router.get("/setup")
def setup(payer: SignedIn, services: WithServices, site: WithSite, shown: Shown) -> Response:
    """Set up the phone that shows this page, after the payer agreed to it."""
    with services.engine.connect() as connection:
        if _consent(consents.of_payer(connection, payer.id)) is None:
            return RedirectResponse(f"{PREFIX}/consent", status_code=303)
        passkey = payer_passkeys.has_one(connection, payer.id)
    limit = services.held.self_made_limit
    return shown.page(
        "phone_setup.html",
        payer=payer,
        passkey=passkey,
        limit=limit,
        self_made=limit > 0 and site.networks is not None,
        operator=services.notice.operator,
    )


@router.get("/pay")
def pay(shown: Shown) -> Response:
    """The code, made by the page from what the phone keeps; the page itself is anybody's, and works offline."""
    return shown.page("phone_pay.html")


@router.get("/setting")
def setting(payer: SignedIn, services: WithServices) -> Response:
    """What a phone needs to set itself up: the operator's key, the consent, the public calibration."""
    with services.engine.connect() as connection:
        consent = _consent(consents.of_payer(connection, payer.id))
    return JSONResponse(
        {
            "payer": payer.id,
            "operator_key": base64.b64encode(services.receipt_key.public_key().public_bytes_raw()).decode(),
            "consent_sha256": base64.b64encode(consent.receipt_sha256).decode() if consent else None,
            "calibration": _calibration(services.calibration),
        }
    )


@router.get("/last")
def last(payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """The newest payment, for the phone that shows a code."""
    with services.engine.connect() as connection:
        newest = receipts.of_payer(connection, payer.id, limit=1)
    for found in newest:
        if found.kind == "payment":
            amount = shown.plain_money(found.amount, found.currency)
            return JSONResponse({"receipt": found.id, "at": found.at.isoformat(), "amount": amount})
    return JSONResponse({"receipt": None})


@router.post("/devices", status_code=201)
def register(body: DeviceIn, payer: SignedIn, services: WithServices) -> Registered:
    """Let this phone pay; as the API does."""
    with services.engine.begin() as connection:
        return api.register(body, payer, services, connection)


@router.post("/devices/{device_id}/pass")
def renew(device_id: DeviceId, payer: SignedIn, services: WithServices) -> PassOut:
    """A pass for the next 30 days."""
    with services.engine.begin() as connection:
        return api.renew(device_id, payer, services, connection)


@router.post("/devices/{device_id}/settle")
def settle(device_id: DeviceId, payer: SignedIn, services: WithServices) -> Response:
    """Pay what the phone accepted offline and could not be charged for."""
    with services.engine.begin() as connection:
        held.settle(connection, payer.id, device_id, services.rules_for(1))
    return RedirectResponse(f"{PREFIX}/phone", status_code=303)


@router.post("/devices/{device_id}/{change}")
def alter(device_id: DeviceId, change: _Change, payer: SignedIn, services: WithServices, shown: Shown) -> Response:
    """Pause a phone, let it pay again, report it lost, or end it."""
    with services.engine.begin() as connection:
        if change == "pause":
            devices.pause(connection, payer.id, device_id)
        elif change == "resume":
            devices.resume(connection, payer.id, device_id)
        else:
            devices.end(connection, payer.id, device_id, State.LOST if change == "lost" else State.REVOKED)
            left = [one for one in devices.of_payer(connection, payer.id) if one.state not in ENDED]
            if not left:  # the consent is for phones: it ends with the last one
                consents.withdraw(connection, payer.id, Profile.HELD)
    return _phones(services, payer, shown, done=words.DEVICE_CHANGES[change])


@router.get("/devices/{device_id}/state")
def state(device_id: DeviceId, payer: SignedIn, services: WithServices) -> Response:
    """Whether this phone pays, for its page that shows a code."""
    with services.engine.connect() as connection:
        known = next((one for one in devices.of_payer(connection, payer.id) if one.id == device_id), None)
    if known is None:
        raise UnknownDevice("There is no such device.")
    return JSONResponse({"state": known.state.value})


def _consent(given: list[Consent]) -> Consent | None:
    return next((consent for consent in given if consent.profile is Profile.HELD), None)


def _calibration(calibration: Calibration) -> dict[str, object]:
    return {
        "model": calibration.model,
        "mean": calibration.mean.tolist(),
        "scale": calibration.scale,
        "min_squared_norm": calibration.min_squared_norm,
        "max_squared_norm": calibration.max_squared_norm,
    }
