"""Whatever merchants, terminals and auditors are told: no payer's id, and nothing by which two days can be joined."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from sqlalchemy import text

from facefare.client import MerchantClient, TerminalClient
from facefare.payments import api_keys, merchants, settlements
from facefare.payments.api_keys import AUDITOR, Scope

WORD = re.compile(r"[A-Za-z0-9_\-]{6,}")


class Listener:
    """Keeps everything that a client is told."""

    def __init__(self, http: Any) -> None:
        self.heard = ""
        self.http = http

    def __call__(self, method: str, path: str, **more: Any) -> Any:
        response = self.http.request(method, path, **more)
        assert response.status_code < 500, response.text
        self.heard += response.text
        return response


@pytest.fixture
def told(world: Any, tmp_path: Path) -> dict[str, str]:
    """What each role is told in two days of two payers: payments, tip, refund, void, disputes, settlement, exports."""
    with world.engine.begin() as connection:
        merchant = connection.execute(text("SELECT id FROM merchant")).scalar_one()
        keys = {
            role: api_keys.create(connection, merchant, role, scopes)[1]
            for role, scopes in (("operator", set(Scope)), ("auditor", AUDITOR))
        }
    MerchantClient(world.http, keys["operator"]).add_webhook_endpoint("https://shop.example/hook")
    payers = {name: world.payer(name, funds=50_000) for name in ("ada", "ben")}
    for payer in payers.values():
        payer.set_pin("4711")
    heard = {role: Listener(world.http) for role in ("terminal", "operator", "auditor")}
    for day in range(2):
        for name, payer in payers.items():
            _a_day_of(world, heard["terminal"], name, payer, amount=100 + day)
        _read_all(world, heard, keys)
        if day == 0:
            _yesterday(world)
    with world.engine.begin() as connection:
        settlements.settle(connection, (datetime.now(UTC) - timedelta(days=1)).date())
        chosen = settlements.between(connection, *[(datetime.now(UTC) - timedelta(days=1)).date()] * 2)
        exported = settlements.as_csv(connection, chosen) + settlements.as_json(connection, chosen)
    _read_all(world, heard, keys)
    assert exported.count("\n") > 10
    return {**{role: listener.heard for role, listener in heard.items()}, "export": exported}


def _a_day_of(world: Any, terminal: Listener, name: str, payer: Any, amount: int) -> None:
    def attempt(amount: int, **more: Any) -> Any:
        search = base64.b64encode(world.requests.search(name, terminal="trm_till").to_bytes()).decode()
        body = {"amount": amount, "currency": "EUR", "search": search, **more}
        return terminal("POST", "/v1/attempts", json=body, auth=world.till._auth).json()

    def on(intent: Any, what: str, body: Any = None) -> None:
        path = f"/v1/payment_intents/{intent['payment_intent']}/{what}"
        terminal("POST", path, json=body, auth=world.till._auth, headers={"Idempotency-Key": "k"})

    paid, by_pin = attempt(amount), attempt(60_00 + amount)
    tipped, void = (attempt(amount + more, capture_later=True) for more in (10, 20))
    on(paid, "refunds", {"amount": 10})
    on(tipped, "capture", {"amount": amount, "tip": 5})
    on(void, "void")
    on(by_pin, "pin", {"pin": "4711"})
    payer.dispute(by_pin["payment_intent"])
    payer.resume_face()  # the dispute paused it


def _read_all(world: Any, heard: dict[str, Listener], keys: dict[str, str]) -> None:
    """Every route of the operator's, with every id that there is."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.app)
    with world.engine.connect() as connection:
        ids = {
            name: list(connection.execute(text(f"SELECT id FROM {table}")).scalars())
            for name, table in (
                ("intent_id", "payment_intent"),
                ("dispute_id", "dispute"),
                ("settlement_id", "settlement"),
                ("event_id", "webhook_event"),
            )
        }
    for result in schema.get_all_operations():
        operation = result.ok()
        method, path = operation.method.upper(), operation.path
        if not path.startswith("/v1/operator") or method in ("DELETE", "PUT"):
            continue
        name = next((name for name in ids if f"{{{name}}}" in path), None)
        for id in ids[name] if name else [""]:
            for role, key in keys.items():
                query = "?limit=100&expand=refunds&expand=dispute" if "payments" in path and method == "GET" else ""
                heard[role](
                    method,
                    path.replace(f"{{{name}}}", id) + query,
                    json={"amount": 1} if path.endswith("refunds") else {},
                    headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "op"},
                )


def _yesterday(world: Any) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE ledger_transfer SET created_at = created_at - interval '1 day'"))
        connection.execute(text("UPDATE payment_intent SET created_at = created_at - interval '1 day'"))
        connection.execute(text("UPDATE pseudonym_key SET day = day - 1"))


def test_no_role_hears_an_id_a_token_or_an_account_of_a_payer(world: Any, told: dict[str, str]) -> None:
    with world.engine.connect() as connection:
        secrets = {
            str(value)
            for query in (
                "SELECT id FROM payer",
                "SELECT account_id FROM payer",
                "SELECT id FROM face",
                "SELECT id FROM consent",
                "SELECT id FROM access_log",
                "SELECT encode(query_id, 'hex') FROM payment_intent",
                "SELECT encode(request_sha256, 'hex') FROM payment_intent",
            )
            for value in connection.execute(text(query)).scalars()
        }
        bodies = "".join(connection.execute(text("SELECT body FROM webhook_event")).scalars())
    assert len(secrets) > 20
    for role, heard in {**told, "webhooks": bodies}.items():
        assert len(heard) > 200, role
        assert not [secret for secret in secrets if secret in heard], role
        assert not re.search(r"\b(pay|acc_pay|ptk|fac|con|acl|dev)_[0-9a-z]", heard), role


def test_a_payers_name_is_another_one_tomorrow_and_nothing_else_joins_the_days(
    world: Any, told: dict[str, str]
) -> None:
    with world.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT id, payer_id, created_at::date AS day FROM payment_intent WHERE payer_id IS NOT NULL")
        ).all()
    whose = {row.id: (row.payer_id, row.day) for row in rows}
    words: dict[tuple[str, Any], set[str]] = {}
    for seen in _objects(told["operator"]):
        if seen.get("id") in whose and "payer" in seen:
            payer, day = whose[seen["id"]]
            said = {word for word in WORD.findall(json.dumps(seen, default=str)) if seen["id"] not in word}
            words.setdefault((payer, day), set()).update(said)
    (ada, ben), (first, second) = sorted({p for p, _ in words}), sorted({d for _, d in words})
    names = {at: {word for word in said if word.startswith("psn_")} for at, said in words.items()}
    assert all(len(of_a_day) == 1 for of_a_day in names.values())  # one a day, so that a merchant can tell regulars
    assert len({next(iter(of_a_day)) for of_a_day in names.values()}) == 4
    of_ada = words[ada, first] & words[ada, second]
    of_ben = words[ben, first] & words[ben, second]
    assert of_ada == of_ben  # what two days have in common says nothing of whose they are


def _objects(heard: str) -> Any:
    """Every JSON object in a row of answers, inner ones too."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(heard):
        try:
            value, at = decoder.raw_decode(heard, at)
        except ValueError:
            at += 1
            continue
        stack = [value]
        while stack:
            one = stack.pop()
            if isinstance(one, dict):
                yield one
                stack += one.values()
            elif isinstance(one, list):
                stack += one


def test_another_merchant_hears_another_name(world: Any) -> None:
    world.payer("ada")
    with world.engine.begin() as connection:
        other = merchants.register_merchant(connection, "Other")
        public = world.requests.terminal_key.public_key().public_bytes_raw()
        merchants.register_terminal(connection, merchants.Terminal("trm_other", other, "Other", public, "till"))
        both = [
            api_keys.create(connection, id, "x", set(Scope))[1]
            for id in connection.execute(text("SELECT id FROM merchant")).scalars()
        ]
    terminal = TerminalClient(world.http, "trm_other", world.requests.terminal_key)
    for till, id in ((world.till, "trm_till"), (terminal, "trm_other")):
        till.attempt(amount=100, currency="EUR", search=world.requests.search("ada", terminal=id).to_bytes())
    names = [one.payer for key in both for one in MerchantClient(world.http, key).payments()]
    assert len(names) == len(set(names)) == 2
