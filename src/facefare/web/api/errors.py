"""What a request itself can have wrong with it.

RequestError
├── SignatureMissing
├── SignatureWrong
├── SignatureStale
├── RequestReplayed
├── InvalidSearch       the sealed search is not well formed, or another terminal's
├── SearchRefused       the guardians found the search itself at fault
├── NoticeUnknown       consent to a notice that is not the current one
├── ProfileNotOffered   consent to a way of paying by face that this operator does not offer
├── TooYoung            consent by somebody who does not state to be old enough
├── OpeningRefused      a payer's request to have the own row opened is not well formed, or the guardians refused it
├── GuardiansAway       not all three guardians answered, so nothing was opened
├── TooManyTries        wait before the next try
└── CannotCount         it can't be known how often this was tried
"""


class RequestError(Exception):
    """Base of this room's errors."""


class SignatureMissing(RequestError):
    """The request is not signed, or not in the form that the API asks for."""


class SignatureWrong(RequestError):
    """The signature is not by the terminal's key over this request."""


class SignatureStale(RequestError):
    """The request was signed too long ago, or by a clock that is ahead."""


class RequestReplayed(RequestError):
    """The nonce was used before."""


class InvalidSearch(RequestError):
    """The sealed search is not well formed, or was made by another terminal."""


class SearchRefused(RequestError):
    """The guardians found the search itself at fault, so nobody was identified or charged."""


class NoticeUnknown(RequestError):
    """Consent can be given to the current notice only."""


class ProfileNotOffered(RequestError):
    """This operator does not offer that way of paying by face."""


class TooYoung(RequestError):
    """The payer does not state to be of the notice's minimum age."""


class OpeningRefused(RequestError):
    """The request to have the own row opened is not well formed, or the guardians refused it."""


class GuardiansAway(RequestError):
    """Not all three guardians answered; nothing was opened."""


class TooManyTries(RequestError):
    """Wait `retry_after` seconds before the next try."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CannotCount(RequestError):
    """Tries are counted in the database, and it does not answer: what is limited is refused."""
