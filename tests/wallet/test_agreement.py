"""After a crash or a restored backup, the wallet finds back to the guardians' version by itself."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text

from facefare.guardian.messages import Operation
from facefare.identification.errors import GuardianUnavailable
from facefare.wallet import consents, faces, payers
from facefare.wallet.carrying import Changes
from facefare.wallet.consents import Notice
from facefare.wallet.errors import ChangeUnconfirmed
from facefare.wallet.faces import Face

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)


def enrolled(engine: Engine, changes: Changes, requests: Any, label: str) -> Face:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        consent = consents.give(connection, payer.id, NOTICE, Ed25519PrivateKey.generate())
    face = asyncio.run(changes.enrol(requests.enrolment(label, consent.receipt_sha256)))
    assert face is not None
    return face


def forget(engine: Engine, face: Face) -> None:
    """The wallet as a backup from before this enrolment has it."""
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM change_confirmation USING gallery_change WHERE change_id = id AND row = 1")
        )
        connection.execute(text("DELETE FROM gallery_change WHERE row = 1"))
        connection.execute(text("DELETE FROM face WHERE row = 1"))
        connection.execute(text("UPDATE gallery SET version = 1, next_row = 1, live = 1"))
    assert face.row == 1


def gallery(engine: Engine) -> tuple[int, int, int]:
    with engine.connect() as connection:
        row = connection.execute(text("SELECT version, next_row, live FROM gallery")).one()
    return row.version, row.next_row, row.live


def test_nothing_is_done_where_both_agree(engine: Engine, changes: Changes, guardians: Any, requests: Any) -> None:
    face = enrolled(engine, changes, requests, "ada")
    asyncio.run(changes.alter(face.payer_id, Operation.PAUSE))
    asyncio.run(changes.agree_everywhere())
    assert gallery(engine) == (2, 1, 1)
    assert guardians.rows["gal_town"].keys() == {0}


def test_a_wallet_that_is_behind_catches_up_and_has_unknown_rows_erased(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    enrolled(engine, changes, requests, "ada")
    forget(engine, enrolled(engine, changes, requests, "ben"))
    asyncio.run(changes.agree("gal_town"))
    assert guardians.rows["gal_town"].keys() == {0}
    assert gallery(engine) == (3, 2, 1)
    assert guardians.versions["gal_town"] == 3
    cleo = enrolled(engine, changes, requests, "cleo")
    assert cleo.row == 2
    asyncio.run(changes.agree("gal_town"))
    assert guardians.rows["gal_town"].keys() == {0, 2}


def test_a_change_begun_on_an_old_version_is_carried_on_the_new_one(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    ada = enrolled(engine, changes, requests, "ada")
    forget(engine, enrolled(engine, changes, requests, "ben"))
    with pytest.raises(ChangeUnconfirmed):
        asyncio.run(changes.alter(ada.payer_id, Operation.PAUSE))
    with pytest.raises(ChangeUnconfirmed):
        asyncio.run(changes.finish_all_pending())
    asyncio.run(changes.agree("gal_town"))
    with engine.connect() as connection:
        assert [face.state for face in faces.of_payer(connection, ada.payer_id)] == ["paused"]
    assert guardians.rows["gal_town"].keys() == {0}


def test_an_enrolment_begun_on_an_old_version_takes_the_next_free_row(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    enrolled(engine, changes, requests, "ada")

    class AwayOnceCompared:
        def __getattr__(self, name: str) -> Any:
            return getattr(guardians, name)

        async def enrol(self, *_: object) -> Any:
            raise GuardianUnavailable(1, "Guardian 1 is away.")

    with pytest.raises(ChangeUnconfirmed):
        enrolled(engine, Changes(engine, AwayOnceCompared(), threshold=lambda _: -2000), requests, "cleo")  # type: ignore[arg-type]
    # What the guardians enrolled after the backup that the wallet was restored from.
    guardians.rows["gal_town"][1] = b"ben"
    guardians.ever["gal_town"].add(1)
    guardians.versions["gal_town"] += 1
    asyncio.run(changes.agree("gal_town"))
    with engine.connect() as connection:
        cleo = faces.in_row(connection, "gal_town", 2)
    assert cleo is not None
    assert guardians.rows["gal_town"].keys() == {0, 2}
    assert gallery(engine)[2] == 2


def test_a_row_that_came_and_went_since_the_backup_does_not_stop_the_others_from_being_erased(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    enrolled(engine, changes, requests, "ada")
    rows = guardians.rows["gal_town"]
    rows[2] = b"cleo"
    guardians.ever["gal_town"] |= {1, 2}
    guardians.erased["gal_town", 1] = 2  # ben came with version 2 and went with 3
    guardians.versions["gal_town"] = 4
    asyncio.run(changes.agree("gal_town"))
    assert rows.keys() == {0}
    assert gallery(engine) == (5, 3, 1)
    assert guardians.versions["gal_town"] == 5


def test_guardians_that_are_behind_or_silent_change_nothing(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    enrolled(engine, changes, requests, "ada")
    guardians.versions["gal_town"] = 0
    asyncio.run(changes.agree("gal_town"))
    assert gallery(engine) == (1, 1, 1)
    guardians.versions["gal_town"] = 5
    guardians.down = True
    with pytest.raises(ChangeUnconfirmed):
        asyncio.run(changes.agree("gal_town"))
    assert gallery(engine) == (1, 1, 1)
