"""What can go wrong with money; every message is a sentence a person can act on.

LedgerError
├── UnknownCurrency
├── InvalidAmount
├── UnknownAccount
├── AccountConflict
├── InsufficientFunds
├── TransferConflict
├── HoldEnded
├── InvalidTransfer
└── DatabaseUnavailable
"""


class LedgerError(Exception):
    """Base of this room's errors."""


class UnknownCurrency(LedgerError):
    """The code is no active ISO 4217 currency."""


class InvalidAmount(LedgerError):
    """The amount is not a positive whole number of minor units that fits 63 bits."""


class UnknownAccount(LedgerError):
    """No account with this id and currency."""


class AccountConflict(LedgerError):
    """An account with this id exists with other properties."""


class InsufficientFunds(LedgerError):
    """The transfer would take an account below its floor."""


class TransferConflict(LedgerError):
    """A transfer with this id was posted before with other contents."""


class HoldEnded(LedgerError):
    """The hold was captured, voided or expired before."""


class InvalidTransfer(LedgerError):
    """The transfer breaks a rule of the ledger (the message says which)."""


class DatabaseUnavailable(LedgerError):
    """PostgreSQL could not be started or reached."""
