"""What can go wrong when a fare is worked out.

FaresError
├── TariffError     the tariff or the feed contradicts itself, or is not in the format
├── UnknownFare     no rule of the tariff in force prices this leg
├── BadTap          a tap that cannot be right
└── BadEvent        an event that does not fit the payer's standing
"""


class FaresError(Exception):
    """Base class of every error of this room."""


class TariffError(FaresError):
    """The tariff or the feed contradicts itself or is not in the format."""


class UnknownFare(FaresError):
    """No rule of the tariff in force prices this leg; the gate should refer the rider to another way to pay."""


class BadTap(FaresError):
    """A tap that cannot be right: without time zone, or one id used for two different taps."""


class BadEvent(FaresError):
    """An event that does not fit the payer's standing, such as paying more than is owed."""
