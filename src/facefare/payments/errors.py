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
├── NoFarePoint           the terminal was given no stop and tariff
├── UnknownPayOut
├── FundingClosed         money can't come in this way here
├── NoCard
├── CardNotReady          the card form was not finished
├── CardDeclined          the processor does not do it with this card
├── UnknownTopUp
├── EventForged           not signed by the card processor
├── ProcessorUnavailable
├── ProcessorDisagrees    it says something else than we asked for
├── NotYourTerminal
├── UnknownApiKey
├── ScopeMissing
├── UnknownScope
├── UnknownDispute
├── UnknownEvent
├── UnknownEndpoint
├── UnknownSettlement
├── ProofWrong            a key was not shown to be in the hands of who names it
├── ReportUnreadable      the processor's report is not in the form that we know
├── UnknownAddress
├── TooManyAddresses
├── AddressUnconfirmed    the code is not the one that was sent
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


class NoFarePoint(PaymentsError):
    """The terminal was given no stop and tariff, so it can't ask for a fare."""


class UnknownPayOut(PaymentsError):
    """No such pay-out that is still to be paid."""


class FundingClosed(PaymentsError):
    """Money can't come in this way here; the operator's settings say how."""


class NoCard(PaymentsError):
    """There is no card on file."""


class CardNotReady(PaymentsError):
    """The card form was not finished."""


class CardDeclined(PaymentsError):
    """The processor does not do it with this card."""


class UnknownTopUp(PaymentsError):
    """No such top-up of the one who asks."""


class EventForged(PaymentsError):
    """The event is not signed by the card processor, or too old."""


class ProcessorUnavailable(PaymentsError):
    """The card processor did not answer, or could not do it; the same request may be sent again."""


class ProcessorDisagrees(PaymentsError):
    """The card processor says something else than we asked for; to be looked into."""


class NotYourTerminal(PaymentsError):
    """No such terminal of the merchant who asks."""


class UnknownApiKey(PaymentsError):
    """No such API key, or it was revoked."""


class ScopeMissing(PaymentsError):
    """The API key is not allowed to do this."""


class UnknownScope(PaymentsError):
    """There is no such scope."""


class UnknownDispute(PaymentsError):
    """No such dispute of the one who asks."""


class UnknownEvent(PaymentsError):
    """No such event of the one who asks."""


class UnknownEndpoint(PaymentsError):
    """No such webhook endpoint of the one who asks."""


class UnknownSettlement(PaymentsError):
    """No such settlement of the one who asks."""


class UnknownAddress(PaymentsError):
    """There is no such address of this payer's, or nothing can be sent there."""


class TooManyAddresses(PaymentsError):
    """More places to be told than a payer needs."""


class AddressUnconfirmed(PaymentsError):
    """The code is not the one that was sent, or too old."""


class ProofWrong(PaymentsError):
    """The key was not shown to be in the hands of who names it."""


class ReportUnreadable(PaymentsError):
    """The card processor's report is not in the form that we know."""
