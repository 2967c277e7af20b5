"""The payer-held key profile: devices, the keys that terminals open codes with, payments by a device's code."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
    CREATE SEQUENCE device_change;
    CREATE TABLE device (
      id text CONSTRAINT pk_device PRIMARY KEY,
      payer_id text NOT NULL CONSTRAINT fk_device_payer_id REFERENCES payer (id),
      consent_id text NOT NULL CONSTRAINT fk_device_consent_id REFERENCES consent (id),
      public_key bytea NOT NULL CONSTRAINT uq_device_public_key UNIQUE,
      commitment bytea NOT NULL,
      station_id text CONSTRAINT fk_device_station_id REFERENCES station (id),
      attestation bytea,
      counter bigint NOT NULL DEFAULT 0,
      pass_through integer NOT NULL,
      state text NOT NULL
        CONSTRAINT device_state_known CHECK (state IN ('active', 'paused', 'owing', 'lost', 'revoked')),
      change bigint NOT NULL DEFAULT nextval('device_change'),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT attested_by_a_station CHECK ((station_id IS NULL) = (attestation IS NULL))
    );
    CREATE INDEX ix_device_payer_id ON device (payer_id);
    CREATE INDEX device_denied ON device (pass_through) WHERE state <> 'active';
    CREATE TABLE terminal_opening_key (
      key_id bytea CONSTRAINT pk_terminal_opening_key PRIMARY KEY,
      terminal_id text NOT NULL CONSTRAINT fk_terminal_opening_key_terminal_id REFERENCES terminal (id),
      announcement bytea NOT NULL,
      not_after timestamptz NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ix_terminal_opening_key_terminal_id_not_after ON terminal_opening_key (terminal_id, not_after);
    CREATE TABLE held_payment (
      device_id text CONSTRAINT fk_held_payment_device_id REFERENCES device (id),
      counter bigint,
      terminal_id text NOT NULL CONSTRAINT fk_held_payment_terminal_id REFERENCES terminal (id),
      sequence bigint NOT NULL,
      intent_id text NOT NULL CONSTRAINT fk_held_payment_intent_id REFERENCES payment_intent (id)
        CONSTRAINT uq_held_payment_intent_id UNIQUE,
      settled_by text CONSTRAINT fk_held_payment_settled_by REFERENCES payment_intent (id)
        CONSTRAINT uq_held_payment_settled_by UNIQUE,
      record bytea NOT NULL,
      offline boolean NOT NULL,
      owing boolean NOT NULL,
      taken_at timestamptz NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT pk_held_payment PRIMARY KEY (device_id, counter),
      CONSTRAINT uq_held_payment_terminal_id_sequence UNIQUE (terminal_id, sequence)
    );
    CREATE INDEX held_payment_owing ON held_payment (device_id) WHERE owing;
    """)
