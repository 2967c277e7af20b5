"""Fares of gate payments: priced from the payer's own taps of the fare week, held at the start, taken at the end.

    tap in -> hold the most that the ride can cost      tap out -> take what it does cost, free the rest
    no tap out -> after the longest journey the sweep takes what the tariff says of such a ride
    tapped without a network -> the same, at the time it was made, whenever it comes in

A tap belongs to the payment that it began. A week is always priced as a whole, and what one tap adds is the
difference to what was charged before; where it is less, the difference goes back. So caps, transfers and late
evidence need no rule of their own here.

Money that isn't there: a rider who is inside is let out, and where the operator takes the risk, one who owes
nothing is let in. What can't be taken is a debt, in an account of its own (the prepaid one is never negative).
Of a payer with a card on file it is gathered for one charge of the card (`travel_periods`), where the operator has
that; what the card does not bring, and the debt of anybody else, is owed: the payer is denied at gates, and paying,
by whatever way money comes in, ends that at once.

All of it runs under the lock on the payer's row that the caller has taken.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, or_, select, update

from facefare.fares.errors import FaresError
from facefare.fares.explain import Line
from facefare.fares.journeys import LegState, Tap, TapKind, legs_of
from facefare.fares.pricing import Charge, price_week
from facefare.fares.standing import Standing, State
from facefare.fares.tariff import Tariff
from facefare.ledger import Transfer, balance_of, lock_accounts, post
from facefare.ledger.errors import LedgerError
from facefare.ledger.ids import new_id
from facefare.payments import card_top_ups, intents, merchants, receipts, tables, tariffs, travel_periods, travel_tables
from facefare.payments.errors import PaymentsError
from facefare.payments.tariffs import FarePoint
from facefare.wallet import payers
from facefare.wallet.payers import Payer

_Row = Row[tuple[object, ...]]
_SWEEP_AT_MOST = 200


@dataclass(frozen=True, repr=False)
class Due:
    """What one tap comes to; minor units. `free`: on hold for rides that this tap ends, so free for this one."""

    tap: Tap
    tariff: Tariff
    point: FarePoint
    week: date
    charges: list[Charge]
    charge: int
    refund: int
    reserve: int
    cost: int
    lines: tuple[Line, ...]
    free: int

    @property
    def needed(self) -> int:
        """What has to be there besides."""
        return max(0, self.charge + self.reserve - self.free)

    @property
    def leaves(self) -> bool:
        """Whether this tap lets somebody out."""
        return self.tap.kind is TapKind.EXIT


@dataclass(frozen=True, repr=False)
class Ride:
    """A payer's tap as the payer sees it. `stop` is none once it is forgotten; amounts in minor units."""

    payment_intent: str
    at: datetime
    stop: str | None
    kind: str | None
    cost: int
    under_way: bool
    lines: tuple[Line, ...]


def price(connection: Connection, payer: Payer, intent: _Row, now: datetime) -> Due:
    """What this tap comes to; raises UnknownFare, NoFarePoint, TariffError."""
    point = tariffs.point_of(connection, intent.terminal_id)
    tariff = tariffs.load(connection, point.tariff_id)
    tap = Tap(str(intent.id), now, point.stop, point.tap_kind, point.network)
    taps = [*_taps(connection, payer.id, tariff, tariff.fare_week(now)), tap]
    leg = next(leg for leg in legs_of(taps, tariff, now) if tap in leg.taps)
    week = tariff.fare_week(leg.began)
    charges = _priced(connection, payer, tariff, week, now, (tap,))
    own = next(charge for charge in charges if tap in charge.leg.taps)
    total = sum(charge.amount for charge in charges)
    charged = _charged(connection, payer.id, tariff.id, week)
    return Due(
        tap=tap,
        tariff=tariff,
        point=point,
        week=week,
        charges=charges,
        charge=max(0, total - charged),
        refund=max(0, charged - total),
        reserve=own.reserve,
        cost=own.amount,
        lines=own.lines,
        free=sum(row.on_hold for row in _under_way(connection, payer.id, tariff.id) if _ends(row, charges)),
    )


def begin(connection: Connection, payer: Payer, intent: _Row, due: Due, *, spend_limit: int) -> tuple[_Row, str | None]:
    """End what this tap ends, write the tap down, and say what is left to move.

    `spend_limit`: up to how many minor units travel on account is gathered; 0: there is none here.

    Returns the intent with the amount to hold (to take at once, unless `capture_later`), and the payment that
    covered this tap, where one did.
    """
    under_way = _under_way(connection, payer.id, due.tariff.id)
    for week in sorted({row.week for row in under_way} - {due.week}):
        _settle(connection, payer, due.tariff, week, due.tap.at, (due.tap,), spend_limit)
    left, covered_by = due.charge, None
    for row in under_way:
        if row.week == due.week and _ends(row, due.charges):
            took = _end(connection, payer, row, left, due.charges, until=str(intent.place) if due.leaves else None)
            left -= took
            covered_by = row.intent_id if took else covered_by
    _give_back(connection, payer, due.tariff.id, due.week, due.refund, key=due.tap.id)
    secured = min(balance_of(connection, payer.account_id).available, left + due.reserve)
    missing = left + due.reserve - secured
    debt = 0 if due.reserve else missing
    connection.execute(
        insert(travel_tables.tap).values(
            intent_id=intent.id,
            payer_id=payer.id,
            tariff_id=due.tariff.id,
            stop=due.tap.stop,
            network=due.tap.network,
            kind=due.tap.kind.value,
            at=due.tap.at,
            week=due.week,
            cost=due.cost,
            reserve=due.reserve,
            unsecured=missing - debt,
            debt=debt,
            period_id=_period_of(connection, payer, debt, due.tap.at, spend_limit),
            lines=receipts.stored(due.lines),
        )
    )
    _owe(connection, payer, intent, debt)
    changed = connection.execute(
        update(tables.intent)
        .where(tables.intent.c.id == intent.id)
        .values(amount=secured, capture_later=bool(due.reserve and secured))
        .returning(tables.intent)
    ).one()
    return changed, covered_by


def complete(engine: Engine, now: datetime, spend_limits: Mapping[str, int]) -> int:
    """Take what rides cost whose end was never tapped; returns how many payers' weeks were settled.

    `spend_limits`: by currency, see `begin`.

    Where the evidence does not say where a ride ended, the tariff's maximum applies. Each payer's week is a
    transaction of its own, so nobody waits for another one's; what goes wrong with one is raised when all had theirs.
    """
    columns = travel_tables.tap.c
    with engine.connect() as connection:
        waiting = connection.execute(
            select(columns.payer_id, columns.tariff_id, columns.week, func.min(columns.at).label("since"))
            .where(columns.reserve > 0)
            .group_by(columns.payer_id, columns.tariff_id, columns.week)
            .order_by("since")
            .limit(_SWEEP_AT_MOST)
        ).all()
    settled = []

    def settle(row: Row[*tuple[Any, ...]]) -> None:
        with engine.begin() as connection:
            tariff = tariffs.load(connection, row.tariff_id)
            if now - row.since > timedelta(seconds=tariff.longest_journey_s):
                payer = payers.locked(connection, row.payer_id)
                lock_accounts_of(connection, payer, tariff.id, (row.week,))
                _settle(connection, payer, tariff, row.week, now, (), spend_limits.get(payer.currency, 0))
                recover(connection, payer)
                settled.append(row)

    card_top_ups.one_by_one(waiting, settle, failing=(FaresError, LedgerError, PaymentsError))
    return len(settled)


def lock_accounts_of(
    connection: Connection, payer: Payer, tariff_id: str, weeks: Collection[date], *more_merchants: str
) -> None:
    """Lock every account that a tap of these weeks may move money on; it may do so in any order then."""
    columns = travel_tables.tap.c
    travelled = connection.execute(
        select(tables.intent.c.merchant_id)
        .join(travel_tables.tap, columns.intent_id == tables.intent.c.id)
        .where(
            columns.payer_id == payer.id,
            columns.tariff_id == tariff_id,
            or_(columns.week.in_(weeks), columns.reserve > 0),
        )
        .distinct()
    ).scalars()
    owed_to = {merchants.account_of(connection, id, payer.currency) for id in {*travelled, *more_merchants}}
    lock_accounts(connection, {payer.account_id, f"{payer.account_id}_debt", *owed_to})


def forget(connection: Connection, intent_id: object) -> bool:
    """Forget a tap that let nobody in; False for one that ended a ride, or of which something is owed."""
    columns = travel_tables.tap.c
    gone = connection.execute(
        delete(travel_tables.tap).where(columns.intent_id == intent_id, columns.kind == "entry", columns.debt == 0)
    )
    return gone.rowcount == 1


# --- standing ---


def standing_of(connection: Connection, payer: Payer) -> Standing:
    """Whether the payer may travel, what is owed, and what is being travelled without the money being there."""
    columns = travel_tables.tap.c
    at_risk = connection.execute(
        select(func.coalesce(func.sum(columns.unsecured), 0)).where(columns.payer_id == payer.id)
    ).scalar_one()
    debt = card_top_ups.debt_of(connection, payer)
    on_account = min(debt, travel_periods.pending(connection, payer))
    owed = debt - on_account
    return Standing(State.DENIED if owed else State.GOOD, owed, int(at_risk) + on_account)


def owed_by(connection: Connection, payer: Payer) -> int:
    """Minor units that the payer owes, for travel or after a chargeback; what is on account still is not owed."""
    return standing_of(connection, payer).owed


def recover(connection: Connection, payer: Payer) -> int:
    """Pay debts as far as there is money, with a receipt; what is left of them, on account or owed."""
    owed = card_top_ups.debt_of(connection, payer)
    paid = min(owed, balance_of(connection, payer.account_id).available)
    if paid > 0:
        payment = Transfer.now(
            new_id("dbt"),
            debit=payer.account_id,
            credit=card_top_ups.debt_account(connection, payer),
            amount=paid,
            currency=payer.currency,
            reason="debt",
        )
        post(connection, [payment])
        receipts.write(connection, payer, kind="debt", amount=paid, transfer_id=payment.id)
    return owed - max(paid, 0)


def last_tap(connection: Connection, payer_id: str, terminal_id: object) -> Row[datetime, str] | None:
    """The payer's last tap at this terminal: `at`, and `intent_id`."""
    columns = travel_tables.tap.c
    return connection.execute(
        select(columns.at, columns.intent_id)
        .join(tables.intent, tables.intent.c.id == columns.intent_id)
        .where(columns.payer_id == payer_id, tables.intent.c.terminal_id == terminal_id)
        .order_by(columns.at.desc())
        .limit(1)
    ).one_or_none()


def cost_of(connection: Connection, intent_id: object) -> int | None:
    """What the ride cost that this payment began or ended; none where it isn't known yet."""
    columns = travel_tables.tap.c
    row = connection.execute(select(columns.cost, columns.reserve).where(columns.intent_id == intent_id)).one_or_none()
    return None if row is None or row.reserve else int(row.cost)


def rides(connection: Connection, payer_id: str, *, limit: int, before: str | None = None) -> list[Ride]:
    """The payer's taps, newest first, at most `limit`, older than the tap of the payment `before`."""
    columns = travel_tables.tap.c
    query = (
        select(travel_tables.tap).where(columns.payer_id == payer_id).order_by(columns.intent_id.desc()).limit(limit)
    )
    if before is not None:
        query = query.where(columns.intent_id < before)
    return [
        Ride(row.intent_id, row.at, row.stop, row.kind, row.cost, row.reserve > 0, receipts.lines_of(row.lines))
        for row in connection.execute(query)
    ]


# --- a week ---


def _taps(connection: Connection, payer_id: str, tariff: Tariff, week: date) -> list[Tap]:
    columns = travel_tables.tap.c
    since, until = tariff.history_window(week)
    rows = connection.execute(
        select(travel_tables.tap).where(
            columns.payer_id == payer_id,
            columns.tariff_id == tariff.id,
            columns.at >= since,
            columns.at < until,
            columns.stop.is_not(None),
        )
    )
    return [Tap(row.intent_id, row.at.astimezone(UTC), row.stop, TapKind(row.kind), row.network) for row in rows]


def _priced(
    connection: Connection, payer: Payer, tariff: Tariff, week: date, now: datetime, more: Sequence[Tap]
) -> list[Charge]:
    taps = [*_taps(connection, payer.id, tariff, week), *more]
    category = tariffs.category_of(connection, payer.id, tariff.id, week)
    return price_week(taps, tariff, week, now=now, category=category)


def _charged(connection: Connection, payer_id: str, tariff_id: str, week: date) -> int:
    """Taken or owed for the week, less what the fare rules gave back.

    What went back otherwise (a dispute, say) stays counted: it must not be charged again.
    """
    columns = travel_tables.tap.c
    charged = func.sum(tables.intent.c.captured + columns.debt - columns.given_back)
    return int(
        connection.execute(
            select(func.coalesce(charged, 0))
            .join(tables.intent, tables.intent.c.id == columns.intent_id)
            .where(columns.payer_id == payer_id, columns.tariff_id == tariff_id, columns.week == week)
        ).scalar_one()
    )


def _under_way(connection: Connection, payer_id: str, tariff_id: str) -> Sequence[Row[str, date, int]]:
    """Taps of rides that have not ended, oldest first, with what is on hold for each."""
    columns = travel_tables.tap.c
    held = func.sum(tables.intent.c.amount).filter(tables.intent.c.state == "requires_capture")
    return connection.execute(
        select(columns.intent_id, columns.week, func.coalesce(held, 0).label("on_hold"))
        .join(tables.intent, tables.intent.c.id == columns.intent_id)
        .where(columns.payer_id == payer_id, columns.tariff_id == tariff_id, columns.reserve > 0)
        .group_by(columns.intent_id, columns.week)
        .order_by(columns.intent_id)
    ).all()


def _settle(
    connection: Connection,
    payer: Payer,
    tariff: Tariff,
    week: date,
    now: datetime,
    more: Sequence[Tap],
    spend_limit: int,
) -> None:
    """End the week's rides that are over, as the tariff says; what can't be taken is owed."""
    charges = _priced(connection, payer, tariff, week, now, more)
    difference = sum(charge.amount for charge in charges) - _charged(connection, payer.id, tariff.id, week)
    left, last = max(0, difference), None
    for row in _under_way(connection, payer.id, tariff.id):
        if row.week == week and _ends(row, charges):
            left -= _end(connection, payer, row, left, charges, until=None)
            last = row.intent_id
    if last is not None and left > 0:
        period = _period_of(connection, payer, left, now, spend_limit)
        connection.execute(
            update(travel_tables.tap).where(travel_tables.tap.c.intent_id == last).values(debt=left, period_id=period)
        )
        _owe(connection, payer, intents.locked(connection, str(last)), left)
    _give_back(connection, payer, tariff.id, week, max(0, -difference), key=f"{week}.{last}")


def _end(
    connection: Connection,
    payer: Payer,
    row: Row[str, date, int],
    left: int,
    charges: Iterable[Charge],
    *,
    until: str | None,
) -> int:
    """End one ride: take at most `left` of what is on hold for it, free the rest; how much was taken."""
    charge = _charge_of(row.intent_id, charges)
    took = min(left, int(row.on_hold))
    if row.on_hold:
        intent = intents.locked(connection, str(row.intent_id))
        if took:
            place = f"{intent.place} – {until}" if until else str(intent.place)
            intents.take(connection, intent, payer, took, place=place, lines=charge.lines)
        else:
            intents.let_go(connection, intent)
    connection.execute(
        update(travel_tables.tap)
        .where(travel_tables.tap.c.intent_id == row.intent_id)
        .values(cost=charge.amount, reserve=0, unsecured=0, lines=receipts.stored(charge.lines))
    )
    return took


def _ends(row: Row[str, date, int], charges: Iterable[Charge]) -> bool:
    """Whether a ride under way is over by these prices; one of another week is, by any tap of this one."""
    return all(charge.leg.state is not LegState.OPEN for charge in charges if _has(charge, row.intent_id))


def _has(charge: Charge, intent_id: object) -> bool:
    return any(tap.id == intent_id for tap in charge.leg.taps)


def _charge_of(intent_id: object, charges: Iterable[Charge]) -> Charge:
    return next(charge for charge in charges if _has(charge, intent_id))


def _give_back(connection: Connection, payer: Payer, tariff_id: str, week: date, amount: int, *, key: str) -> None:
    """Give back from the week's payments, the newest first."""
    columns = travel_tables.tap.c
    rows = connection.execute(
        select(columns.intent_id)
        .join(tables.intent, tables.intent.c.id == columns.intent_id)
        .where(
            columns.payer_id == payer.id,
            columns.tariff_id == tariff_id,
            columns.week == week,
            tables.intent.c.captured > tables.intent.c.refunded,
        )
        .order_by(columns.intent_id.desc())
    ).scalars()
    for intent_id in rows.all() if amount else ():
        intent = intents.locked(connection, str(intent_id))
        part = min(amount, int(intent.captured) - int(intent.refunded))
        intents.give_back(connection, intent, payer, part, key=f"fare.{key}")
        connection.execute(
            update(travel_tables.tap).where(columns.intent_id == intent_id).values(given_back=columns.given_back + part)
        )
        amount -= part
        if not amount:
            return


# --- debts ---


def _period_of(connection: Connection, payer: Payer, debt: int, at: datetime, spend_limit: int) -> str | None:
    """The travel period that a debt is gathered in; None where it is owed at once."""
    if not (debt and spend_limit and travel_periods.may_ride(connection, payer)):
        return None
    return travel_periods.gathering(connection, payer, debt, at, spend_limit)


def _owe(connection: Connection, payer: Payer, intent: _Row, amount: int) -> None:
    if not amount:
        return
    debt = Transfer.now(
        f"{intent.id}.debt",
        debit=card_top_ups.debt_account(connection, payer),
        credit=merchants.account_of(connection, str(intent.merchant_id), payer.currency),
        amount=amount,
        currency=payer.currency,
        reason="debt",
    )
    post(connection, [debt])
