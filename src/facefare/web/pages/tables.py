"""What the pages keep for signing in; no payer's name or address, and no token that could be used if read."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    Table,
    Text,
    func,
    true,
)

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
    Column("vouches", Boolean, nullable=False, server_default=true()),
)

session = Table(
    "web_session",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("passkey_at", DateTime(timezone=True)),
)

ceremony = Table(
    "passkey_ceremony",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("ring", Text, nullable=False),
    Column("challenge", LargeBinary, nullable=False),
    Column("user_handle", LargeBinary),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

staff_member = Table(
    "staff_member",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("token_sha256", LargeBinary, unique=True),
    _created_at(),
    Column("revoked_at", DateTime(timezone=True)),
    CheckConstraint("role IN ('viewer', 'support', 'manager', 'auditor')", name="staff_role_known"),
)

staff_passkey = Table(
    "staff_passkey",
    metadata,
    Column("credential_id", LargeBinary, primary_key=True),
    Column("staff_id", Text, ForeignKey("staff_member.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("user_handle", LargeBinary, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    _created_at(),
    Column("used_at", DateTime(timezone=True)),
)

staff_invitation = Table(
    "staff_invitation",
    metadata,
    Column("staff_id", Text, ForeignKey("staff_member.id"), primary_key=True),
    Column("token_sha256", LargeBinary, nullable=False, unique=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

staff_session = Table(
    "staff_session",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("staff_id", Text, ForeignKey("staff_member.id")),
    Column("credential_id", LargeBinary, ForeignKey("staff_passkey.credential_id", ondelete="CASCADE"), index=True),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)
"""No `staff_id`: of the operator's own token. No `credential_id`: of a token, not of a passkey."""

staff_action = Table(
    "staff_action",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("staff", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("about", Text, nullable=False),
)
