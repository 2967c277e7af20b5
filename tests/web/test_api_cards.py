"""Cards over the API: closed where the operator takes none; only the processor itself is believed."""

from typing import Any

import pytest

from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding


def call(world: Any, payer: Any, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {payer._auth._token}", "Idempotency-Key": "k"}
    return world.http.request(method, f"/v1/payers/me/{path}", json=body, headers=headers)


def serve_with(world: Any, **changed: Any) -> None:
    """The same wallet with other settings."""
    services = world.app.state.services
    world.app.state.services = type(services)(**{**vars(services), **changed})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "card/setup", None),
        ("PUT", "card", {"setup": "seti_1"}),
        ("DELETE", "card", None),
        ("POST", "card/top_ups", {"amount": 1}),
        ("POST", "card/top_ups/top_" + "0" * 26 + "/refunds", {}),
    ],
)
def test_an_operator_without_a_processor_takes_no_cards(world: Any, method: str, path: str, body: Any) -> None:
    response = call(world, world.payer(), method, path, body)
    assert (response.status_code, response.json()["type"]) == (403, "urn:facefare:problem:funding-closed")


@pytest.mark.parametrize("funding", [Funding.NONE, Funding.STRIPE])
def test_test_money_is_refused_unless_it_was_chosen(world: Any, funding: Funding) -> None:
    payer = world.payer()
    serve_with(world, funding=funding)
    response = call(world, payer, "POST", "top_ups", {"amount": 500})
    assert (response.status_code, response.json()["type"]) == (403, "urn:facefare:problem:funding-closed")
    assert payer.account().available == 1000


def test_a_payer_without_a_card_is_told_so(world: Any) -> None:
    payer = world.payer()
    serve_with(world, processor=Processor("sk_test", "whsec_test", api_base="http://127.0.0.1:9"))
    for method, path, body in (
        ("GET", "card", None),
        ("POST", "card/top_ups", {"amount": 1}),
        ("PUT", "card/auto_top_up", {"below": 1, "amount": 1}),
    ):
        assert call(world, payer, method, path, body).json()["type"] == "urn:facefare:problem:no-card"
    assert call(world, payer, "PUT", "card/auto_top_up", {"below": 1, "amount": None}).status_code == 422
    assert call(world, payer, "GET", "card/top_ups").json() == []


def test_an_event_that_the_processor_did_not_sign_is_refused(world: Any) -> None:
    serve_with(world, processor=Processor("sk_test", "whsec_test", api_base="http://127.0.0.1:9"))
    for headers in ({}, {"Stripe-Signature": "t=1,v1=00"}):
        response = world.http.post("/v1/processor_events", content=b'{"id": "evt_1"}', headers=headers)
        assert (response.status_code, response.json()["type"]) == (400, "urn:facefare:problem:event-forged")
