"""What can go wrong between a camera and a template; each message says what to do.

BiometricsError
├── ImageError              the bytes or the frame cannot be used
│   ├── BrokenImageError
│   └── ImageTooLargeError
├── FaceError               the picture is fine, the face in it is not
│   ├── NoFaceError
│   ├── SeveralFacesError
│   └── FaceTooSmallError
├── SourceError             no (more) frames come from a camera, video or folder
└── ModelError              the networks
    ├── ModelMissingError
    ├── ModelChangedError
    ├── ModelDownloadError
    ├── ModelOutputError
    ├── EmbedderError
    └── TemplateMismatchError
"""


class BiometricsError(Exception):
    """Base of every error of this room."""


class ImageError(BiometricsError):
    """A picture that cannot be used."""


class BrokenImageError(ImageError):
    """Bytes that are no whole picture of a supported kind, or an array that is no frame."""


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than are accepted."""


class FaceError(BiometricsError):
    """A picture whose face cannot be used."""


class NoFaceError(FaceError):
    """No face was found."""


class SeveralFacesError(FaceError):
    """More than one face was found where exactly one is expected."""


class FaceTooSmallError(FaceError):
    """The face has too few pixels for a template."""


class SourceError(BiometricsError):
    """A camera, video or folder cannot be opened, or stopped giving frames."""


class ModelError(BiometricsError):
    """A network is missing, was changed, or misbehaves."""


class ModelMissingError(ModelError):
    """A model file is not there."""


class ModelChangedError(ModelError):
    """A file's checksum is not the pinned one."""


class ModelDownloadError(ModelError):
    """The packages that hold the weights could not be had."""


class ModelOutputError(ModelError):
    """A network gave something that is not a finite number of the promised shape."""


class EmbedderError(ModelError):
    """An embedder's description is incomplete or contradicts its network."""


class TemplateMismatchError(ModelError):
    """Templates of different embedders were put together."""
