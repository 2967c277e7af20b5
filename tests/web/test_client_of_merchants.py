"""Our own client as merchants' systems and payers use it, on the whole API."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from demo import localstripe
from facefare.client import ApiError, MerchantClient, TerminalClient, merchants, proof_of
from facefare.ledger import verify
from facefare.payments import api_keys, settlements
from facefare.payments.api_keys import AUDITOR, Scope
from facefare.payments.merchants import key_statement
from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS


def client_of(world: Any, scopes: Any = tuple(Scope)) -> MerchantClient:
    with world.engine.begin() as connection:
        merchant = connection.execute(text("SELECT id FROM merchant LIMIT 1")).scalar_one()
        _, key = api_keys.create(connection, merchant, "test", scopes)
    return MerchantClient(world.http, key)


@pytest.fixture
def merchant(world: Any) -> MerchantClient:
    return client_of(world)


def refused(call: Any) -> str:
    with pytest.raises(ApiError) as raised:
        call()
    return raised.value.code


def test_payments_are_read_through_all_pages_with_what_was_asked_for(
    world: Any, merchant: MerchantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merchants, "_PAGE", 2)
    ada = world.payer("ada", funds=20_000)
    for amount in (100, 200, 300, 400, 500):
        search = world.requests.search("ada", terminal="trm_till").to_bytes()
        paid = world.till.attempt(amount=amount, currency="EUR", search=search).payment_intent
    merchant.refund(paid, "k", 50)
    assert merchant.refund(paid, "k", 50).refunded == 50
    ada.dispute(paid)
    found = list(merchant.payments(expand=("refunds", "dispute"), state="succeeded"))
    assert [one.amount for one in found] == [500, 400, 300, 200, 100]
    assert found[0].refunds is not None
    assert ([one.amount for one in found[0].refunds], found[0].dispute) == ([50, 450], "refunded")
    one = merchant.payment(paid)
    assert (one.refunds, one.dispute, one.payer) == (None, None, found[0].payer)
    assert list(merchant.payments(state="refused")) == []


def test_disputes_settlements_and_the_books(world: Any, merchant: MerchantClient) -> None:
    ada = world.payer("ada", funds=20_000)
    paid = world.look("ada", amount=60_00).payment_intent
    ada.dispute(paid)
    (dispute,) = merchant.disputes()
    assert (dispute.state, merchant.decide(dispute.id, give_back=False).state) == ("under_review", "declined")
    with world.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE ledger_transfer SET created_at = created_at - interval '2 days'"))
    with world.engine.begin() as connection:
        settlements.settle(connection, (datetime.now(UTC) - timedelta(days=1)).date())
    (settled,) = merchant.settlements()
    again, lines = merchant.settlement(settled.id)
    assert (again, [(line.payment_intent, line.amount) for line in lines]) == (settled, [(paid, 60_00)])
    assert merchant.broken_invariants() == {}
    auditor = client_of(world, AUDITOR)
    assert list(auditor.settlements()) == [settled]
    assert refused(lambda: list(auditor.payments())) == "scope-missing"


def test_webhooks_are_added_replayed_and_removed(world: Any, merchant: MerchantClient) -> None:
    made = merchant.add_webhook_endpoint("https://shop.example/hook")
    assert made.secret is not None
    assert made.secret not in repr(made)
    assert [one.secret for one in merchant.webhook_endpoints()] == [None]
    world.payer("ada")
    world.look("ada")
    (event,) = merchant.events()
    assert (json.loads(event.body)["type"], merchant.replay(event.id)) == ("payment_intent.succeeded", 1)
    merchant.remove_webhook_endpoint(made.id)
    assert merchant.webhook_endpoints() == ()


def test_webhooks_tell_of_captures_voids_and_refunds_what_they_came_to(world: Any, merchant: MerchantClient) -> None:
    merchant.add_webhook_endpoint("https://shop.example/hook")
    payer = world.payer("ada").account().id

    def held(amount: int) -> str:
        search = world.requests.search("ada", terminal="trm_till").to_bytes()
        asked = world.till.attempt(amount=amount, currency="EUR", search=search, capture_later=True)
        return str(asked.payment_intent)

    taken, let_go = held(300), held(200)
    world.till.capture(taken, 250, tip=20)
    world.till.refund(taken, "a", 100)
    world.till.refund(taken, "a", 100)  # sent again: no news
    world.till.void(let_go)
    sent = [json.loads(event.body) for event in merchant.events()][::-1]
    kept = {"currency": "EUR", "place": "place of trm_till", "reason": None}
    first = {"id": taken, "amount": 300, "captured": 0, "tip": 0, "refunded": 0, **kept}
    second = {**first, "id": let_go, "amount": 200}
    assert [(event["type"].removeprefix("payment_intent."), event["data"]) for event in sent] == [
        ("requires_capture", {**first, "state": "requires_capture"}),
        ("requires_capture", {**second, "state": "requires_capture"}),
        ("succeeded", {**first, "state": "succeeded", "captured": 250, "tip": 20}),
        ("refunded", {**first, "state": "succeeded", "captured": 250, "tip": 20, "refunded": 100}),
        ("canceled", {**second, "state": "canceled"}),
    ]
    assert payer not in json.dumps(sent)


def test_a_terminal_is_registered_with_its_key_rotates_it_and_is_revoked(world: Any, merchant: MerchantClient) -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    merchant.register_terminal("trm_new", place="Shop", kind="till", key=first)
    terminal = TerminalClient(world.http, "trm_new", first)

    def pays() -> str:
        search = world.requests.search("nobody", terminal="trm_new").to_bytes()
        return terminal.attempt(amount=1, currency="EUR", search=search).outcome

    assert pays() == "use_card"
    terminal.rotate_key(second, merchant.merchant())
    assert pays() == "use_card"
    assert refused(TerminalClient(world.http, "trm_new", first).deny_list) == "signature-wrong"
    merchant.revoke_terminal("trm_new")
    assert refused(pays) == "unknown-terminal"


def test_the_clients_proof_is_the_one_that_the_wallet_checks() -> None:
    key = Ed25519PrivateKey.generate()
    proof = proof_of(key, "mer_1", "trm_1")
    import base64

    statement = key_statement("mer_1", "trm_1", key.public_key().public_bytes_raw())
    key.public_key().verify(base64.b64decode(proof["proof"]), statement)


# --- a payer's card, from the form to the money back ---


@pytest.fixture(scope="module")
def stripe_url() -> Iterator[str]:
    try:
        with localstripe.running() as url:
            yield url
    except localstripe.Offline as error:
        pytest.skip(str(error))


def test_a_payer_tops_up_from_a_card_and_gets_unspent_money_back(world: Any, stripe_url: str) -> None:
    services = world.app.state.services
    processor = Processor("sk_test_key", "whsec_test", api_base=stripe_url)
    changed = {**vars(services), "processor": processor, "funding": Funding.STRIPE}
    world.app.state.services = type(services)(**changed)
    ada = world.payer(funds=0)
    setup = ada.begin_card()
    assert setup.client_secret not in repr(setup)
    with httpx.Client(base_url=stripe_url, auth=("sk_test_key", "")) as browser:
        localstripe.fill_in(browser, setup.setup, setup.client_secret, localstripe.GOOD)
    assert (ada.keep_card(setup.setup).last4, ada.card().brand) == ("4242", "visa")
    topped = ada.top_up_from_card(2000, "k")
    assert (topped.state, ada.top_up_from_card(2000, "k").id) == ("succeeded", topped.id)
    assert ada.receipts()[0]["kind"] == "top_up"
    assert ada.refund_to_card(topped.id, "r", 500).refunded == 500
    assert (ada.account().available, [one.refunded for one in ada.card_top_ups()]) == (1500, [500])
    assert ada.card_top_up(topped.id).amount == 2000
    assert ada.set_auto_top_up(below=500, amount=1000).auto_amount == 1000
    assert (ada.travel().standing, ada.pay_debt(), ada.rides()) == ("good", 0, [])
    ada.forget_card()
    assert refused(ada.card) == "no-card"
    assert refused(lambda: ada.top_up(1, "test money")) == "funding-closed"
    paid_out = ada.close()
    assert paid_out is not None
    assert (paid_out.amount, ada.export()["payer"]) == (1500, ada.account().id)
    assert verify(world.engine, INVARIANTS) == []
