"""Merchants' own systems over the API, and who may reach which route."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from facefare.client import ApiError, TerminalAuth, TerminalClient
from facefare.ledger import verify
from facefare.payments import api_keys, merchants, settlements
from facefare.payments.api_keys import AUDITOR, Scope
from facefare.payments.errors import UnknownApiKey, UnknownMerchant
from facefare.payments.verify import INVARIANTS

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v1/consent_keys"),
    ("GET", "/v1/retention_runs"),  # counts of what was forgotten, signed
    ("GET", "/v1/terminal_keys"),  # public keys, for anyone who wants to pay
    ("GET", "/v1/payers/notice"),  # what anyone is asked to agree to
    ("POST", "/v1/payers"),  # anyone may open an account
    ("POST", "/v1/enrolments"),  # what counts is the station's signature inside
    ("POST", "/v1/processor_events"),  # what counts is the processor's signature
}


class Operator:
    """A merchant's system with an API key."""

    def __init__(self, world: Any, scopes: Any = tuple(Scope), merchant: str | None = None) -> None:
        self.http = world.http
        with world.engine.begin() as connection:
            self.merchant = merchant or connection.execute(text("SELECT id FROM merchant LIMIT 1")).scalar_one()
            self.key, self.text = api_keys.create(connection, self.merchant, "test", scopes)

    def call(self, method: str, path: str, body: Any = None, key: str = "k1") -> Any:
        headers = {"Authorization": f"Bearer {self.text}", "Idempotency-Key": key}
        return self.http.request(method, f"/v1/operator{path}", json=body, headers=headers)

    def get(self, path: str) -> Any:
        response = self.call("GET", path)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def operator(world: Any) -> Operator:
    return Operator(world)


@pytest.fixture
def rival(world: Any) -> Operator:
    with world.engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Rival")
    return Operator(world, merchant=merchant)


# --- roles ---


def concrete(path: str) -> str:
    kinds = {"intent_id": "pi", "receipt_id": "rcp", "dispute_id": "dsp", "event_id": "evt", "endpoint_id": "whe"}
    for name, prefix in {**kinds, "settlement_id": "stl", "device_id": "dev", "top_up_id": "top"}.items():
        path = path.replace(f"{{{name}}}", f"{prefix}_{'0' * 26}")
    return path.replace("{terminal_id}", "trm_nobody").replace("{consent_id}", "con_" + "0" * 26)


def owner(path: str) -> str:
    if path.startswith("/v1/payers/me"):
        return "payer"
    return "operator" if path.startswith("/v1/operator") else "terminal"


def test_every_route_is_closed_to_every_role_but_its_own(world: Any, operator: Operator) -> None:
    auditor = Operator(world, AUDITOR)
    ada = world.payer("ada")
    credentials: dict[str, dict[str, Any]] = {
        "stranger": {},
        "payer": {"headers": {"Authorization": f"Bearer {ada._auth._token}"}},
        "operator": {"headers": {"Authorization": f"Bearer {operator.text}"}},
        "auditor": {"headers": {"Authorization": f"Bearer {auditor.text}"}},
        "terminal": {"auth": world.gate._auth},
        # A guardian has a key of its own, and no way to say that it is a terminal.
        "guardian": {"auth": TerminalAuth("trm_guardian", world.guardians.keys[0])},
        "guardian as the gate": {"auth": TerminalAuth("trm_gate", world.guardians.keys[0])},
    }
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.app)
    closed = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        method, path = operation.method.upper(), operation.path
        if (method, path) in OPEN or (method, path) == ("DELETE", "/v1/payers/me"):
            continue
        for role, sent in credentials.items():
            response = world.http.request(method, concrete(path), json={}, **sent)
            allowed = role == owner(path) or (role == "auditor" and owner(path) == "operator")
            if not allowed:
                assert response.status_code == 401, (method, path, role)
            elif role == "auditor":
                may = path.startswith(("/v1/operator/settlements", "/v1/operator/verification", "/v1/operator/me"))
                assert (response.status_code == 403) is not may, (method, path)
            else:
                assert response.status_code not in (401, 500), (method, path, role)
        closed += 1
    assert closed >= 45


@pytest.mark.parametrize("missing", list(Scope))
def test_a_key_without_a_scope_is_refused_exactly_what_needs_it(world: Any, missing: Scope) -> None:
    key = Operator(world, set(Scope) - {missing})
    routes = {
        Scope.PAYMENTS_READ: [("GET", "/payments"), ("GET", "/payments/pi_" + "0" * 26)],
        Scope.PAYMENTS_REFUND: [("POST", "/payments/pi_" + "0" * 26 + "/refunds")],
        Scope.DISPUTES_READ: [("GET", "/disputes")],
        Scope.DISPUTES_DECIDE: [("POST", "/disputes/dsp_" + "0" * 26 + "/decision")],
        Scope.WEBHOOKS_READ: [("GET", "/webhook_endpoints"), ("GET", "/events")],
        Scope.WEBHOOKS_WRITE: [("POST", "/webhook_endpoints"), ("POST", "/events/evt_" + "0" * 26 + "/replay")],
        Scope.TERMINALS_WRITE: [("POST", "/terminals"), ("DELETE", "/terminals/trm_gate")],
        Scope.SETTLEMENTS_READ: [("GET", "/settlements"), ("GET", "/settlements/stl_" + "0" * 26)],
        Scope.LEDGER_VERIFY: [("GET", "/verification")],
    }
    for scope, of_scope in routes.items():
        for method, path in of_scope:
            status = key.call(method, path, {}).status_code
            if scope is missing:
                assert status == 403, (method, path)
            elif (method, path) != ("DELETE", "/terminals/trm_gate"):
                assert status not in (401, 403), (method, path)


def test_a_key_is_kept_as_a_hash_and_refused_once_revoked(world: Any, operator: Operator) -> None:
    with world.engine.begin() as connection:
        assert operator.text not in str(connection.execute(text("SELECT * FROM api_key")).all())
        assert [one.prefix for one in api_keys.of_merchant(connection, operator.merchant)] == [operator.text[:10]]
    assert operator.get("/me")["merchant"] == operator.merchant
    with world.engine.begin() as connection:
        api_keys.revoke(connection, operator.key.id)
        with pytest.raises(UnknownApiKey):
            api_keys.revoke(connection, "key_none")
        with pytest.raises(UnknownMerchant):
            api_keys.create(connection, "mer_none", "x", set())
    assert operator.call("GET", "/me").status_code == 401


# --- payments ---


def test_a_merchant_lists_its_payments_page_by_page_and_never_sees_who_paid(world: Any, operator: Operator) -> None:
    ada = world.payer("ada", funds=20_000)
    for amount in (1, 2, 3):
        search = world.requests.search("ada", terminal="trm_till").to_bytes()
        world.till.attempt(amount=amount, currency="EUR", search=search)
    seen, after = [], ""
    while True:
        page = operator.get(f"/payments?limit=2{after}")
        seen += page["data"]
        if not page["has_more"]:
            break
        after = f"&starting_after={seen[-1]['id']}"
    assert [one["amount"] for one in seen] == [3, 2, 1]
    assert ada.account().id not in json.dumps(seen)
    assert {one["payer"][:4] for one in seen} == {"psn_"}
    assert operator.get("/payments?state=refused")["data"] == []


def test_expansions_show_refunds_and_disputes(world: Any, operator: Operator) -> None:
    ada = world.payer("ada")
    paid = world.look("ada").payment_intent
    path = f"/payments/{paid}"
    assert (operator.get(path)["refunds"], operator.get(path)["dispute"]) == (None, None)
    for _ in range(2):
        assert operator.call("POST", f"{path}/refunds", {"amount": 80}).json()["refunded"] == 80
    assert operator.call("POST", f"{path}/refunds", {"amount": 81}).status_code == 409
    assert ada.account().available == 800
    ada.dispute(paid)
    expanded = operator.get(f"{path}?expand=refunds&expand=dispute")
    assert [one["amount"] for one in expanded["refunds"]] == [80, 200]
    assert expanded["dispute"] == "refunded"
    assert operator.call("GET", f"{path}?expand=payer").status_code == 422
    assert verify(world.engine, INVARIANTS) == []


def test_an_operators_refund_key_is_not_a_terminals(world: Any, operator: Operator) -> None:
    ada = world.payer("ada")
    paid = world.look("ada").payment_intent
    world.till.refund(paid, "k1", 100)
    operator.call("POST", f"/payments/{paid}/refunds", {"amount": 50}, key="k1")
    assert ada.account().available == 870


def test_a_strangers_attempt_cannot_be_refunded(world: Any, operator: Operator) -> None:
    attempt = world.look("nobody").payment_intent
    assert operator.call("POST", f"/payments/{attempt}/refunds", {}).status_code == 409


# --- disputes ---


@pytest.mark.parametrize(("give_back", "state", "left"), [(True, "refunded", 20_000), (False, "declined", 14_000)])
def test_a_merchant_decides_a_dispute_once_and_the_payer_reads_of_it(
    world: Any, operator: Operator, give_back: bool, state: str, left: int
) -> None:
    ada = world.payer("ada", funds=20_000)
    paid = world.look("ada", amount=60_00).payment_intent
    ada.dispute(paid)
    (dispute,) = operator.get("/disputes")["data"]
    assert (dispute["state"], dispute["amount"]) == ("under_review", 60_00)
    assert ada.account().id not in json.dumps(dispute)
    path = f"/disputes/{dispute['id']}/decision"
    assert operator.call("POST", path, {"give_back": give_back}).json()["state"] == state
    assert operator.call("POST", path, {"give_back": not give_back}).status_code == 409
    assert ada.account().available == left
    newest = ada.access_log()[0]
    assert (newest["purpose"], newest["by"], newest["outcome"]) == ("dispute", operator.key.id, state)
    assert verify(world.engine, INVARIANTS) == []


# --- webhooks ---


def test_webhooks_are_registered_listed_replayed_and_removed(world: Any, operator: Operator, rival: Operator) -> None:
    made = operator.call("POST", "/webhook_endpoints", {"url": "https://shop.example/hook"}).json()
    assert made["secret"].startswith("whsec_")
    assert "secret" not in json.dumps([one for one in operator.get("/webhook_endpoints") if one["secret"]])
    world.payer("ada")
    world.look("ada")
    (event,) = operator.get("/events")["data"]
    assert (event["waiting"], json.loads(event["body"])["type"]) == (1, "payment_intent.succeeded")
    assert rival.call("POST", f"/events/{event['id']}/replay").status_code == 404
    assert rival.call("DELETE", f"/webhook_endpoints/{made['id']}").status_code == 404
    assert rival.get("/events")["data"] == []
    assert operator.call("POST", f"/events/{event['id']}/replay").json() == {"endpoints": 1}
    assert operator.call("DELETE", f"/webhook_endpoints/{made['id']}").status_code == 204
    assert operator.get("/webhook_endpoints") == []
    assert operator.call("POST", "/webhook_endpoints", {"url": "http://shop.example/"}).status_code == 422


# --- terminals ---


def proved(key: Ed25519PrivateKey, merchant: str, terminal: str) -> dict[str, str]:
    public = key.public_key().public_bytes_raw()
    proof = key.sign(merchants.key_statement(merchant, terminal, public))
    return {"public_key": base64.b64encode(public).decode(), "proof": base64.b64encode(proof).decode()}


def test_a_terminal_is_registered_with_proof_rotated_by_itself_and_revoked(world: Any, operator: Operator) -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    asked = {"id": "trm_new", "place": "Shop", "kind": "till"}
    mine = proved(first, operator.merchant, "trm_new")
    assert operator.call("POST", "/terminals", {**asked, **mine}).status_code == 201
    assert operator.call("POST", "/terminals", {**asked, **mine}).status_code == 409

    def rotate(by: Ed25519PrivateKey, body: dict[str, str]) -> int:
        status: int = world.http.put("/v1/terminal_key", json=body, auth=TerminalAuth("trm_new", by)).status_code
        return status

    def pays(key: Ed25519PrivateKey) -> str:
        terminal = TerminalClient(world.http, "trm_new", key)
        try:
            search = world.requests.search("ada", terminal="trm_new").to_bytes()
            return terminal.attempt(amount=1, currency="EUR", search=search).outcome
        except ApiError as error:
            return error.code

    assert rotate(second, proved(second, operator.merchant, "trm_new")) == 401
    assert rotate(first, proved(second, operator.merchant, "trm_other")) == 422
    assert pays(first) == "use_card"
    assert rotate(first, proved(second, operator.merchant, "trm_new")) == 204
    assert (pays(first), pays(second)) == ("signature-wrong", "use_card")
    assert operator.call("DELETE", "/terminals/trm_new").status_code == 204
    assert pays(second) == "unknown-terminal"


@pytest.mark.parametrize("damage", [{"proof": ""}, {"proof": "AA=="}, {"public_key": "AA=="}, {"proof": "!"}])
def test_a_terminal_without_proof_of_its_key_is_refused(world: Any, operator: Operator, damage: dict[str, str]) -> None:
    key = Ed25519PrivateKey.generate()
    body = {"id": "trm_new", "place": "Shop", "kind": "till", **proved(key, operator.merchant, "trm_new"), **damage}
    assert operator.call("POST", "/terminals", body).status_code == 422


def test_what_is_one_merchants_does_not_exist_for_another(world: Any, operator: Operator, rival: Operator) -> None:
    ada = world.payer("ada", funds=20_000)
    paid = world.look("ada", amount=60_00).payment_intent
    ada.dispute(paid)
    (dispute,) = operator.get("/disputes")["data"]
    with world.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE ledger_transfer SET created_at = created_at - interval '2 days'"))
        settlements.settle(connection, (datetime.now(UTC) - timedelta(days=1)).date())
    (settled,) = operator.get("/settlements")["data"]
    assert settled["paid_out"] == 60_00
    assert [line["payment_intent"] for line in operator.get(f"/settlements/{settled['id']}")["lines"]] == [paid]
    assert rival.get("/payments")["data"] == rival.get("/disputes")["data"] == rival.get("/settlements")["data"] == []
    for method, path in (
        ("GET", f"/payments/{paid}"),
        ("POST", f"/payments/{paid}/refunds"),
        ("POST", f"/disputes/{dispute['id']}/decision"),
        ("GET", f"/settlements/{settled['id']}"),
        ("DELETE", "/terminals/trm_gate"),
    ):
        assert rival.call(method, path, {"give_back": True} if "decision" in path else {}).status_code == 404
    assert world.look("ada").outcome == "use_card"  # the gate is still registered


def test_an_auditor_checks_the_live_books_and_is_told_no_ids(world: Any) -> None:
    auditor = Operator(world, AUDITOR)
    world.payer("ada")
    world.look("ada")
    assert auditor.get("/verification") == {"holds": True, "broken": {}}
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM receipt"))
    told = auditor.get("/verification")
    assert told["holds"] is False
    assert told["broken"] == {"money that moved for a payer has a receipt": 2}
    assert auditor.call("GET", "/payments").status_code == 403
