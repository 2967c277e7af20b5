"""The tables of fares (tariffs as imported, where terminals stand, payers' taps and periods) and of money paid out."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
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


tariff = Table(
    "tariff",
    metadata,
    Column("id", Text, primary_key=True),
    Column("terms", Text, nullable=False),
    _at(),
)

tariff_version = Table(
    "tariff_version",
    metadata,
    Column("tariff_id", Text, ForeignKey("tariff.id"), primary_key=True),
    Column("effective_from", Date, primary_key=True),
    Column("document", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    _at("imported_at"),
)

fare_point = Table(
    "fare_point",
    metadata,
    Column("terminal_id", Text, ForeignKey("terminal.id"), primary_key=True),
    Column("tariff_id", Text, ForeignKey("tariff.id"), nullable=False),
    Column("stop", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('entry', 'exit', 'flat')", name="fare_point_kind_known"),
)

concession = Table(
    "concession",
    metadata,
    Column("payer_id", Text, ForeignKey("payer.id"), primary_key=True),
    Column("tariff_id", Text, ForeignKey("tariff.id"), primary_key=True),
    Column("category", Text, nullable=False),
    Column("through", Date, nullable=False),
)

travel_period = Table(
    "travel_period",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("checked_at", DateTime(timezone=True)),
    Column("refused", Text),
    Column("settled_at", DateTime(timezone=True)),
    Column("top_up_id", Text, ForeignKey("card_top_up.id"), unique=True),
    CheckConstraint("opened_at <= due_at AND due_at <= ends_at", name="travel_period_in_order"),
    CheckConstraint(
        "(top_up_id IS NOT NULL)::int + (refused IS NOT NULL)::int + (settled_at IS NOT NULL)::int <= 1",
        name="travel_period_ends_once",
    ),
    Index("travel_period_of_payer", "payer_id", "id"),
    Index(
        "travel_period_open",
        "due_at",
        postgresql_where=text("top_up_id IS NULL AND refused IS NULL AND settled_at IS NULL"),
    ),
)

tap = Table(
    "tap",
    metadata,
    Column("intent_id", Text, ForeignKey("payment_intent.id"), primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    Column("tariff_id", Text, ForeignKey("tariff.id"), nullable=False),
    Column("stop", Text),
    Column("network", Text),
    Column("kind", Text),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("week", Date, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("reserve", BigInteger, nullable=False),
    Column("unsecured", BigInteger, nullable=False),
    Column("debt", BigInteger, nullable=False, server_default=text("0")),
    Column("given_back", BigInteger, nullable=False, server_default=text("0")),
    Column("period_id", Text, ForeignKey("travel_period.id")),
    Column("lines", JSONB, nullable=False),
    CheckConstraint("cost >= 0 AND reserve >= 0 AND unsecured >= 0 AND debt >= 0", name="tap_amounts_not_negative"),
    CheckConstraint(
        "(stop IS NULL) = (kind IS NULL) AND (stop IS NULL) = (network IS NULL)", name="tap_forgotten_whole"
    ),
    Index("tap_of_payer", "payer_id", "tariff_id", "at"),
    Index("tap_under_way", "at", postgresql_where=text("reserve > 0")),
    Index("tap_of_period", "period_id", postgresql_where=text("period_id IS NOT NULL")),
)

pay_out = Table(
    "pay_out",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    Column("transfer_id", Text, ForeignKey("ledger_transfer.id"), nullable=False, unique=True),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    _at(),
    Column("paid_at", DateTime(timezone=True)),
)
