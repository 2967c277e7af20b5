"""Travel on account: who has a card on file rides first, and the card is charged once for a whole travel period.

    ride, and not enough money -> gathered in a period -> after 24 hours, or at the spend limit: one charge of the card
             the card's bank says no, at the first ride or at the charge -> owed: denied at gates until it is paid

As card schemes have it for transit. The first ride goes on the operator's risk: only after it the card's bank is asked
whether it would pay, by a nominal authorisation that is let go at once. What is gathered is a debt in the ledger from
the first ride on, so a payment by any other way (a top-up, say) is taken for it first, the oldest period before the
newer ones. A ride that would take a period over
the limit has the card charged for what was gathered until then; the 24 hours themselves run on from the first ride.

Invariants: every ride on account is in one period; a period is charged at most once; while a period is neither charged
nor refused, its payer is not on the deny list for it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, or_, select, update

from facefare.ledger.ids import new_id
from facefare.ledger.tables import account
from facefare.payments import card_top_ups, travel_tables
from facefare.payments.card_tables import card, top_up
from facefare.payments.processor import Processor
from facefare.wallet import payers
from facefare.wallet import tables as wallet
from facefare.wallet.payers import Payer

PERIOD = timedelta(hours=24)
_AT_MOST = 50
_period = travel_tables.travel_period
_UNCHARGED = _period.c.top_up_id.is_(None), _period.c.refused.is_(None), _period.c.settled_at.is_(None)
_OPEN = (
    _period.c.refused.is_(None),
    _period.c.settled_at.is_(None),
    or_(top_up.c.state.is_(None), top_up.c.state == "processing"),
)
"""Of periods beside their charges: the money may still come from the card by itself."""


def may_ride(connection: Connection, payer: Payer) -> bool:
    """Whether there is a card on file that its bank has not refused lately."""
    return (
        connection.execute(
            select(func.count()).where(
                card.c.payer_id == payer.id, card.c.payment_method.is_not(None), card.c.auto_paused.is_(None)
            )
        ).scalar_one()
        == 1
    )


def gathering(connection: Connection, payer: Payer, amount: int, at: datetime, spend_limit: int) -> str:
    """The period that a ride of `amount` minor units belongs to; a new one where it would break the limit."""
    newest = connection.execute(
        select(_period)
        .where(_period.c.payer_id == payer.id, _period.c.ends_at > at)
        .order_by(_period.c.id.desc())
        .limit(1)
    ).one_or_none()
    if newest is not None and _is_open(newest) and newest.due_at > at:
        if _gathered(connection, newest.id) + amount <= spend_limit:
            return str(newest.id)
        connection.execute(update(_period).where(_period.c.id == newest.id).values(due_at=at))
    ends_at = at + PERIOD if newest is None else newest.ends_at  # past the limit, the period itself runs on
    id = new_id("tpd")
    connection.execute(insert(_period).values(id=id, payer_id=payer.id, opened_at=at, ends_at=ends_at, due_at=ends_at))
    return id


def pending(connection: Connection, payer: Payer) -> int:
    """Minor units travelled on account that the card was not asked for yet, or is being asked for."""
    return sum(_gathered(connection, row.id) for row in _open_ones(connection, payer.id))


def next_charge(connection: Connection, payer: Payer) -> datetime | None:
    """When the card is charged next for travel, at the latest."""
    return min((row.due_at for row in _open_ones(connection, payer.id)), default=None)


def owing(connection: Connection) -> list[str]:
    """Payers who owe something that is not on account any more; gates deny them, also without a network."""
    taps, debt = travel_tables.tap.c, account.c.debits_posted - account.c.credits_posted
    gathered = (
        select(_period.c.payer_id, func.sum(taps.debt).label("amount"))
        .join(travel_tables.tap, taps.period_id == _period.c.id)
        .outerjoin(top_up, top_up.c.id == _period.c.top_up_id)
        .where(*_OPEN)
        .group_by(_period.c.payer_id)
        .subquery()
    )
    rows = connection.execute(
        select(wallet.payer.c.id)
        .join(account, account.c.id == wallet.payer.c.account_id + "_debt")
        .outerjoin(gathered, gathered.c.payer_id == wallet.payer.c.id)
        .where(debt > func.coalesce(gathered.c.amount, 0))
    )
    return list(rows.scalars())


def check_cards(engine: Engine, processor: Processor) -> int:
    """Ask the banks about the cards of periods that have begun; returns how many were asked about.

    One that says no makes what was travelled owed at once, and the payer travels on account no more until there is
    another card. Raises ProcessorUnavailable.
    """
    with engine.connect() as connection:
        waiting = connection.execute(
            select(_period.c.id, _period.c.payer_id, wallet.payer.c.currency, card.c.customer, card.c.payment_method)
            .join(card, card.c.payer_id == _period.c.payer_id)
            .join(wallet.payer, wallet.payer.c.id == _period.c.payer_id)
            .where(_period.c.checked_at.is_(None), *_UNCHARGED)
            .order_by(_period.c.id)
            .limit(_AT_MOST)
        ).all()

    def check(row: Row[*tuple[Any, ...]]) -> None:
        refused: str | None = "no_card"
        if method := row.payment_method:
            refused = processor.check_card(row.id, customer=row.customer, payment_method=method, currency=row.currency)
        with engine.begin() as connection:
            payers.locked(connection, row.payer_id)
            connection.execute(
                update(_period)
                .where(_period.c.id == row.id, *_UNCHARGED)
                .values(checked_at=func.clock_timestamp(), refused=refused)
            )
            if refused:
                connection.execute(update(card).where(card.c.payer_id == row.payer_id).values(auto_paused=refused))

    card_top_ups.one_by_one(waiting, check)
    return len(waiting)


def charge_due(engine: Engine, processor: Processor, now: datetime) -> int:
    """Charge the cards of periods that are over; returns how many were. Raises ProcessorUnavailable.

    A crash leaves a top-up open, which is asked for again under its own key (`card_top_ups.finish_left_behind`).
    """
    with engine.connect() as connection:
        due = connection.execute(
            select(_period.c.id, _period.c.payer_id)
            .where(_period.c.due_at <= now, *_UNCHARGED)
            .order_by(_period.c.id)
            .limit(_AT_MOST)
        ).all()
    charged = []

    def charge(row: Row[*tuple[Any, ...]]) -> None:
        with engine.begin() as connection:
            begun = _begin_charge(connection, row.id, row.payer_id)
        if begun is not None:
            charged.append(begun.id)
            card_top_ups.ask(engine, processor, begun)

    card_top_ups.one_by_one(due, charge)
    return len(charged)


def _begin_charge(connection: Connection, period_id: str, payer_id: str) -> Row[tuple[object, ...]] | None:
    """Write down what is to be charged for a period; None where nothing is, or another charge is under way."""
    payer = payers.locked(connection, payer_id)
    row = connection.execute(select(_period).where(_period.c.id == period_id)).one()
    if row.top_up_id is not None or row.refused is not None or row.settled_at is not None:
        return None
    newer = sum(_gathered(connection, one.id) for one in _open_ones(connection, payer_id) if one.id > period_id)
    amount = min(_gathered(connection, period_id), max(0, card_top_ups.debt_of(connection, payer) - newer))
    if amount == 0:  # paid by another way meanwhile
        connection.execute(update(_period).where(_period.c.id == period_id).values(settled_at=func.clock_timestamp()))
        return None
    if not may_ride(connection, payer):
        connection.execute(update(_period).where(_period.c.id == period_id).values(refused="no_card"))
        return None
    begun = card_top_ups.begin_automatic(connection, payer_id, amount, payer.currency)
    if begun is not None:
        connection.execute(update(_period).where(_period.c.id == period_id).values(top_up_id=begun.id))
    return begun


def _open_ones(connection: Connection, payer_id: str) -> Sequence[Row[tuple[object, ...]]]:
    """Periods whose money may still come from the card by itself, oldest first."""
    rows = connection.execute(
        select(_period, top_up.c.state.label("charge"))
        .outerjoin(top_up, top_up.c.id == _period.c.top_up_id)
        .where(_period.c.payer_id == payer_id, *_OPEN)
        .order_by(_period.c.id)
    )
    return rows.all()


def _is_open(row: Row[tuple[object, ...]]) -> bool:
    return row.top_up_id is None and row.refused is None and row.settled_at is None


def _gathered(connection: Connection, period_id: object) -> int:
    taps = travel_tables.tap.c
    total = select(func.coalesce(func.sum(taps.debt), 0)).where(taps.period_id == period_id)
    return int(connection.execute(total).scalar_one())
