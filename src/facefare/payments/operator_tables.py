"""The tables of merchants' API keys and settlements."""

from sqlalchemy import BigInteger, Column, Date, DateTime, ForeignKey, LargeBinary, Table, Text, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Text), nullable=False),
    _at(),
    Column("revoked_at", DateTime(timezone=True)),
)

settlement = Table(
    "settlement",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False),
    Column("currency", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("carried", BigInteger, nullable=False),
    Column("taken", BigInteger, nullable=False),
    Column("given_back", BigInteger, nullable=False),
    Column("paid_out", BigInteger, nullable=False),
    _at(),
    UniqueConstraint("merchant_id", "currency", "day"),
)

settlement_line = Table(
    "settlement_line",
    metadata,
    Column("transfer_id", Text, ForeignKey("ledger_transfer.id"), primary_key=True),
    Column("settlement_id", Text, ForeignKey("settlement.id"), nullable=False, index=True),
)
