"""Payments that wait for somebody to read their code."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE payment_intent
      DROP CONSTRAINT intent_state_known,
      ADD CONSTRAINT intent_state_known CHECK (state IN ('requires_identification', 'processing',
        'requires_confirmation', 'requires_capture', 'succeeded', 'refused', 'canceled'));
    """)
