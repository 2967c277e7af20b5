"""Pairs of enrolled faces that the guardians took for one."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE lookalike (
      face_id text NOT NULL CONSTRAINT fk_lookalike_face_id REFERENCES face (id) ON DELETE CASCADE,
      other_id text NOT NULL CONSTRAINT fk_lookalike_other_id REFERENCES face (id) ON DELETE CASCADE,
      found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT pk_lookalike PRIMARY KEY (face_id, other_id),
      CONSTRAINT two_faces CHECK (face_id <> other_id)
    );
    CREATE INDEX ix_lookalike_other_id ON lookalike (other_id);
    """)
