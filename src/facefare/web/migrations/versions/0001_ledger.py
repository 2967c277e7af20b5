"""The ledger: accounts, transfers, and the triggers that keep them honest."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
    CREATE TABLE ledger_account (
      id text CONSTRAINT pk_ledger_account PRIMARY KEY,
      currency text NOT NULL CONSTRAINT account_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$'),
      kind text NOT NULL
        CONSTRAINT account_kind_known CHECK (kind IN ('asset', 'liability', 'income', 'expense')),
      floor bigint,
      debits_posted bigint NOT NULL DEFAULT 0,
      credits_posted bigint NOT NULL DEFAULT 0,
      debits_pending bigint NOT NULL DEFAULT 0,
      credits_pending bigint NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT floor_kept
        CHECK (floor IS NULL OR credits_posted - debits_posted - debits_pending >= floor),
      CONSTRAINT pending_never_negative CHECK (debits_pending >= 0 AND credits_pending >= 0)
    ) WITH (fillfactor = 50);  -- room for new balances beside the old ones (heap-only updates)
    COMMENT ON COLUMN ledger_account.floor IS 'lowest available credit balance; none: no limit';

    CREATE TABLE ledger_transfer (
      seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
      id text CONSTRAINT pk_ledger_transfer PRIMARY KEY,
      kind text NOT NULL CONSTRAINT transfer_kind_known
        CHECK (kind IN ('posted', 'hold', 'capture', 'void', 'expiry')),
      debit_account text NOT NULL,
      credit_account text NOT NULL,
      currency text NOT NULL,
      amount bigint NOT NULL CONSTRAINT amount_positive CHECK (amount > 0),
      hold_id text,
      reverses_id text,
      expires_at timestamptz,
      reason text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT two_accounts CHECK (debit_account <> credit_account),
      CONSTRAINT only_endings_name_a_hold
        CHECK ((kind IN ('capture', 'void', 'expiry')) = (hold_id IS NOT NULL)),
      CONSTRAINT only_posted_transfers_reverse CHECK (reverses_id IS NULL OR kind = 'posted'),
      CONSTRAINT only_holds_expire CHECK ((kind = 'hold') = (expires_at IS NOT NULL)),
      CONSTRAINT holds_last_a_month_at_most CHECK (expires_at <= created_at + interval '31 days')
    );
    CREATE UNIQUE INDEX hold_ends_once ON ledger_transfer (hold_id) WHERE hold_id IS NOT NULL;
    CREATE INDEX transfer_reverses ON ledger_transfer (reverses_id) WHERE reverses_id IS NOT NULL;
    CREATE INDEX transfer_holds ON ledger_transfer (expires_at) WHERE kind = 'hold';
    """)
    # The trigger checks what foreign keys would (accounts, holds, refunded transfers exist), once for a batch
    # instead of four times for each row, which is half of the ledger's speed. It is as strong: rows of
    # both tables can't be deleted or renamed. Locks are FOR NO KEY UPDATE, since foreign keys of other tables
    # hold KEY SHARE on these rows and FOR UPDATE would wait for them.
    op.execute("""
    CREATE FUNCTION ledger_apply() RETURNS trigger LANGUAGE plpgsql
      -- Every lookup is by primary key. A plan made while the tables were small must not scan them later.
      SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    AS $$
    DECLARE
      broken text;
      counted record;
      one record;
      known boolean := true;
      sides bigint;
      updated bigint;
    BEGIN
      SELECT count(*) AS rows, count(hold_id) AS endings, count(reverses_id) AS refunds
        INTO counted FROM fresh;

      IF counted.endings > 0 THEN
        SELECT f.id INTO broken FROM fresh f LEFT JOIN ledger_transfer h ON h.id = f.hold_id
        WHERE f.hold_id IS NOT NULL AND (h.id IS NULL OR h.kind <> 'hold' OR f.amount > h.amount
          OR (f.debit_account, f.credit_account, f.currency)
            <> (h.debit_account, h.credit_account, h.currency)
          OR (f.kind <> 'capture' AND f.amount <> h.amount)
          OR (f.kind = 'capture' AND h.expires_at <= clock_timestamp())
          OR (f.kind = 'expiry' AND h.expires_at > clock_timestamp()))
        LIMIT 1;
        IF FOUND THEN
          RAISE EXCEPTION 'Transfer % does not fit its hold, or comes too late or too early.', broken
            USING ERRCODE = 'FF001';
        END IF;
      END IF;

      IF counted.refunds > 0 THEN
        PERFORM 1 FROM ledger_transfer WHERE id IN (SELECT reverses_id FROM fresh)
          ORDER BY id FOR NO KEY UPDATE;
        SELECT f.id INTO broken FROM fresh f LEFT JOIN ledger_transfer o ON o.id = f.reverses_id
        WHERE f.reverses_id IS NOT NULL AND (o.id IS NULL OR o.kind NOT IN ('posted', 'capture')
          OR (f.debit_account, f.credit_account, f.currency)
            <> (o.credit_account, o.debit_account, o.currency)
          OR o.amount < (SELECT sum(r.amount) FROM ledger_transfer r WHERE r.reverses_id = o.id))
        LIMIT 1;
        IF FOUND THEN
          RAISE EXCEPTION 'Transfer % would give back more than was taken, or to another account.', broken
            USING ERRCODE = 'FF001';
        END IF;
      END IF;

      -- The commonest case by far, one movement at once, without the joins and sums below.
      IF counted.rows = 1 AND counted.endings = 0 THEN
        SELECT debit_account AS debit, credit_account AS credit, currency,
          CASE kind WHEN 'posted' THEN amount ELSE 0 END AS posted,
          CASE kind WHEN 'hold' THEN amount ELSE 0 END AS pending INTO one FROM fresh;
        IF one.debit < one.credit THEN
          UPDATE ledger_account SET debits_posted = debits_posted + one.posted,
            debits_pending = debits_pending + one.pending WHERE id = one.debit AND currency = one.currency;
          known := FOUND;
        END IF;
        UPDATE ledger_account SET credits_posted = credits_posted + one.posted,
          credits_pending = credits_pending + one.pending WHERE id = one.credit AND currency = one.currency;
        known := known AND FOUND;
        IF one.debit > one.credit THEN
          UPDATE ledger_account SET debits_posted = debits_posted + one.posted,
            debits_pending = debits_pending + one.pending WHERE id = one.debit AND currency = one.currency;
          known := known AND FOUND;
        END IF;
        IF NOT known THEN
          RAISE EXCEPTION 'One of the accounts does not exist in this currency.' USING ERRCODE = 'FF003';
        END IF;
        RETURN NULL;
      END IF;

      PERFORM 1 FROM ledger_account
        WHERE id IN (SELECT debit_account FROM fresh UNION SELECT credit_account FROM fresh)
        ORDER BY id FOR NO KEY UPDATE;
      WITH d AS MATERIALIZED (
        SELECT account, currency,
          sum(debit * posted) AS debits_posted, sum((1 - debit) * posted) AS credits_posted,
          sum(debit * pending) AS debits_pending, sum((1 - debit) * pending) AS credits_pending
        FROM (
          SELECT CASE debit WHEN 1 THEN f.debit_account ELSE f.credit_account END AS account, f.currency, debit,
            CASE WHEN f.kind IN ('posted', 'capture') THEN f.amount ELSE 0 END AS posted,
            CASE f.kind WHEN 'hold' THEN f.amount WHEN 'posted' THEN 0
              ELSE -(SELECT h.amount FROM ledger_transfer h WHERE h.id = f.hold_id) END AS pending
          FROM fresh f, (VALUES (1), (0)) AS side (debit)
        ) AS sides GROUP BY account, currency
      ), u AS (
        UPDATE ledger_account a SET
          debits_posted = a.debits_posted + d.debits_posted,
          credits_posted = a.credits_posted + d.credits_posted,
          debits_pending = a.debits_pending + d.debits_pending,
          credits_pending = a.credits_pending + d.credits_pending
        FROM d WHERE a.id = d.account AND a.currency = d.currency RETURNING 1
      )
      SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM u) INTO sides, updated;
      IF updated <> sides THEN
        RAISE EXCEPTION 'One of the accounts does not exist in this currency.' USING ERRCODE = 'FF003';
      END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER ledger_transfer_applied AFTER INSERT ON ledger_transfer
      REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION ledger_apply();

    CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'The ledger only grows: correct it with a new transfer.' USING ERRCODE = 'FF002';
    END $$;
    CREATE TRIGGER ledger_transfer_immutable BEFORE UPDATE OR DELETE ON ledger_transfer
      FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
    CREATE TRIGGER ledger_transfer_not_truncated BEFORE TRUNCATE ON ledger_transfer
      FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
    CREATE TRIGGER ledger_account_not_truncated BEFORE TRUNCATE ON ledger_account
      FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

    -- Depth 0 is a statement from outside; the trigger on transfers updates accounts at depth 1.
    CREATE TRIGGER ledger_account_guarded BEFORE UPDATE OR DELETE ON ledger_account
      FOR EACH ROW WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION ledger_refuse();
    CREATE TRIGGER ledger_account_opens_empty BEFORE INSERT ON ledger_account
      FOR EACH ROW WHEN (NEW.debits_posted <> 0 OR NEW.credits_posted <> 0
        OR NEW.debits_pending <> 0 OR NEW.credits_pending <> 0)
      EXECUTE FUNCTION ledger_refuse();
    """)
