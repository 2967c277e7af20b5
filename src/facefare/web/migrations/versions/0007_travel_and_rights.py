"""Tariffs and taps; tags in the access log; closed accounts, pay-outs, pseudonyms and retention."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE payment_intent
      ADD COLUMN fare boolean NOT NULL DEFAULT false,
      ALTER COLUMN terminal_id DROP NOT NULL,
      DROP CONSTRAINT intent_amount_positive,
      ADD CONSTRAINT intent_amount_positive CHECK (amount > 0 OR (fare AND amount = 0));
    ALTER TABLE receipt
      ADD COLUMN lines jsonb NOT NULL DEFAULT '[]',
      DROP CONSTRAINT receipt_kind_known,
      ADD CONSTRAINT receipt_kind_known CHECK (kind IN
        ('payment', 'refund', 'top_up', 'card_refund', 'chargeback', 'chargeback_returned', 'debt', 'pay_out'));
    CREATE TABLE tariff (
      id text CONSTRAINT pk_tariff PRIMARY KEY,
      terms text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE tariff_version (
      tariff_id text CONSTRAINT fk_tariff_version_tariff_id REFERENCES tariff (id),
      effective_from date,
      document text NOT NULL,
      sha256 bytea NOT NULL,
      imported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT pk_tariff_version PRIMARY KEY (tariff_id, effective_from)
    );
    CREATE TABLE fare_point (
      terminal_id text CONSTRAINT pk_fare_point PRIMARY KEY
        CONSTRAINT fk_fare_point_terminal_id REFERENCES terminal (id),
      tariff_id text NOT NULL CONSTRAINT fk_fare_point_tariff_id REFERENCES tariff (id),
      stop text NOT NULL,
      network text NOT NULL,
      kind text NOT NULL CONSTRAINT fare_point_kind_known CHECK (kind IN ('entry', 'exit', 'flat'))
    );
    CREATE TABLE concession (
      payer_id text CONSTRAINT fk_concession_payer_id REFERENCES payer (id),
      tariff_id text CONSTRAINT fk_concession_tariff_id REFERENCES tariff (id),
      category text NOT NULL,
      through date NOT NULL,
      CONSTRAINT pk_concession PRIMARY KEY (payer_id, tariff_id)
    );
    CREATE TABLE tap (
      intent_id text CONSTRAINT pk_tap PRIMARY KEY CONSTRAINT fk_tap_intent_id REFERENCES payment_intent (id),
      payer_id text NOT NULL CONSTRAINT fk_tap_payer_id REFERENCES payer (id),
      tariff_id text NOT NULL CONSTRAINT fk_tap_tariff_id REFERENCES tariff (id),
      stop text,
      network text,
      kind text,
      at timestamptz NOT NULL,
      week date NOT NULL,
      cost bigint NOT NULL,
      reserve bigint NOT NULL,
      unsecured bigint NOT NULL,
      debt bigint NOT NULL DEFAULT 0,
      given_back bigint NOT NULL DEFAULT 0,
      lines jsonb NOT NULL,
      CONSTRAINT tap_amounts_not_negative CHECK (cost >= 0 AND reserve >= 0 AND unsecured >= 0 AND debt >= 0),
      CONSTRAINT tap_forgotten_whole
        CHECK ((stop IS NULL) = (kind IS NULL) AND (stop IS NULL) = (network IS NULL))
    );
    CREATE INDEX tap_of_payer ON tap (payer_id, tariff_id, at);
    CREATE INDEX tap_under_way ON tap (at) WHERE reserve > 0;

    ALTER TABLE access_log ADD COLUMN tag bytea, ADD CONSTRAINT tag_is_64_bits CHECK (octet_length(tag) = 8);
    ALTER TABLE payer ADD COLUMN closed_at timestamptz;
    CREATE TABLE pay_out (
      id text CONSTRAINT pk_pay_out PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_pay_out_payer_id REFERENCES payer (id),
      transfer_id text NOT NULL CONSTRAINT fk_pay_out_transfer_id REFERENCES ledger_transfer (id)
        CONSTRAINT uq_pay_out_transfer_id UNIQUE,
      amount bigint NOT NULL,
      currency text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      paid_at timestamptz
    );
    CREATE INDEX ix_pay_out_payer_id ON pay_out (payer_id);
    CREATE TABLE pseudonym_key (
      day date CONSTRAINT pk_pseudonym_key PRIMARY KEY,
      key bytea NOT NULL
    );
    CREATE TABLE retention_run (
      id text CONSTRAINT pk_retention_run PRIMARY KEY,
      ran_at timestamptz NOT NULL,
      record text NOT NULL
    );
    """)
