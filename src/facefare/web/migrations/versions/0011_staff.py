"""The operator's staff: who they are, who is signed in, what they did."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE staff_member (
      id text CONSTRAINT pk_staff_member PRIMARY KEY,
      name text NOT NULL,
      role text NOT NULL CONSTRAINT staff_role_known CHECK (role IN ('viewer', 'support', 'manager', 'auditor')),
      token_sha256 bytea NOT NULL CONSTRAINT uq_staff_member_token_sha256 UNIQUE,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      revoked_at timestamptz
    );
    CREATE TABLE staff_session (
      token_sha256 bytea CONSTRAINT pk_staff_session PRIMARY KEY,
      staff_id text NOT NULL CONSTRAINT fk_staff_session_staff_id REFERENCES staff_member (id),
      expires_at timestamptz NOT NULL
    );
    CREATE TABLE staff_action (
      id text CONSTRAINT pk_staff_action PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT clock_timestamp(),
      staff text NOT NULL,
      action text NOT NULL,
      about text NOT NULL
    );
    """)
