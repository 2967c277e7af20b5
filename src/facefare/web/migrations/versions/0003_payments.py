"""Merchants, terminals, payment intents and receipts."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE merchant (
      id text CONSTRAINT pk_merchant PRIMARY KEY,
      name text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE terminal (
      id text CONSTRAINT pk_terminal PRIMARY KEY,
      merchant_id text NOT NULL CONSTRAINT fk_terminal_merchant_id REFERENCES merchant (id),
      place text NOT NULL,
      kind text NOT NULL CONSTRAINT terminal_kind_known CHECK (kind IN ('gate', 'till')),
      public_key bytea NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      revoked_at timestamptz
    );
    CREATE TABLE terminal_nonce (
      terminal_id text CONSTRAINT fk_terminal_nonce_terminal_id REFERENCES terminal (id),
      nonce text,
      seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT pk_terminal_nonce PRIMARY KEY (terminal_id, nonce)
    );
    CREATE INDEX terminal_nonce_seen_at ON terminal_nonce (seen_at);
    CREATE TABLE payment_intent (
      id text CONSTRAINT pk_payment_intent PRIMARY KEY,
      merchant_id text NOT NULL CONSTRAINT fk_payment_intent_merchant_id REFERENCES merchant (id),
      terminal_id text NOT NULL CONSTRAINT fk_payment_intent_terminal_id REFERENCES terminal (id),
      place text NOT NULL,
      at_gate boolean NOT NULL,
      amount bigint NOT NULL CONSTRAINT intent_amount_positive CHECK (amount > 0),
      currency text NOT NULL,
      capture_later boolean NOT NULL,
      captured bigint NOT NULL DEFAULT 0,
      tip bigint NOT NULL DEFAULT 0,
      refunded bigint NOT NULL DEFAULT 0,
      state text NOT NULL CONSTRAINT intent_state_known CHECK (state IN
        ('processing', 'requires_confirmation', 'requires_capture', 'succeeded', 'refused', 'canceled')),
      outcome text,
      reason text,
      second_factor text,
      payer_id text CONSTRAINT fk_payment_intent_payer_id REFERENCES payer (id),
      query_id bytea NOT NULL CONSTRAINT uq_payment_intent_query_id UNIQUE,
      request_sha256 bytea NOT NULL,
      already_paid_by text CONSTRAINT fk_payment_intent_already_paid_by REFERENCES payment_intent (id),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      decided_at timestamptz,
      CONSTRAINT intent_amounts_in_order CHECK
        (0 <= tip AND tip <= captured AND captured <= amount AND 0 <= refunded AND refunded <= captured),
      CONSTRAINT paid_by_somebody
        CHECK ((state IN ('succeeded', 'requires_capture', 'requires_confirmation')) <= (payer_id IS NOT NULL))
    );
    CREATE INDEX intent_of_payer ON payment_intent (payer_id, id) WHERE payer_id IS NOT NULL;
    CREATE TABLE receipt (
      id text CONSTRAINT pk_receipt PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_receipt_payer_id REFERENCES payer (id),
      intent_id text CONSTRAINT fk_receipt_intent_id REFERENCES payment_intent (id),
      transfer_id text NOT NULL CONSTRAINT fk_receipt_transfer_id REFERENCES ledger_transfer (id)
        CONSTRAINT uq_receipt_transfer_id UNIQUE,
      kind text NOT NULL CONSTRAINT receipt_kind_known CHECK (kind IN ('payment', 'refund', 'top_up')),
      amount bigint NOT NULL,
      currency text NOT NULL,
      place text,
      balance_after bigint NOT NULL,
      at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX receipt_of_payer ON receipt (payer_id, id);
    CREATE TABLE webhook_endpoint (
      id text CONSTRAINT pk_webhook_endpoint PRIMARY KEY,
      merchant_id text NOT NULL CONSTRAINT fk_webhook_endpoint_merchant_id REFERENCES merchant (id),
      url text NOT NULL,
      secret text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ix_webhook_endpoint_merchant_id ON webhook_endpoint (merchant_id);
    CREATE TABLE webhook_event (
      id text CONSTRAINT pk_webhook_event PRIMARY KEY,
      body text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE webhook_delivery (
      event_id text CONSTRAINT fk_webhook_delivery_event_id REFERENCES webhook_event (id),
      endpoint_id text CONSTRAINT fk_webhook_delivery_endpoint_id REFERENCES webhook_endpoint (id),
      tries integer NOT NULL DEFAULT 0,
      due_at timestamptz DEFAULT clock_timestamp(),
      delivered_at timestamptz,
      CONSTRAINT pk_webhook_delivery PRIMARY KEY (event_id, endpoint_id)
    );
    CREATE INDEX webhook_due ON webhook_delivery (due_at) WHERE due_at IS NOT NULL;
    CREATE TABLE dispute (
      id text CONSTRAINT pk_dispute PRIMARY KEY,
      intent_id text NOT NULL CONSTRAINT fk_dispute_intent_id REFERENCES payment_intent (id)
        CONSTRAINT uq_dispute_intent_id UNIQUE,
      payer_id text NOT NULL CONSTRAINT fk_dispute_payer_id REFERENCES payer (id),
      state text NOT NULL
        CONSTRAINT dispute_state_known CHECK (state IN ('refunded', 'under_review', 'declined')),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    """)
