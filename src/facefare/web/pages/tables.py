"""What the pages keep for signing in; no name, no address, and no token that could be used if read."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Integer, LargeBinary, Table, Text, func

from facefare.ledger.tables import metadata


def _created_at() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


passkey = Table(
    "passkey",
    metadata,
    Column("credential_id", LargeBinary, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    Column("user_handle", LargeBinary, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    _created_at(),
    Column("used_at", DateTime(timezone=True)),
)

session = Table(
    "web_session",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

ceremony = Table(
    "passkey_ceremony",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("challenge", LargeBinary, nullable=False),
    Column("user_handle", LargeBinary),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

tries = Table(
    "tries",
    metadata,
    Column("bucket", LargeBinary, primary_key=True),
    Column("window_start", DateTime(timezone=True), nullable=False),
    Column("count", Integer, nullable=False),
)
