"""What can go wrong on the client side.

IdentificationError
├── CalibrationError      a calibration file or a template does not fit
├── TemplateOutOfRange    a template whose quantised form no gallery takes
├── GuardianUnavailable   a guardian can't be reached: no identification now, retry with a new request
├── RequestRefused        a guardian will not take part; `reason` is its code
│   ├── StaleGallery      the gallery has another version than the request was based on
│   ├── GalleriesDiffer   the three guardians are not at one version; one has to catch up
│   └── StorageFull       a guardian's disk refused a change; nothing was changed
└── AnswersDisagree       the guardians' parts do not fit together: a fault, and no answer
"""

from facefare.guardian.messages import RefusalCode


class IdentificationError(Exception):
    """Base of this room's errors.

    `lost_tag`: of a search whose answer did not come whole, the tag that the row answered, if one was, has taken in.
    The wallet must keep it and show it to payers who compare (`audit.own_log`): one of them will miss it.
    """

    lost_tag: int | None = None


class CalibrationError(IdentificationError):
    """A calibration file or a template does not fit."""


class TemplateOutOfRange(IdentificationError):
    """The template is unlike any face's; take the pictures again."""


class GuardianUnavailable(IdentificationError):
    """Guardian `index` can't be reached; nothing was answered. Retry later with a new request."""

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(detail)
        self.index = index


class RequestRefused(IdentificationError):
    """Guardian `guardian` will not take part; `reason` is a `RefusalCode` or another problem code."""

    def __init__(self, reason: str, detail: str, guardian: int | None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.guardian = guardian


class StaleGallery(RequestRefused):
    """The gallery has another version than the request was based on: read the status and try again."""


class GalleriesDiffer(RequestRefused):
    """The three guardians are not at one version: one has to catch up."""


class StorageFull(RequestRefused):
    """A guardian's disk refused a change; nothing was changed."""


class AnswersDisagree(IdentificationError):
    """The guardians' parts do not fit together: a fault, to be looked into, and no answer."""


BY_REASON: dict[str, type[RequestRefused]] = {
    RefusalCode.STALE_GALLERY_VERSION: StaleGallery,
    RefusalCode.GALLERIES_DIFFER: GalleriesDiffer,
    RefusalCode.STORAGE_FULL: StorageFull,
}
