"""Cards on file, top-ups from them, refunds to them, chargebacks, and the processor's events."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE card (
      payer_id text CONSTRAINT pk_card PRIMARY KEY CONSTRAINT fk_card_payer_id REFERENCES payer (id),
      customer text NOT NULL CONSTRAINT uq_card_customer UNIQUE,
      payment_method text,
      brand text,
      last4 text,
      auto_below bigint,
      auto_amount bigint,
      auto_paused text,
      changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT auto_top_up_whole CHECK ((auto_below IS NULL) = (auto_amount IS NULL)),
      CONSTRAINT auto_top_up_positive CHECK (auto_below >= 0 AND auto_amount > 0)
    );
    CREATE TABLE card_top_up (
      id text CONSTRAINT pk_card_top_up PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_card_top_up_payer_id REFERENCES payer (id),
      amount bigint NOT NULL,
      currency text NOT NULL,
      automatic boolean NOT NULL,
      state text NOT NULL CONSTRAINT top_up_state_known
        CHECK (state IN ('processing', 'requires_action', 'succeeded', 'failed')),
      intent text CONSTRAINT uq_card_top_up_intent UNIQUE,
      reason text,
      refunded bigint NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT top_up_amounts_in_order CHECK (amount > 0 AND 0 <= refunded AND refunded <= amount)
    );
    CREATE INDEX top_up_of_payer ON card_top_up (payer_id, id);
    CREATE INDEX top_up_open ON card_top_up (created_at) WHERE state = 'processing';
    CREATE UNIQUE INDEX one_automatic_top_up_at_a_time ON card_top_up (payer_id)
      WHERE automatic AND state IN ('processing', 'requires_action');
    CREATE TABLE card_refund (
      id text CONSTRAINT pk_card_refund PRIMARY KEY,
      top_up_id text NOT NULL CONSTRAINT fk_card_refund_top_up_id REFERENCES card_top_up (id),
      amount bigint NOT NULL,
      state text NOT NULL CONSTRAINT card_refund_state_known CHECK (state IN ('processing', 'succeeded', 'failed')),
      refund text CONSTRAINT uq_card_refund_refund UNIQUE,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ix_card_refund_top_up_id ON card_refund (top_up_id);
    CREATE INDEX card_refund_open ON card_refund (created_at) WHERE state = 'processing';
    CREATE TABLE chargeback (
      id text CONSTRAINT pk_chargeback PRIMARY KEY,
      top_up_id text NOT NULL CONSTRAINT fk_chargeback_top_up_id REFERENCES card_top_up (id),
      amount bigint NOT NULL,
      owed bigint NOT NULL,
      state text NOT NULL CONSTRAINT chargeback_state_known CHECK (state IN ('withdrawn', 'reinstated')),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT chargeback_amounts_in_order CHECK (0 <= owed AND owed <= amount)
    );
    CREATE INDEX ix_chargeback_top_up_id ON chargeback (top_up_id);
    CREATE TABLE processor_event (
      id text CONSTRAINT pk_processor_event PRIMARY KEY,
      kind text NOT NULL,
      received_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    ALTER TABLE receipt DROP CONSTRAINT receipt_kind_known, ADD CONSTRAINT receipt_kind_known CHECK
      (kind IN ('payment', 'refund', 'top_up', 'card_refund', 'chargeback', 'chargeback_returned', 'debt'));
    """)
