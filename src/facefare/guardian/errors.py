"""What can go wrong at a guardian.

GuardianError
├── MessageError        bytes that are not the message they should be
├── Refused             this guardian will not take part; carries a `RefusalCode`
├── GuardianUnreachable another guardian (or this one's engine) does not answer
├── StoreError          the share store cannot do what was asked
│   └── StoreFull       no room on the disk; nothing was written
├── BackupError         a backup could not be made, restored or ended
├── LinkError           a TLS link could not be made
└── CeremonyError       a folder, a key or a registration is not as it should be
"""

from enum import StrEnum

from facefare.mpc.errors import ChannelClosed


class RefusalCode(StrEnum):
    """Why a guardian does not take part; the last part of a problem's `type`."""

    UNKNOWN_GALLERY = "unknown-gallery"
    UNKNOWN_TERMINAL = "unknown-terminal"
    UNKNOWN_STATION = "unknown-station"
    BAD_SIGNATURE = "bad-signature"
    WRONG_PURPOSE = "wrong-purpose"
    WRONG_MODEL = "wrong-model"
    STALE_REQUEST = "stale-request"
    REPLAYED = "replayed"
    RATE_LIMITED = "rate-limited"
    SEALED_MISMATCH = "sealed-mismatch"
    NOT_OPENABLE = "not-openable"
    NOT_WELL_FORMED = "not-well-formed"
    THRESHOLD_OUT_OF_RANGE = "threshold-out-of-range"
    STALE_GALLERY_VERSION = "stale-gallery-version"
    GALLERIES_DIFFER = "galleries-differ"
    DEMO_KEY_ON_LIVE_GALLERY = "demo-key-on-live-gallery"
    ROW_TAKEN = "row-taken"
    ROW_NOT_ENROLLED = "row-not-enrolled"
    REQUEST_NOT_SEEN = "request-not-seen"
    RECHECK_OVERDUE = "recheck-overdue"
    STORAGE_FULL = "storage-full"


class GuardianError(Exception):
    """Base of this room's errors."""


class MessageError(GuardianError):
    """Bytes that are not the message they should be; the text names the field, never its content."""


class Refused(GuardianError):
    """This guardian, or another one, will not take part."""

    def __init__(self, code: RefusalCode, detail: str, guardian: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.guardian = guardian


class GuardianUnreachable(GuardianError):
    """The named guardian does not answer, so no operation is possible; retry later with a new request."""

    def __init__(self, guardian: int, detail: str | None = None) -> None:
        super().__init__(
            detail or f"Guardian {guardian} is unreachable; nothing was answered. A change may be sent again."
        )
        self.guardian = guardian


class StoreError(GuardianError):
    """The share store cannot do what was asked; nothing was changed."""


class StoreFull(StoreError):
    """The disk has no room; nothing was written."""


class BackupError(GuardianError):
    """A backup could not be made, restored or ended, or the store not be compacted."""


class LinkError(GuardianError):
    """A TLS link to guardian `peer` could not be made, or the other side is out of step."""

    def __init__(self, peer: int, detail: str) -> None:
        super().__init__(detail)
        self.peer = peer


class LinkClosed(LinkError, ChannelClosed):
    """The link to guardian `peer` broke."""


class CeremonyError(GuardianError):
    """A folder, a key or a registration is not as it should be."""
