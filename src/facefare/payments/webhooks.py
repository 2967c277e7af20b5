"""Webhooks to merchants (Standard Webhooks): written with the payment, delivered after it, at least once.

An event is put in the outbox by the transaction that changes a payment, so it exists exactly when the
change does. Delivery is retried with growing pauses for about three days; a merchant drops repetitions by
`webhook-id`. An event says nothing about the payer, but where somebody was: it is kept as long as a merchant may
ask for it again.
"""

import json
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from sqlalchemy import Connection, Engine, Row, Update, and_, delete, exists, func, insert, or_, select, update
from standardwebhooks import Webhook

from facefare.ledger.ids import new_id
from facefare.payments import tables
from facefare.payments.errors import InvalidWebhookUrl, UnknownEndpoint, UnknownEvent

_PAUSES = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds after each failed try, as the Standard Webhooks specification suggests."""

KEPT = timedelta(days=30)
"""An event that was delivered or given up can be sent again for so long."""

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


def endpoints(connection: Connection, merchant_id: str) -> list[tuple[str, str]]:
    """Id and URL of the merchant's endpoints, oldest first."""
    columns = tables.webhook_endpoint.c
    rows = connection.execute(
        select(columns.id, columns.url).where(columns.merchant_id == merchant_id).order_by(columns.id)
    )
    return [(row.id, row.url) for row in rows]


def remove(connection: Connection, merchant_id: str, endpoint_id: str) -> None:
    """Send nothing there any more; raises UnknownEndpoint, also for another merchant's."""
    if endpoint_id not in dict(endpoints(connection, merchant_id)):
        raise UnknownEndpoint("There is no such endpoint.")
    deliveries = tables.webhook_delivery
    connection.execute(deliveries.delete().where(deliveries.c.endpoint_id == endpoint_id))
    connection.execute(tables.webhook_endpoint.delete().where(tables.webhook_endpoint.c.id == endpoint_id))


@dataclass(frozen=True)
class Event:
    """An event (its body is JSON) and to how many endpoints it went, is to go, or could not go."""

    id: str
    body: str
    created_at: datetime
    delivered: int
    waiting: int
    given_up: int


def events(connection: Connection, merchant_id: str, *, limit: int, before: str | None = None) -> list[Event]:
    """The merchant's events, newest first, at most `limit`, older than the event `before`."""
    event, delivery, endpoint = tables.webhook_event, tables.webhook_delivery, tables.webhook_endpoint
    done, due = delivery.c.delivered_at.is_not(None), delivery.c.due_at.is_not(None)
    query = (
        select(
            event.c.id,
            event.c.body,
            event.c.created_at,
            func.count().filter(done),
            func.count().filter(~done & due),
            func.count().filter(~done & ~due),
        )
        .join(delivery, delivery.c.event_id == event.c.id)
        .join(endpoint, endpoint.c.id == delivery.c.endpoint_id)
        .where(endpoint.c.merchant_id == merchant_id)
        .group_by(event.c.id)
        .order_by(event.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(event.c.id < before)
    return [Event(*row) for row in connection.execute(query)]


def replay(connection: Connection, merchant_id: str, event_id: str) -> int:
    """Send an event again to all the merchant's endpoints that it went to, delivered or not; to how many.

    Raises UnknownEvent, also for another merchant's.
    """
    columns = tables.webhook_delivery.c
    again = connection.execute(
        update(tables.webhook_delivery)
        .where(
            columns.event_id == event_id,
            columns.endpoint_id.in_([id for id, _ in endpoints(connection, merchant_id)]),
        )
        .values(due_at=func.now(), tries=0, delivered_at=None)
    ).rowcount
    if again == 0:
        raise UnknownEvent("There is no such event.")
    return again


def forget(connection: Connection, *, delivered_before: datetime, all_before: datetime) -> int:
    """Delete old events that were delivered or given up, and much older ones even if they still wait; how many."""
    event, delivery = tables.webhook_event.c, tables.webhook_delivery.c
    old = and_(delivery.due_at.is_(None), event.created_at < delivered_before)
    connection.execute(
        delete(tables.webhook_delivery).where(delivery.event_id == event.id, or_(old, event.created_at < all_before))
    )
    left = exists().where(delivery.event_id == event.id)
    return connection.execute(delete(tables.webhook_event).where(event.created_at < delivered_before, ~left)).rowcount


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
    ).one_or_none()
    if row is None:  # its endpoint was removed meanwhile, or the event is too old
        return
    pause = timedelta(seconds=_PAUSES[row.tries - 1]) if row.tries <= len(_PAUSES) else None
    connection.execute(_of(delivery).values(due_at=None if pause is None else func.now() + pause))


def _of(delivery: _Due) -> Update:
    columns = tables.webhook_delivery.c
    return update(tables.webhook_delivery).where(
        columns.event_id == delivery.event_id, columns.endpoint_id == delivery.endpoint_id
    )
