"""Passkeys, sessions, ceremonies under way, and counters of tries."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE passkey (
      credential_id bytea CONSTRAINT pk_passkey PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_passkey_payer_id REFERENCES payer (id),
      user_handle bytea NOT NULL,
      public_key bytea NOT NULL,
      sign_count bigint NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      used_at timestamptz
    );
    CREATE INDEX ix_passkey_payer_id ON passkey (payer_id);
    CREATE TABLE web_session (
      token_sha256 bytea CONSTRAINT pk_web_session PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_web_session_payer_id REFERENCES payer (id),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      expires_at timestamptz NOT NULL
    );
    CREATE INDEX ix_web_session_payer_id ON web_session (payer_id);
    CREATE TABLE passkey_ceremony (
      token_sha256 bytea CONSTRAINT pk_passkey_ceremony PRIMARY KEY,
      challenge bytea NOT NULL,
      user_handle bytea,
      expires_at timestamptz NOT NULL
    );
    CREATE TABLE tries (
      bucket bytea CONSTRAINT pk_tries PRIMARY KEY,
      window_start timestamptz NOT NULL,
      count integer NOT NULL
    );
    """)
