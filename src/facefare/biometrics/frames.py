"""Where frames come from: a camera, a video file, or a folder of pictures, all read the same way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics.errors import SourceError
from facefare.biometrics.pictures import MAX_BYTES, checked, decode

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
Frames = Iterator[NDArray[np.uint8]]


@contextmanager
def open_source(source: int | Path) -> Iterator[Frames]:
    """Open a camera (its index), a video file or a folder of pictures (in the order of their names).

    Gives an iterator of BGR frames (H, W, 3) uint8. A video or a folder ends; a camera that stops giving
    frames raises SourceError. Raises SourceError if there is nothing to read, and ImageError from the
    iterator for a picture that cannot be used.
    """
    if isinstance(source, Path) and source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise SourceError(f"There are no pictures in the folder {source}.")
        yield _pictures(files)
        return
    if isinstance(source, Path) and not source.is_file():
        raise SourceError(f"{source} is neither a video file nor a folder of pictures.")
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            raise SourceError(
                f"Camera {source} cannot be opened. Is it plugged in, and free of other programs?"
                if isinstance(source, int)
                else f"{source} is no video that can be read."
            )
        yield _captured(capture, source)
    finally:
        capture.release()


def _pictures(files: list[Path]) -> Frames:
    for file in files:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise SourceError(f"{file.name} can no longer be read.") from error
        yield decode(data)


def _captured(capture: cv2.VideoCapture, source: int | Path) -> Frames:
    while True:
        there, frame = capture.read()
        if there:
            yield checked(np.asarray(frame, dtype=np.uint8))
        elif isinstance(source, int):
            raise SourceError(f"Camera {source} stopped giving pictures. Check its cable, then start again.")
        else:
            return
