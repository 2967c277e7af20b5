"""Webhooks to merchants (Standard Webhooks): written with the payment, delivered after it, at least once.

An event is put in the outbox by the transaction that changes a payment, so it exists exactly when the
change does. Delivery is retried with growing pauses for about three days; a merchant drops repetitions by
`webhook-id`. An event says nothing about the payer.
"""

import json
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from sqlalchemy import Connection, Engine, Row, Update, func, insert, select, update
from standardwebhooks import Webhook

from facefare.ledger.ids import new_id
from facefare.payments import tables
from facefare.payments.errors import InvalidWebhookUrl

_PAUSES = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds after each failed try, as the Standard Webhooks specification suggests."""

_LEASE = timedelta(seconds=60)
"""A delivery that was begun is left to its deliverer this long."""


@dataclass(frozen=True, repr=False)
class _Due:
    event_id: str
    endpoint_id: str
    url: str
    secret: str
    body: str


def register(connection: Connection, merchant_id: str, url: str) -> tuple[str, str]:
    """Send the merchant's events to `url`; the endpoint's id, and the signing secret, shown this once.

    Raises InvalidWebhookUrl unless it is https (or http to this machine).
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidWebhookUrl("This is not a URL.") from error
    local = parsed.scheme == "http" and parsed.host in ("localhost", "127.0.0.1")
    if not (parsed.host and (parsed.scheme == "https" or local)):
        raise InvalidWebhookUrl("A webhook's URL begins with https://.")
    id, secret = new_id("whe"), "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    connection.execute(insert(tables.webhook_endpoint).values(id=id, merchant_id=merchant_id, url=url, secret=secret))
    return id, secret


def emit(connection: Connection, intent: Row[tuple[object, ...]], kind: str) -> None:
    """Put `payment_intent.<kind>` in the outbox of the intent's merchant, if anyone listens."""
    endpoints = connection.execute(
        select(tables.webhook_endpoint.c.id).where(tables.webhook_endpoint.c.merchant_id == intent.merchant_id)
    ).scalars()
    deliveries = [{"endpoint_id": endpoint_id} for endpoint_id in endpoints]
    if not deliveries:
        return
    fields = ("id", "state", "amount", "captured", "tip", "refunded", "currency", "place", "reason")
    body = {
        "type": f"payment_intent.{kind}",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {name: getattr(intent, name) for name in fields},
    }
    event_id = new_id("evt")
    connection.execute(insert(tables.webhook_event).values(id=event_id, body=json.dumps(body)))
    connection.execute(insert(tables.webhook_delivery), [{"event_id": event_id, **delivery} for delivery in deliveries])


def deliver_due(engine: Engine, http: httpx.Client, *, limit: int = 50) -> int:
    """Send what is due; returns how many were taken. Safe to run in several processes at once."""
    with engine.begin() as connection:
        due = _take_due(connection, limit)
    for delivery in due:
        delivered = _send(http, delivery)
        with engine.begin() as connection:
            _settle(connection, delivery, delivered)
    return len(due)


def replay(connection: Connection, event_id: str) -> int:
    """Send an event again to all its endpoints, delivered or not; returns to how many."""
    columns = tables.webhook_delivery.c
    return connection.execute(
        update(tables.webhook_delivery)
        .where(columns.event_id == event_id)
        .values(due_at=func.now(), tries=0, delivered_at=None)
    ).rowcount


def _take_due(connection: Connection, limit: int) -> list[_Due]:
    delivery, endpoint, event = (
        tables.webhook_delivery,
        tables.webhook_endpoint,
        tables.webhook_event,
    )
    rows = connection.execute(
        select(delivery.c.event_id, delivery.c.endpoint_id, endpoint.c.url, endpoint.c.secret, event.c.body)
        .join(endpoint, endpoint.c.id == delivery.c.endpoint_id)
        .join(event, event.c.id == delivery.c.event_id)
        .where(delivery.c.due_at <= func.now())
        .order_by(delivery.c.due_at, delivery.c.event_id)
        .limit(limit)
        .with_for_update(of=delivery, skip_locked=True)
    ).all()
    due = [_Due(*row) for row in rows]
    for one in due:
        connection.execute(_of(one).values(due_at=func.now() + _LEASE))
    return due


def _send(http: httpx.Client, delivery: _Due) -> bool:
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(delivery.secret).sign(delivery.event_id, now, delivery.body),
    }
    try:
        response = http.post(delivery.url, content=delivery.body, headers=headers, follow_redirects=False)
    except httpx.HTTPError:
        return False
    return response.is_success


def _settle(connection: Connection, delivery: _Due, delivered: bool) -> None:
    if delivered:
        connection.execute(_of(delivery).values(delivered_at=func.now(), due_at=None))
        return
    row = connection.execute(
        _of(delivery).values(tries=tables.webhook_delivery.c.tries + 1).returning(tables.webhook_delivery.c.tries)
    ).one()
    pause = timedelta(seconds=_PAUSES[row.tries - 1]) if row.tries <= len(_PAUSES) else None
    connection.execute(_of(delivery).values(due_at=None if pause is None else func.now() + pause))


def _of(delivery: _Due) -> Update:
    columns = tables.webhook_delivery.c
    return update(tables.webhook_delivery).where(
        columns.event_id == delivery.event_id, columns.endpoint_id == delivery.endpoint_id
    )
