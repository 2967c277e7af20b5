"""Money in from a card and back to it: `processing -> requires_action -> succeeded | failed`.

Written down first, then asked of the processor, then settled by what the processor says *at that moment*:
an event that comes late, twice or before another only makes us look. A top-up's ledger transfer has the
top-up's own id, so the money comes once; `succeeded` is final, and can be reached from every other state,
since the processor may tell us of money that we had given up.

    bank says yes: processor's account -> payer     refund: payer -> hold -> processor's account
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.ledger import Account, Kind, Transfer, balance_of, open_account, post
from facefare.ledger.currency import check_amount
from facefare.ledger.errors import InvalidAmount, TransferConflict, UnknownAccount
from facefare.ledger.ids import new_id
from facefare.ledger.tables import account
from facefare.payments import cards, receipts
from facefare.payments.card_tables import card, card_refund, chargeback, top_up
from facefare.payments.errors import (
    CardDeclined,
    PaymentsError,
    ProcessorDisagrees,
    UnknownTopUp,
    WrongState,
)
from facefare.payments.processor import Charge, Processor, Progress
from facefare.wallet import payers
from facefare.wallet import tables as wallet
from facefare.wallet.payers import Payer

_LEFT_BEHIND = timedelta(minutes=2)
"""No answer takes this long: a top-up still open then was left by a crash."""

_KEY_GOOD_FOR = timedelta(hours=23)
"""The processor remembers idempotency keys for a day; later only its own word settles a top-up."""


@dataclass(frozen=True, repr=False)
class TopUp:
    """A top-up as its payer sees it, in minor units.

    `client_secret`, `confirm_url`: while the bank asks for a confirmation, by script or on a page of its own.
    """

    id: str
    amount: int
    currency: str
    state: str
    automatic: bool
    refunded: int
    reason: str | None
    receipt: str | None
    created_at: datetime
    client_secret: str | None = None
    confirm_url: str | None = None


def clearing_account(connection: Connection, currency: str) -> str:
    """The account of what the processor owes us in this currency."""
    id = f"acc_processor_{currency}"
    open_account(connection, Account(id, currency, Kind.ASSET, floor=None))
    return id


def debt_account(connection: Connection, payer: Payer) -> str:
    """The account of what the payer owes: for travel, or after a chargeback of money that was spent."""
    id = f"{payer.account_id}_debt"
    open_account(connection, Account(id, payer.currency, Kind.ASSET, floor=None))
    return id


def debt_of(connection: Connection, payer: Payer) -> int:
    """Minor units on the payer's account of debts."""
    try:
        return -balance_of(connection, f"{payer.account_id}_debt").posted
    except UnknownAccount:
        return 0


def charge(engine: Engine, processor: Processor, payer: Payer, amount: int, *, idempotency_key: str) -> TopUp:
    """Top up from the card on file, once for each key.

    Raises NoCard, InvalidAmount, TransferConflict for the same key with another amount,
    ProcessorUnavailable, ProcessorDisagrees. A refusal by the bank is a top-up in state `failed`.
    """
    check_amount(amount)
    id = "top_" + hashlib.sha256(f"card\n{payer.id}\n{idempotency_key}".encode()).hexdigest()[:32]
    with engine.begin() as connection:
        cards.row_on_file(connection, payer.id)
        connection.execute(
            upsert(top_up)
            .values(
                id=id, payer_id=payer.id, amount=amount, currency=payer.currency, automatic=False, state="processing"
            )
            .on_conflict_do_nothing(index_elements=["id"])
        )
        row = connection.execute(select(top_up).where(top_up.c.id == id)).one()
    if row.amount != amount:
        raise TransferConflict("This key was used for another amount; use a new key for a new top-up.")
    return ask(engine, processor, row)


def charge_those_below(engine: Engine, processor: Processor, *, limit: int = 50) -> int:
    """Top up, with nobody present, the payers whose money fell below their own mark; returns how many.

    One that the bank refuses, or wants confirmed, pauses the payer's automatic top-ups.
    """
    open_one = exists().where(
        top_up.c.payer_id == card.c.payer_id,
        top_up.c.automatic,
        top_up.c.state.in_(("processing", "requires_action")),
    )
    available = account.c.credits_posted - account.c.debits_posted - account.c.debits_pending
    due: ColumnElement[bool] = and_(
        card.c.payment_method.is_not(None), card.c.auto_paused.is_(None), available < card.c.auto_below, ~open_one
    )
    with engine.begin() as connection:
        rows = connection.execute(
            select(card.c.payer_id, card.c.auto_amount, wallet.payer.c.currency)
            .join(wallet.payer, wallet.payer.c.id == card.c.payer_id)
            .join(account, account.c.id == wallet.payer.c.account_id)
            .where(due)
            .limit(limit)
        ).all()
    charged = []

    def charge_one(row: Row[*tuple[Any, ...]]) -> None:
        with engine.begin() as connection:
            begun = begin_automatic(connection, row.payer_id, row.auto_amount, row.currency)
        if begun is not None:
            charged.append(begun.id)
            ask(engine, processor, begun)

    one_by_one(rows, charge_one)
    return len(charged)


def one_by_one(
    rows: Iterable[Row[*tuple[Any, ...]]],
    work: Callable[[Row[*tuple[Any, ...]]], None],
    failing: tuple[type[Exception], ...] = (PaymentsError,),
) -> None:
    """Do it for each: what is `failing` with one payer keeps nobody else waiting, and is raised at the end."""
    failure: Exception | None = None
    for row in rows:
        try:
            work(row)
        except failing as error:
            failure = error
    if failure is not None:
        raise failure


def begin_automatic(
    connection: Connection, payer_id: str, amount: int, currency: str
) -> Row[tuple[object, ...]] | None:
    """Write down a top-up with nobody present, for `ask`; None where one of this payer is under way."""
    new = {"id": new_id("top"), "payer_id": payer_id, "amount": amount, "currency": currency, "automatic": True}
    return connection.execute(
        upsert(top_up).values(**new, state="processing").on_conflict_do_nothing().returning(top_up)
    ).one_or_none()


def refund(
    engine: Engine, processor: Processor, payer: Payer, top_up_id: str, amount: int | None, *, idempotency_key: str
) -> TopUp:
    """Give unspent money back to the card that it came from, once for each key; None: as much as is there.

    Raises UnknownTopUp, WrongState, InvalidAmount, InsufficientFunds, TransferConflict, CardDeclined,
    ProcessorUnavailable.
    """
    with engine.begin() as connection:
        row = _begin_refund(connection, payer, top_up_id, amount, idempotency_key)
    if row.state == "processing":
        _ask_refund(engine, processor, row)
    with engine.begin() as connection:
        return read(connection, payer.id, top_up_id)


def read(connection: Connection, payer_id: str, top_up_id: str) -> TopUp:
    """The payer's top-up; raises UnknownTopUp, also for another payer's."""
    row = connection.execute(
        select(top_up).where(top_up.c.id == top_up_id, top_up.c.payer_id == payer_id)
    ).one_or_none()
    if row is None:
        raise UnknownTopUp("You have no such top-up.")
    return _shown(connection, row)


def look(engine: Engine, processor: Processor, payer: Payer, top_up_id: str) -> TopUp:
    """The top-up as the processor sees it now, such as after the bank was asked; raises UnknownTopUp."""
    with engine.begin() as connection:
        row = connection.execute(
            select(top_up).where(top_up.c.id == top_up_id, top_up.c.payer_id == payer.id)
        ).one_or_none()
    if row is None:
        raise UnknownTopUp("You have no such top-up.")
    return ask(engine, processor, row)


def of_payer(connection: Connection, payer_id: str, *, limit: int) -> list[TopUp]:
    """The payer's newest top-ups."""
    rows = connection.execute(
        select(top_up).where(top_up.c.payer_id == payer_id).order_by(top_up.c.created_at.desc()).limit(limit)
    )
    return [_shown(connection, row) for row in rows]


def record(connection: Connection, told: Charge) -> None:
    """Write down what the processor says of a charge, and credit the payer once if it succeeded.

    Raises UnknownTopUp, ProcessorDisagrees where it charged something else than we asked for.
    """
    payer, row = _locked(connection, told.top_up)
    if row.state == "succeeded":
        return
    if (told.amount, told.currency) != (row.amount, row.currency):
        raise ProcessorDisagrees(f"The card processor charged another amount for {row.id} than was asked.")
    if told.progress is Progress.SUCCEEDED:
        _credit(connection, payer, row)
    if row.automatic and told.progress in (Progress.FAILED, Progress.REQUIRES_ACTION):
        connection.execute(
            update(card).where(card.c.payer_id == payer.id).values(auto_paused=told.reason or "authentication_required")
        )
    connection.execute(
        update(top_up)
        .where(top_up.c.id == row.id)
        .values(state=told.progress.value, reason=told.reason, intent=told.intent or row.intent)
    )


def record_refund(connection: Connection, card_refund_id: str, refund_id: str | None, progress: Progress) -> None:
    """Write down what the processor says of a refund: the money is gone, or free again; raises UnknownTopUp."""
    of = select(card_refund.c.top_up_id).where(card_refund.c.id == card_refund_id)
    payer, charged = _locked(connection, connection.execute(of).scalar_one_or_none())
    row = connection.execute(select(card_refund).where(card_refund.c.id == card_refund_id)).one()
    if row.state in (progress.value, "failed") or (row.state == "succeeded" and progress is not Progress.FAILED):
        return  # known, or overtaken: only a failure follows a success
    hold = _refund_hold(connection, payer, row.id, row.amount)
    if progress is Progress.SUCCEEDED:
        ending = hold.capture(f"{row.id}.capture")
        post(connection, [ending])
        receipts.write(connection, payer, kind="card_refund", amount=row.amount, transfer_id=ending.id)
    elif progress is Progress.FAILED and row.state == "processing":
        post(connection, [hold.void(f"{row.id}.void")])
    elif progress is Progress.FAILED:
        back = Transfer.now(
            f"{row.id}.returned",
            debit=hold.credit_account,
            credit=hold.debit_account,
            amount=row.amount,
            currency=payer.currency,
            reason="card_refund_failed",
            reverses_id=f"{row.id}.capture",
        )
        post(connection, [back])
        receipts.write(connection, payer, kind="top_up", amount=row.amount, transfer_id=back.id)
    if progress is Progress.FAILED:
        connection.execute(
            update(top_up).where(top_up.c.id == charged.id).values(refunded=top_up.c.refunded - row.amount)
        )
    connection.execute(
        update(card_refund)
        .where(card_refund.c.id == row.id)
        .values(state=progress.value, refund=refund_id or row.refund)
    )


def finish_left_behind(engine: Engine, processor: Processor) -> int:
    """Ask again about what a crash left open; returns how many top-ups and refunds were looked at."""
    now = datetime.now(UTC)
    with engine.begin() as connection:
        charges = connection.execute(
            select(top_up).where(top_up.c.state == "processing", top_up.c.created_at < now - _LEFT_BEHIND)
        ).all()
        refunds = connection.execute(
            select(card_refund).where(
                card_refund.c.state == "processing", card_refund.c.created_at < now - _LEFT_BEHIND
            )
        ).all()

    def ask_again(row: Row[tuple[object, ...]]) -> None:
        if row.intent is not None or now - row.created_at < _KEY_GOOD_FOR:
            ask(engine, processor, row)

    def ask_again_for_refund(row: Row[tuple[object, ...]]) -> None:
        if row.refund is not None or now - row.created_at < _KEY_GOOD_FOR:
            _ask_refund(engine, processor, row)

    try:
        one_by_one(charges, ask_again)
    finally:
        one_by_one(refunds, ask_again_for_refund)
    return len(charges) + len(refunds)


def ask(engine: Engine, processor: Processor, row: Row[tuple[object, ...]]) -> TopUp:
    """Charge what was written down, or look at what was charged; the top-up as it is then."""
    secret = url = None
    if row.state != "succeeded":
        if row.intent is not None:
            told = processor.look_up(row.intent)
        elif row.state == "processing":
            told = _charge_card(engine, processor, row)
        else:
            told = None
        if told is not None:
            secret, url = told.client_secret, told.confirm_url
            with engine.begin() as connection:
                record(connection, told)
    with engine.begin() as connection:
        current = connection.execute(select(top_up).where(top_up.c.id == row.id)).one()
        return _shown(connection, current, secret, url)


def _charge_card(engine: Engine, processor: Processor, row: Row[tuple[object, ...]]) -> Charge:
    with engine.begin() as connection:
        on_file = cards.row_on_file(connection, row.payer_id)
    return processor.charge(
        row.id,
        customer=on_file.customer,
        payment_method=on_file.payment_method,
        amount=row.amount,
        currency=row.currency,
        off_session=row.automatic,
    )


def _credit(connection: Connection, payer: Payer, row: Row[tuple[object, ...]]) -> None:
    credit = Transfer.now(
        row.id,
        debit=clearing_account(connection, row.currency),
        credit=payer.account_id,
        amount=row.amount,
        currency=row.currency,
        reason="top_up",
    )
    if credit.id in post(connection, [credit]):
        receipts.write(connection, payer, kind="top_up", amount=row.amount, transfer_id=credit.id)
        _recover_debt(connection, payer, row.id)


def _recover_debt(connection: Connection, payer: Payer, cause: str) -> None:
    """What is owed is paid first."""
    owing = debt_account(connection, payer)
    amount = min(debt_of(connection, payer), balance_of(connection, payer.account_id).available)
    if amount <= 0:
        return
    paid = Transfer.now(
        f"{cause}.debt", debit=payer.account_id, credit=owing, amount=amount, currency=payer.currency, reason="debt"
    )
    post(connection, [paid])
    receipts.write(connection, payer, kind="debt", amount=amount, transfer_id=paid.id)


def _begin_refund(
    connection: Connection, payer: Payer, top_up_id: str, amount: int | None, key: str
) -> Row[tuple[object, ...]]:
    payer, row = _locked(connection, top_up_id)
    id = f"crf_{hashlib.sha256(f'{top_up_id} {key}'.encode()).hexdigest()[:32]}"
    done = connection.execute(select(card_refund).where(card_refund.c.id == id)).one_or_none()
    if done is not None:
        if amount not in (None, done.amount):
            raise TransferConflict("This key was used for another amount; use a new key for a new refund.")
        return done
    if row.state != "succeeded":
        raise WrongState("This top-up brought no money that could be given back.")
    left = row.amount - row.refunded - _charged_back(connection, row.id)
    given = min(left, balance_of(connection, payer.account_id).available) if amount is None else check_amount(amount)
    if not 1 <= given <= left:
        raise InvalidAmount("That is more than is left of this top-up.")
    post(connection, [_refund_hold(connection, payer, id, given)])
    connection.execute(update(top_up).where(top_up.c.id == row.id).values(refunded=row.refunded + given))
    return connection.execute(
        insert(card_refund).values(id=id, top_up_id=top_up_id, amount=given, state="processing").returning(card_refund)
    ).one()


def _charged_back(connection: Connection, top_up_id: object) -> int:
    """What the bank took back of a top-up itself, so that it does not go to the card a second time."""
    taken = select(func.coalesce(func.sum(chargeback.c.amount), 0)).where(
        chargeback.c.top_up_id == top_up_id, chargeback.c.state == "withdrawn"
    )
    return int(connection.execute(taken).scalar_one())


def _ask_refund(engine: Engine, processor: Processor, row: Row[tuple[object, ...]]) -> None:
    with engine.begin() as connection:
        intent = connection.execute(select(top_up.c.intent).where(top_up.c.id == row.top_up_id)).scalar_one()
    try:
        if row.refund is None:
            refund_id, progress = processor.refund(row.id, intent, row.amount)
        else:
            refund_id, progress = row.refund, processor.look_up_refund(row.refund)
    except CardDeclined:
        with engine.begin() as connection:
            record_refund(connection, row.id, None, Progress.FAILED)
        raise
    with engine.begin() as connection:
        connection.execute(update(card_refund).where(card_refund.c.id == row.id).values(refund=refund_id))
        record_refund(connection, row.id, refund_id, progress)


def _refund_hold(connection: Connection, payer: Payer, id: str, amount: int) -> Transfer:
    return Transfer.hold(
        f"{id}.hold",
        debit=payer.account_id,
        credit=clearing_account(connection, payer.currency),
        amount=amount,
        currency=payer.currency,
        reason="card_refund",
        expires_at=datetime.now(UTC) + timedelta(days=30),
    )


def _locked(connection: Connection, top_up_id: str | None) -> tuple[Payer, Row[tuple[object, ...]]]:
    """The top-up and its payer, the payer locked; raises UnknownTopUp."""
    owner = connection.execute(select(top_up.c.payer_id).where(top_up.c.id == top_up_id)).scalar_one_or_none()
    if owner is None:
        raise UnknownTopUp("There is no such top-up.")
    payer = payers.locked(connection, owner)
    return payer, connection.execute(select(top_up).where(top_up.c.id == top_up_id)).one()


def _shown(
    connection: Connection,
    row: Row[tuple[object, ...]],
    client_secret: str | None = None,
    confirm_url: str | None = None,
) -> TopUp:
    return TopUp(
        id=row.id,
        amount=row.amount,
        currency=row.currency,
        state=row.state,
        automatic=row.automatic,
        refunded=row.refunded,
        reason=row.reason,
        receipt=receipts.of_transfer(connection, row.id) if row.state == "succeeded" else None,
        created_at=row.created_at,
        client_secret=client_secret,
        confirm_url=confirm_url,
    )
