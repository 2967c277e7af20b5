"""A payer's card on file: the processor keeps the card, we keep its name there and the last four digits."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.ledger.currency import check_amount
from facefare.payments.card_tables import card
from facefare.payments.errors import NoCard
from facefare.payments.processor import CardOnFile, Processor, Setup, SetupPage, check_currency
from facefare.wallet.payers import Payer


@dataclass(frozen=True)
class Card:
    """What the payer sees of the card on file.

    Below `auto_below` minor units, `auto_amount` are charged by itself, unless `auto_paused` says why not.
    """

    brand: str
    last4: str
    auto_below: int | None
    auto_amount: int | None
    auto_paused: str | None


def begin(engine: Engine, processor: Processor, payer: Payer) -> Setup:
    """Open the processor's form for a card; raises ProcessorUnavailable, ProcessorDisagrees."""
    return processor.begin_setup(_customer(engine, processor, payer))


def begin_page(engine: Engine, processor: Processor, payer: Payer) -> SetupPage:
    """Open a page of the processor's that takes a card; raises ProcessorUnavailable, ProcessorDisagrees."""
    return processor.begin_setup_page(_customer(engine, processor, payer))


def keep(engine: Engine, processor: Processor, payer: Payer, setup_id: str) -> Card:
    """Keep the card whose form was finished, in place of the one before; raises NoCard, CardNotReady."""
    return _keep(engine, processor, payer, lambda customer: processor.finish_setup(setup_id, customer))


def keep_from_page(engine: Engine, processor: Processor, payer: Payer, session: str) -> Card:
    """Keep the card that was given on the processor's page; raises NoCard, CardNotReady."""
    return _keep(engine, processor, payer, lambda customer: processor.finish_setup_page(session, customer))


def on_file(connection: Connection, payer_id: str) -> Card:
    """The payer's card; raises NoCard."""
    row = row_on_file(connection, payer_id)
    return Card(row.brand, row.last4, row.auto_below, row.auto_amount, row.auto_paused)


def set_auto_top_up(connection: Connection, payer_id: str, *, below: int | None, amount: int | None) -> Card:
    """Charge `amount` by itself whenever less than `below` is available; None for both: never.

    Raises NoCard, InvalidAmount.
    """
    row_on_file(connection, payer_id)
    if amount is not None:
        check_amount(amount)
    connection.execute(
        update(card)
        .where(card.c.payer_id == payer_id)
        .values(auto_below=below, auto_amount=amount, auto_paused=None, changed_at=func.clock_timestamp())
    )
    return on_file(connection, payer_id)


def forget(engine: Engine, processor: Processor, payer: Payer) -> None:
    """Remove the card, there first and then here; raises NoCard, ProcessorUnavailable."""
    with engine.begin() as connection:
        row = row_on_file(connection, payer.id)
    processor.forget(row.payment_method)
    with engine.begin() as connection:
        connection.execute(
            update(card)
            .where(card.c.payer_id == payer.id)
            .values(
                payment_method=None,
                brand=None,
                last4=None,
                auto_below=None,
                auto_amount=None,
                auto_paused=None,
                changed_at=func.clock_timestamp(),
            )
        )


def row_on_file(connection: Connection, payer_id: str) -> Row[tuple[object, ...]]:
    """The row with a card in it; raises NoCard."""
    row = _row(connection, payer_id)
    if row is None or row.payment_method is None:
        raise NoCard("There is no card on file; add one first.")
    return row


def _row(connection: Connection, payer_id: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(card).where(card.c.payer_id == payer_id)).one_or_none()


def _customer(engine: Engine, processor: Processor, payer: Payer) -> str:
    """The processor's name for the payer, made when it is first needed."""
    check_currency(payer.currency)
    with engine.begin() as connection:
        row = _row(connection, payer.id)
    if row is None:
        customer = processor.new_customer(payer.id)
        with engine.begin() as connection:
            connection.execute(
                upsert(card)
                .values(payer_id=payer.id, customer=customer)
                .on_conflict_do_nothing(index_elements=["payer_id"])
            )
            row = _row(connection, payer.id)
            assert row is not None
    return str(row.customer)


def _keep(engine: Engine, processor: Processor, payer: Payer, finish: Callable[[str], CardOnFile]) -> Card:
    with engine.begin() as connection:
        row = _row(connection, payer.id)
    if row is None:
        raise NoCard("Open the card form first.")
    kept = finish(row.customer)
    if row.payment_method not in (None, kept.payment_method):
        processor.forget(row.payment_method)
    with engine.begin() as connection:
        connection.execute(
            update(card)
            .where(card.c.payer_id == payer.id)
            .values(
                payment_method=kept.payment_method,
                brand=kept.brand,
                last4=kept.last4,
                auto_paused=None,
                changed_at=func.clock_timestamp(),
            )
        )
        return on_file(connection, payer.id)
