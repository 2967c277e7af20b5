"""Payers, consents, stations, galleries, faces, changes and the access log."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE payer (
      id text CONSTRAINT pk_payer PRIMARY KEY,
      token_sha256 bytea NOT NULL CONSTRAINT uq_payer_token_sha256 UNIQUE,
      currency text NOT NULL,
      account_id text NOT NULL CONSTRAINT fk_payer_account_id REFERENCES ledger_account (id),
      daily_limit bigint CONSTRAINT daily_limit_not_negative CHECK (daily_limit >= 0),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE payer_pin (
      payer_id text CONSTRAINT pk_payer_pin PRIMARY KEY
        CONSTRAINT fk_payer_pin_payer_id REFERENCES payer (id),
      hash text NOT NULL,
      wrong_tries integer NOT NULL
    );
    CREATE TABLE consent (
      id text CONSTRAINT pk_consent PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_consent_payer_id REFERENCES payer (id),
      notice_version text NOT NULL,
      receipt text NOT NULL,
      receipt_sha256 bytea NOT NULL CONSTRAINT uq_consent_receipt_sha256 UNIQUE,
      given_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      withdrawn_at timestamptz
    );
    CREATE INDEX ix_consent_payer_id ON consent (payer_id);
    CREATE TABLE station (
      id text CONSTRAINT pk_station PRIMARY KEY,
      public_key bytea NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      revoked_at timestamptz
    );
    CREATE TABLE gallery (
      id text CONSTRAINT pk_gallery PRIMARY KEY,
      kind text NOT NULL CONSTRAINT gallery_kind_known CHECK (kind IN ('live', 'demo')),
      version bigint NOT NULL,
      next_row integer NOT NULL,
      live integer NOT NULL
    );
    CREATE TABLE face (
      id text CONSTRAINT pk_face PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_face_payer_id REFERENCES payer (id),
      gallery_id text NOT NULL CONSTRAINT fk_face_gallery_id REFERENCES gallery (id),
      consent_id text NOT NULL CONSTRAINT fk_face_consent_id REFERENCES consent (id),
      row integer NOT NULL,
      state text NOT NULL
        CONSTRAINT face_state_known CHECK (state IN ('pending', 'active', 'paused', 'deleted')),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT uq_face_gallery_id_row UNIQUE (gallery_id, row)
    );
    CREATE UNIQUE INDEX one_face_a_gallery ON face (payer_id, gallery_id) WHERE state <> 'deleted';
    CREATE TABLE gallery_change (
      id text CONSTRAINT pk_gallery_change PRIMARY KEY,
      gallery_id text NOT NULL CONSTRAINT fk_gallery_change_gallery_id REFERENCES gallery (id),
      operation text NOT NULL CONSTRAINT change_operation_known
        CHECK (operation IN ('enrol', 'delete', 'pause', 'resume')),
      row integer NOT NULL,
      base_version bigint NOT NULL,
      face_id text CONSTRAINT fk_gallery_change_face_id REFERENCES face (id),
      enrolment_id bytea CONSTRAINT uq_gallery_change_enrolment_id UNIQUE,
      sealed_request bytea,
      state text NOT NULL
        CONSTRAINT change_state_known CHECK (state IN ('pending', 'confirmed', 'refused')),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      ended_at timestamptz,
      CONSTRAINT sealed_only_while_pending CHECK (state = 'pending' OR sealed_request IS NULL)
    );
    CREATE INDEX ix_gallery_change_face_id ON gallery_change (face_id);
    CREATE UNIQUE INDEX one_change_at_a_time ON gallery_change (gallery_id) WHERE state = 'pending';
    CREATE TABLE change_confirmation (
      change_id text CONSTRAINT fk_change_confirmation_change_id REFERENCES gallery_change (id),
      guardian integer,
      payload bytea NOT NULL,
      signature bytea NOT NULL,
      CONSTRAINT pk_change_confirmation PRIMARY KEY (change_id, guardian)
    );
    CREATE TABLE access_log (
      id text CONSTRAINT pk_access_log PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_access_log_payer_id REFERENCES payer (id),
      at timestamptz NOT NULL DEFAULT clock_timestamp(),
      by text NOT NULL,
      purpose text NOT NULL,
      outcome text NOT NULL
    );
    CREATE INDEX access_log_of_payer ON access_log (payer_id, id);
    """)
