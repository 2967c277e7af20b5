"""Whether a station's enrolment may be made, what a comparison before it comes to, and writing it down.

The face is compared with those enrolled first (the guardians do that): one that is taken for the same makes both
lookalikes, and both payers find that in their access logs. Several are nobody's to choose among: nothing is enrolled.
"""

from collections.abc import Callable

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError

from facefare.guardian.messages import EnrolPayload, EnrolRequest, Operation, sha256
from facefare.ledger.ids import new_id
from facefare.mpc.answers import Match
from facefare.wallet import access, changes, consents, faces, galleries, lookalikes, stations, tables
from facefare.wallet.access import Identification
from facefare.wallet.changes import Change
from facefare.wallet.consents import Consent, Profile
from facefare.wallet.errors import AlreadyEnrolled, GalleryBusy, InvalidEnrolment
from facefare.wallet.faces import Face
from facefare.wallet.galleries import Gallery

ENROLMENT, LOOKALIKE, REFUSED = "enrolment", "lookalike", "refused"
"""In access logs: the purpose of a comparison before an enrolment, and what came of it."""

SYNTHETIC = bytes(32)
"""In place of a consent's hash: references of nobody, let into galleries made as demo only."""

_ALREADY = "The payer's face is enrolled here already; delete it first to enrol it anew."


def may_begin(connection: Connection, request: EnrolRequest) -> Gallery:
    """The gallery as it is, for an enrolment that may be made.

    Raises InvalidEnrolment, UnknownStation, UnknownGallery, UnknownConsent, AlreadyEnrolled, and what
    `consents.check_present` does.
    """
    columns = tables.face.c
    _, locked, consent = _vouched_for(connection, request)
    if consent is not None:
        consents.check_present(connection, consent)
        theirs = select(columns.id).where(
            columns.payer_id == consent.payer_id, columns.gallery_id == locked.id, columns.state != "deleted"
        )
        if connection.execute(theirs).one_or_none():
            raise AlreadyEnrolled(_ALREADY)
    return Gallery(locked.id, locked.version, locked.live)


def tell(connection: Connection, request: EnrolRequest, answer: Match) -> Face | None:
    """Write the comparison into the access log of whoever was found; None where that is nobody."""
    fields = request.fields()
    other = faces.in_row(connection, fields.gallery, answer.row)
    if other is not None:
        found = Identification(
            other.id, other.gallery_id, answer.tag, fields.issued_at, fields.enrolment_id, sha256(request.payload)
        )
        access.record(connection, other.payer_id, by=fields.station, purpose=ENROLMENT, outcome=LOOKALIKE, found=found)
    return other


def refuse(connection: Connection, request: EnrolRequest) -> None:
    """Write into the payer's access log that the enrolment was not made."""
    fields, _, consent = _vouched_for(connection, request)
    if consent is not None:
        access.record(connection, consent.payer_id, by=fields.station, purpose=ENROLMENT, outcome=REFUSED)


def begin(
    connection: Connection,
    request: EnrolRequest,
    version: int,
    other: Face | None,
    lock: Callable[[str, bytes], bytes],
) -> Change:
    """Write an enrolment down, pending, that was compared with the gallery's `version`; `other` is its lookalike.

    lock: from the change's id and the sealed request to what is stored. Raises what `may_begin` does, and GalleryBusy.
    """
    fields, locked, consent = _vouched_for(connection, request)
    if locked.version != version:  # somebody was enrolled whom the new face was not compared with
        raise GalleryBusy("The gallery changed meanwhile; make a new enrolment.")
    face_id = None
    if consent is not None:
        face_id = _promise_row(connection, consent, locked, fields.payer_key)
        if other is not None:
            lookalikes.pair(connection, face_id, other.id)
            access.record(connection, consent.payer_id, by=fields.station, purpose=ENROLMENT, outcome=LOOKALIKE)
    change = Change(new_id("chg"), locked.id, Operation.ENROL, locked.next_row, locked.version, face_id)
    sealed = lock(change.id, request.to_bytes())
    changes.pend(connection, change, enrolment_id=fields.enrolment_id, sealed_request=sealed)
    return change


def _promise_row(
    connection: Connection, consent: Consent, locked: Row[tuple[object, ...]], payer_key: bytes | None
) -> str:
    face_id = new_id("fac")
    try:
        connection.execute(
            insert(tables.face).values(
                id=face_id,
                payer_id=consent.payer_id,
                gallery_id=locked.id,
                consent_id=consent.id,
                row=locked.next_row,
                payer_key=payer_key,
                state="pending",
            )
        )
    except IntegrityError as error:
        if "one_face_a_gallery" in str(error.orig):
            raise AlreadyEnrolled(_ALREADY) from error
        raise GalleryBusy("Its row is promised to another enrolment; try again.") from error
    return face_id


def _vouched_for(
    connection: Connection, request: EnrolRequest
) -> tuple[EnrolPayload, Row[tuple[object, ...]], Consent | None]:
    """What a station signed, the gallery (locked), and the consent in force; None for references of nobody.

    Raises InvalidEnrolment, UnknownStation, UnknownGallery, UnknownConsent.
    """
    fields = stations.verified(connection, request)
    locked = galleries.locked(connection, fields.gallery)
    if fields.consent_sha256 != SYNTHETIC:
        return fields, locked, consents.in_force(connection, fields.consent_sha256, Profile.HANDS_FREE)
    if locked.kind != "demo":
        raise InvalidEnrolment("References without consent are for galleries made as demo.")
    return fields, locked, None
