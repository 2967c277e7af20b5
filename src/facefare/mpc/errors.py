"""What can go wrong in the three-party protocol.

MpcError
 ├─ ChannelClosed     the other guardian is gone
 ├─ OutOfStep         the other guardian runs another operation, or the same one on other sizes
 ├─ SessionEnded      this session has failed before and may not be used again
 └─ ShareMismatch     two holders of one component sent different values
"""


class MpcError(Exception):
    """Base of all errors of this room; none carries a share in its message."""


class ChannelClosed(MpcError):
    """The link to another guardian closed; make a new session once it is back."""


class OutOfStep(MpcError):
    """The other guardian is running a different operation; both sessions must be made anew."""


class SessionEnded(MpcError):
    """An earlier operation of this session failed; its streams may not be continued."""


class ShareMismatch(MpcError):
    """Two guardians that hold the same component disagree: a fault, and no answer."""
