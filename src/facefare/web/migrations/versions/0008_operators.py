"""Merchants' API keys and daily settlements."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE api_key (
      id text CONSTRAINT pk_api_key PRIMARY KEY,
      merchant_id text NOT NULL CONSTRAINT fk_api_key_merchant_id REFERENCES merchant (id),
      name text NOT NULL,
      prefix text NOT NULL,
      key_sha256 bytea NOT NULL CONSTRAINT uq_api_key_key_sha256 UNIQUE,
      scopes text[] NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      revoked_at timestamptz
    );
    CREATE INDEX ix_api_key_merchant_id ON api_key (merchant_id);
    CREATE INDEX intent_of_merchant ON payment_intent (merchant_id, id);
    CREATE TABLE settlement (
      id text CONSTRAINT pk_settlement PRIMARY KEY,
      merchant_id text NOT NULL CONSTRAINT fk_settlement_merchant_id REFERENCES merchant (id),
      currency text NOT NULL,
      day date NOT NULL,
      carried bigint NOT NULL,
      taken bigint NOT NULL,
      given_back bigint NOT NULL,
      paid_out bigint NOT NULL CONSTRAINT paid_out_not_negative CHECK (paid_out >= 0),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT uq_settlement_merchant_id_currency_day UNIQUE (merchant_id, currency, day)
    );
    CREATE TABLE settlement_line (
      transfer_id text CONSTRAINT pk_settlement_line PRIMARY KEY
        CONSTRAINT fk_settlement_line_transfer_id REFERENCES ledger_transfer (id),
      settlement_id text NOT NULL CONSTRAINT fk_settlement_line_settlement_id REFERENCES settlement (id)
    );
    CREATE INDEX ix_settlement_line_settlement_id ON settlement_line (settlement_id);
    """)
