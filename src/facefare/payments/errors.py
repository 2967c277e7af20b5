"""What can go wrong with a payment.

PaymentsError
├── UnknownMerchant
├── UnknownTerminal       not registered, or revoked
├── TerminalExists
├── UnknownIntent
├── UnknownReceipt
├── QueryReused           this query was used for another payment
├── AttemptUnderWay       the same query is being answered right now
├── InvalidWebhookUrl
└── WrongState            the intent is not in a state that allows this
"""


class PaymentsError(Exception):
    """Base of this room's errors."""


class UnknownMerchant(PaymentsError):
    """No such merchant."""


class UnknownTerminal(PaymentsError):
    """The terminal is not registered, or was revoked."""


class TerminalExists(PaymentsError):
    """A terminal with this id is registered already."""


class UnknownIntent(PaymentsError):
    """No such payment of the one who asks."""


class UnknownReceipt(PaymentsError):
    """No such receipt of the one who asks."""


class QueryReused(PaymentsError):
    """A query belongs to one payment; take a new picture for a new one."""


class AttemptUnderWay(PaymentsError):
    """The same query is being answered right now; ask again in a moment."""


class InvalidWebhookUrl(PaymentsError):
    """Events are sent to https URLs only."""


class WrongState(PaymentsError):
    """The payment is not in a state that allows this."""
