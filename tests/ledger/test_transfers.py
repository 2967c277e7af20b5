"""Holds, captures, refunds: what the ledger allows and what the database itself refuses."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from facefare.ledger import Account, Kind, Transfer, balance_of, expire_holds, open_account, post, verify
from facefare.ledger.errors import (
    AccountConflict,
    HoldEnded,
    InsufficientFunds,
    InvalidAmount,
    InvalidTransfer,
    TransferConflict,
    UnknownAccount,
    UnknownCurrency,
)
from facefare.ledger.ids import new_id
from facefare.ledger.verify import INVARIANTS


def later(seconds: float = 3600) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
def books(engine: Engine) -> Engine:
    """A payer with 10.00 EUR, a merchant, and where the money came from."""
    with engine.begin() as connection:
        open_account(connection, Account("acc_bank", "EUR", Kind.ASSET, None))
        open_account(connection, Account("acc_payer", "EUR", Kind.LIABILITY, 0))
        open_account(connection, Account("acc_shop", "EUR", Kind.LIABILITY, None))
        open_account(connection, Account("acc_shop_chf", "CHF", Kind.LIABILITY, None))
        post(connection, [move("top", "acc_bank", "acc_payer", 1000)])
    return engine


def move(id: str, debit: str, credit: str, amount: int, **more: object) -> Transfer:
    fields = {"currency": "EUR", "reason": "test", **more}
    return Transfer.now(id, debit=debit, credit=credit, amount=amount, **fields)  # type: ignore[arg-type]


def hold(id: str, amount: int, seconds: float = 3600) -> Transfer:
    return Transfer.hold(
        id,
        debit="acc_payer",
        credit="acc_shop",
        amount=amount,
        currency="EUR",
        reason="fare",
        expires_at=later(seconds),
    )


def available(engine: Engine, account: str = "acc_payer") -> int:
    with engine.connect() as connection:
        return balance_of(connection, account).available


def test_a_hold_lowers_what_is_available_and_its_capture_frees_the_rest(books: Engine) -> None:
    held = hold("h", 700)
    with books.begin() as connection:
        post(connection, [held])
    assert available(books) == 300
    with books.begin() as connection:
        post(connection, [held.capture("c", 280)])
    assert available(books) == 720
    assert available(books, "acc_shop") == 280
    assert verify(books) == []


def test_a_voided_hold_costs_nothing(books: Engine) -> None:
    held = hold("h", 700)
    with books.begin() as connection:
        post(connection, [held])
        post(connection, [held.void("v")])
    assert available(books) == 1000
    assert verify(books) == []


def test_hold_and_capture_may_be_posted_together(books: Engine) -> None:
    held = hold("h", 280)
    with books.begin() as connection:
        post(connection, [held, held.capture("c")])
    assert available(books) == 720
    assert verify(books) == []


@pytest.mark.parametrize("first", ["capture", "void"])
@pytest.mark.parametrize("second", ["capture", "void"])
def test_a_hold_ends_only_once(books: Engine, first: str, second: str) -> None:
    held = hold("h", 500)
    with books.begin() as connection:
        post(connection, [held, getattr(held, first)("e1")])
    with pytest.raises(HoldEnded), books.begin() as connection:
        post(connection, [getattr(held, second)("e2")])
    assert verify(books) == []


def test_a_capture_of_more_than_the_hold_is_refused(books: Engine) -> None:
    held = hold("h", 500)
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [held, held.capture("c", 501)])
    assert available(books) == 1000


def test_an_expired_hold_cannot_be_captured_and_is_swept_once(books: Engine) -> None:
    held = hold("h", 500, seconds=0.1)
    with books.begin() as connection:
        post(connection, [held])
    assert available(books) == 500
    time.sleep(0.15)
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [held.capture("c")])
    with books.begin() as connection:
        assert expire_holds(connection) == 1
    with books.begin() as connection:
        assert expire_holds(connection) == 0
    assert available(books) == 1000
    assert verify(books) == []


def test_a_hold_cannot_be_swept_before_its_time(books: Engine) -> None:
    held = hold("h", 500)
    early = Transfer("e", "expiry", held.debit_account, held.credit_account, "EUR", 500, "fare", "h")
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [held, early])


def test_a_hold_longer_than_a_month_is_refused(books: Engine) -> None:
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [hold("h", 500, seconds=32 * 86400)])


def test_the_floor_stops_a_payment_and_a_hold(books: Engine) -> None:
    with pytest.raises(InsufficientFunds), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_shop", 1001)])
    with books.begin() as connection:
        post(connection, [hold("h", 900)])
    with pytest.raises(InsufficientFunds), books.begin() as connection:
        post(connection, [hold("h2", 101)])
    assert available(books) == 100


def test_a_batch_is_posted_whole_or_not_at_all(books: Engine) -> None:
    with pytest.raises(InsufficientFunds), books.begin() as connection:
        post(connection, [move("a", "acc_payer", "acc_shop", 10), move("b", "acc_payer", "acc_shop", 9999)])
    assert available(books) == 1000


def test_the_same_transfer_sent_again_is_posted_once(books: Engine) -> None:
    pay = move("x", "acc_payer", "acc_shop", 100)
    for expected in ({"x"}, set()):
        with books.begin() as connection:
            assert post(connection, [pay]) == expected
    assert available(books) == 900


def test_the_same_id_with_other_contents_is_refused(books: Engine) -> None:
    with books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_shop", 100)])
    with pytest.raises(TransferConflict), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_shop", 101)])
    with pytest.raises(TransferConflict), books.begin() as connection:
        post(connection, [move("y", "acc_payer", "acc_shop", 1), move("y", "acc_payer", "acc_shop", 2)])
    assert available(books) == 900


def test_refunds_in_parts_never_exceed_what_was_captured(books: Engine) -> None:
    held = hold("h", 500)
    with books.begin() as connection:
        post(connection, [held, held.capture("c", 300)])
        post(connection, [move("r1", "acc_shop", "acc_payer", 200, reverses_id="c")])
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [move("r2", "acc_shop", "acc_payer", 101, reverses_id="c")])
    with books.begin() as connection:
        post(connection, [move("r3", "acc_shop", "acc_payer", 100, reverses_id="c")])
    assert available(books) == 1000
    assert verify(books) == []


def test_a_refund_goes_back_to_whom_it_came_from(books: Engine) -> None:
    with books.begin() as connection:
        open_account(connection, Account("acc_other", "EUR", Kind.LIABILITY, 0))
        post(connection, [move("x", "acc_payer", "acc_shop", 100)])
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [move("r", "acc_shop", "acc_other", 100, reverses_id="x")])


def test_a_hold_is_not_refunded_but_voided(books: Engine) -> None:
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [hold("h", 100), move("r", "acc_shop", "acc_payer", 100, reverses_id="h")])


@pytest.mark.parametrize("amount", [0, -1, 10**15 + 1])
def test_an_amount_out_of_range_is_refused(books: Engine, amount: int) -> None:
    with pytest.raises(InvalidAmount), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_shop", amount)])


def test_unknown_accounts_and_currencies_are_refused(books: Engine) -> None:
    with pytest.raises(UnknownAccount), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_nobody", 1)])
    with pytest.raises(UnknownAccount), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_shop_chf", 1)])
    with pytest.raises(UnknownCurrency), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_shop", 1, currency="XXX")])
    with pytest.raises(InvalidTransfer), books.begin() as connection:
        post(connection, [move("x", "acc_payer", "acc_payer", 1)])
    with pytest.raises(UnknownAccount), books.begin() as connection:
        balance_of(connection, "acc_nobody")


def test_an_account_is_opened_once(books: Engine) -> None:
    with books.begin() as connection:
        open_account(connection, Account("acc_payer", "EUR", Kind.LIABILITY, 0))
    assert available(books) == 1000
    with pytest.raises(AccountConflict), books.begin() as connection:
        open_account(connection, Account("acc_payer", "EUR", Kind.LIABILITY, None))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_transfer SET amount = 1",
        "DELETE FROM ledger_transfer",
        "TRUNCATE ledger_transfer CASCADE",
        "TRUNCATE ledger_account CASCADE",
        "UPDATE ledger_account SET credits_posted = credits_posted + 1",
        "UPDATE ledger_account SET floor = -100",
        "DELETE FROM ledger_account",
        "INSERT INTO ledger_account (id, currency, kind, credits_posted) VALUES ('acc_x', 'EUR', 'asset', 5)",
    ],
)
def test_the_database_refuses_to_rewrite_the_books(books: Engine, statement: str) -> None:
    with pytest.raises(DBAPIError), books.begin() as connection:
        connection.execute(text(statement))
    assert verify(books) == []


def tampered(connection: Connection, statement: str) -> None:
    """What only a database superuser could do."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(text(statement))


TAMPERED = [
    ("UPDATE ledger_account SET credits_posted = 1001 WHERE id = 'acc_payer'", "every balance is the"),
    ("UPDATE ledger_account SET credits_posted = 1001 WHERE id = 'acc_payer'", "each currency sums to"),
    ("DELETE FROM ledger_account WHERE id = 'acc_shop'", "every transfer moves between"),
    ("UPDATE ledger_transfer SET amount = 401 WHERE id = 'c'", "an ending matches its hold"),
    ("UPDATE ledger_transfer SET amount = 301 WHERE id = 'r'", "refunds never exceed"),
    ("UPDATE ledger_transfer SET credit_account = 'acc_bank' WHERE id = 'r'", "a refund goes back"),
    ("DELETE FROM ledger_transfer WHERE id = 'h'", "an ending matches its hold"),
    ("ALTER TABLE ledger_transfer DISABLE TRIGGER ledger_transfer_immutable", "the database's guards"),
    (
        "UPDATE ledger_transfer SET created_at = created_at - interval '2 days',"
        " expires_at = created_at - interval '1 day' WHERE id = 'h2'",
        "no expired hold is left open",
    ),
    (
        "UPDATE ledger_transfer SET created_at = created_at + interval '2 days' WHERE id = 'c'",
        "no capture came after",
    ),
    (
        "ALTER TABLE ledger_account DROP CONSTRAINT floor_kept;"
        " UPDATE ledger_account SET floor = 5000 WHERE id = 'acc_payer'",
        "no account is below its floor",
    ),
    (
        "ALTER TABLE ledger_transfer DROP CONSTRAINT amount_positive;"
        " UPDATE ledger_transfer SET amount = 0 WHERE id = 'r'",
        "every amount is positive",
    ),
    (
        "DROP INDEX hold_ends_once; INSERT INTO ledger_transfer"
        " (id, kind, debit_account, credit_account, currency, amount, hold_id, reason)"
        " SELECT 'c2', kind, debit_account, credit_account, currency, amount, hold_id, reason"
        " FROM ledger_transfer WHERE id = 'c'",
        "a hold ends at most once",
    ),
]


def test_every_invariant_has_somebody_who_breaks_it() -> None:
    broken = [[name for name in INVARIANTS if name.startswith(beginning)] for _, beginning in TAMPERED]
    assert {name for one in broken for name in one} == set(INVARIANTS)
    assert {len(one) for one in broken} == {1}


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE ledger_account DROP CONSTRAINT floor_kept",
        "ALTER TABLE ledger_transfer DROP CONSTRAINT amount_positive",
        "DROP INDEX hold_ends_once",
        "DROP INDEX hold_ends_once; CREATE INDEX hold_ends_once ON ledger_transfer (hold_id)",
        "ALTER TABLE ledger_account DROP CONSTRAINT floor_kept;"
        " ALTER TABLE ledger_account ADD CONSTRAINT floor_kept CHECK (floor < 0) NOT VALID",
        "DROP TRIGGER ledger_account_guarded ON ledger_account",
    ],
)
def test_a_guard_that_is_gone_is_named(books: Engine, statement: str) -> None:
    with books.connect() as connection, connection.begin() as undone:
        connection.execute(text(statement))
        (gone,) = connection.execute(text(INVARIANTS["the database's guards are in place"])).scalars()
        assert gone in statement
        undone.rollback()
    assert verify(books) == []


@pytest.mark.parametrize(("statement", "invariant"), TAMPERED)
def test_verify_names_the_invariant_that_was_broken(books: Engine, statement: str, invariant: str) -> None:
    held = hold("h", 400)
    with books.begin() as connection:
        post(connection, [held, held.capture("c", 300), hold("h2", 5)])
        post(connection, [move("r", "acc_shop", "acc_payer", 300, reverses_id="c")])
    assert verify(books) == []
    with books.begin() as connection:
        tampered(connection, statement)
    assert any(finding.invariant.startswith(invariant) for finding in verify(books))


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_id("pi") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids[0][:12] <= ids[-1][:12]
    assert all(id.startswith("pi_") and len(id) == 29 for id in ids)
