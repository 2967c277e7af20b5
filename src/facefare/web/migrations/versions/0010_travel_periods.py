"""Travel on account: rides gathered for one charge of the card."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE travel_period (
      id text CONSTRAINT pk_travel_period PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_travel_period_payer_id REFERENCES payer (id),
      opened_at timestamptz NOT NULL,
      ends_at timestamptz NOT NULL,
      due_at timestamptz NOT NULL,
      checked_at timestamptz,
      refused text,
      settled_at timestamptz,
      top_up_id text CONSTRAINT fk_travel_period_top_up_id REFERENCES card_top_up (id)
        CONSTRAINT uq_travel_period_top_up_id UNIQUE,
      CONSTRAINT travel_period_in_order CHECK (opened_at <= due_at AND due_at <= ends_at),
      CONSTRAINT travel_period_ends_once
        CHECK ((top_up_id IS NOT NULL)::int + (refused IS NOT NULL)::int + (settled_at IS NOT NULL)::int <= 1)
    );
    CREATE INDEX travel_period_of_payer ON travel_period (payer_id, id);
    CREATE INDEX travel_period_open ON travel_period (due_at)
      WHERE top_up_id IS NULL AND refused IS NULL AND settled_at IS NULL;
    ALTER TABLE tap ADD COLUMN period_id text CONSTRAINT fk_tap_period_id REFERENCES travel_period (id);
    CREATE INDEX tap_of_period ON tap (period_id) WHERE period_id IS NOT NULL;
    """)
