"""Why a code is not accepted; `reason` is what the terminal's screen and the wallet's answer call it.

HeldError
├── MalformedCode
├── CodeTooLarge
├── WrongTerminalKey     sealed to a key that this terminal doesn't have (any more)
├── WrongOperator
├── BadSignature         not by the key that it names, or altered
├── CodeExpired
├── CodeTooLongLived     good for longer than any code may be, or the device's clock is ahead
├── CounterUsed          shown before, or older than one shown before
├── SequenceUsed         the terminal numbered two payments alike
├── TakenTooLongAgo      a payment accepted offline was forwarded too late, or is from the future
├── DeviceDenied         lost, revoked, or something is owed
├── PassExpired          the device has to fetch a new pass
├── OverSelfMadeLimit    a reference that no station attested pays small amounts only
├── ComparisonsUsedUp    too many faces did not fit this device's reference
├── DenyListUnusable     too old, rolled back, or none at all: nothing can be accepted offline
├── OfflineLimitReached  the device has spent what it may at a terminal that has no network
├── StoreUnusable        the terminal's disk is full or broken: nothing can be taken
├── NoOpeningKey         the terminal has no announced key: it can't take codes now
└── WrongModel           the device's reference is for another embedder than the terminal's
"""

from typing import ClassVar

from facefare.identification.errors import IdentificationError


class HeldError(IdentificationError):
    """Base of this profile's errors."""

    reason: ClassVar[str]


class MalformedCode(HeldError):
    """These bytes are no code, or a document that is none of ours."""

    reason = "code_malformed"


class CodeTooLarge(HeldError):
    """Longer than any code."""

    reason = "code_too_large"


class WrongTerminalKey(HeldError):
    """Sealed to a key that this terminal doesn't have."""

    reason = "code_for_another_terminal"


class WrongOperator(HeldError):
    """Made for another operator's terminals."""

    reason = "code_for_another_operator"


class BadSignature(HeldError):
    """Not signed by the key that it names, or altered."""

    reason = "code_signature_wrong"


class CodeExpired(HeldError):
    """Shown too late."""

    reason = "code_expired"


class CodeTooLongLived(HeldError):
    """Good for longer than any code may be, or made by a clock that is ahead."""

    reason = "code_lives_too_long"


class CounterUsed(HeldError):
    """Shown before, or older than one shown before."""

    reason = "code_used_before"


class SequenceUsed(HeldError):
    """The terminal gave this number to another payment before."""

    reason = "sequence_used"


class TakenTooLongAgo(HeldError):
    """A payment accepted offline was forwarded too late, or its time lies in the future."""

    reason = "taken_too_long_ago"


class DeviceDenied(HeldError):
    """The device was reported lost, was revoked, or something is owed."""

    reason = "device_denied"


class PassExpired(HeldError):
    """The device's pass has run out; it fetches a new one when it is online."""

    reason = "device_pass_expired"


class OverSelfMadeLimit(HeldError):
    """A reference that no station attested pays small amounts only."""

    reason = "over_self_made_limit"


class ComparisonsUsedUp(HeldError):
    """Too many faces in a row did not fit this device's reference."""

    reason = "too_many_tries"


class DenyListUnusable(HeldError):
    """Too old, rolled back or missing: nothing can be accepted offline."""

    reason = "deny_list_unusable"


class OfflineLimitReached(HeldError):
    """The device has spent what it may while this terminal has no network."""

    reason = "offline_limit_reached"


class StoreUnusable(HeldError):
    """The terminal can't remember what it has to."""

    reason = "terminal_store_unusable"


class NoOpeningKey(HeldError):
    """The terminal has no announced key at this moment."""

    reason = "no_opening_key"


class WrongModel(HeldError):
    """The device's reference is for another embedder than the terminal's; it has to be made anew."""

    reason = "reference_for_another_model"
