"""The named invariants between payments and the ledger, for `facefare.ledger.verify`."""

INVARIANTS: dict[str, str] = {
    "a payment that succeeded took exactly what it says, once": """
        SELECT i.id FROM payment_intent i LEFT JOIN ledger_transfer t
          ON t.id = i.id || '.capture' AND t.kind = 'capture' AND t.hold_id = i.id || '.hold'
        WHERE i.state = 'succeeded' AND NOT (i.fare AND i.captured = 0 AND t.id IS NULL)
          AND (t.amount, t.currency) IS DISTINCT FROM (i.captured, i.currency)""",
    "a payment took money from its payer's account only": """
        SELECT i.id FROM payment_intent i JOIN ledger_transfer t ON t.id = i.id || '.hold'
        LEFT JOIN payer p ON p.id = i.payer_id WHERE t.debit_account IS DISTINCT FROM p.account_id""",
    "a payment on hold has its hold": """
        SELECT i.id FROM payment_intent i LEFT JOIN ledger_transfer t ON t.id = i.id || '.hold'
        WHERE i.state = 'requires_capture' AND (t.amount, t.currency) IS DISTINCT FROM (i.amount, i.currency)""",
    "a payment that was refused or canceled took nothing": """
        SELECT i.id FROM payment_intent i JOIN ledger_transfer t ON t.id = i.id || '.capture'
        WHERE i.state <> 'succeeded'""",
    "a payment gave back exactly what it says": """
        SELECT i.id FROM payment_intent i LEFT JOIN ledger_transfer t ON t.reverses_id = i.id || '.capture'
        GROUP BY i.id, i.refunded HAVING coalesce(sum(t.amount), 0) <> i.refunded""",
    "money that moved for a payer has a receipt": """
        SELECT t.id FROM ledger_transfer t LEFT JOIN receipt r ON r.transfer_id = t.id
          AND (r.amount, r.currency) = (t.amount, t.currency)
        WHERE t.kind IN ('posted', 'capture') AND r.id IS NULL
          AND EXISTS (SELECT 1 FROM payer p WHERE p.account_id IN (t.debit_account, t.credit_account))""",
    "a debt is what the ride it came from says": """
        SELECT tap.intent_id FROM tap LEFT JOIN ledger_transfer t ON t.id = tap.intent_id || '.debt'
        WHERE coalesce(t.amount, 0) <> tap.debt""",
    "nobody has paid more than was owed": """
        SELECT p.id FROM payer p JOIN ledger_account a ON a.id = p.account_id || '_debt'
        WHERE a.credits_posted > a.debits_posted""",
    "a travel period is charged no more than its rides left owing": """
        SELECT p.id FROM travel_period p JOIN card_top_up u ON u.id = p.top_up_id
        WHERE u.payer_id <> p.payer_id
          OR u.amount > (SELECT coalesce(sum(tap.debt), 0) FROM tap WHERE tap.period_id = p.id)""",
    "a ride is gathered in a period of its own payer": """
        SELECT tap.intent_id FROM tap JOIN travel_period p ON p.id = tap.period_id WHERE p.payer_id <> tap.payer_id""",
    "a payment that waits for its payer holds nothing": """
        SELECT i.id FROM payment_intent i JOIN ledger_transfer t ON t.id = i.id || '.hold'
        WHERE i.state IN ('requires_identification', 'requires_confirmation')""",
    "a top-up from a card is in the ledger exactly when it succeeded": """
        SELECT u.id FROM card_top_up u LEFT JOIN ledger_transfer t ON t.id = u.id AND t.kind = 'posted'
        WHERE CASE u.state WHEN 'succeeded' THEN (t.amount, t.currency) IS DISTINCT FROM (u.amount, u.currency)
          ELSE t.id IS NOT NULL END""",
    "a refund to a card took exactly what it says": """
        SELECT r.id FROM card_refund r LEFT JOIN ledger_transfer t ON t.id = r.id || '.capture'
        WHERE r.state = 'succeeded' AND t.amount IS DISTINCT FROM r.amount""",
    "a top-up gave back exactly what it says": """
        SELECT u.id FROM card_top_up u LEFT JOIN card_refund r ON r.top_up_id = u.id AND r.state <> 'failed'
        GROUP BY u.id, u.refunded HAVING coalesce(sum(r.amount), 0) <> u.refunded""",
    "a settlement is the sum of its movements and pays out what it says": """
        SELECT s.id FROM settlement s
        LEFT JOIN settlement_line l ON l.settlement_id = s.id
        LEFT JOIN ledger_transfer t ON t.id = l.transfer_id
        LEFT JOIN ledger_transfer p ON p.id = s.id
        GROUP BY s.id, p.amount
        HAVING coalesce(sum(t.amount) FILTER (WHERE t.credit_account = 'acc_' || s.merchant_id || '_' || s.currency), 0)
            <> s.taken
          OR coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'acc_' || s.merchant_id || '_' || s.currency), 0)
            <> s.given_back
          OR coalesce(p.amount, 0) <> s.paid_out""",
    "a query paid for one payment only": """
        SELECT query_id::text FROM payment_intent GROUP BY query_id HAVING count(*) > 1""",
}
"""Name of each invariant -> query for the ids that break it."""
