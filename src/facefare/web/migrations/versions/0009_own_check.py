"""What a payer needs to check the own access log, and lost answers."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE face
      ADD COLUMN payer_key bytea
        CONSTRAINT payer_key_is_ed25519 CHECK (octet_length(payer_key) = 32);
    ALTER TABLE access_log
      ADD COLUMN face_id text CONSTRAINT fk_access_log_face_id REFERENCES face (id),
      ADD COLUMN issued_at bigint,
      ADD COLUMN query_id bytea,
      ADD COLUMN request_sha256 bytea,
      ADD CONSTRAINT identification_is_whole
        CHECK ((face_id IS NULL) = (issued_at IS NULL) AND (query_id IS NULL) = (request_sha256 IS NULL)
          AND (face_id IS NULL OR tag IS NOT NULL) AND (query_id IS NULL OR face_id IS NOT NULL));
    CREATE INDEX access_log_of_face ON access_log (face_id, id) WHERE face_id IS NOT NULL;
    CREATE TABLE lost_answer (
      id text CONSTRAINT pk_lost_answer PRIMARY KEY,
      gallery_id text NOT NULL CONSTRAINT fk_lost_answer_gallery_id REFERENCES gallery (id),
      tag bytea NOT NULL CONSTRAINT tag_is_64_bits CHECK (octet_length(tag) = 8),
      at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX lost_answer_of_gallery ON lost_answer (gallery_id, id);
    ALTER TABLE payment_intent
      ADD COLUMN gallery_id text CONSTRAINT fk_payment_intent_gallery_id REFERENCES gallery (id),
      ADD COLUMN issued_at bigint;
    CREATE INDEX intent_by_search ON payment_intent (issued_at) WHERE issued_at IS NOT NULL;
    """)
