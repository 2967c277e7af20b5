"""The table of devices that pay with a key of their own, beside the wallet's other tables."""

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
    Sequence,
    Table,
    Text,
    func,
    text,
)

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


device_change = Sequence("device_change", metadata=metadata)

device = Table(
    "device",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    Column("consent_id", Text, ForeignKey("consent.id"), nullable=False),
    Column("public_key", LargeBinary, nullable=False, unique=True),
    Column("commitment", LargeBinary, nullable=False),
    Column("station_id", Text, ForeignKey("station.id")),
    Column("attestation", LargeBinary),
    Column("counter", BigInteger, nullable=False, server_default=text("0")),
    Column("pass_through", Integer, nullable=False),
    Column("state", Text, nullable=False),
    # While it owes: paused, by its payer or a dispute, which settling does not end.
    Column("resting", Boolean, nullable=False, server_default=text("false")),
    Column("change", BigInteger, nullable=False, server_default=device_change.next_value()),
    _at(),
    _at("changed_at"),
    CheckConstraint("state IN ('active', 'paused', 'owing', 'lost', 'revoked')", name="device_state_known"),
    CheckConstraint("(station_id IS NULL) = (attestation IS NULL)", name="attested_by_a_station"),
    Index("device_denied", "pass_through", postgresql_where=text("state <> 'active'")),
)
