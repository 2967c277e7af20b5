"""The payments' tables as SQLAlchemy sees them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


merchant = Table(
    "merchant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    _at(),
)

terminal = Table(
    "terminal",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False),
    Column("place", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    _at(),
    CheckConstraint("kind IN ('gate', 'till')", name="terminal_kind_known"),
    Column("revoked_at", DateTime(timezone=True)),
)

terminal_nonce = Table(
    "terminal_nonce",
    metadata,
    Column("terminal_id", Text, ForeignKey("terminal.id"), primary_key=True),
    Column("nonce", Text, primary_key=True),
    _at("seen_at"),
    Index("terminal_nonce_seen_at", "seen_at"),
)

intent = Table(
    "payment_intent",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False),
    # None once the window for disputes is over; the place is the merchant's name then.
    Column("terminal_id", Text, ForeignKey("terminal.id")),
    Column("place", Text, nullable=False),
    Column("at_gate", Boolean, nullable=False),
    # The amount of a fare is known when its payer is: 0 until then, or where a cap makes the ride free.
    Column("fare", Boolean, nullable=False, server_default=text("false")),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("capture_later", Boolean, nullable=False),
    Column("captured", BigInteger, nullable=False, server_default=text("0")),
    Column("tip", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    Column("state", Text, nullable=False),
    Column("outcome", Text),
    Column("reason", Text),
    Column("second_factor", Text),
    Column("payer_id", Text, ForeignKey("payer.id")),
    Column("query_id", LargeBinary, nullable=False, unique=True),
    Column("request_sha256", LargeBinary, nullable=False),
    # Of a search: which gallery, and when the terminal signed it (ms since 1970). None for payments by a device's code.
    Column("gallery_id", Text, ForeignKey("gallery.id")),
    Column("issued_at", BigInteger),
    Column("already_paid_by", Text, ForeignKey("payment_intent.id")),
    # A till's own name for what it sells: of the attempts at one purchase, one is charged.
    Column("purchase", Text),
    # The terminal never heard the answer, and had whatever came of it taken back.
    Column("unheard", Boolean, nullable=False, server_default=text("false")),
    _at(),
    Column("decided_at", DateTime(timezone=True)),
    CheckConstraint("amount > 0 OR (fare AND amount = 0)", name="intent_amount_positive"),
    CheckConstraint(
        "0 <= tip AND tip <= captured AND captured <= amount AND 0 <= refunded AND refunded <= captured",
        name="intent_amounts_in_order",
    ),
    CheckConstraint(
        "state IN ('requires_identification', 'processing', 'requires_confirmation', 'requires_capture', 'succeeded',"
        " 'refused', 'canceled')",
        name="intent_state_known",
    ),
    CheckConstraint(
        "(state IN ('succeeded', 'requires_capture', 'requires_confirmation')) <= (payer_id IS NOT NULL)",
        name="paid_by_somebody",
    ),
    Index("intent_by_search", "issued_at", postgresql_where=text("issued_at IS NOT NULL")),
    Index("intent_of_payer", "payer_id", "id", postgresql_where=text("payer_id IS NOT NULL")),
    Index("intent_of_purchase", "terminal_id", "purchase", postgresql_where=text("purchase IS NOT NULL")),
    Index("intent_covered_by", "already_paid_by", postgresql_where=text("already_paid_by IS NOT NULL")),
)

receipt = Table(
    "receipt",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    Column("intent_id", Text, ForeignKey("payment_intent.id")),
    Column("transfer_id", Text, ForeignKey("ledger_transfer.id"), nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("place", Text),
    Column("balance_after", BigInteger, nullable=False),
    # How a fare came about: [code, parameters], see facefare.fares.explain.
    Column("lines", JSONB, nullable=False, server_default=text("'[]'")),
    _at("at"),
    CheckConstraint(
        "kind IN ('payment', 'refund', 'top_up', 'card_refund', 'chargeback', 'chargeback_returned', 'debt',"
        " 'pay_out')",
        name="receipt_kind_known",
    ),
    Index("receipt_of_payer", "payer_id", "id"),
)

dispute = Table(
    "dispute",
    metadata,
    Column("id", Text, primary_key=True),
    Column("intent_id", Text, ForeignKey("payment_intent.id"), nullable=False, unique=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    Column("state", Text, nullable=False),
    _at(),
    CheckConstraint("state IN ('refunded', 'under_review', 'declined')", name="dispute_state_known"),
)

webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    _at(),
)

webhook_event = Table(
    "webhook_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body", Text, nullable=False),
    _at(),
)

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("event_id", Text, ForeignKey("webhook_event.id"), primary_key=True),
    Column("endpoint_id", Text, ForeignKey("webhook_endpoint.id"), primary_key=True),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("due_at", DateTime(timezone=True), server_default=func.clock_timestamp()),
    Column("delivered_at", DateTime(timezone=True)),
    Index("webhook_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)
