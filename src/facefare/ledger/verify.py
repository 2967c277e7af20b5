"""The named money invariants, each a query that finds what breaks it; safe to run on a live ledger."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

_GUARDS = (
    "ledger_transfer_applied",
    "ledger_transfer_immutable",
    "ledger_transfer_not_truncated",
    "ledger_account_opens_empty",
    "ledger_account_guarded",
    "ledger_account_not_truncated",
    "amount_positive",
    "floor_kept",
    "hold_ends_once",
)
"""Triggers, checks and the unique index that refuse what the invariants would find."""

INVARIANTS: dict[str, str] = {
    "every balance is the sum of its transfers": """
        WITH ended AS (SELECT hold_id FROM ledger_transfer WHERE hold_id IS NOT NULL),
        side AS (
          SELECT debit_account AS account, kind, amount, 1 AS debit, id FROM ledger_transfer
          UNION ALL SELECT credit_account, kind, amount, 0, id FROM ledger_transfer),
        total AS (
          SELECT account,
            coalesce(sum(amount) FILTER (WHERE debit = 1 AND kind IN ('posted', 'capture')), 0) AS dpo,
            coalesce(sum(amount) FILTER (WHERE debit = 0 AND kind IN ('posted', 'capture')), 0) AS cpo,
            coalesce(sum(amount) FILTER (WHERE debit = 1 AND kind = 'hold' AND e.hold_id IS NULL), 0) AS dpe,
            coalesce(sum(amount) FILTER (WHERE debit = 0 AND kind = 'hold' AND e.hold_id IS NULL), 0) AS cpe
          FROM side LEFT JOIN ended e ON e.hold_id = side.id GROUP BY account)
        SELECT a.id FROM ledger_account a LEFT JOIN total t ON t.account = a.id
        WHERE (a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending)
          IS DISTINCT FROM
            (coalesce(t.dpo, 0), coalesce(t.cpo, 0), coalesce(t.dpe, 0), coalesce(t.cpe, 0))""",
    "each currency sums to zero": """
        SELECT currency FROM ledger_account GROUP BY currency
        HAVING sum(credits_posted) <> sum(debits_posted) OR sum(credits_pending) <> sum(debits_pending)""",
    "no account is below its floor": """
        SELECT id FROM ledger_account WHERE credits_posted - debits_posted - debits_pending < floor""",
    "every amount is positive": "SELECT id FROM ledger_transfer WHERE amount <= 0",
    "every transfer moves between two accounts of its currency": """
        SELECT t.id FROM ledger_transfer t
        LEFT JOIN ledger_account d ON d.id = t.debit_account AND d.currency = t.currency
        LEFT JOIN ledger_account c ON c.id = t.credit_account AND c.currency = t.currency
        WHERE d.id IS NULL OR c.id IS NULL OR d.id = c.id""",
    "a hold ends at most once": """
        SELECT hold_id FROM ledger_transfer WHERE hold_id IS NOT NULL GROUP BY hold_id HAVING count(*) > 1""",
    "an ending matches its hold": """
        SELECT e.id FROM ledger_transfer e LEFT JOIN ledger_transfer h ON h.id = e.hold_id AND h.kind = 'hold'
        WHERE e.kind IN ('capture', 'void', 'expiry') AND (h.id IS NULL OR e.amount > h.amount
          OR (e.debit_account, e.credit_account, e.currency)
            <> (h.debit_account, h.credit_account, h.currency))""",
    "no capture came after its hold expired": """
        SELECT e.id FROM ledger_transfer e JOIN ledger_transfer h ON h.id = e.hold_id
        WHERE e.kind = 'capture' AND e.created_at > h.expires_at + interval '1 minute'""",
    "refunds never exceed what was captured": """
        SELECT o.id FROM ledger_transfer o JOIN ledger_transfer r ON r.reverses_id = o.id
        GROUP BY o.id, o.amount, o.kind
        HAVING sum(r.amount) > o.amount OR o.kind NOT IN ('posted', 'capture')""",
    "a refund goes back the way the money came": """
        SELECT r.id FROM ledger_transfer r LEFT JOIN ledger_transfer o ON o.id = r.reverses_id
        WHERE r.reverses_id IS NOT NULL AND (o.id IS NULL
          OR (r.debit_account, r.credit_account, r.currency)
            <> (o.credit_account, o.debit_account, o.currency))""",
    "no expired hold is left open for an hour": """
        SELECT h.id FROM ledger_transfer h WHERE h.kind = 'hold'
          AND h.expires_at < clock_timestamp() - interval '1 hour'
          AND NOT EXISTS (SELECT 1 FROM ledger_transfer e WHERE e.hold_id = h.id)""",
    "the database's guards are in place": f"""
        SELECT name FROM unnest(ARRAY['{"', '".join(_GUARDS)}']) AS name
        WHERE NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = name AND tgenabled = 'O')
          AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = name AND contype = 'c' AND convalidated
            AND conrelid IN ('ledger_account'::regclass, 'ledger_transfer'::regclass))
          AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(name) AND indisunique AND indisvalid
            AND indrelid = 'ledger_transfer'::regclass)""",  # noqa: S608
}
"""Name of each invariant -> query for the ids that break it."""


@dataclass(frozen=True)
class Finding:
    """A broken invariant and the first few ids that break it."""

    invariant: str
    broken_by: tuple[str, ...]


def verify(engine: Engine, more: Mapping[str, str] | None = None) -> list[Finding]:
    """Check every invariant, and `more` of the same form, on one snapshot.

    An empty list means that the books are in order.
    """
    findings = []
    with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
        for name, query in {**INVARIANTS, **(more or {})}.items():
            if broken := _broken(connection, query):
                findings.append(Finding(name, broken))
    return findings


def _broken(connection: Connection, query: str) -> tuple[str, ...]:
    return tuple(connection.execute(text(f"SELECT * FROM ({query}) AS broken LIMIT 10")).scalars())  # noqa: S608
