"""One charge for each purchase at a till; which answers a terminal never heard."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE payment_intent
      ADD COLUMN purchase text,
      ADD COLUMN unheard boolean NOT NULL DEFAULT false;
    CREATE INDEX intent_of_purchase ON payment_intent (terminal_id, purchase) WHERE purchase IS NOT NULL;
    CREATE INDEX intent_covered_by ON payment_intent (already_paid_by) WHERE already_paid_by IS NOT NULL;
    """)
