"""The API does what its description says, for anything that a stranger may send."""

from collections.abc import Callable
from typing import Any

import httpx
import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from facefare.client import TerminalAuth
from facefare.payments import api_keys, merchants
from facefare.payments.api_keys import Scope

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


def operations(world: Any) -> list[Any]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.app)
    return [result.ok() for result in schema.get_all_operations()]


def test_no_role_can_cause_a_server_error_or_an_undescribed_answer(world: Any) -> None:
    payer = world.payer("ada")
    token = payer._auth._token
    auth = TerminalAuth("trm_gate", world.requests.terminal_key)
    with world.engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Shop")
        _, api_key = api_keys.create(connection, merchant, "fuzzing", set(Scope))

    def signed(request: httpx.Request) -> httpx.Request:
        request.read()
        return next(auth.auth_flow(request))

    def bearer(secret: str) -> Callable[[httpx.Request], httpx.Request]:
        def named(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = f"Bearer {secret}"
            return request

        return named

    roles = {"stranger": lambda request: request, "payer": bearer(token), "terminal": signed}
    roles["operator"] = bearer(api_key)
    for operation in operations(world):

        def send(case: Any) -> None:
            for role, come_as in roles.items():
                if operation.path == "/v1/payers/me/face" and role == "payer":
                    continue  # changes go to guardians; what can be sent there has no parts
                hypothesis.note(f"as {role}")
                request = world.http.build_request(**case.as_transport_kwargs(base_url=str(world.http.base_url)))
                case.validate_response(world.http.send(come_as(request)), checks=CHECKS)

        fuzz = settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        fuzz(given(case=operation.as_strategy())(send))()


OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v1/consent_keys"),
    ("GET", "/v1/payers/notice"),  # what there is to agree to
    ("GET", "/v1/retention_runs"),  # counts of what was forgotten, signed
    ("GET", "/v1/terminal_keys"),  # public keys, for anyone who wants to pay
    ("POST", "/v1/payers"),  # anyone may open an account
    ("POST", "/v1/enrolments"),  # what counts is the station's signature inside
    ("POST", "/v1/processor_events"),  # what counts is the processor's signature
}


def test_every_other_route_is_closed_to_strangers_and_to_the_other_role(world: Any) -> None:
    ada = world.payer("ada")
    bearer = {"Authorization": f"Bearer {ada._auth._token}"}
    closed = 0
    for operation in operations(world):
        method, path = operation.method.upper(), operation.path
        if (method, path) in OPEN:
            continue
        concrete = path.replace("{intent_id}", "pi_" + "0" * 26).replace("{receipt_id}", "rcp_" + "0" * 26)
        concrete = concrete.replace("{consent_id}", "con_" + "0" * 26)
        assert world.http.request(method, concrete, json={}).status_code == 401
        signed = world.http.request(method, concrete, json={}, auth=world.gate._auth)
        with_token = world.http.request(method, concrete, json={}, headers=bearer)
        other = signed if path.startswith("/v1/payers/me") else with_token
        assert other.status_code == 401
        closed += 1
    assert closed >= 20
