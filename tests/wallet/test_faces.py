"""Rows, versions and confirmations: one change at a time, each finished before the next."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text

from facefare.guardian.messages import Operation
from facefare.wallet import consents, faces, galleries, payers, stations
from facefare.wallet.carrying import Changes
from facefare.wallet.consents import Notice
from facefare.wallet.errors import AlreadyEnrolled, ChangeUnconfirmed, NotEnrolled
from facefare.wallet.faces import Face

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)


@pytest.fixture
def changes(engine: Engine, guardians: Any, requests: Any) -> Changes:
    with engine.begin() as connection:
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
        galleries.open_gallery(connection, "gal_town", kind="live")
        galleries.open_gallery(connection, "gal_town", kind="live")
    return Changes(engine, guardians, threshold=lambda _: -2000)


def consented(engine: Engine) -> consents.Consent:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        return consents.give(connection, payer.id, NOTICE, Ed25519PrivateKey.generate())


async def enrolled(engine: Engine, changes: Changes, requests: Any, label: str) -> Face:
    consent = await asyncio.to_thread(consented, engine)
    face = await changes.enrol(requests.enrolment(label, consent.receipt_sha256))
    assert face is not None
    return face


def test_enrolments_at_once_get_rows_and_versions_one_after_the_other(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    async def many() -> list[Face]:
        return await asyncio.gather(*(enrolled(engine, changes, requests, f"p{n}") for n in range(8)))

    rows = sorted(face.row for face in asyncio.run(many()))
    assert rows == list(range(8))
    assert guardians.versions["gal_town"] == 8
    with engine.connect() as connection:
        assert galleries.gallery(connection, "gal_town") == galleries.Gallery("gal_town", 8, 8)


def test_every_change_is_kept_with_three_confirmations_that_verify(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    async def life() -> Face:
        face = await enrolled(engine, changes, requests, "ada")
        for operation in (Operation.PAUSE, Operation.RESUME, Operation.DELETE):
            await changes.alter(face.payer_id, operation)
        return face

    face = asyncio.run(life())
    with engine.connect() as connection:
        kept = faces.confirmations_of(connection, face.id)
    assert [word.fields.operation for word in kept[::3]] == ["enrol", "pause", "resume", "delete"]
    assert [word.fields.guardian for word in kept] == [0, 1, 2] * 4
    for word in kept:
        guardians.keys[word.fields.guardian].public_key().verify(word.signature, word.payload)


def test_a_row_is_never_given_to_another_face(engine: Engine, changes: Changes, guardians: Any, requests: Any) -> None:
    async def two() -> tuple[Face, Face]:
        first = await enrolled(engine, changes, requests, "ada")
        await changes.alter(first.payer_id, Operation.DELETE)
        return first, await enrolled(engine, changes, requests, "ben")

    first, second = asyncio.run(two())
    assert (first.row, second.row) == (0, 1)
    with engine.connect() as connection:
        assert faces.in_row(connection, "gal_town", 0) is None
        assert galleries.gallery(connection, "gal_town").live == 1


def test_an_enrolment_left_by_a_crash_is_finished_by_the_next_wallet(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    guardians.lose_answer = True
    consent = consented(engine)
    with pytest.raises(ChangeUnconfirmed):
        asyncio.run(changes.enrol(requests.enrolment("ada", consent.receipt_sha256)))
    with engine.connect() as connection:
        assert [face.state for face in faces.of_payer(connection, consent.payer_id)] == ["pending"]
        assert connection.execute(text("SELECT sealed_request FROM gallery_change")).scalar() is not None
    guardians.lose_answer = False
    asyncio.run(Changes(engine, guardians).finish_all_pending())
    with engine.connect() as connection:
        assert [face.state for face in faces.of_payer(connection, consent.payer_id)] == ["active"]
        assert connection.execute(text("SELECT sealed_request FROM gallery_change")).scalar() is None
    assert guardians.versions["gal_town"] == 1


def test_an_absent_guardian_keeps_a_change_pending_and_nothing_else_passes(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    face = asyncio.run(enrolled(engine, changes, requests, "ada"))
    guardians.down = True
    for _ in range(2):
        with pytest.raises(ChangeUnconfirmed):
            asyncio.run(changes.alter(face.payer_id, Operation.PAUSE))
    guardians.down = False
    # Asked again, it finishes what it began, and does not do it twice.
    (paused,) = asyncio.run(Changes(engine, guardians).alter(face.payer_id, Operation.PAUSE))
    assert (paused.state, guardians.versions["gal_town"]) == ("paused", 2)
    with pytest.raises(NotEnrolled):
        asyncio.run(Changes(engine, guardians).alter(face.payer_id, Operation.PAUSE))
    with engine.connect() as connection:
        assert [known.state for known in faces.of_payer(connection, face.payer_id)] == ["paused"]


def test_a_payer_has_one_face_in_a_gallery(engine: Engine, changes: Changes, guardians: Any, requests: Any) -> None:
    consent = consented(engine)
    asyncio.run(changes.enrol(requests.enrolment("ada", consent.receipt_sha256)))
    with pytest.raises(AlreadyEnrolled):
        asyncio.run(changes.enrol(requests.enrolment("ada too", consent.receipt_sha256)))
    assert guardians.versions["gal_town"] == 1
