"""Fuzzes the entry of pictures: `python tools/fuzz_pictures.py [SECONDS] [SEED]`.

Pictures of every kind are cut, overwritten, spliced with one another and given other sizes in their headers.
Whatever comes in, it is a frame or an ImageError; anything else ends the run, and leaves the bytes in a file.
"""

import io
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from facefare.biometrics import decode
from facefare.biometrics.errors import ImageError

_KINDS = (("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("JPEG", "CMYK"))
_KINDS += (("JPEG", "L"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"))
_TELLING = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00", b"\x01")


def seeds() -> list[bytes]:
    """A small noisy picture of each kind, and an animation."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    picture = Image.fromarray(noise)
    made = []
    for kind, mode in _KINDS:
        buffer = io.BytesIO()
        source = Image.fromarray(noise[:, :, 0].astype(np.uint16)) if mode == "I;16" else picture.convert(mode)
        source.save(buffer, kind)
        made.append(buffer.getvalue())
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", save_all=True, append_images=[picture.rotate(90), picture.rotate(180)])
    return [*made, buffer.getvalue()]


def changed(random: Random, pool: list[bytes]) -> bytes:
    """One of the pictures with some damage; most of it near the front, where the headers are."""
    data = bytearray(random.choice(pool))
    for _ in range(random.choice((1, 1, 2, 3, 8, 30))):
        at = int(len(data) * random.random() ** random.choice((1, 4)))
        match random.randrange(5):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                value = random.choice(_TELLING)
                data[at : at + len(value)] = value
            case 2:
                del data[at : at + random.randrange(1, 64)]
            case 3:
                other = random.choice(pool)
                start = random.randrange(len(other))
                data[at:at] = other[start : start + random.randrange(1, 200)]
            case 4:
                del data[max(at, 1) :]
        if not data:
            data = bytearray(b"\x00")
    return bytes(data)


def main(seconds: float, seed: int) -> None:
    """Run for so long, and say what came of it."""
    random, pool, counted = Random(seed), seeds(), Counter[str]()  # noqa: S311 (reproducible)
    end, slowest = time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        data, started = changed(random, pool), time.perf_counter()
        try:
            decode(data)
            counted["frames"] += 1
        except ImageError as error:
            counted[type(error).__name__] += 1
        except BaseException:
            kept = Path(tempfile.mkdtemp()) / "picture"
            kept.write_bytes(data)
            print(f"Seed {seed}, input {counted.total()}: see {kept}")
            raise
        slowest = max(slowest, time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{counted.total():,} inputs: {dict(counted)}; slowest {1e3 * slowest:.0f} ms, at most {peak:.0f} MB")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
