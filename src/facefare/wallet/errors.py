"""What can go wrong with payers, consents and faces.

WalletError
├── NotAuthenticated     no such token
├── UnknownPayer
├── AccountClosed
├── InvalidPin           too short, too long or too simple
├── UnknownConsent       the enrolment names no consent that is in force
├── PayerNotPresent      the payer has a passkey, and did not just show the consent's code with it
├── UnknownStation
├── UnknownGallery
├── UnknownDevice
├── DeviceExists         the device's key is registered already
├── TooManyDevices       more than a payer needs
├── InvalidEnrolment     the station's request is not well formed or not signed by its key
├── AlreadyEnrolled
├── NotEnrolled
├── SeeStaff             a person has to look into it; the face was not enrolled
├── CannotCompare        the guardians could not look for the face; nothing was enrolled
├── NotTheSamePerson     no proof that two accounts are one person's
├── GalleryBusy          another change of the gallery has not been confirmed yet
└── ChangeUnconfirmed    not all three guardians confirmed; it is tried again
"""


class WalletError(Exception):
    """Base of this room's errors."""


class NotAuthenticated(WalletError):
    """The token is missing or not known."""


class UnknownPayer(WalletError):
    """No such payer."""


class AccountClosed(WalletError):
    """The payer closed the account."""


class InvalidPin(WalletError):
    """The PIN is too short, too long or too simple."""


class UnknownConsent(WalletError):
    """No consent in force with this hash."""


class PayerNotPresent(WalletError):
    """The payer has a passkey, and did not show the code of this consent with it just now."""


class UnknownStation(WalletError):
    """No such enrolment station, or it was revoked."""


class UnknownGallery(WalletError):
    """No such gallery in this wallet."""


class UnknownDevice(WalletError):
    """No such device of the one who asks."""


class DeviceExists(WalletError):
    """The device's key is registered already."""


class TooManyDevices(WalletError):
    """The payer registered more devices within a month than a person needs."""


class InvalidEnrolment(WalletError):
    """The station's request is not well formed or not signed by its key."""


class AlreadyEnrolled(WalletError):
    """The payer has a face in this gallery already."""


class NotEnrolled(WalletError):
    """The payer has no face here in the state that the change needs."""


class SeeStaff(WalletError):
    """The face was not enrolled, and a person has to look into it: nothing more is said."""


class CannotCompare(WalletError):
    """The guardians could not look for the face among those enrolled, so it was not enrolled; make a new request."""


class NotTheSamePerson(WalletError):
    """No proof that this payer and another, whose face was taken for the same, are one person."""


class GalleryBusy(WalletError):
    """Another change of the gallery has not been confirmed yet; try again."""


class ChangeUnconfirmed(WalletError):
    """Not all three guardians confirmed the change; the wallet tries again by itself."""
