"""Photos to templates and measures, on two cores, with a sealed trail to resume on.

Of several faces in a photo the one nearest its middle is taken: the person whose folder it is.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import FacePipeline, Observation, Quality, decode
from facefare.biometrics.errors import BiometricsError, ImageError, SourceError
from facefare.biometrics.pictures import MAX_BYTES
from facefare.evaluation.dataset import Photo
from facefare.evaluation.sealed import SealedPieces
from facefare.evaluation.workers import pipeline, workers

_CHUNK = 64
STAGES: Final = ("decode", "observe", "embed")
MEASURES: Final = ("yaw", "pitch", "roll", *(field.name for field in fields(Quality)))
FAILURES: Final = ("", "not a picture", "no face", "network failed")


@dataclass(frozen=True, repr=False, eq=False)
class Extracted:
    """Row i belongs to photo i; a photo that gave no template has a failure other than 0 and rows of zeros.

    vectors: (n, D) float32, unit length. measures: (n, len(MEASURES)) float32. milliseconds: (n, 3) float32, of
    the STAGES. failures: (n,) uint8, into FAILURES.
    """

    vectors: NDArray[np.float32]
    measures: NDArray[np.float32]
    milliseconds: NDArray[np.float32]
    failures: NDArray[np.uint8]


def extract(
    photos: Sequence[Photo], models: Path, embedder: Path | None, keep: Path, on_progress: Callable[[int, int], None]
) -> tuple[Extracted, SealedPieces | None]:
    """Extract all photos; `on_progress` hears how many are done, of how many.

    Returns what was extracted and the sealed pieces (under `keep`), which the caller destroys at the end.
    Raises BiometricsError if the networks are missing, ResumeError.
    """
    model_id = FacePipeline.load(models, embedder).model_id  # fails here rather than in a worker
    work = "\n".join([model_id, *(f"{photo.file} {photo.file.stat().st_size}" for photo in photos)]).encode()
    pieces = SealedPieces.open(keep, work)
    chunks = [photos[start : start + _CHUNK] for start in range(0, len(photos), _CHUNK)]
    done: list[bytes | None] = [pieces.get(number) if pieces else None for number in range(len(chunks))]
    ready = sum(len(chunk) for chunk, piece in zip(chunks, done, strict=True) if piece is not None)
    on_progress(ready, len(photos))
    with workers(models, embedder) as pool:
        waiting = {
            number: pool.submit(_extract_chunk, [photo.file for photo in chunk])
            for number, chunk in enumerate(chunks)
            if done[number] is None
        }
        try:
            for number, future in waiting.items():
                done[number] = piece = future.result()
                if pieces:
                    pieces.put(number, piece)
                ready += len(chunks[number])
                on_progress(ready, len(photos))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    parts = [np.load(io.BytesIO(piece)) for piece in done if piece is not None]
    names = [field.name for field in fields(Extracted)]
    return Extracted(**{name: np.concatenate([part[name] for part in parts]) for name in names}), pieces


def _extract_chunk(files: list[Path]) -> bytes:
    rows = [_extract_one(file) for file in files]
    vectors = np.zeros((len(rows), pipeline().dimensions), np.float32)
    for place, row in enumerate(rows):
        vectors[place, : len(row[0])] = row[0]
    packed = io.BytesIO()
    np.savez(
        packed,
        vectors=vectors,
        measures=np.array([row[1] for row in rows], np.float32),
        milliseconds=np.array([row[2] for row in rows], np.float32),
        failures=np.array([row[3] for row in rows], np.uint8),
    )
    return packed.getvalue()


_Row = tuple[NDArray[np.float32], list[float], list[float], int]


def _extract_one(file: Path) -> _Row:
    nothing = np.zeros(0, np.float32)
    measures, spent = [0.0] * len(MEASURES), [0.0] * len(STAGES)
    started = time.perf_counter()
    try:
        frame = read_picture(file)
        decoded = time.perf_counter()
        face = central(frame, pipeline().observe_all(frame))
        observed = time.perf_counter()
        if face is None:
            return nothing, measures, spent, FAILURES.index("no face")
        template = pipeline().embed(frame, face)
    except ImageError:
        return nothing, measures, spent, FAILURES.index("not a picture")
    except BiometricsError:
        return nothing, measures, spent, FAILURES.index("network failed")
    ended = time.perf_counter()
    spent = [1e3 * t for t in (decoded - started, observed - decoded, ended - observed)]
    quality = [getattr(face.quality, field.name) for field in fields(Quality)]
    return template.vector, [face.pose.yaw, face.pose.pitch, face.pose.roll, *quality], spent, 0


def read_picture(file: Path) -> NDArray[np.uint8]:
    """Read a picture file into a frame (H, W, 3) uint8 BGR. Raises ImageError or SourceError."""
    try:
        with file.open("rb") as opened:
            return decode(opened.read(MAX_BYTES + 1))
    except OSError as error:
        raise SourceError(f"{file.name} can no longer be read.") from error


def central(frame: NDArray[np.uint8], faces: Sequence[Observation]) -> Observation | None:
    """Return the face whose middle is nearest the picture's."""
    middle = np.array(frame.shape[1::-1]) / 2

    def off(face: Observation) -> float:
        x, y, width, height = face.box
        return float(np.hypot(*(np.array([x + width / 2, y + height / 2]) - middle)))

    return min(faces, key=off, default=None)
