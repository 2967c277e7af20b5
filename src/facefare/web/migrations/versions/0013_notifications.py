"""Where payers want to be told of payments, and what is to be told."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE notification_target (
      id text CONSTRAINT pk_notification_target PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_notification_target_payer_id REFERENCES payer (id),
      kind text NOT NULL CONSTRAINT notification_kind_known CHECK (kind IN ('email', 'push')),
      address text NOT NULL,
      keys jsonb,
      language text NOT NULL,
      code_sha256 bytea,
      confirmed_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ix_notification_target_payer_id ON notification_target (payer_id);
    CREATE TABLE notification (
      id text CONSTRAINT pk_notification PRIMARY KEY,
      target_id text NOT NULL CONSTRAINT fk_notification_target_id
        REFERENCES notification_target (id) ON DELETE CASCADE,
      message jsonb NOT NULL,
      due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      tries integer NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ix_notification_target_id ON notification (target_id);
    CREATE INDEX ix_notification_due_at ON notification (due_at);
    """)
