"""Settlement, export and reconciliation: each movement once, every difference named."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from facefare.ledger import Account, Kind, Transfer, balance_of, open_account, post, verify
from facefare.payments import merchants, reconciliation, settlements
from facefare.payments.errors import ReportUnreadable, WrongState
from facefare.payments.reconciliation import Movement, What, compare
from facefare.payments.verify import INVARIANTS

DAY = date(2026, 3, 1)


@dataclass
class Books:
    engine: Engine
    merchant: str
    number: int = 0

    def take(self, amount: int, day: date = DAY) -> str:
        """A sale at noon."""
        return self._move("acc_bank", self.account, amount, day, reverses=None)

    def give_back(self, sale: str, amount: int, day: date = DAY) -> str:
        return self._move(self.account, "acc_bank", amount, day, reverses=sale)

    @property
    def account(self) -> str:
        return f"acc_{self.merchant}_EUR"

    def _move(self, debit: str, credit: str, amount: int, day: date, reverses: str | None) -> str:
        self.number += 1
        id = f"t{self.number}"
        with self.engine.begin() as connection:
            moved = Transfer.now(
                id, debit=debit, credit=credit, amount=amount, currency="EUR", reason="test", reverses_id=reverses
            )
            post(connection, [moved])
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            connection.execute(text("UPDATE ledger_transfer SET created_at = :at WHERE id = :id"), {"at": at, "id": id})
        return id

    def settle(self, day: date = DAY) -> list[settlements.Settlement]:
        with self.engine.begin() as connection:
            return settlements.settle(connection, day)


@pytest.fixture
def books(engine: Engine) -> Books:
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Shop")
        merchants.account_of(connection, merchant, "EUR")
        open_account(connection, Account("acc_bank", "EUR", Kind.ASSET, None))
    return Books(engine, merchant)


def test_a_day_is_settled_once_and_paid_out_in_the_ledger(books: Books) -> None:
    sale = books.take(1000)
    books.take(500)
    books.give_back(sale, 300)
    (one,) = books.settle()
    assert (one.carried, one.taken, one.given_back, one.paid_out, one.left) == (0, 1500, 300, 1200, 0)
    assert books.settle() == []
    with books.engine.connect() as connection:
        assert balance_of(connection, books.account).posted == 0
        assert balance_of(connection, "acc_payouts_EUR").posted == 1200
    assert verify(books.engine, INVARIANTS) == []


def test_more_given_back_than_taken_is_carried_until_it_is_earned(books: Books) -> None:
    sale = books.take(1000)
    books.settle()
    books.give_back(sale, 700, DAY + timedelta(days=1))
    (second,) = books.settle(DAY + timedelta(days=1))
    assert (second.paid_out, second.left) == (0, -700)
    books.take(900, DAY + timedelta(days=2))
    (third,) = books.settle(DAY + timedelta(days=2))
    assert (third.carried, third.paid_out, third.left) == (-700, 200, 0)


def test_a_movement_that_came_too_late_for_its_day_is_in_the_next_settlement(books: Books) -> None:
    books.take(1000)
    books.settle()
    late = books.take(400)
    (second,) = books.settle(DAY + timedelta(days=1))
    assert second.taken == 400
    with books.engine.connect() as connection:
        assert [line.transfer for line in settlements.lines(connection, second.id)] == [late]
    assert verify(books.engine, INVARIANTS) == []


def test_settling_in_several_processes_at_once_settles_once(books: Books) -> None:
    books.take(1000)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: books.settle(), range(4)))
    assert sorted(len(one) for one in done) == [0, 0, 0, 1]
    assert verify(books.engine, INVARIANTS) == []


def test_a_day_that_is_not_over_is_not_settled(books: Books) -> None:
    with pytest.raises(WrongState):
        books.settle(datetime.now(UTC).date())


def test_verify_names_a_settlement_that_is_not_the_sum_of_its_movements(books: Books) -> None:
    books.take(1000)
    books.settle()
    with books.engine.begin() as connection:
        connection.execute(text("DELETE FROM settlement_line"))
    assert [finding.invariant[:12] for finding in verify(books.engine, INVARIANTS)] == ["a settlement"]


def test_exports_hold_every_movement_with_its_sign_and_add_up(books: Books) -> None:
    sale = books.take(1000)
    books.give_back(sale, 300)
    books.settle()
    with books.engine.connect() as connection:
        chosen = settlements.between(connection, DAY, DAY)
        rows = list(csv.DictReader(io.StringIO(settlements.as_csv(connection, chosen))))
        (exported,) = json.loads(settlements.as_json(connection, chosen))
    assert sum(int(row["amount"].lstrip("'")) for row in rows) == exported["paid_out"] == 700
    assert [line["amount"] for line in exported["lines"]] == [1000, -300]
    assert "pay_" not in json.dumps(exported)


# --- reconciliation ---

movements = st.builds(
    Movement,
    category=st.sampled_from(["charge", "refund", "payout"]),
    name=st.sampled_from(["a", "b", "c", "d"]),
    amount=st.integers(-3, 3),
    currency=st.sampled_from(["EUR", "CHF"]),
    reference=st.just("r"),
)


@given(st.lists(movements, unique_by=lambda one: (one.category, one.name)), st.lists(movements))
def test_whatever_is_not_the_same_is_listed_and_the_sums_differ_by_just_that(
    ours: list[Movement], theirs: list[Movement]
) -> None:
    found = compare(ours, theirs, {})
    here = sum(one.here or 0 for one in found.differences if one.what is not What.TWICE_THERE)
    there = sum(one.there or 0 for one in found.differences)
    same_sum = sum(one.amount for one in ours) - here
    assert sum(one.amount for one in theirs) - there == same_sum
    assert (found.differences == ()) == (
        sorted((o.category, o.name, o.amount, o.currency) for o in ours)
        == sorted((t.category, t.name, t.amount, t.currency) for t in theirs)
    )


HEADER = "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,payment_intent_id\n"


def report(folder: Path, *lines: str) -> Path:
    path = folder / "report.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def test_the_report_is_read_in_minor_units_with_its_fees(tmp_path: Path) -> None:
    path = report(
        tmp_path,
        "txn_1,2026-03-01,eur,20.00,0.55,19.45,charge,ch_1,pi_1",
        "txn_2,2026-03-01,jpy,300,0,300,charge,ch_2,pi_2",
        "txn_3,2026-03-01,eur,-5.00,0,-5.00,refund,re_1,pi_1",
        "txn_4,2026-03-02,eur,-14.45,0.00,-14.45,payout,po_1,",
    )
    found, fees = reconciliation.read_report(path)
    assert [(one.category, one.name, one.amount, one.currency) for one in found] == [
        ("charge", "pi_1", 2000, "EUR"),
        ("charge", "pi_2", 300, "JPY"),
        ("refund", "re_1", -500, "EUR"),
        ("payout", "po_1", -1445, "EUR"),
    ]
    assert fees == {"EUR": 55, "JPY": 0}


@pytest.mark.parametrize(
    "line",
    [
        "txn_1,x,eur,2.005,0,2,charge,ch_1,pi_1",
        "txn_1,x,xxx,2,0,2,charge,ch_1,pi_1",
        "txn_1,x,eur,NaN,0,2,charge,ch_1,pi_1",
        "txn_1,x,eur,two,0,2,charge,ch_1,pi_1",
        "txn_1,x,eur",
    ],
)
def test_a_report_that_cannot_be_read_whole_is_refused_whole(tmp_path: Path, line: str) -> None:
    with pytest.raises(ReportUnreadable):
        reconciliation.read_report(report(tmp_path, line))


def test_books_and_report_are_compared_by_the_processors_own_names(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text("INSERT INTO payer (id, token_sha256, currency, account_id) VALUES ('p','x','EUR','a')")
        )
        for number, amount in enumerate((2000, 1000, 700)):
            connection.execute(
                text(
                    "INSERT INTO card_top_up (id, payer_id, amount, currency, automatic, state, intent)"
                    " VALUES (:id, 'p', :amount, 'EUR', false, 'succeeded', :intent)"
                ),
                {"id": f"top_{number}", "amount": amount, "intent": f"pi_{number}"},
            )
            connection.execute(
                text(
                    "INSERT INTO ledger_transfer (id, kind, debit_account, credit_account, currency, amount, reason)"
                    " VALUES (:id, 'posted', 'b', 'a', 'EUR', :amount, 'top_up')"
                ),
                {"id": f"top_{number}", "amount": amount},
            )
    path = report(
        tmp_path,
        "txn_1,x,eur,20.00,0,20,charge,ch_0,pi_0",
        "txn_2,x,eur,10.01,0,10,charge,ch_1,pi_1",
        "txn_3,x,eur,20.00,0,20,charge,ch_0,pi_0",
        "txn_4,x,eur,-3.00,0,-3,dispute,dp_1,pi_1",
    )
    now = datetime.now(UTC)
    with engine.connect() as connection:
        found = reconciliation.reconcile(
            connection, path, since=now - timedelta(hours=1), until=now + timedelta(hours=1)
        )
    assert found.same == 1
    assert {(one.what, one.name, one.here, one.there) for one in found.differences} == {
        (What.AMOUNT_DIFFERS, "pi_1", 1000, 1001),
        (What.TWICE_THERE, "pi_0", 2000, 2000),
        (What.MISSING_THERE, "pi_2", 700, None),
        (What.MISSING_HERE, "dp_1", None, -300),
    }
