"""What a visitor of the pages, or their operator, can be told.

PageError
├── ForeignOrigin        the request was made by another site's page
├── BodyTooLarge
├── PasskeyRefused       the authenticator's answer is not one that we asked for
├── InvitationOver       used, too old, or never given
├── NotYourJob           a member of the staff whose role does not allow it
├── UnknownMember        of the staff
└── NotAsExpected        what was typed is no amount, no key, no tariff
AssetError               for the operator, from `facefare web assets`
├── AssetUnavailable     npm is missing, or could not get a package
└── AssetChanged         the bytes are not the pinned ones
"""


class PageError(Exception):
    """Base of what stops a request; the message is shown to the visitor."""


class ForeignOrigin(PageError):
    """The request was made by another site's page."""


class BodyTooLarge(PageError):
    """The pages take small forms only."""


class PasskeyRefused(PageError):
    """The passkey's answer is not one that we asked for, or not by a key that we know."""


class InvitationOver(PageError):
    """The invitation was used, is too old, or was never given."""


class NotYourJob(PageError):
    """The role of this member of the staff does not allow it."""


class UnknownMember(PageError):
    """No such member of the staff, or not any more."""


class NotAsExpected(PageError):
    """What was typed is not what the field is for."""


class AssetError(Exception):
    """Base of what can go wrong with files from npm; the message is for the operator."""


class AssetUnavailable(AssetError):
    """npm is missing, or could not get a package."""


class AssetChanged(AssetError):
    """The bytes are not the pinned ones."""
