"""A payer's own check over the API: what is shown, to whom, and that nothing the guardians answered is left out."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from facefare.audit.openings import Opening, SealedPart
from facefare.audit.own_log import Comparison, Shown, compare
from facefare.client import ApiError, PayerClient
from facefare.guardian.errors import RefusalCode
from facefare.guardian.messages import OpenRequest, Operation, sha256
from facefare.identification.requests import prepare_opening
from facefare.ledger.errors import DatabaseUnavailable
from facefare.mpc.answers import Match
from facefare.payments import retention
from facefare.web.api import attempts


class Ada:
    """A payer with a key of her own, and what she does with it."""

    def __init__(self, world: Any, label: str = "ada") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.logs = [log.key for log in world.guardians.logs]
        self.client: PayerClient = world.payer()
        _, consent = self.client.consent("2026-11")
        public = self.key.public_key().public_bytes_raw()
        world.desk.enrol(world.requests.enrolment(label, consent, payer_key=public).to_bytes())
        self.face = self.client.account().faces[0].id

    def shown(self) -> dict[str, Any]:
        return self.client.identifications(self.face)

    def compared(self, shown: dict[str, Any] | None = None) -> Comparison:
        said = shown or self.shown()
        request, recipient = prepare_opening(said["gallery"], said["row"], key=self.key, now=datetime.now(UTC))
        parts = tuple(SealedPart(*part) for part in self.client.open_row(request.to_bytes()))
        opened = Opening(said["gallery"], request.fields().opening_id, recipient, parts).read(self.logs)
        return compare(opened, Shown.from_json(json.dumps(said)))


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(ApiError) as caught:
        action()
    return caught.value.code


def test_every_entry_names_the_signed_request_and_an_honest_log_is_complete(world: Any) -> None:
    ada = Ada(world)
    assert ada.compared().compared == 0
    search = world.requests.search("ada")
    world.gate.attempt(amount=280, currency="EUR", search=search.to_bytes())
    world.look("ada")  # paid moments ago: identified all the same
    (second, first) = ada.client.access_log()
    fields = search.fields()
    assert first["identification"] == {
        "at": fields.issued_at,
        "tag": first["identification"]["tag"],
        "terminal": "trm_gate",
        "gallery": "gal_town",
        "purpose": "payment",
        "query_id": fields.query_id.hex(),
        "request_sha256": sha256(search.payload).hex(),
    }
    said = ada.shown()
    assert said["accesses"] == [first["identification"], second["identification"]]
    assert (said["row"], said["payer_key"]) == (0, ada.key.public_key().public_bytes_raw().hex())
    assert ada.compared() == Comparison(complete=True, compared=2, lost=(), unexplained=0)
    assert not ada.compared({**said, "accesses": said["accesses"][1:]}).complete


def test_only_the_payers_own_token_and_key_open_the_own_row(world: Any) -> None:
    ada, ben = Ada(world), Ada(world, "ben")
    request, _ = prepare_opening("gal_town", 0, key=ada.key, now=datetime.now(UTC))
    assert refused(lambda: ben.client.open_row(request.to_bytes())) == "not-enrolled"
    assert refused(lambda: ben.client.identifications(ada.face)) == "not-enrolled"
    stolen, _ = prepare_opening("gal_town", 0, key=ben.key, now=datetime.now(UTC))
    assert refused(lambda: ada.client.open_row(stolen.to_bytes())) == "opening-refused"
    assert refused(lambda: ada.client.open_row(b"not cbor")) == "opening-refused"
    assert refused(lambda: ada.client.open_row(OpenRequest(b"x", bytes(64)).to_bytes())) == "opening-refused"
    world.guardians.refuse = RefusalCode.RATE_LIMITED
    with pytest.raises(ApiError, match="Try again in a minute"):
        ada.client.open_row(request.to_bytes())
    world.guardians.down = True
    assert refused(lambda: ada.client.open_row(request.to_bytes())) == "guardians-away"
    for path in (f"faces/{ada.face}/identifications", "access_log"):
        assert world.http.get(f"/v1/payers/me/{path}").status_code == 401


def test_an_answer_that_did_not_come_whole_is_shown_to_everyone_it_may_be_of(world: Any) -> None:
    ada, ben = Ada(world), Ada(world, "ben")
    world.guardians.lose_search = True
    assert world.look("ada").reason == "identification_unavailable"
    world.guardians.lose_search = False
    world.look("ada")
    compared = ada.compared()
    assert (compared.complete, compared.compared, len(compared.lost)) == (True, 1, 1)
    assert ben.shown()["lost"] == ada.shown()["lost"]
    assert ben.compared().lost == ()


def test_an_answer_that_came_too_late_to_pay_is_in_the_log_all_the_same(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = Ada(world)
    monkeypatch.setattr(attempts, "SEARCH_TIMEOUT", 0.05)
    answered: list[Match] = []
    search = world.guardians.search

    async def slow(*arguments: Any) -> Any:
        answered.append(await search(*arguments))
        await asyncio.sleep(0.3)
        return answered[0]

    monkeypatch.setattr(world.guardians, "search", slow)
    assert world.look("ada").reason == "identification_unavailable"
    until = time.monotonic() + 10
    while not ada.client.access_log() and time.monotonic() < until:
        time.sleep(0.05)
    (entry,) = ada.client.access_log()
    assert entry["outcome"] == "use_card"
    assert ada.compared().complete
    assert ada.client.account().available == 1000


@pytest.mark.parametrize("when", ["while the face is being paused", "after the terminal gave up"])
def test_an_answer_that_pays_nothing_is_in_the_log_all_the_same(
    world: Any, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    ada = Ada(world)
    search = world.guardians.search

    async def meanwhile(request: Any, *arguments: Any) -> Any:
        answer = await search(request, *arguments)
        if when == "after the terminal gave up":
            await asyncio.to_thread(world.gate.undo, request.fields().query_id)
        else:
            with world.engine.begin() as connection:
                connection.execute(text("UPDATE face SET state = 'paused'"))
        return answer

    monkeypatch.setattr(world.guardians, "search", meanwhile)
    assert world.look("ada").outcome == "use_card"
    assert [entry["outcome"] for entry in ada.client.access_log()] == ["use_card"]
    assert ada.compared().complete
    assert ada.client.payments() == []


@pytest.mark.parametrize("failing", ["before the commit", "after it"])
def test_an_answer_that_could_not_be_written_at_once_is_in_the_log_once_and_charges_nobody_then(
    world: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    ada = Ada(world)
    conclude = attempts._conclude
    broken = iter([True, True])

    def sometimes(*answered: Any) -> Any:
        if not next(broken, False):
            return conclude(*answered)
        if failing == "after it":
            conclude(*answered)
        raise DatabaseUnavailable("The database went away.")

    monkeypatch.setattr(attempts, "_conclude", sometimes)
    assert refused(lambda: world.look("ada")) == "database-unavailable"
    until = time.monotonic() + 10
    while not ada.client.access_log() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(2.5)  # the second try has come too
    (entry,) = ada.client.access_log()
    assert entry["outcome"] == ("use_card" if failing == "before the commit" else "accepted")
    assert ada.client.account().available == (1000 if failing == "before the commit" else 720)
    assert ada.compared().complete


def test_a_face_enrolled_anew_has_a_log_of_its_own(world: Any) -> None:
    ada = Ada(world)
    world.look("ada")
    first = ada.face
    asyncio.run(world.app.state.services.changes.alter(ada.client.account().id, Operation.DELETE))
    _, consent = ada.client.consent("2026-11")
    public = ada.key.public_key().public_bytes_raw()
    world.desk.enrol(world.requests.enrolment("ada", consent, payer_key=public).to_bytes())
    ada.face = ada.client.account().faces[0].id
    assert ada.face != first
    world.look("ada")
    assert len(ada.shown()["accesses"]) == len(ada.client.identifications(first)["accesses"]) == 1
    assert ada.compared().complete


def test_with_the_place_the_search_is_forgotten_but_the_tag_stays(world: Any) -> None:
    ada = Ada(world)
    world.look("ada")
    with world.engine.begin() as connection:
        ids = connection.execute(text("SELECT query_id FROM payment_intent")).scalars().all()
        retention.forget(connection, datetime.now(UTC) + timedelta(days=400))
    (entry,) = ada.shown()["accesses"]
    assert (entry["terminal"], entry["query_id"], entry["request_sha256"]) == ("forgotten", None, None)
    with world.engine.connect() as connection:
        everything = str(connection.execute(text("SELECT * FROM payment_intent")).all())
        everything += str(connection.execute(text("SELECT * FROM access_log")).all())
    assert str(bytes(ids[0])) not in everything
    assert ada.compared().complete
