"""Daily settlement: what a merchant gets for a day (UTC), and which movements it is made of.

Invariants: every movement of a merchant's account belongs to at most one settlement (the database's primary
key), one day of one merchant and currency is settled once, and carried + taken - given_back - paid_out is
what the next one carries. A movement that was committed late goes into the next settlement; none is lost.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, Row, func, insert, literal, or_, select

from facefare.ledger import Account, Kind, Transfer, open_account, post
from facefare.ledger.ids import new_id
from facefare.ledger.tables import account, transfer
from facefare.payments import tables
from facefare.payments.errors import UnknownSettlement, WrongState
from facefare.payments.operator_tables import settlement, settlement_line


@dataclass(frozen=True)
class Settlement:
    """A day of a merchant in one currency, in minor units; `paid_out` is on its way to the merchant's bank."""

    id: str
    merchant_id: str
    currency: str
    day: date
    carried: int
    taken: int
    given_back: int
    paid_out: int

    @property
    def left(self) -> int:
        """What the next settlement carries; negative where more was given back than taken."""
        return self.carried + self.taken - self.given_back - self.paid_out


@dataclass(frozen=True)
class Line:
    """One movement; `amount` is negative where money was given back, `place` none where it was no payment."""

    transfer: str
    payment_intent: str
    reason: str
    amount: int
    currency: str
    place: str | None
    at: datetime


def settle(connection: Connection, day: date) -> list[Settlement]:
    """Settle a day that is over, for every merchant and currency that was not settled for it yet.

    Raises WrongState for a day that is not over.
    """
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    if datetime.now(UTC) < end:
        raise WrongState(f"{day} is not over yet (UTC).")
    # One run at a time: two would both see a movement as unsettled.
    connection.execute(select(func.pg_advisory_xact_lock(7070719)))
    done = select(settlement.c.id).where(
        settlement.c.merchant_id == tables.merchant.c.id,
        settlement.c.currency == account.c.currency,
        settlement.c.day >= day,
    )
    due = connection.execute(
        select(tables.merchant.c.id, account.c.currency)
        .join(account, account.c.id == literal("acc_") + tables.merchant.c.id + "_" + account.c.currency)
        .where(~done.exists())
        .order_by(tables.merchant.c.id, account.c.currency)
    ).all()
    return [_settle_one(connection, merchant_id, currency, day, end) for merchant_id, currency in due]


def of_merchant(connection: Connection, merchant_id: str, *, limit: int, before: str | None = None) -> list[Settlement]:
    """The merchant's settlements, newest first, at most `limit`, older than the settlement `before`."""
    query = (
        select(settlement).where(settlement.c.merchant_id == merchant_id).order_by(settlement.c.id.desc()).limit(limit)
    )
    if before is not None:
        query = query.where(settlement.c.id < before)
    return [_shown(row) for row in connection.execute(query)]


def read(connection: Connection, merchant_id: str, settlement_id: str) -> Settlement:
    """One settlement; raises UnknownSettlement, also for another merchant's."""
    row = connection.execute(
        select(settlement).where(settlement.c.id == settlement_id, settlement.c.merchant_id == merchant_id)
    ).one_or_none()
    if row is None:
        raise UnknownSettlement("There is no such settlement.")
    return _shown(row)


def between(connection: Connection, first: date, last: date) -> list[Settlement]:
    """All merchants' settlements of these days, oldest first."""
    rows = connection.execute(
        select(settlement)
        .where(settlement.c.day.between(first, last))
        .order_by(settlement.c.day, settlement.c.merchant_id, settlement.c.currency)
    )
    return [_shown(row) for row in rows]


def lines(connection: Connection, settlement_id: str) -> list[Line]:
    """What a settlement is made of, in the ledger's order. Nothing in it says who paid."""
    intent_id = func.split_part(transfer.c.id, ".", 1)
    rows = connection.execute(
        select(transfer, tables.intent.c.id.label("intent_id"), tables.intent.c.place, tables.intent.c.merchant_id)
        .join(settlement_line, settlement_line.c.transfer_id == transfer.c.id)
        .outerjoin(tables.intent, tables.intent.c.id == intent_id)
        .where(settlement_line.c.settlement_id == settlement_id)
        .order_by(transfer.c.seq)
    ).all()
    merchant = connection.execute(
        select(settlement.c.merchant_id, settlement.c.currency).where(settlement.c.id == settlement_id)
    ).one()
    own = f"acc_{merchant.merchant_id}_{merchant.currency}"
    return [
        Line(
            transfer=row.id,
            payment_intent=row.intent_id or "",
            reason=row.reason,
            amount=row.amount if row.credit_account == own else -row.amount,
            currency=row.currency,
            place=row.place,
            at=row.created_at,
        )
        for row in rows
    ]


def as_csv(connection: Connection, chosen: Iterable[Settlement]) -> str:
    """One row for each movement, its settlement's columns before it (RFC 4180); amounts in minor units."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["settlement", "merchant", "day", *Line.__dataclass_fields__])
    for one in chosen:
        for line in lines(connection, one.id):
            fields = [_plain(value) for value in asdict(line).values()]
            rows.writerow([one.id, one.merchant_id, one.day.isoformat(), *fields])
    return out.getvalue()


def as_json(connection: Connection, chosen: Iterable[Settlement]) -> str:
    """The settlements with their lines; amounts in minor units."""
    return json.dumps(
        [
            {**asdict(one), "left": one.left, "lines": [asdict(line) for line in lines(connection, one.id)]}
            for one in chosen
        ],
        default=lambda value: value.isoformat(),
        indent=2,
    )


def _settle_one(connection: Connection, merchant_id: str, currency: str, day: date, end: datetime) -> Settlement:
    own = f"acc_{merchant_id}_{currency}"
    unsettled = _unsettled(connection, own, end)
    before = connection.execute(
        select(settlement)
        .where(settlement.c.merchant_id == merchant_id, settlement.c.currency == currency)
        .order_by(settlement.c.day.desc())
        .limit(1)
    ).one_or_none()
    carried = 0 if before is None else _shown(before).left
    taken = sum(row.amount for row in unsettled if row.credit_account == own)
    given_back = sum(row.amount for row in unsettled if row.debit_account == own)
    id, paid_out = new_id("stl"), max(0, carried + taken - given_back)
    row = connection.execute(
        insert(settlement)
        .values(
            id=id,
            merchant_id=merchant_id,
            currency=currency,
            day=day,
            carried=carried,
            taken=taken,
            given_back=given_back,
            paid_out=paid_out,
        )
        .returning(settlement)
    ).one()
    if unsettled:
        connection.execute(insert(settlement_line), [{"transfer_id": one.id, "settlement_id": id} for one in unsettled])
    if paid_out:
        payouts = f"acc_payouts_{currency}"
        open_account(connection, Account(payouts, currency, Kind.LIABILITY, floor=None))
        post(
            connection,
            [Transfer.now(id, debit=own, credit=payouts, amount=paid_out, currency=currency, reason="settlement")],
        )
    return _shown(row)


def _unsettled(connection: Connection, own: str, end: datetime) -> Sequence[Row[tuple[object, ...]]]:
    """Movements of the account until `end` that are in no settlement, pay-outs left out."""
    settled = select(settlement_line.c.transfer_id).where(settlement_line.c.transfer_id == transfer.c.id)
    return connection.execute(
        select(transfer)
        .where(
            or_(transfer.c.credit_account == own, transfer.c.debit_account == own),
            transfer.c.kind.in_(("posted", "capture")),
            transfer.c.reason != "settlement",
            transfer.c.created_at < end,
            ~settled.exists(),
        )
        .order_by(transfer.c.seq)
    ).all()


def _shown(row: Row[tuple[object, ...]]) -> Settlement:
    return Settlement(**{name: getattr(row, name) for name in Settlement.__dataclass_fields__})


def _plain(value: object) -> object:
    """For a spreadsheet: times in ISO 8601, and no text that it would take for a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
