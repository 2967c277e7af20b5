"""Our books beside the card processor's report: every difference is listed, none is guessed away.

The report is Stripe's "balance change from activity, itemised" as CSV. A line of it and a movement of ours
belong together only by the processor's own name for the thing (pi_…, re_…, dp_…) and the kind of movement,
never by amount or time.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, text

from facefare.files import sentence
from facefare.ledger.currency import MINOR_UNITS
from facefare.payments.errors import ReportUnreadable


class What(StrEnum):
    """How our books and the report differ."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    AMOUNT_DIFFERS = "amount_differs"
    TWICE_THERE = "twice_there"


@dataclass(frozen=True)
class Movement:
    """Money in (positive) or out, in minor units; `name` is the processor's own, `reference` the line or transfer."""

    category: str
    name: str
    amount: int
    currency: str
    reference: str


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same; amounts in minor units, none where that side has nothing."""

    what: What
    category: str
    name: str
    currency: str
    here: int | None
    there: int | None
    reference: str


@dataclass(frozen=True)
class Reconciliation:
    """What was compared, and all that differs; `fees`: the processor's own, by currency, in minor units."""

    same: int
    differences: tuple[Difference, ...]
    fees: dict[str, int]


_NAMED_BY = {
    "charge": "payment_intent_id",
    "refund": "source_id",
    "dispute": "source_id",
    "dispute_reversal": "source_id",
}

_OURS = text("""
    SELECT 'charge' AS category, u.intent AS name, t.amount, t.currency, t.id AS reference, t.created_at
      FROM card_top_up u JOIN ledger_transfer t ON t.id = u.id
    UNION ALL
    SELECT 'refund', r.refund, -t.amount, t.currency, t.id, t.created_at
      FROM card_refund r JOIN ledger_transfer t ON t.id = r.id || '.capture'
    UNION ALL
    SELECT 'refund_failure', r.refund, t.amount, t.currency, t.id, t.created_at
      FROM card_refund r JOIN ledger_transfer t ON t.id = r.id || '.returned'
    UNION ALL
    SELECT 'dispute', c.id, -c.amount, u.currency, c.id, c.created_at
      FROM chargeback c JOIN card_top_up u ON u.id = c.top_up_id
    UNION ALL
    SELECT 'dispute_reversal', c.id, sum(t.amount), min(t.currency), c.id, min(t.created_at)
      FROM chargeback c JOIN ledger_transfer t ON t.id IN (c.id || '.returned', c.id || '.forgiven')
      GROUP BY c.id
""")


def reconcile(connection: Connection, report: Path, *, since: datetime, until: datetime) -> Reconciliation:
    """Compare the report with what moved here in [since, until); raises ReportUnreadable.

    A report that is cut at another moment shows the movements around its ends as differences.
    """
    theirs, fees = read_report(report)
    return compare(_ours(connection, since, until), theirs, fees)


def compare(ours: Iterable[Movement], theirs: Iterable[Movement], fees: dict[str, int]) -> Reconciliation:
    """Put together what has the same category and name; all that is left over or unequal is a difference."""
    here: dict[tuple[str, str], Movement] = {(one.category, one.name): one for one in ours}
    there: dict[tuple[str, str], list[Movement]] = defaultdict(list)
    for one in theirs:
        there[one.category, one.name].append(one)
    same, differences = 0, []
    for at in sorted({*here, *there}):
        mine, lines = here.get(at), there.get(at, [])
        if mine is None:
            differences += [_difference(What.MISSING_HERE, None, line) for line in lines]
        elif not lines:
            differences.append(_difference(What.MISSING_THERE, mine, None))
        else:
            equal = (mine.amount, mine.currency) == (lines[0].amount, lines[0].currency)
            same += equal
            if not equal:
                differences.append(_difference(What.AMOUNT_DIFFERS, mine, lines[0]))
            differences += [_difference(What.TWICE_THERE, mine, line) for line in lines[1:]]
    return Reconciliation(same, tuple(differences), fees)


def read_report(report: Path) -> tuple[list[Movement], dict[str, int]]:
    """The report's movements, and its fees by currency; raises ReportUnreadable."""
    movements: list[Movement] = []
    fees: dict[str, int] = defaultdict(int)
    try:
        with report.open(newline="", encoding="utf-8-sig") as file:
            for line in csv.DictReader(file):
                currency = line["currency"].upper()
                category = line["reporting_category"]
                name = line.get(_NAMED_BY.get(category, "source_id")) or line["balance_transaction_id"]
                movements.append(
                    Movement(category, name, _minor(line["gross"], currency), currency, line["balance_transaction_id"])
                )
                fees[currency] += _minor(line["fee"], currency)
    except OSError as error:
        raise ReportUnreadable(sentence(error)) from error
    except KeyError as error:
        raise ReportUnreadable(f"{report} is no itemised balance report: it has no column {error.args[0]}.") from error
    except (UnicodeDecodeError, csv.Error, InvalidOperation, AttributeError, TypeError) as error:
        raise ReportUnreadable(f"{report} is no itemised balance report: a line can't be read.") from error
    return movements, dict(fees)


def _ours(connection: Connection, since: datetime, until: datetime) -> list[Movement]:
    return [
        Movement(row.category, row.name or row.reference, int(row.amount), row.currency, row.reference)
        for row in connection.execute(_OURS)
        if since <= row.created_at.astimezone(UTC) < until
    ]


def _minor(amount: str, currency: str) -> int:
    """'12.30' EUR -> 1230; raises ReportUnreadable for a currency we don't know or parts of a minor unit."""
    if currency not in MINOR_UNITS:
        raise ReportUnreadable(f"The report has the unknown currency {currency[:8]!r}.")
    minor = Decimal(amount).scaleb(MINOR_UNITS[currency])
    if not minor.is_finite() or minor != minor.to_integral_value():
        raise ReportUnreadable(f"The report has the amount {amount[:20]!r}, which is no number of minor units.")
    return int(minor)


def _difference(what: What, here: Movement | None, there: Movement | None) -> Difference:
    one = there or here
    assert one is not None
    return Difference(
        what=what,
        category=one.category,
        name=one.name,
        currency=one.currency,
        here=None if here is None else here.amount,
        there=None if there is None else there.amount,
        reference=one.reference,
    )
