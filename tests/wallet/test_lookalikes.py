"""Faces that are taken for one at enrolment: who is marked, who is told, and when it ends."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text

from facefare.guardian.errors import RefusalCode
from facefare.guardian.messages import Operation
from facefare.identification.errors import CalibrationError
from facefare.mpc.answers import Match
from facefare.wallet import access, consents, faces, galleries, lookalikes, payers, tables
from facefare.wallet.carrying import Changes
from facefare.wallet.consents import Notice
from facefare.wallet.errors import (
    CannotCompare,
    ChangeUnconfirmed,
    GalleryBusy,
    InvalidEnrolment,
    NotTheSamePerson,
    SeeStaff,
)
from facefare.wallet.faces import Face

NOTICE = Notice("7", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395)
KEY = Ed25519PrivateKey.generate()


def consented(engine: Engine) -> consents.Consent:
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        return consents.give(connection, payer.id, NOTICE, KEY)


def enrolled(engine: Engine, changes: Changes, requests: Any, label: str) -> Face:
    face = asyncio.run(changes.enrol(requests.enrolment(label, consented(engine).receipt_sha256)))
    assert face is not None
    return face


def told(engine: Engine, payer_id: str) -> list[tuple[str, str, str]]:
    with engine.connect() as connection:
        return [(one.by, one.purpose, one.outcome) for one in access.of_payer(connection, payer_id, limit=100)]


def is_marked(engine: Engine, face: Face) -> bool:
    with engine.connect() as connection:
        return faces.owned(connection, face.payer_id, face.id).lookalike


NOTICED = ("stn_desk", "enrolment", "lookalike")


def test_the_second_of_two_alike_is_marked_with_the_first_and_both_are_told_and_nobody_else(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first, other, second = (enrolled(engine, changes, requests, label) for label in ("twin", "ada", "twin"))
    assert [face.lookalike for face in (first, other, second)] == [False, False, True]
    assert [is_marked(engine, face) for face in (first, other, second)] == [True, False, True]
    assert [told(engine, face.payer_id) for face in (first, other, second)] == [[NOTICED], [], [NOTICED]]


def test_the_one_who_was_found_can_check_the_tag_and_the_new_one_has_none(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first, second = enrolled(engine, changes, requests, "twin"), enrolled(engine, changes, requests, "twin")
    with engine.connect() as connection:
        (entry,) = access.of_face(connection, first.id)
        assert entry.found is not None
        assert entry.found.tag == guardians.sums["gal_town", first.row]
        assert access.of_face(connection, second.id) == []


def test_who_is_like_several_is_not_enrolled_and_leaves_the_others_alone(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    twins = [enrolled(engine, changes, requests, "twin") for _ in range(2)]
    consent = consented(engine)
    version = guardians.versions["gal_town"]
    with pytest.raises(SeeStaff):
        asyncio.run(changes.enrol(requests.enrolment("twin", consent.receipt_sha256)))
    with engine.connect() as connection:
        assert faces.of_payer(connection, consent.payer_id) == []
        assert connection.execute(text("SELECT count(*) FROM gallery_change WHERE state = 'pending'")).scalar() == 0
    assert told(engine, consent.payer_id) == [("stn_desk", "enrolment", "refused")]
    assert guardians.versions["gal_town"] == version
    assert [told(engine, twin.payer_id) for twin in twins] == [[NOTICED], [NOTICED]]


def test_a_row_that_is_nobodys_is_no_one_to_be_told_so_it_is_refused(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first = enrolled(engine, changes, requests, "twin")
    guardians.rows["gal_town"][7] = guardians.rows["gal_town"].pop(first.row)
    with pytest.raises(SeeStaff):
        enrolled(engine, changes, requests, "twin")


@pytest.mark.parametrize(
    "trouble", ["a guardian is away", "no threshold was measured", "there is no rule", "asked too often"]
)
def test_nobody_is_enrolled_whom_the_guardians_could_not_compare(
    engine: Engine, changes: Changes, guardians: Any, requests: Any, trouble: str
) -> None:
    def unmeasured(_: int) -> int:
        raise CalibrationError("No threshold.")

    guardians.down = trouble == "a guardian is away"
    guardians.refuse = RefusalCode.RATE_LIMITED if trouble == "asked too often" else None
    if trouble == "no threshold was measured":
        changes = Changes(engine, guardians, threshold=unmeasured)
    if trouble == "there is no rule":
        changes = Changes(engine, guardians)
    consent = consented(engine)
    with pytest.raises(CannotCompare):
        asyncio.run(changes.enrol(requests.enrolment("ada", consent.receipt_sha256)))
    with engine.connect() as connection:
        assert faces.of_payer(connection, consent.payer_id) == []
        assert connection.execute(text("SELECT count(*) FROM gallery_change")).scalar() == 0
    assert guardians.rows == {}


def test_an_answer_that_is_lost_is_shown_to_everybody(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first = enrolled(engine, changes, requests, "twin")
    guardians.lose_search = True
    with pytest.raises(CannotCompare):
        enrolled(engine, changes, requests, "twin")
    with engine.connect() as connection:
        assert access.lost(connection, "gal_town") == [guardians.sums["gal_town", first.row]]


def test_a_station_can_not_ask_twice_with_one_enrolment(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    for _ in range(2):
        enrolled(engine, changes, requests, "twin")
    request = requests.enrolment("twin", consented(engine).receipt_sha256)
    with pytest.raises(SeeStaff):
        asyncio.run(changes.enrol(request))
    with pytest.raises(CannotCompare):
        asyncio.run(changes.enrol(request))


def test_two_alike_at_two_desks_at_once_do_not_slip_past_each_other(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    """As two processes of the wallet would do it: neither waits for the other's turn."""
    compared = asyncio.Barrier(2)

    class Waiting:
        def __getattr__(self, name: str) -> Any:
            return getattr(guardians, name)

        async def check(self, *arguments: Any) -> Any:
            answer = await guardians.check(*arguments)
            await compared.wait()
            return answer

    async def both() -> list[Face | BaseException | None]:
        desks = [Changes(engine, Waiting(), threshold=lambda _: -2000) for _ in range(2)]  # type: ignore[arg-type]
        return await asyncio.gather(
            *(desk.enrol(requests.enrolment("twin", consented(engine).receipt_sha256)) for desk in desks),
            return_exceptions=True,
        )

    results = asyncio.run(both())
    assert sorted(type(one) is Face for one in results) == [False, True]
    assert any(isinstance(one, GalleryBusy) for one in results)
    assert len(guardians.rows["gal_town"]) == 1


def test_an_enrolment_that_the_guardians_then_refuse_marks_nobody(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first = enrolled(engine, changes, requests, "twin")

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(guardians, name)

        async def enrol(self, *arguments: Any) -> Any:
            guardians.refuse = RefusalCode.NOT_WELL_FORMED
            return await guardians.enrol(*arguments)

    with pytest.raises(InvalidEnrolment):
        enrolled(engine, Changes(engine, Refusing(), threshold=lambda _: -2000), requests, "twin")  # type: ignore[arg-type]
    assert not is_marked(engine, first)
    assert told(engine, first.payer_id) == [NOTICED]  # it happened all the same


def test_pausing_and_resuming_does_not_wash_the_mark_off(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first, second = enrolled(engine, changes, requests, "twin"), enrolled(engine, changes, requests, "twin")
    for operation in (Operation.PAUSE, Operation.RESUME):
        asyncio.run(changes.alter(second.payer_id, operation))
    assert is_marked(engine, first)
    assert is_marked(engine, second)


def deleted(engine: Engine, changes: Changes, face: Face) -> str:
    asyncio.run(changes.alter(face.payer_id, Operation.DELETE))
    return lookalikes.given_up([face.id], KEY)


def join(engine: Engine, face: Face, word: str) -> None:
    with engine.begin() as connection:
        lookalikes.join(connection, face.payer_id, word, KEY)


def test_a_twin_who_leaves_does_not_free_the_other(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first, second = enrolled(engine, changes, requests, "twin"), enrolled(engine, changes, requests, "twin")
    deleted(engine, changes, first)
    assert is_marked(engine, second)
    assert not is_marked(engine, first)


def test_one_person_with_two_accounts_proves_it_with_both_and_is_free(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    old, new = enrolled(engine, changes, requests, "ada"), enrolled(engine, changes, requests, "ada")
    word = deleted(engine, changes, old)
    join(engine, new, word)
    assert not is_marked(engine, new)
    with pytest.raises(NotTheSamePerson):
        join(engine, new, word)


def test_a_word_of_a_stranger_of_another_kind_or_of_a_face_that_is_still_there_frees_nobody(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    stranger = enrolled(engine, changes, requests, "cleo")
    first, second = enrolled(engine, changes, requests, "twin"), enrolled(engine, changes, requests, "twin")
    consent = consented(engine)
    words = [
        deleted(engine, changes, stranger),
        lookalikes.given_up([first.id], KEY),
        lookalikes.given_up([first.id], Ed25519PrivateKey.generate()),
        consent.receipt,
        consents.signed({"kind": "given-up-face", "faces": first.id, "until": "2999-01-01T00:00:00+00:00"}, KEY),
        consents.signed({"kind": "given-up-face", "faces": [first.id], "until": "2020-01-01T00:00:00+00:00"}, KEY),
        "no word at all",
    ]
    for word in words:
        with pytest.raises(NotTheSamePerson):
            join(engine, second, word)
    assert is_marked(engine, second)


def test_of_three_alike_one_proof_ends_one_pair(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first, second = enrolled(engine, changes, requests, "twin"), enrolled(engine, changes, requests, "twin")
    with engine.begin() as connection:
        third = enrolled(engine, changes, requests, "cleo")
        lookalikes.pair(connection, second.id, third.id)
    join(engine, second, deleted(engine, changes, first))
    assert is_marked(engine, second)


def restored(engine: Engine, known: dict[str, list[Any]]) -> None:
    """The wallet's tables as a backup has them."""
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(known)} CASCADE"))
        for table, rows in known.items():
            if rows:
                connection.execute(tables.metadata.tables[table].insert(), [dict(row) for row in rows])


def kept(engine: Engine) -> dict[str, list[Any]]:
    names = ("gallery", "consent", "face", "lookalike", "gallery_change", "change_confirmation", "access_log")
    with engine.connect() as connection:
        return {name: list(connection.execute(tables.metadata.tables[name].select()).mappings()) for name in names}


def matched(guardians: Any, requests: Any, label: str, engine: Engine) -> Face | None:
    """Whom a search finds now, and whom the wallet knows there."""
    with engine.connect() as connection:
        version = galleries.gallery(connection, "gal_town").version
        answer = asyncio.run(guardians.search(requests.search(label), version, -2000))
        return faces.in_row(connection, "gal_town", answer.row) if isinstance(answer, Match) else None


def test_a_wallet_restored_from_before_a_pause_charges_nobody_who_is_paused(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    face = enrolled(engine, changes, requests, "ada")
    backup = kept(engine)
    asyncio.run(changes.alter(face.payer_id, Operation.PAUSE))
    restored(engine, backup)
    asyncio.run(changes.agree("gal_town"))
    assert matched(guardians, requests, "ada", engine) is None


def test_a_wallet_restored_with_the_mark_has_it_and_from_before_the_twin_has_neither(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first = enrolled(engine, changes, requests, "twin")
    before = kept(engine)
    second = enrolled(engine, changes, requests, "twin")
    restored(engine, kept(engine))
    asyncio.run(changes.agree("gal_town"))
    assert is_marked(engine, first)
    assert is_marked(engine, second)
    restored(engine, before)
    asyncio.run(changes.agree("gal_town"))
    assert guardians.rows["gal_town"].keys() == {first.row}  # nobody here knows the twin, so that row is erased
    found = matched(guardians, requests, "twin", engine)
    assert found is not None
    assert (found.id, found.lookalike) == (first.id, False)


def test_an_enrolment_of_a_lookalike_that_a_crash_left_pending_is_marked_when_it_is_finished(
    engine: Engine, changes: Changes, guardians: Any, requests: Any
) -> None:
    first = enrolled(engine, changes, requests, "twin")
    guardians.lose_answer = True
    with pytest.raises(ChangeUnconfirmed):
        enrolled(engine, changes, requests, "twin")
    assert is_marked(engine, first)
    guardians.lose_answer = False
    asyncio.run(Changes(engine, guardians).finish_all_pending())
    with engine.connect() as connection:
        second = faces.in_row(connection, "gal_town", first.row + 1)
    assert second is not None
    assert (second.state, second.lookalike) == ("active", True)
