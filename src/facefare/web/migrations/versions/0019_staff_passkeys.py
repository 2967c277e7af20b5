"""The staff's passkeys and invitations; sessions that know what began them."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE staff_passkey (
      credential_id bytea CONSTRAINT pk_staff_passkey PRIMARY KEY,
      staff_id text NOT NULL CONSTRAINT fk_staff_passkey_staff_id REFERENCES staff_member (id),
      name text NOT NULL,
      user_handle bytea NOT NULL,
      public_key bytea NOT NULL,
      sign_count bigint NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      used_at timestamptz
    );
    CREATE INDEX ix_staff_passkey_staff_id ON staff_passkey (staff_id);
    CREATE TABLE staff_invitation (
      staff_id text CONSTRAINT pk_staff_invitation PRIMARY KEY
        CONSTRAINT fk_staff_invitation_staff_id REFERENCES staff_member (id),
      token_sha256 bytea NOT NULL CONSTRAINT uq_staff_invitation_token_sha256 UNIQUE,
      expires_at timestamptz NOT NULL
    );
    ALTER TABLE staff_member ALTER COLUMN token_sha256 DROP NOT NULL;
    ALTER TABLE staff_session ALTER COLUMN staff_id DROP NOT NULL;
    ALTER TABLE staff_session ADD COLUMN created_at timestamptz NOT NULL DEFAULT clock_timestamp();
    ALTER TABLE staff_session ADD COLUMN credential_id bytea CONSTRAINT fk_staff_session_credential_id
      REFERENCES staff_passkey (credential_id) ON DELETE CASCADE;
    CREATE INDEX ix_staff_session_credential_id ON staff_session (credential_id);
    DELETE FROM passkey_ceremony;
    ALTER TABLE passkey_ceremony ADD COLUMN ring text NOT NULL;
    """)
