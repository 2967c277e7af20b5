"""Webhooks: exactly when the payment changed, signed, retried, replayed."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from standardwebhooks import Webhook

from facefare.payments import merchants, webhooks
from facefare.payments.errors import InvalidWebhookUrl

URL = "https://merchant.example/hook"


class Row:
    """An intent, as far as an event tells of it."""

    id, state, amount, captured, tip, refunded = "pi_1", "succeeded", 280, 280, 0, 0
    currency, place, reason = "EUR", "Gate 1", None
    payer_id = "pay_secret"

    def __init__(self, merchant_id: str) -> None:
        self.merchant_id = merchant_id


class Merchant:
    def __init__(self, engine: Engine) -> None:
        with engine.begin() as connection:
            self.id = merchants.register_merchant(connection, "Example")
            _, self.secret = webhooks.register(connection, self.id, URL)
        self.answers: list[int] = []
        self.got: list[httpx.Request] = []
        self.http = httpx.Client(transport=httpx.MockTransport(self._receive))

    def _receive(self, request: httpx.Request) -> httpx.Response:
        self.got.append(request)
        return httpx.Response(self.answers.pop(0) if self.answers else 204)


@pytest.fixture
def merchant(engine: Engine) -> Merchant:
    return Merchant(engine)


def emit(engine: Engine, merchant: Merchant) -> None:
    row: Any = Row(merchant.id)
    with engine.begin() as connection:
        webhooks.emit(connection, row, "succeeded")


def make_due(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_delivery SET due_at = now() WHERE due_at IS NOT NULL"))


def test_an_event_is_signed_delivered_once_and_names_no_payer(engine: Engine, merchant: Merchant) -> None:
    emit(engine, merchant)
    assert [webhooks.deliver_due(engine, merchant.http) for _ in range(2)] == [1, 0]
    (request,) = merchant.got
    event = Webhook(merchant.secret).verify(request.content, dict(request.headers))
    assert event["type"] == "payment_intent.succeeded"
    assert event["data"]["captured"] == 280
    assert "pay_" not in json.dumps(event)
    assert merchant.secret not in str(request.headers)


def test_a_change_that_was_rolled_back_sends_nothing(engine: Engine, merchant: Merchant) -> None:
    row: Any = Row(merchant.id)
    with engine.connect() as connection:
        webhooks.emit(connection, row, "succeeded")
    assert webhooks.deliver_due(engine, merchant.http) == 0


def test_a_failed_delivery_is_tried_again_later_under_the_same_id(engine: Engine, merchant: Merchant) -> None:
    merchant.answers = [500, 302]
    emit(engine, merchant)
    assert webhooks.deliver_due(engine, merchant.http) == 1
    assert webhooks.deliver_due(engine, merchant.http) == 0
    for _ in range(3):
        make_due(engine)
        webhooks.deliver_due(engine, merchant.http)
    assert len(merchant.got) == 3
    assert len({request.headers["webhook-id"] for request in merchant.got}) == 1


def test_delivery_is_given_up_after_the_last_pause_and_can_be_replayed(engine: Engine, merchant: Merchant) -> None:
    merchant.answers = [500] * 10
    emit(engine, merchant)
    for _ in range(12):
        webhooks.deliver_due(engine, merchant.http)
        make_due(engine)
    assert len(merchant.got) == 10
    with engine.begin() as connection:
        assert webhooks.replay(connection, merchant.id, merchant.got[0].headers["webhook-id"]) == 1
    assert webhooks.deliver_due(engine, merchant.http) == 1
    assert len(merchant.got) == 11


def test_the_pauses_between_tries_grow_to_about_three_days(engine: Engine, merchant: Merchant) -> None:
    merchant.answers = [500] * 10
    emit(engine, merchant)
    pauses: list[float] = []
    for _ in range(10):
        webhooks.deliver_due(engine, merchant.http)
        with engine.begin() as connection:
            left = connection.execute(text("SELECT extract(epoch FROM due_at - now())::float8 FROM webhook_delivery"))
            pauses += [round(pause, -1) for pause in left.scalars() if pause is not None]
        make_due(engine)
    assert len(pauses) == 9  # after the tenth try none is to come
    assert pauses == sorted(set(pauses))
    assert 2.5 < sum(pauses) / 86400 < 3.5


@pytest.mark.parametrize("url", ["http://merchant.example/", "ftp://x/", "nothing", "", "https://", "http://["])
def test_events_are_sent_to_https_only(engine: Engine, merchant: Merchant, url: str) -> None:
    with pytest.raises(InvalidWebhookUrl), engine.begin() as connection:
        webhooks.register(connection, merchant.id, url)
