"""The payer-held key profile: payers' devices, terminals' keys, the deny list, payments by a device's code."""

import base64
import binascii
from datetime import datetime, timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from facefare.identification.held.code import Pass
from facefare.identification.held.documents import Signed, decoded
from facefare.identification.held.errors import MalformedCode
from facefare.payments import held, travel_periods
from facefare.wallet import consents, devices
from facefare.wallet.consents import Profile
from facefare.wallet.devices import Device, Registration, State
from facefare.web.api.attempts import AttemptOut
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import SignedIn, Transaction, WithServices
from facefare.web.api.signatures import SignedTerminal

router = APIRouter(prefix="/v1", responses=DOCUMENTED)

DeviceId = Annotated[str, Path(pattern=r"^dev_[a-z2-7]{26}$")]
Key32 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$", description="Base64 of 32 bytes.")]
Signature64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$", description="Base64 of 64 bytes.")]
_log = structlog.get_logger()


class DeviceIn(BaseModel):
    """A device's raw Ed25519 key and its commitment to its reference; `proof` is by that key.

    `attestation`: base64 of the enrolment station's signed word; without one the reference is self-made and
    pays small amounts only.
    """

    model_config = ConfigDict(extra="forbid")

    public_key: Key32
    commitment: Key32
    consent_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    proof: Signature64
    attestation: Annotated[str | None, Field(max_length=2048)] = None


class PassOut(BaseModel):
    """What the device puts into its codes; good until the end of `through_day` (days since 1970, UTC)."""

    operator: str
    self_made: bool
    through_day: int
    signature: str


class DeviceOut(BaseModel):
    """A device as its payer sees it; `owed`: minor units that have to be settled before it pays again."""

    id: str
    state: State
    self_made: bool
    owed: int
    created_at: datetime
    changed_at: datetime


class Registered(BaseModel):
    """The device and its first pass."""

    device: DeviceOut
    device_pass: PassOut


class Devices(BaseModel):
    """All devices of a payer, oldest first."""

    data: list[DeviceOut]


class OpeningKey(BaseModel):
    """A terminal's new raw X25519 key and how many seconds it wants to use it."""

    model_config = ConfigDict(extra="forbid")

    public_key: Key32
    valid_for: Annotated[int, Field(strict=True, ge=60, le=31 * 86_400)]


class AnnouncementOut(BaseModel):
    """Base64 of the operator's signed announcement: what the terminal shows, and phones seal to."""

    terminal: str
    place: str
    announcement: str


class Announcements(BaseModel):
    """A page of terminals; ask for the next one with `starting_after` = the last terminal."""

    data: list[AnnouncementOut]
    has_more: bool


class DenyListOut(BaseModel):
    """Base64 of the operator's signed deny list."""

    deny_list: str


class HeldPayment(BaseModel):
    """Base64 of a payment record, signed by the terminal."""

    model_config = ConfigDict(extra="forbid")

    record: Annotated[str, Field(max_length=2048)]


@router.post("/payers/me/devices", status_code=201, tags=["payer"])
def register(body: DeviceIn, payer: SignedIn, services: WithServices, connection: Transaction) -> Registered:
    """Let a device pay for you, with a reference that only the device has."""
    device, given = devices.register(
        connection,
        payer.id,
        Registration(
            public_key=_bytes(body.public_key),
            commitment=_bytes(body.commitment),
            consent_sha256=bytes.fromhex(body.consent_sha256),
            proof=_bytes(body.proof),
            attestation=None if body.attestation is None else _bytes(body.attestation),
        ),
        services.receipt_key,
        self_made_allowed=services.held.self_made_limit > 0,
    )
    return Registered(device=_shown(connection, device), device_pass=_pass(given))


@router.get("/payers/me/devices", tags=["payer"])
def device_list(payer: SignedIn, connection: Transaction) -> Devices:
    """Your devices, and what is owed for payments they made where there was no network."""
    return Devices(data=[_shown(connection, device) for device in devices.of_payer(connection, payer.id)])


@router.post("/payers/me/devices/{device_id}/pass", tags=["payer"])
def renew(device_id: DeviceId, payer: SignedIn, services: WithServices, connection: Transaction) -> PassOut:
    """A pass for the next 30 days."""
    return _pass(devices.renew_pass(connection, payer.id, device_id, services.receipt_key))


@router.post("/payers/me/devices/{device_id}/pause", tags=["payer"])
def pause(device_id: DeviceId, payer: SignedIn, connection: Transaction) -> DeviceOut:
    """Let a device pay nothing for the time being."""
    return _shown(connection, devices.pause(connection, payer.id, device_id))


@router.post("/payers/me/devices/{device_id}/resume", tags=["payer"])
def resume(device_id: DeviceId, payer: SignedIn, connection: Transaction) -> DeviceOut:
    """Let a paused device pay again."""
    return _shown(connection, devices.resume(connection, payer.id, device_id))


@router.post("/payers/me/devices/{device_id}/lost", tags=["payer"])
def lose(device_id: DeviceId, payer: SignedIn, connection: Transaction) -> DeviceOut:
    """Report a device lost: it pays nothing from now on, offline gates know with their next deny list."""
    device = devices.end(connection, payer.id, device_id, State.LOST)
    return _shown(connection, device)


@router.delete("/payers/me/devices/{device_id}", tags=["payer"])
def revoke(device_id: DeviceId, payer: SignedIn, connection: Transaction) -> DeviceOut:
    """Stop using a device, for ever."""
    device = devices.end(connection, payer.id, device_id, State.REVOKED)
    return _shown(connection, device)


@router.delete("/payers/me/devices", tags=["payer"])
def revoke_all(payer: SignedIn, connection: Transaction) -> Devices:
    """Take back the consent to be compared with what your devices hold, and stop using all of them; others stay."""
    consents.withdraw(connection, payer.id, Profile.HELD)
    return Devices(data=[_shown(connection, device) for device in devices.end_all(connection, payer.id)])


@router.post("/payers/me/devices/{device_id}/settle", tags=["payer"])
def settle(device_id: DeviceId, payer: SignedIn, services: WithServices, connection: Transaction) -> Devices:
    """Pay what is owed; the device pays again at once if all of it could be paid."""
    held.settle(connection, payer.id, device_id, services.rules_for(1))
    return device_list(payer, connection)


@router.post("/terminal_keys", status_code=201, tags=["terminal"])
def announce(
    body: OpeningKey, terminal: SignedTerminal, services: WithServices, connection: Transaction
) -> AnnouncementOut:
    """Have the operator vouch for a new key that codes are sealed to."""
    announced = held.announce(
        connection,
        terminal,
        _bytes(body.public_key),
        timedelta(seconds=body.valid_for),
        model=services.calibration.model,
        operator_key=services.receipt_key,
        rules=services.held,
    )
    return AnnouncementOut(terminal=terminal.id, place=terminal.place, announcement=_text(announced.to_bytes()))


@router.get("/terminal_keys", tags=["payer"])
def announcements(
    connection: Transaction,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    starting_after: Annotated[str, Query(pattern=r"^trm_[A-Za-z0-9_-]{1,40}$")] = "trm_",
) -> Announcements:
    """The newest key of each terminal, for apps to keep; verify them with /v1/consent_keys."""
    found = held.announced(connection, limit=limit + 1, after=starting_after)
    return Announcements(
        data=[
            AnnouncementOut(terminal=one.terminal, place=one.place, announcement=_text(one.announcement))
            for one in found[:limit]
        ],
        has_more=len(found) > limit,
    )


@router.get("/deny_list", tags=["terminal"])
def deny_list(_: SignedTerminal, services: WithServices, connection: Transaction) -> DenyListOut:
    """The devices that must not be accepted offline, signed now."""
    signed = devices.deny_list(connection, services.receipt_key, owing=travel_periods.owing(connection))
    return DenyListOut(deny_list=_text(signed.to_bytes()))


@router.post("/held_payments", tags=["terminal"])
def pay(body: HeldPayment, terminal: SignedTerminal, services: WithServices) -> AttemptOut:
    """Charge the payer whose device signed. The same payment sent again is the same payment."""
    signed = decoded(Signed, _bytes(body.record))
    with services.engine.begin() as connection:
        reply = held.pay(
            connection,
            terminal,
            signed,
            operator_key=services.receipt_key.public_key(),
            rules=services.rules_for(1),
            held=services.held,
        )
    _log.info("held_payment", payment_intent=reply.payment_intent, terminal=terminal.id, outcome=reply.outcome.value)
    return AttemptOut(**vars(reply))


def _shown(connection: Connection, device: Device) -> DeviceOut:
    return DeviceOut(
        id=device.id,
        state=device.state,
        self_made=device.self_made,
        owed=held.owed(connection, device.id),
        created_at=device.created_at,
        changed_at=device.changed_at,
    )


def _pass(given: Pass) -> PassOut:
    return PassOut(
        operator=_text(given.operator),
        self_made=given.self_made,
        through_day=given.through_day,
        signature=_text(given.signature),
    )


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedCode("This is not base64.") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
