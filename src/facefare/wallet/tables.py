"""The wallet's tables as SQLAlchemy sees them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)

from facefare.ledger.tables import metadata


def _at(name: str = "created_at") -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


payer = Table(
    "payer",
    metadata,
    Column("id", Text, primary_key=True),
    Column("token_sha256", LargeBinary, nullable=False, unique=True),
    Column("currency", Text, nullable=False),
    Column("account_id", Text, ForeignKey("ledger_account.id"), nullable=False),
    Column("daily_limit", BigInteger),
    _at(),
    Column("closed_at", DateTime(timezone=True)),
    Column("presence_asked", Boolean, nullable=False, server_default=false()),
    CheckConstraint("daily_limit >= 0", name="daily_limit_not_negative"),
)

pin = Table(
    "payer_pin",
    metadata,
    Column("payer_id", Text, ForeignKey("payer.id"), primary_key=True),
    Column("hash", Text, nullable=False),
    Column("wrong_tries", Integer, nullable=False),
)

consent = Table(
    "consent",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False, index=True),
    Column("notice_version", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("receipt_sha256", LargeBinary, nullable=False, unique=True),
    Column("retention_days", Integer),
    _at("given_at"),
    Column("withdrawn_at", DateTime(timezone=True)),
    Column("present_until", DateTime(timezone=True)),
)

station = Table(
    "station",
    metadata,
    Column("id", Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    _at(),
    Column("revoked_at", DateTime(timezone=True)),
)

gallery = Table(
    "gallery",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("next_row", Integer, nullable=False),
    Column("live", Integer, nullable=False),
    CheckConstraint("kind IN ('live', 'demo')", name="gallery_kind_known"),
)

face = Table(
    "face",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    Column("gallery_id", Text, ForeignKey("gallery.id"), nullable=False),
    Column("consent_id", Text, ForeignKey("consent.id"), nullable=False),
    Column("row", Integer, nullable=False),
    # By which the payer may have the row's accumulator opened; the guardians have it too.
    Column("payer_key", LargeBinary),
    Column("state", Text, nullable=False),
    # By a dispute, until the payer resumes; `state` follows when the guardians have confirmed.
    Column("stopped", Boolean, nullable=False, server_default=text("false")),
    _at(),
    CheckConstraint("octet_length(payer_key) = 32", name="payer_key_is_ed25519"),
    UniqueConstraint("gallery_id", "row"),
    CheckConstraint("state IN ('pending', 'active', 'paused', 'deleted')", name="face_state_known"),
    Index(
        "one_face_a_gallery",
        "payer_id",
        "gallery_id",
        unique=True,
        postgresql_where=text("state <> 'deleted'"),
    ),
    Index("face_not_paused_yet", "gallery_id", postgresql_where=text("stopped AND state = 'active'")),
)

lookalike = Table(
    "lookalike",
    metadata,
    Column("face_id", Text, ForeignKey("face.id", ondelete="CASCADE"), primary_key=True),
    Column("other_id", Text, ForeignKey("face.id", ondelete="CASCADE"), primary_key=True, index=True),
    _at("found_at"),
    CheckConstraint("face_id <> other_id", name="two_faces"),
)

change = Table(
    "gallery_change",
    metadata,
    Column("id", Text, primary_key=True),
    Column("gallery_id", Text, ForeignKey("gallery.id"), nullable=False),
    Column("operation", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("base_version", BigInteger, nullable=False),
    Column("face_id", Text, ForeignKey("face.id"), index=True),
    Column("enrolment_id", LargeBinary, unique=True),
    Column("sealed_request", LargeBinary),
    Column("state", Text, nullable=False),
    _at(),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint("operation IN ('enrol', 'delete', 'pause', 'resume')", name="change_operation_known"),
    CheckConstraint("state IN ('pending', 'confirmed', 'refused')", name="change_state_known"),
    CheckConstraint("state = 'pending' OR sealed_request IS NULL", name="sealed_only_while_pending"),
    Index("one_change_at_a_time", "gallery_id", unique=True, postgresql_where=text("state = 'pending'")),
)

confirmation = Table(
    "change_confirmation",
    metadata,
    Column("change_id", Text, ForeignKey("gallery_change.id"), primary_key=True),
    Column("guardian", Integer, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

access_log = Table(
    "access_log",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payer_id", Text, ForeignKey("payer.id"), nullable=False),
    _at("at"),
    Column("by", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    # Of an identification: what the row's accumulator took in, and the signed request. The request is forgotten with
    # the place, since whoever knows it finds the place in the guardians' public logs.
    Column("tag", LargeBinary),
    Column("face_id", Text, ForeignKey("face.id")),
    Column("issued_at", BigInteger),  # ms since 1970, as the terminal signed
    Column("query_id", LargeBinary),
    Column("request_sha256", LargeBinary),
    CheckConstraint("octet_length(tag) = 8", name="tag_is_64_bits"),
    CheckConstraint(
        "(face_id IS NULL) = (issued_at IS NULL) AND (query_id IS NULL) = (request_sha256 IS NULL)"
        " AND (face_id IS NULL OR tag IS NOT NULL) AND (query_id IS NULL OR face_id IS NOT NULL)",
        name="identification_is_whole",
    ),
    Index("access_log_of_payer", "payer_id", "id"),
    Index("access_log_of_face", "face_id", "id", postgresql_where=text("face_id IS NOT NULL")),
)

lost_answer = Table(
    "lost_answer",
    metadata,
    Column("id", Text, primary_key=True),
    Column("gallery_id", Text, ForeignKey("gallery.id"), nullable=False),
    Column("tag", LargeBinary, nullable=False),
    _at("at"),
    CheckConstraint("octet_length(tag) = 8", name="tag_is_64_bits"),
    Index("lost_answer_of_gallery", "gallery_id", "id"),
)

pseudonym_key = Table(
    "pseudonym_key",
    metadata,
    Column("day", Date, primary_key=True),
    Column("key", LargeBinary, nullable=False),
)

retention_run = Table(
    "retention_run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("ran_at", DateTime(timezone=True), nullable=False),
    Column("record", Text, nullable=False),
)
