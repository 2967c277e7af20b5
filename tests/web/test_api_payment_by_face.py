"""One payment by face over HTTP, as it should go and as it should not."""

import base64
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from facefare.client import ApiError, TerminalAuth, TerminalClient
from facefare.guardian.errors import RefusalCode
from facefare.ledger import verify
from facefare.payments import merchants
from facefare.payments.verify import INVARIANTS


def test_a_recognised_payer_is_charged_and_gets_a_receipt(world: Any) -> None:
    ada = world.payer("ada")
    reply = world.look("ada")
    assert (reply.outcome, reply.reason, reply.amount, reply.currency) == ("accepted", None, 280, "EUR")
    assert reply.opens
    assert ada.account().available == 720
    receipt = ada.receipt(reply.receipt)
    assert receipt["amount"] == 280
    assert receipt["balance_after"] == 720
    assert receipt["place"] == "place of trm_gate"
    assert [payment["state"] for payment in ada.payments()] == ["succeeded"]
    assert verify(world.engine, INVARIANTS) == []


def test_a_second_look_within_a_minute_is_charged_once_and_told_so(world: Any) -> None:
    ada = world.payer("ada")
    first, second = world.look("ada"), world.look("ada")
    assert (second.outcome, second.reason) == ("already_paid", "paid_moments_ago")
    assert second.receipt == first.receipt
    assert ada.account().available == 720


def test_a_face_that_is_found_too_often_in_a_day_is_a_stranger_s_and_its_payer_sees_it(world: Any) -> None:
    """Whoever owns a terminal's key could feel the way to a template by hundreds of matches."""
    ada, services = world.payer("ada"), world.app.state.services
    world.app.state.services = replace(services, rules=replace(services.rules, identified_a_day=3))
    outcomes = [(reply.outcome, reply.reason) for reply in (world.look("ada") for _ in range(5))]
    assert [outcome for outcome, _ in outcomes[:3]] == ["accepted", "already_paid", "already_paid"]
    assert (
        outcomes[3:] == [("use_card", "not_recognised")] * 2 == [(r.outcome, r.reason) for r in [world.look("eve")] * 2]
    )
    assert [entry["outcome"] for entry in ada.access_log()[:2]] == ["use_card"] * 2
    assert ada.account().available == 720


def test_another_terminal_charges_at_once(world: Any) -> None:
    ada = world.payer("ada")
    world.look("ada")
    search = world.requests.search("ada", terminal="trm_till").to_bytes()
    assert world.till.attempt(amount=300, currency="EUR", search=search).outcome == "accepted"
    assert ada.account().available == 420


def test_the_same_query_sent_again_is_the_same_payment(world: Any) -> None:
    ada = world.payer("ada")
    search = world.requests.search("ada").to_bytes()
    replies = [world.gate.attempt(amount=280, currency="EUR", search=search) for _ in range(3)]
    assert replies[0] == replies[1] == replies[2]
    assert world.guardians.searches == 1
    assert ada.account().available == 720
    with pytest.raises(ApiError, match="another payment") as caught:
        world.gate.attempt(amount=281, currency="EUR", search=search)
    assert caught.value.code == "query-reused"


def test_a_stranger_is_asked_for_a_card_and_leaves_no_trace_of_a_face(world: Any) -> None:
    search = world.requests.search("a stranger's face")
    reply = world.gate.attempt(amount=280, currency="EUR", search=search.to_bytes())
    assert (reply.outcome, reply.reason, reply.receipt) == ("use_card", "not_recognised", None)
    with world.engine.connect() as connection:
        tables = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        ).scalars()
        everything = "".join(str(connection.execute(text(f"SELECT * FROM {table}")).all()) for table in tables)
    assert "stranger" not in everything
    assert base64.b64encode(search.sealed[0]).decode() not in everything
    assert search.signature.hex() not in everything


def test_too_little_money_is_refused_with_the_reason(world: Any) -> None:
    ada = world.payer("ada", funds=100)
    reply = world.look("ada")
    assert (reply.outcome, reply.reason, reply.receipt) == ("refused", "insufficient_funds", None)
    assert ada.account().available == 100


def test_two_who_look_alike_are_asked_for_a_card(world: Any) -> None:
    world.payer("twin"), world.payer("twin")
    assert world.look("twin").reason == "several_match"


def test_a_deleted_face_is_a_stranger_and_three_guardians_confirmed_it(world: Any) -> None:
    ada = world.payer("ada")
    (face,) = ada.delete_face()
    assert (face.state, face.confirmed_by) == ("deleted", (0, 1, 2))
    assert world.look("ada").reason == "not_recognised"
    assert ada.account().faces == ()
    assert ada.account().available == 1000
    with pytest.raises(ApiError) as caught:
        ada.delete_face()
    assert caught.value.code == "not-enrolled"


def test_deletion_withdraws_consent_and_a_new_face_needs_a_new_one(world: Any) -> None:
    ada = world.payer()
    _, sha256 = ada.consent("2026-11")
    world.desk.enrol(world.requests.enrolment("ada", sha256).to_bytes())
    ada.delete_face()
    with pytest.raises(ApiError) as caught:
        world.desk.enrol(world.requests.enrolment("ada", sha256).to_bytes())
    assert caught.value.code == "consent-missing"
    world.enrol(ada, "ada")
    assert world.look("ada").outcome == "accepted"


def test_a_paused_face_pays_nothing_until_resumed(world: Any) -> None:
    ada = world.payer("ada")
    assert ada.pause_face()[0].state == "paused"
    assert world.look("ada").outcome == "use_card"
    assert ada.resume_face()[0].state == "active"
    assert world.look("ada").outcome == "accepted"


def test_with_a_guardian_away_nothing_is_charged_and_a_card_is_asked_for(world: Any) -> None:
    ada = world.payer("ada")
    world.guardians.down = True
    reply = world.look("ada")
    assert (reply.outcome, reply.reason) == ("use_card", "identification_unavailable")
    assert ada.account().available == 1000
    world.guardians.down = False
    assert world.look("ada").outcome == "accepted"


def test_a_deletion_that_one_guardian_missed_is_carried_again_before_anything_else(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    world.guardians.lose_answer = True
    with pytest.raises(ApiError) as caught:
        ada.delete_face()
    assert (caught.value.status, caught.value.code) == (503, "change-unconfirmed")
    assert ada.account().faces[0].state == "active"
    world.guardians.lose_answer = False
    ben.pause_face()
    assert ada.account().faces == ()
    assert world.look("ada").outcome == "use_card"


def test_the_threshold_follows_the_number_of_faces_and_beyond_the_table_a_card_is_asked_for(world: Any) -> None:
    ada = world.payer("ada")
    world.look("ada")
    assert world.guardians.threshold == -3000
    for label in ("ben", "cleo"):
        world.payer(label)
    world.look("ada")
    assert world.guardians.threshold == -2000
    dora = world.payer("dora")
    assert world.look("ben").reason == "identification_unavailable"
    dora.delete_face()
    assert world.look("ben").outcome == "accepted"
    assert ada.account().available == 720


def test_the_payer_alone_reads_who_used_the_face(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    reply = world.look("ada")
    assert [(entry["by"], entry["purpose"], entry["outcome"]) for entry in ada.access_log()] == [
        ("trm_gate", "payment", "accepted")
    ]
    assert ben.access_log() == []
    assert ben.payments() == []
    with pytest.raises(ApiError) as caught:
        ben.receipt(reply.receipt)
    assert caught.value.status == 404


def test_a_top_up_is_credited_once_for_its_key(world: Any) -> None:
    ada = world.payer(funds=0)
    first, second = ada.top_up(500, "key"), ada.top_up(500, "key")
    assert first == second
    assert ada.account().available == 500
    with pytest.raises(ApiError) as caught:
        ada.top_up(501, "key")
    assert (caught.value.status, caught.value.code) == (409, "idempotency-conflict")


# --- enrolment ---


def test_a_face_is_enrolled_once_and_its_sealed_shares_are_not_kept(world: Any) -> None:
    ada = world.payer("ada")
    assert [face.state for face in ada.account().faces] == ["active"]
    with pytest.raises(ApiError) as caught:
        world.enrol(ada, "ada again")
    assert caught.value.code == "already-enrolled"
    with world.engine.connect() as connection:
        kept = connection.execute(text("SELECT sealed_request FROM gallery_change")).scalars().all()
    assert kept == [None]


def test_an_enrolment_needs_a_registered_station_and_consent(world: Any) -> None:
    ada = world.payer()
    _, sha256 = ada.consent("2026-11")
    good = world.requests.enrolment("ada", sha256)
    forged = type(good)(good.payload, bytes(64), good.sealed)
    cases = {
        "invalid-enrolment": forged,
        "unknown-station": world.requests.enrolment("ada", sha256, station="stn_other"),
        "consent-missing": world.requests.enrolment("ada", b"?" * 32),
        "unknown-gallery": world.requests.enrolment("ada", sha256, gallery="gal_other"),
    }
    for code, request in cases.items():
        with pytest.raises(ApiError) as caught:
            world.desk.enrol(request.to_bytes())
        assert caught.value.code == code
    assert world.guardians.rows == {}
    world.desk.enrol(good.to_bytes())
    world.payer()
    with pytest.raises(ApiError) as caught:
        world.desk.enrol(good.to_bytes())
    assert caught.value.code == "already-enrolled"


def test_a_refused_enrolment_leaves_nothing_and_may_be_tried_anew(world: Any) -> None:
    ada = world.payer()
    world.guardians.refuse = RefusalCode.NOT_WELL_FORMED
    with pytest.raises(ApiError) as caught:
        world.enrol(ada, "ada")
    assert caught.value.code == "invalid-enrolment"
    assert ada.account().faces == ()
    world.guardians.refuse = None
    world.enrol(ada, "ada")
    assert world.look("ada").outcome == "accepted"


def test_references_of_nobody_are_let_into_demo_galleries_only(world: Any) -> None:
    assert world.desk.enrol(world.requests.enrolment("x", bytes(32), gallery="gal_demo").to_bytes())
    with pytest.raises(ApiError) as caught:
        world.desk.enrol(world.requests.enrolment("x", bytes(32)).to_bytes())
    assert caught.value.code == "invalid-enrolment"


# --- bad input ---


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (0, "EUR", "invalid-amount"),
        (-280, "EUR", "invalid-amount"),
        (10**18, "EUR", "invalid-amount"),
        (280, "EURO", "unknown-currency"),
        (280, "XXX", "unknown-currency"),
        (280, "eur", "unknown-currency"),
        (2.8, "EUR", "invalid-request"),
        ("280", "EUR", "invalid-request"),
        (True, "EUR", "invalid-request"),
    ],
)
def test_a_fare_that_is_no_fare_is_refused_and_nobody_is_asked(
    world: Any, amount: Any, currency: str, code: str
) -> None:
    ada = world.payer("ada")
    search = world.requests.search("ada").to_bytes()
    with pytest.raises(ApiError) as caught:
        world.gate.attempt(amount=amount, currency=currency, search=search)
    assert (caught.value.status, caught.value.code) == (422, code)
    assert world.guardians.searches == 0
    assert ada.account().available == 1000


def signed(world: Any, change: Any, *, key: Any = None, terminal: str = "trm_gate") -> httpx.Response:
    """An attempt that `change` alters after it was signed."""
    search = base64.b64encode(world.requests.search("ada").to_bytes()).decode()
    request = world.http.build_request(
        "POST", "/v1/attempts", json={"amount": 280, "currency": "EUR", "search": search}
    )
    request = next(TerminalAuth(terminal, key or world.requests.terminal_key).auth_flow(request))
    change(request)
    response: httpx.Response = world.http.send(request)
    return response


def drop(header: str) -> Any:
    return lambda request: request.headers.pop(header)


def aged(request: httpx.Request) -> None:
    request.headers["Signature-Input"] = request.headers["Signature-Input"].replace("created=1", "created=2")


def redirected(request: httpx.Request) -> None:
    request.url = request.url.copy_with(query=b"x=1")


def test_a_missing_altered_or_foreign_signature_is_refused(world: Any) -> None:
    ada = world.payer("ada")
    other = Ed25519PrivateKey.generate()
    cases = [
        (signed(world, drop("Signature")), "signature-missing"),
        (signed(world, drop("Signature-Input")), "signature-missing"),
        (signed(world, aged), "signature-wrong"),
        (signed(world, redirected), "signature-wrong"),
        (signed(world, lambda request: None, key=other), "signature-wrong"),
        (signed(world, lambda request: None, terminal="trm_unknown"), "unknown-terminal"),
    ]
    for response, code in cases:
        assert (response.status_code, response.json()["type"]) == (401, f"urn:facefare:problem:{code}")
        assert response.headers["content-type"] == "application/problem+json"
    assert world.guardians.searches == 0
    assert ada.account().available == 1000
    assert signed(world, lambda request: None).json()["outcome"] == "accepted"


def test_an_altered_body_is_refused(world: Any) -> None:
    def cheaper(request: httpx.Request) -> None:
        request._content = request.content.replace(b"280", b"180")

    assert signed(world, cheaper).json()["type"].endswith("signature-wrong")


def test_a_replayed_request_is_refused(world: Any) -> None:
    ada = world.payer("ada")
    kept: list[httpx.Request] = []
    assert signed(world, kept.append).status_code == 200
    replayed = world.http.send(kept[0])
    assert replayed.json()["type"].endswith("request-replayed")
    assert ada.account().available == 720


@pytest.mark.parametrize("seconds", [-120, 120])
def test_a_stale_or_future_request_is_refused(world: Any, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now = time.time()
    monkeypatch.setattr("facefare.client.transport.time.time", lambda: now + seconds)
    kept: list[httpx.Request] = []
    search = base64.b64encode(world.requests.search("ada").to_bytes()).decode()
    request = world.http.build_request("POST", "/v1/attempts", json={"amount": 1, "currency": "EUR", "search": search})
    kept.append(next(TerminalAuth("trm_gate", world.requests.terminal_key).auth_flow(request)))
    monkeypatch.undo()
    assert world.http.send(kept[0]).json()["type"].endswith("signature-stale")


def test_a_revoked_terminal_is_unknown(world: Any) -> None:
    with world.engine.begin() as connection:
        merchants.revoke_terminal(connection, "trm_gate")
    with pytest.raises(ApiError) as caught:
        world.look("ada")
    assert caught.value.code == "unknown-terminal"


def test_a_search_made_by_another_terminal_or_by_nobody_is_refused(world: Any) -> None:
    for search in (world.requests.search("ada", terminal="trm_till").to_bytes(), b"", b"\xa0" * 100):
        with pytest.raises(ApiError) as caught:
            world.gate.attempt(amount=280, currency="EUR", search=search)
        assert caught.value.code == "invalid-search"
    assert world.guardians.searches == 0


@pytest.mark.parametrize("code", [RefusalCode.BAD_SIGNATURE, RefusalCode.REPLAYED, RefusalCode.STALE_REQUEST])
def test_what_the_guardians_find_at_fault_is_told_and_nothing_is_charged(world: Any, code: RefusalCode) -> None:
    ada = world.payer("ada")
    world.guardians.refuse = code
    with pytest.raises(ApiError) as caught:
        world.look("ada")
    assert caught.value.code == "search-refused"
    assert ada.account().available == 1000


def test_guardians_at_another_gallery_version_mean_a_card(world: Any) -> None:
    world.payer("ada")
    world.guardians.versions["gal_town"] = 7
    assert world.look("ada").reason == "identification_unavailable"


def test_no_token_or_a_wrong_one_reaches_nothing(world: Any) -> None:
    for headers in ({}, {"Authorization": "Bearer ptk_wrong"}):
        response = world.http.get("/v1/payers/me", headers=headers)
        assert response.status_code == 401
        assert response.json()["type"].endswith("not-authenticated")


def test_a_huge_body_is_refused(world: Any) -> None:
    response = world.http.post("/v1/enrolments", content=b'{"request": "' + b"A" * 11_000_000 + b'"}')
    assert response.status_code == 413
    assert response.json()["type"] == "urn:facefare:problem:too-large"


def test_an_invalid_request_is_told_where_and_never_quoted(world: Any) -> None:
    response = world.http.post("/v1/payers", json={"currency": ["a secret"]})
    assert response.json()["errors"][0]["pointer"] == "/currency"
    assert "secret" not in response.text
    assert world.http.get("/v1/nothing").json()["type"] == "urn:facefare:problem:not-found"


def test_the_service_says_that_it_is_up_and_ready(world: Any) -> None:
    assert world.http.get("/healthz").status_code == 200
    assert world.http.get("/readyz").status_code == 200


def test_another_key_cannot_speak_for_the_gate(world: Any) -> None:
    thief = TerminalClient(world.http, "trm_gate", Ed25519PrivateKey.generate())
    with pytest.raises(ApiError) as caught:
        thief.attempt(amount=1, currency="EUR", search=world.requests.search("ada").to_bytes())
    assert caught.value.code == "signature-wrong"
