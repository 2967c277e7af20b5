"""From the bytes of a picture to a frame, within hard limits.

The bytes are hostile until proven otherwise: their number and the pixels that they announce are checked
before anything is decoded, and whatever goes wrong inside the decoder is a BrokenImageError.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facefare.biometrics.errors import BrokenImageError, ImageTooLargeError

MAX_BYTES = 16 * 1024 * 1024
MAX_PIXELS = 25_000_000
MIN_SIDE = 16
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP, GIF or BMP picture into a frame (H, W, 3) uint8, BGR, upright.

    EXIF rotation is applied; grey, CMYK and palette pictures become colour, transparency is dropped, and of
    an animation the first frame is taken. Raises ImageTooLargeError beyond MAX_BYTES or MAX_PIXELS, and
    BrokenImageError for anything that is not one whole picture.
    """
    if len(data) > MAX_BYTES:
        raise ImageTooLargeError(f"The picture has more than {MAX_BYTES // 1024 // 1024} MB. Send a smaller one.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of (or refuses) very many pixels by its own limit; ours is below it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageTooLargeError(
                    f"The picture has {picture.width} x {picture.height} pixels, more than "
                    f"{MAX_PIXELS // 1_000_000} million. Send a smaller one."
                )
            picture.verify()  # checksums, where the format has them; the picture must be opened anew after
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            upright = ImageOps.exif_transpose(picture.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError("The picture announces too many pixels. Send a smaller one.") from error
    except ImageTooLargeError:
        raise
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise BrokenImageError("The picture is damaged or of no supported kind (JPEG, PNG, WebP).") from error
    return checked(np.ascontiguousarray(np.asarray(upright)[:, :, ::-1]))


def checked(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the frame if it is one: (H, W, 3) uint8, at least MIN_SIDE each way, at most MAX_PIXELS."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise BrokenImageError("A frame is an array (height, width, 3) of uint8 in the order blue, green, red.")
    if min(frame.shape[:2]) < MIN_SIDE:
        raise BrokenImageError(f"The picture is smaller than {MIN_SIDE} pixels. Send a larger one.")
    if frame.shape[0] * frame.shape[1] > MAX_PIXELS:
        raise ImageTooLargeError(f"The picture has more than {MAX_PIXELS // 1_000_000} million pixels.")
    return frame
