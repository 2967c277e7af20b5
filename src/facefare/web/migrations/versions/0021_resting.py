"""Phones that are paused stay so when what they came to owe is settled."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE device ADD COLUMN resting boolean NOT NULL DEFAULT false;
    UPDATE device SET resting = true FROM held_payment paid, dispute
        WHERE device.state = 'owing' AND paid.device_id = device.id
        AND dispute.intent_id IN (paid.intent_id, paid.settled_by);
    """)
