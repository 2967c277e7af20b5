"""Forgetting on time, with a signed record that it was done.

    after the window for disputes   where somebody was (stops, gates, places), and which search in the guardians' public
                                    logs it was; amounts and times stay, as the law of accounts asks; the record of a
                                    code that a terminal sent; who of the staff looked at a payer's details, and why
    thirty days after               events for merchants' systems that were delivered or given up; they name the place
    the day after                   the keys of pseudonyms; payments by code that nobody read
    unused for as long as agreed    the face itself, at all three guardians
    a window after withdrawal       the text of a consent's receipt; its hash stays

A record is a JWS by the key that signs consent receipts: what was forgotten, how many times, and when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, delete, exists, func, insert, literal, null, or_, select, text, update

from facefare.ledger.ids import new_id
from facefare.payments import tables, travel_tables, webhooks
from facefare.payments.decision import Reason
from facefare.payments.disputes import WINDOW
from facefare.payments.held_tables import held_payment
from facefare.wallet import consents, pseudonyms
from facefare.wallet import tables as wallet

FORGOTTEN = "forgotten"
_UNREAD = timedelta(days=1)

_WITHOUT_STOPS = text("""'strict $[*] ? (!(@[1].keyvalue().key == "stop"))'::jsonpath""")
"""Of the lines that explain a fare, those that name no stop."""

_SEARCH_FORGOTTEN = {
    # Whoever knows a search's id finds it, and so the terminal, in the guardians' public logs. Ids stay different ones.
    "query_id": func.uuid_send(func.gen_random_uuid()),
    "request_sha256": b"",
    "gallery_id": null(),
    "issued_at": null(),
}


@dataclass(frozen=True)
class Run:
    """One run of the retention job; `record` is the signed JWS."""

    id: str
    ran_at: datetime
    record: str


def unused_faces(connection: Connection, *, retention_days: int, now: datetime) -> list[str]:
    """Payers whose face was not recognised for so long, and was enrolled before: theirs must be deleted.

    So long is what the payer agreed to, or `retention_days` where the operator keeps faces for less by now.
    """
    log, face, agreed = wallet.access_log.c, wallet.face.c, wallet.consent.c.retention_days
    days = func.least(func.coalesce(agreed, retention_days), retention_days)
    since = literal(now) - func.make_interval(0, 0, 0, days)
    used = exists().where(log.payer_id == face.payer_id, log.purpose == "payment", log.at >= since)
    return list(
        connection.execute(
            select(face.payer_id)
            .join(wallet.consent, wallet.consent.c.id == face.consent_id)
            .where(face.state.in_(("active", "paused")), face.created_at < since, ~used)
            .distinct()
        ).scalars()
    )


def forget(connection: Connection, now: datetime) -> dict[str, int]:
    """Forget what the wallet must not keep any longer; kind -> how many rows."""
    before = now - WINDOW
    intent, tap, receipt, log = tables.intent.c, travel_tables.tap.c, tables.receipt.c, wallet.access_log.c
    merchant = select(tables.merchant.c.name).where(tables.merchant.c.id == intent.merchant_id).scalar_subquery()
    ended = or_(intent.state == "canceled", intent.reason == Reason.CONFIRMATION_TIMED_OUT.value)
    counts = {
        "stops of rides": update(travel_tables.tap)
        .where(tap.at < before, tap.stop.is_not(None), tap.reserve == 0)
        .values(
            stop=null(),
            network=null(),
            kind=null(),
            lines=func.jsonb_path_query_array(tap.lines, _WITHOUT_STOPS),
        ),
        "places on receipts": update(tables.receipt)
        .where(receipt.at < before, receipt.intent_id == intent.id, receipt.place != merchant)
        .values(
            place=merchant,
            lines=func.jsonb_path_query_array(receipt.lines, _WITHOUT_STOPS),
        ),
        "places of payments": update(tables.intent)
        .where(intent.created_at < before, intent.terminal_id.is_not(None))
        .values(terminal_id=null(), place=merchant, purchase=null(), **_SEARCH_FORGOTTEN),
        "codes that nobody read": delete(tables.intent).where(
            intent.created_at < now - _UNREAD, intent.payer_id.is_(None), ended
        ),
        "records of codes": delete(held_payment).where(held_payment.c.taken_at < before, ~held_payment.c.owing),
        "places in access logs": update(wallet.access_log)
        .where(log.at < before, log.by != FORGOTTEN)
        .values(by=FORGOTTEN, purpose=func.split_part(log.purpose, ": ", 1), query_id=null(), request_sha256=null()),
        "tags of lost answers": delete(wallet.lost_answer).where(wallet.lost_answer.c.at < before),
        "texts of withdrawn consents": update(wallet.consent)
        .where(wallet.consent.c.withdrawn_at < before, wallet.consent.c.receipt != "")
        .values(receipt=""),
    }
    done = {kind: connection.execute(statement).rowcount for kind, statement in counts.items()}
    done["events for merchants"] = webhooks.forget(connection, delivered_before=now - webhooks.KEPT, all_before=before)
    done["keys of pseudonyms"] = pseudonyms.forget(connection, before=now.astimezone(UTC).date())
    return done


def record(
    connection: Connection, counts: dict[str, int], *, late: Sequence[str], key: Ed25519PrivateKey, now: datetime
) -> Run:
    """Sign and keep what a run did. `late`: what it could not do now, in words; the next run tries again."""
    id = new_id("ret")
    said = {
        "kind": "retention-run",
        "id": id,
        "ran_at": now.isoformat(),
        "dispute_window_days": WINDOW.days,
        "forgotten": counts,
        "not_done": list(late),
    }
    run = Run(id, now, consents.signed(said, key, kind="retention-run+jws"))
    connection.execute(insert(wallet.retention_run).values(id=run.id, ran_at=run.ran_at, record=run.record))
    return run


def runs(connection: Connection, *, limit: int = 100) -> list[Run]:
    """The newest runs, newest first."""
    columns = wallet.retention_run.c
    rows = connection.execute(select(wallet.retention_run).order_by(columns.id.desc()).limit(limit))
    return [Run(row.id, row.ran_at, row.record) for row in rows]
