"""Faces that a dispute stopped, whether or not the guardians could be told yet."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE face ADD COLUMN stopped boolean NOT NULL DEFAULT false;
    CREATE INDEX face_not_paused_yet ON face (gallery_id) WHERE stopped AND state = 'active';
    """)
