"""Devices that pay with a key of their own: who has which, in what state, and what terminals are told of it.

    paused <--> active <--> owing          by the payer; by a payment that could not be charged, and its settling
       <-----------------------'           settled, where it was paused before or meanwhile
       |          |           |
       '----> lost, revoked <-'             for ever: the payer registers a device anew

Invariants:
  - a device belongs to one payer and one reference, of which the wallet holds a salted hash only;
  - without the consent it was registered under it pays nothing, whatever its state;
  - every change of a state takes a higher number, so deny lists have an order;
  - everything that decides about a device locks its row, so its counters are looked at one by one; where money is
    moved too, the payer's row before it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.functions import func

from facefare.identification.held import documents
from facefare.identification.held.code import Pass, new_pass
from facefare.identification.held.documents import DAY, Attestation, DenyList, Signed
from facefare.identification.held.errors import BadSignature, DeviceDenied, OverSelfMadeLimit, WrongOperator
from facefare.wallet import consents, payers, tables
from facefare.wallet.consents import Profile
from facefare.wallet.device_tables import device, device_change
from facefare.wallet.errors import DeviceExists, TooManyDevices, UnknownConsent, UnknownDevice, UnknownStation

PASS_FOR = timedelta(days=30)
"""A device that was not online for so long can't pay; a denied one can leave the list after it."""

MAX_DEVICES = 10
"""A payer's devices with a pass that has not run out, ended ones too: each may lengthen every deny list."""


class State(StrEnum):
    """Whether a device pays."""

    ACTIVE = "active"
    PAUSED = "paused"
    OWING = "owing"
    LOST = "lost"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Device:
    """A payer's device: `self_made` where no station attested its reference; times in UTC."""

    id: str
    payer_id: str
    state: State
    self_made: bool
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, repr=False)
class Registration:
    """What a device brings: raw Ed25519 key, commitment to its reference, consent, and proof that it has the key.

    `attestation`: bytes of a station's `Signed`; none for a self-made reference.
    """

    public_key: bytes
    commitment: bytes
    consent_sha256: bytes
    proof: bytes
    attestation: bytes | None


def register(
    connection: Connection,
    payer_id: str,
    brought: Registration,
    operator_key: Ed25519PrivateKey,
    *,
    self_made_allowed: bool,
) -> tuple[Device, Pass]:
    """Let the device pay for the payer, and give it its first pass.

    Raises BadSignature, MalformedCode, WrongOperator, OverSelfMadeLimit where this operator takes attested
    references only, UnknownStation, UnknownConsent, DeviceExists, TooManyDevices.
    """
    operator = documents.operator_id(operator_key.public_key())
    documents.check(
        brought.public_key,
        brought.proof,
        documents.registration(operator, brought.consent_sha256, brought.commitment),
    )
    station_id = None
    if brought.attestation is not None:
        station_id = _attested(connection, brought, operator).station
    elif not self_made_allowed:
        raise OverSelfMadeLimit("This operator takes references that a station attested only.")
    payers.locked(connection, payer_id)
    consent = consents.in_force(connection, brought.consent_sha256, Profile.HELD)
    if consent.payer_id != payer_id:
        raise UnknownConsent("No consent of yours in force has this receipt; agree first.")
    listable = select(func.count()).where(
        device.c.payer_id == payer_id, device.c.pass_through >= _day(datetime.now(UTC))
    )
    if connection.execute(listable).scalar_one() >= MAX_DEVICES:
        raise TooManyDevices(f"A payer registers at most {MAX_DEVICES} devices a month.")
    id = documents.device_id(brought.public_key)
    through = _day(datetime.now(UTC) + PASS_FOR)
    try:
        with connection.begin_nested():
            row = connection.execute(
                insert(device)
                .values(
                    id=id,
                    payer_id=payer_id,
                    consent_id=consent.id,
                    public_key=brought.public_key,
                    commitment=brought.commitment,
                    station_id=station_id,
                    attestation=brought.attestation,
                    pass_through=through,
                    state=State.ACTIVE.value,
                )
                .returning(device)
            ).one()
    except IntegrityError as error:
        raise DeviceExists("This device's key is registered already; make a new one.") from error
    return _device(row), _pass(row, operator_key)


def of_payer(connection: Connection, payer_id: str) -> list[Device]:
    """The payer's devices, oldest first."""
    rows = connection.execute(select(device).where(device.c.payer_id == payer_id).order_by(device.c.created_at))
    return [_device(row) for row in rows]


def renew_pass(connection: Connection, payer_id: str, device_id: str, operator_key: Ed25519PrivateKey) -> Pass:
    """A pass that is good for longer. Raises UnknownDevice, DeviceDenied."""
    row = _locked(connection, device.c.id == device_id, device.c.payer_id == payer_id)
    _check_active(connection, row, datetime.now(UTC))
    through = _day(datetime.now(UTC) + PASS_FOR)
    row = connection.execute(
        update(device).where(device.c.id == device_id).values(pass_through=through).returning(device)
    ).one()
    return _pass(row, operator_key)


def end(connection: Connection, payer_id: str, device_id: str, state: State) -> Device:
    """Report the device lost, or revoke it; ending it again changes nothing. Raises UnknownDevice."""
    if state not in (State.LOST, State.REVOKED):
        raise ValueError("A device ends lost or revoked.")
    row = _locked(connection, device.c.id == device_id, device.c.payer_id == payer_id)
    if row.state in (State.LOST, State.REVOKED):
        return _device(row)
    return _changed(connection, device_id, state)


def end_all(connection: Connection, payer_id: str) -> list[Device]:
    """Revoke all of the payer's devices; all of them, oldest first."""
    for known in of_payer(connection, payer_id):
        end(connection, payer_id, known.id, State.REVOKED)
    return of_payer(connection, payer_id)


def pause(connection: Connection, payer_id: str, device_id: str) -> Device:
    """Let the device pay nothing until it is resumed, also once it owes nothing any more; an ended one stays so.

    Raises UnknownDevice.
    """
    return _switched(connection, payer_id, device_id, State.ACTIVE, State.PAUSED)


def resume(connection: Connection, payer_id: str, device_id: str) -> Device:
    """Let a paused device pay again; one that owes, once that is paid. Raises UnknownDevice."""
    return _switched(connection, payer_id, device_id, State.PAUSED, State.ACTIVE)


def stopped_since(connection: Connection, device_id: str, when: datetime) -> bool:
    """Whether the device pays nothing now, or paid nothing for a while after `when`."""
    columns = device.c
    found = select(columns.id).where(
        columns.id == device_id, or_(columns.state != State.ACTIVE.value, columns.changed_at > when)
    )
    return connection.execute(found).first() is not None


def owes(connection: Connection, device_id: str) -> None:
    """Deny a device whose payer did not have the money for what was accepted offline."""
    row = _locked(connection, device.c.id == device_id)
    if row.state in (State.ACTIVE, State.PAUSED):
        _rest(connection, device_id, row.state == State.PAUSED)
        _changed(connection, device_id, State.OWING)


def owes_no_more(connection: Connection, device_id: str) -> None:
    """Let it pay again, unless it was paused before or meanwhile; one that was lost or revoked meanwhile stays so."""
    row = _locked(connection, device.c.id == device_id)
    if row.state == State.OWING:
        _changed(connection, device_id, State.PAUSED if row.resting else State.ACTIVE)


def _rest(connection: Connection, device_id: str, resting: bool) -> None:
    connection.execute(update(device).where(device.c.id == device_id).values(resting=resting))


@dataclass(frozen=True)
class Known:
    """A registered device, locked: `counter` is the highest seen."""

    id: str
    payer_id: str
    self_made: bool
    counter: int


def presented(connection: Connection, public_key: bytes, commitment: bytes, *, at: datetime) -> Known:
    """The device that showed a code at this time, locked until the transaction ends, and before it its payer.

    What was taken before a device was denied is still owed. Raises UnknownDevice, DeviceDenied, and
    BadSignature where the reference is not the one that was registered.
    """
    owner = connection.execute(select(device.c.payer_id).where(device.c.public_key == public_key)).scalar_one_or_none()
    if owner is not None:
        payers.locked(connection, owner)
    row = _locked(connection, device.c.public_key == public_key)
    if row.commitment != commitment:
        raise BadSignature("This is not the reference that the device was registered with.")
    _check_active(connection, row, at)
    return Known(row.id, row.payer_id, row.station_id is None, row.counter)


def saw_counter(connection: Connection, device_id: str, counter: int) -> None:
    """Remember the highest counter seen."""
    connection.execute(
        update(device).where(device.c.id == device_id).values(counter=func.greatest(device.c.counter, counter))
    )


def deny_list(connection: Connection, operator_key: Ed25519PrivateKey, *, owing: Collection[str]) -> Signed:
    """Every device that must not be accepted offline and whose pass has not run out, signed.

    `owing`: payers who owe for travel; theirs are on it until that is paid.
    """
    columns, agreed, now = device.c, tables.consent.c, datetime.now(UTC)
    keys = connection.execute(
        select(columns.public_key)
        .join(tables.consent, agreed.id == columns.consent_id)
        .where(
            or_(columns.state != State.ACTIVE.value, agreed.withdrawn_at.is_not(None), columns.payer_id.in_(owing)),
            columns.pass_through >= _day(now) - 1,
        )
    ).scalars()
    newest = connection.execute(select(func.coalesce(func.max(columns.change), 0))).scalar_one()
    return Signed.sign(
        DenyList(
            v=1,
            kind="deny-list",
            operator=documents.operator_id(operator_key.public_key()),
            sequence=newest,
            issued_at=documents.seconds(now),
            devices=tuple(sorted(documents.device_tag(key) for key in keys)),
        ),
        operator_key,
    )


def _attested(connection: Connection, brought: Registration, operator: bytes) -> Attestation:
    signed = documents.decoded(Signed, brought.attestation or b"")
    said = documents.decoded(Attestation, signed.payload)
    columns = tables.station.c
    key = connection.execute(
        select(columns.public_key).where(columns.id == said.station, columns.revoked_at.is_(None))
    ).scalar_one_or_none()
    if key is None:
        raise UnknownStation("This enrolment station is not registered, or was revoked.")
    signed.verified(Attestation, Ed25519PublicKey.from_public_bytes(key))
    if said.operator != operator:
        raise WrongOperator("The station attested the reference for another operator.")
    if (said.device_key, said.commitment, said.consent_sha256) != (
        brought.public_key,
        brought.commitment,
        brought.consent_sha256,
    ):
        raise BadSignature("The station attested another device, reference or consent.")
    return said


def _switched(connection: Connection, payer_id: str, device_id: str, before: State, after: State) -> Device:
    row = _locked(connection, device.c.id == device_id, device.c.payer_id == payer_id)
    if row.state == State.OWING:
        _rest(connection, device_id, after is State.PAUSED)
    return _changed(connection, device_id, after) if row.state == before else _device(row)


def _locked(connection: Connection, *conditions: object) -> Row[tuple[object, ...]]:
    row = connection.execute(
        select(device).where(*conditions).with_for_update()  # type: ignore[arg-type]
    ).one_or_none()
    if row is None:
        raise UnknownDevice("There is no such device.")
    return row


def _check_active(connection: Connection, row: Row[tuple[object, ...]], at: datetime) -> None:
    if row.state != State.ACTIVE and row.changed_at <= at:
        raise DeviceDenied("The device is paused, was reported lost or revoked, or something is owed.")
    columns = tables.consent.c
    agreed = connection.execute(
        select(columns.id).where(
            columns.id == row.consent_id, or_(columns.withdrawn_at.is_(None), columns.withdrawn_at > at)
        )
    ).one_or_none()
    if agreed is None:
        raise DeviceDenied("The consent that the device was registered under was withdrawn.")


def _changed(connection: Connection, device_id: str, state: State) -> Device:
    row = connection.execute(
        update(device)
        .where(device.c.id == device_id)
        .values(state=state.value, change=device_change.next_value(), changed_at=func.clock_timestamp())
        .returning(device)
    ).one()
    return _device(row)


def _pass(row: Row[tuple[object, ...]], operator_key: Ed25519PrivateKey) -> Pass:
    return new_pass(
        operator_key,
        row.public_key,
        row.commitment,
        self_made=row.station_id is None,
        through_day=row.pass_through,
    )


def _day(now: datetime) -> int:
    return documents.seconds(now) // DAY


def _device(row: Row[tuple[object, ...]]) -> Device:
    return Device(
        id=row.id,
        payer_id=row.payer_id,
        state=State(row.state),
        self_made=row.station_id is None,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
