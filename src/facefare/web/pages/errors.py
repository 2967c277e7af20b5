"""What a visitor of the pages can be told.

PageError
├── ForeignOrigin        the request was made by another site's page
├── BodyTooLarge
├── TooManyTries         wait before the next try
└── PasskeyRefused       the authenticator's answer is not one that we asked for
"""


class PageError(Exception):
    """Base of this room's errors; the message is shown to the visitor."""


class ForeignOrigin(PageError):
    """The request was made by another site's page."""


class BodyTooLarge(PageError):
    """The pages take small forms only."""


class TooManyTries(PageError):
    """Wait before the next try."""


class PasskeyRefused(PageError):
    """The passkey's answer is not one that we asked for, or not by a key that we know."""
