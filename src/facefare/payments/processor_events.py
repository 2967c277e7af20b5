"""What the card processor tells us by itself: verified, taken once, in any order.

Of charges and refunds an event only says where to look; the processor is asked how it stands now. A
chargeback (`charge.dispute.…`) moves money by the event alone, under ids made from the dispute's: money
that came back was taken before, so whichever of the two events comes first, both movements are posted.
"""

from sqlalchemy import Connection, Engine, Row, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.ledger import Transfer, balance_of, post
from facefare.ledger.currency import check_amount
from facefare.payments import card_top_ups, receipts
from facefare.payments.card_tables import card, chargeback, processor_event, top_up
from facefare.payments.errors import ProcessorDisagrees, UnknownTopUp
from facefare.payments.processor import Event, Processor
from facefare.wallet import payers
from facefare.wallet.payers import Payer


def take(engine: Engine, processor: Processor, body: bytes, signature: str) -> bool:
    """Act on a signed event; whether it was new and of ours.

    Raises EventForged, ProcessorUnavailable, ProcessorDisagrees: the processor sends it again then.
    """
    event = processor.verified(body, signature)
    with engine.begin() as connection:
        if connection.execute(select(processor_event).where(processor_event.c.id == event.id)).one_or_none():
            return False
    try:
        return _act(engine, processor, event)
    except UnknownTopUp:
        return False  # of another system that uses the same account at the processor


def _act(engine: Engine, processor: Processor, event: Event) -> bool:
    if event.kind.startswith("payment_intent."):
        if "top_up" not in (event.about.get("metadata") or {}):
            return False
        told = processor.look_up(event.about["id"])
        with engine.begin() as connection:
            card_top_ups.record(connection, told)
            return _remember(connection, event)
    if event.kind.startswith("refund.") or event.kind == "charge.refund.updated":
        ours = (event.about.get("metadata") or {}).get("card_refund")
        if ours is None:
            return False
        progress = processor.look_up_refund(event.about["id"])
        with engine.begin() as connection:
            card_top_ups.record_refund(connection, ours, event.about["id"], progress)
            return _remember(connection, event)
    if event.kind in ("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"):
        with engine.begin() as connection:
            _charge_back(connection, event.about, reinstated=event.kind.endswith("reinstated"))
            return _remember(connection, event)
    return False


def _remember(connection: Connection, event: Event) -> bool:
    """Whether it is remembered now for the first time."""
    added = connection.execute(
        upsert(processor_event)
        .values(id=event.id, kind=event.kind)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(processor_event.c.id)
    )
    return added.one_or_none() is not None


def _charge_back(connection: Connection, dispute: dict[str, object], *, reinstated: bool) -> None:
    charged = connection.execute(select(top_up).where(top_up.c.intent == dispute.get("payment_intent"))).one_or_none()
    if charged is None:
        raise UnknownTopUp("The dispute is about no top-up of ours.")
    amount, currency = dispute.get("amount"), str(dispute.get("currency")).upper()
    if not isinstance(amount, int) or currency != charged.currency:
        raise ProcessorDisagrees("The dispute's amount or currency can't be read.")
    check_amount(amount)
    payer = payers.locked(connection, charged.payer_id)
    known = connection.execute(select(chargeback).where(chargeback.c.id == dispute["id"])).one_or_none()
    row = known if known is not None else _withdraw(connection, payer, charged.id, str(dispute["id"]), amount)
    if reinstated and row.state == "withdrawn":
        _reinstate(connection, payer, row)


def _withdraw(connection: Connection, payer: Payer, top_up_id: str, id: str, amount: int) -> Row[tuple[object, ...]]:
    """Take back what the bank took from us, as far as the payer still has it; the rest is owed."""
    clearing = card_top_ups.clearing_account(connection, payer.currency)
    debt = card_top_ups.debt_account(connection, payer)
    taken = min(amount, max(0, balance_of(connection, payer.account_id).available))
    for part, source, name in ((taken, payer.account_id, "taken"), (amount - taken, debt, "owed")):
        if part:
            post(connection, [_moved(f"{id}.{name}", source, clearing, part, payer.currency)])
    if taken:
        receipts.write(connection, payer, kind="chargeback", amount=taken, transfer_id=f"{id}.taken")
    connection.execute(update(card).where(card.c.payer_id == payer.id).values(auto_paused="chargeback"))
    return connection.execute(
        insert(chargeback)
        .values(id=id, top_up_id=top_up_id, amount=amount, owed=amount - taken, state="withdrawn")
        .returning(chargeback)
    ).one()


def _reinstate(connection: Connection, payer: Payer, row: Row[tuple[object, ...]]) -> None:
    """Give back what was taken; of what was owed, only as much as is still owed is forgiven."""
    clearing = card_top_ups.clearing_account(connection, payer.currency)
    debt = card_top_ups.debt_account(connection, payer)
    forgiven = min(row.owed, max(0, -balance_of(connection, debt).posted))
    for part, target, name in ((forgiven, debt, "forgiven"), (row.amount - forgiven, payer.account_id, "returned")):
        if part:
            post(connection, [_moved(f"{row.id}.{name}", clearing, target, part, payer.currency)])
    if row.amount - forgiven:
        receipts.write(
            connection,
            payer,
            kind="chargeback_returned",
            amount=row.amount - forgiven,
            transfer_id=f"{row.id}.returned",
        )
    connection.execute(update(chargeback).where(chargeback.c.id == row.id).values(state="reinstated"))


def _moved(id: str, debit: str, credit: str, amount: int, currency: str) -> Transfer:
    return Transfer.now(id, debit=debit, credit=credit, amount=amount, currency=currency, reason="chargeback")
