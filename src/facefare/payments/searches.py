"""The wallet's side of the guardians' public logs: which searches led to a payment, and which ones a payer can see.

Invariants:
  - hashes of public log entries and counts only: nothing of a payer, an amount or an outcome;
  - what was paid comes from the payments, what can be seen from the access logs: an entry that was taken out of one of
    them is missing in one of the lists only.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, func, select

from facefare.audit.entries import PAYMENT, entry_of_search
from facefare.payments import tables
from facefare.payments.decision import Outcome
from facefare.wallet import tables as wallet

_PAID = (Outcome.ACCEPTED.value, Outcome.ALREADY_PAID.value, Outcome.CONFIRMATION_REQUIRED.value)


@dataclass(frozen=True)
class Searches:
    """SHA-256 (hexadecimal) of log entries, sorted; `lost_answers`: how many did not come whole."""

    paid: tuple[str, ...]
    visible: tuple[str, ...]
    lost_answers: int


def between(connection: Connection, since: datetime, until: datetime) -> Searches:
    """Of searches that terminals signed from `since` on and before `until`."""
    intent, log, face, lost = tables.intent.c, wallet.access_log.c, wallet.face.c, wallet.lost_answer.c
    start, end = (int(moment.timestamp() * 1000) for moment in (since, until))
    paid = select(
        intent.terminal_id.label("terminal"),
        intent.issued_at,
        intent.gallery_id,
        intent.query_id,
        intent.request_sha256,
    ).where(intent.issued_at >= start, intent.issued_at < end, intent.payer_id.is_not(None), intent.outcome.in_(_PAID))
    visible = (
        select(log.by.label("terminal"), log.issued_at, face.gallery_id, log.query_id, log.request_sha256)
        .join(wallet.face, face.id == log.face_id)
        .where(log.issued_at >= start, log.issued_at < end, log.query_id.is_not(None), log.purpose == PAYMENT)
    )
    count = select(func.count()).where(lost.at >= since, lost.at < until)
    return Searches(_hashes(connection, paid), _hashes(connection, visible), connection.execute(count).scalar_one())


def _hashes(connection: Connection, query: object) -> tuple[str, ...]:
    entries = (
        entry_of_search(
            terminal=row.terminal,
            purpose=PAYMENT,
            issued_at=row.issued_at,
            gallery=row.gallery_id,
            query_id=row.query_id,
            request_sha256=row.request_sha256,
        )
        for row in connection.execute(query)  # type: ignore[call-overload]
    )
    return tuple(sorted(sha256(entry.to_bytes()).hexdigest() for entry in entries))
