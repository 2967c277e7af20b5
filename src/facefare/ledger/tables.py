"""The ledger's two tables as SQLAlchemy sees them; triggers and checks live in the migrations."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every room's tables hang here, so that one migration history covers them."""

_zero = text("0")

account = Table(
    "ledger_account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("currency", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("floor", BigInteger, comment="lowest available credit balance; none: no limit"),
    Column("debits_posted", BigInteger, nullable=False, server_default=_zero),
    Column("credits_posted", BigInteger, nullable=False, server_default=_zero),
    Column("debits_pending", BigInteger, nullable=False, server_default=_zero),
    Column("credits_pending", BigInteger, nullable=False, server_default=_zero),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("kind IN ('asset', 'liability', 'income', 'expense')", name="account_kind_known"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="account_currency_is_a_code"),
    CheckConstraint("floor IS NULL OR credits_posted - debits_posted - debits_pending >= floor", name="floor_kept"),
    CheckConstraint("debits_pending >= 0 AND credits_pending >= 0", name="pending_never_negative"),
)

transfer = Table(
    "ledger_transfer",
    metadata,
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("debit_account", Text, nullable=False),
    Column("credit_account", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("hold_id", Text),
    Column("reverses_id", Text),
    Column("expires_at", DateTime(timezone=True)),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("kind IN ('posted', 'hold', 'capture', 'void', 'expiry')", name="transfer_kind_known"),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("debit_account <> credit_account", name="two_accounts"),
    CheckConstraint("(kind IN ('capture', 'void', 'expiry')) = (hold_id IS NOT NULL)", name="only_endings_name_a_hold"),
    CheckConstraint("reverses_id IS NULL OR kind = 'posted'", name="only_posted_transfers_reverse"),
    CheckConstraint("(kind = 'hold') = (expires_at IS NOT NULL)", name="only_holds_expire"),
    CheckConstraint("expires_at <= created_at + interval '31 days'", name="holds_last_a_month_at_most"),
    Index("hold_ends_once", "hold_id", unique=True, postgresql_where=text("hold_id IS NOT NULL")),
    Index("transfer_reverses", "reverses_id", postgresql_where=text("reverses_id IS NOT NULL")),
    Index("transfer_holds", "expires_at", postgresql_where=text("kind = 'hold'")),
)
