"""Who was there with a passkey when a consent's code was shown to a station."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE payer ADD COLUMN presence_asked boolean NOT NULL DEFAULT false;
    UPDATE payer SET presence_asked = true WHERE id IN (SELECT payer_id FROM passkey);
    ALTER TABLE consent ADD COLUMN present_until timestamptz;
    ALTER TABLE passkey ADD COLUMN vouches boolean NOT NULL DEFAULT true;
    ALTER TABLE web_session ADD COLUMN passkey_at timestamptz;
    """)
