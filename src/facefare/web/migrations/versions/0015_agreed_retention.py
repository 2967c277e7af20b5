"""How long a face may lie unused, as its payer agreed."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    # Consents from before have it in their receipts only; for them the operator's setting counts.
    op.execute("""
    ALTER TABLE consent
      ADD COLUMN retention_days integer CONSTRAINT retention_is_days CHECK (retention_days > 0);
    """)
