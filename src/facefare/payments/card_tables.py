"""The tables of cards on file and of what moves through the card processor."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    Text,
    func,
    text,
)

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


card = Table(
    "card",
    metadata,
    Column("payer_id", Text, ForeignKey("payer.id"), primary_key=True),
    Column("customer", Text, nullable=False, unique=True),
    Column("payment_method", Text),
    Column("brand", Text),
    Column("last4", Text),
    Column("auto_below", BigInteger),
    Column("auto_amount", BigInteger),
    Column("auto_paused", Text),
    _at("changed_at"),
    CheckConstraint("(auto_below IS NULL) = (auto_amount IS NULL)", name="auto_top_up_whole"),
    CheckConstraint("auto_below >= 0 AND auto_amount > 0", name="auto_top_up_positive"),
)

top_up = Table(
    "card_top_up",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("intent", Text, unique=True),
    Column("reason", Text),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    _at(),
    CheckConstraint("state IN ('processing', 'requires_action', 'succeeded', 'failed')", name="top_up_state_known"),
    CheckConstraint("amount > 0 AND 0 <= refunded AND refunded <= amount", name="top_up_amounts_in_order"),
    Index("top_up_of_payer", "payer_id", "id"),
    Index("top_up_open", "created_at", postgresql_where=text("state = 'processing'")),
    Index(
        "one_automatic_top_up_at_a_time",
        "payer_id",
        unique=True,
        postgresql_where=text("automatic AND state IN ('processing', 'requires_action')"),
    ),
)

card_refund = Table(
    "card_refund",
    metadata,
    Column("id", Text, primary_key=True),
    Column("top_up_id", Text, ForeignKey("card_top_up.id"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("refund", Text, unique=True),
    _at(),
    CheckConstraint("state IN ('processing', 'succeeded', 'failed')", name="card_refund_state_known"),
    Index("card_refund_open", "created_at", postgresql_where=text("state = 'processing'")),
)

chargeback = Table(
    "chargeback",
    metadata,
    Column("id", Text, primary_key=True),
    Column("top_up_id", Text, ForeignKey("card_top_up.id"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("owed", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    _at(),
    CheckConstraint("state IN ('withdrawn', 'reinstated')", name="chargeback_state_known"),
    CheckConstraint("0 <= owed AND owed <= amount", name="chargeback_amounts_in_order"),
)

processor_event = Table(
    "processor_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    _at("received_at"),
)
