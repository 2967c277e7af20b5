"""The tables of payments by a device's code, and of the keys that terminals open such codes with."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


terminal_opening_key = Table(
    "terminal_opening_key",
    metadata,
    Column("key_id", LargeBinary, primary_key=True),
    Column("terminal_id", Text, ForeignKey("terminal.id"), nullable=False),
    Column("announcement", LargeBinary, nullable=False),
    Column("not_after", DateTime(timezone=True), nullable=False),
    _at(),
    Index(None, "terminal_id", "not_after"),
)

held_payment = Table(
    "held_payment",
    metadata,
    Column("device_id", Text, ForeignKey("device.id"), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("terminal_id", Text, ForeignKey("terminal.id"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("intent_id", Text, ForeignKey("payment_intent.id"), nullable=False, unique=True),
    Column("settled_by", Text, ForeignKey("payment_intent.id"), unique=True),
    Column("record", LargeBinary, nullable=False),
    Column("offline", Boolean, nullable=False),
    Column("owing", Boolean, nullable=False),
    Column("taken_at", DateTime(timezone=True), nullable=False),
    _at(),
    UniqueConstraint("terminal_id", "sequence"),
    Index("held_payment_owing", "device_id", postgresql_where=text("owing")),
)
