"""Enrolment stations: who may bring a face, by the Ed25519 key it registered."""

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.sql.functions import func

from facefare.guardian.errors import MessageError
from facefare.guardian.messages import EnrolPayload, EnrolRequest, verify
from facefare.wallet import tables
from facefare.wallet.errors import InvalidEnrolment, UnknownStation


def register(connection: Connection, station_id: str, public_key: bytes) -> None:
    """Let the station with this raw Ed25519 key (32 bytes) enrol from now on."""
    connection.execute(insert(tables.station).values(id=station_id, public_key=public_key))


def revoke(connection: Connection, station_id: str) -> None:
    """Refuse everything that the station brings from now on."""
    connection.execute(update(tables.station).where(tables.station.c.id == station_id).values(revoked_at=func.now()))


def verified(connection: Connection, request: EnrolRequest) -> EnrolPayload:
    """The signed fields of the request; raises InvalidEnrolment, UnknownStation."""
    try:
        fields = request.fields()
        columns = tables.station.c
        public_key = connection.execute(
            select(columns.public_key).where(columns.id == fields.station, columns.revoked_at.is_(None))
        ).scalar_one_or_none()
        if public_key is None:
            raise UnknownStation("This enrolment station is not registered, or was revoked.")
        verify(public_key, request.signature, request.payload)
    except MessageError as error:
        raise InvalidEnrolment(str(error)) from error
    return fields
