"""The tables of what payers want to be told, and where."""

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


target = Table(
    "notification_target",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("keys", JSONB),
    Column("language", Text, nullable=False),
    Column("code_sha256", LargeBinary),
    Column("confirmed_at", DateTime(timezone=True)),
    _at(),
    CheckConstraint("kind IN ('email', 'push')", name="notification_kind_known"),
)

outbox = Table(
    "notification",
    metadata,
    Column("id", Text, primary_key=True),
    Column("target_id", Text, ForeignKey("notification_target.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("message", JSONB, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False, index=True, server_default=func.clock_timestamp()),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    _at(),
)
