"""The payer's code: how large, how fast, and from how far a terminal's camera reads it, beside OpenCV's reader."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import cv2
import numpy as np
import typer
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from rich.console import Console
from rich.table import Table

from demo.phone import drawn
from facefare.identification.calibration import Calibration
from facefare.identification.held import code, documents, handover
from facefare.identification.held.comparison import matches

SIZE = (640, 480)
MODULES = 69 + 8


@dataclass
class Reader:
    name: str
    read: Callable[[Any], bytes | None]
    shown: bytes
    seconds: float = 0.0
    frames: int = 0


def held(pictures: Annotated[int, typer.Option(help="For each distance.")] = 40) -> None:
    """Size and times of the payer's code, and from how far it is read."""
    console = Console()
    shown, times = _code()
    console.print(f"The code has {len(shown)} bytes; a QR code of version 13, level L, {MODULES - 8} modules.")
    for name, milliseconds in times.items():
        console.print(f"  {name}: {milliseconds:.2f} ms")

    readers = [
        Reader("zxing-cpp", _zxing, shown),
        Reader("OpenCV", _opencv, base64.b64encode(shown)[: len(shown)]),  # it reads no binary ones: text, as long
    ]
    table = Table(title="Read, of pictures turned up to 20 degrees and tilted up to 25, with noise; blur in pixels")
    table.add_column("pixels a module")
    blurs = (0.3, 0.8)
    for reader in readers:
        for blur in blurs:
            table.add_column(f"{reader.name}, blur {blur}", justify="right")
    rng = np.random.default_rng(13)
    for pixels in (1.6, 2.0, 2.5, 3.0, 4.0):
        cells = []
        for reader in readers:
            for blur in blurs:
                seen = [_photographed(reader.shown, pixels, blur, rng) for _ in range(pictures)]
                read = [_timed(reader, frame) == reader.shown for frame in seen]
                cells.append(f"{100 * np.mean(read):.0f} %")
        table.add_row(f"{pixels}", *cells)
    console.print(table)
    for reader in readers:
        console.print(f"  {reader.name}: {1e3 * reader.seconds / reader.frames:.1f} ms a frame of 640x480")


def _code() -> tuple[bytes, dict[str, float]]:
    """A code, and the median milliseconds of making, opening and comparing."""
    calibration, now = Calibration.default(), datetime.now(UTC)
    operator, terminal = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    template = calibration.mean + 0.4 * np.random.default_rng(1).normal(size=128) / np.sqrt(128)
    holding = code.Holding(
        Ed25519PrivateKey.generate(), handover.reference_of(template, calibration), bytes(16), calibration.model
    )
    public_key = terminal.public_key().public_bytes_raw()
    announcement = documents.Announcement(
        1,
        "terminal-key",
        documents.operator_id(operator.public_key()),
        "trm_bench",
        calibration.model,
        public_key,
        documents.seconds(now),
        documents.seconds(now) + 3600,
    )
    device = holding.key.public_key().public_bytes_raw()
    through = documents.seconds(now) // documents.DAY + 30
    given = code.new_pass(operator, device, holding.commitment, self_made=False, through_day=through)

    def make() -> bytes:
        return code.make(holding, given, announcement, counter=1_000_000, now=now)

    shown = make()
    keys = {documents.key_id(public_key): terminal}

    def opened() -> code.Claim:
        return code.open_code(shown, keys, operator_key=operator.public_key(), now=now)

    claim = opened()
    return shown, {
        "make (on this machine, not a phone)": _median(make),
        "open and verify": _median(opened),
        "compare": _median(lambda: matches(template, claim, calibration)),
    }


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(200):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def _photographed(shown: bytes, pixels: float, blur: float, rng: np.random.Generator) -> Any:
    """A frame with the code somewhere in it, turned and tilted."""
    screen = drawn(shown, pixels=4)[:, :, 0]
    side = pixels * MODULES
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * side / 2
    tilt, turn = np.radians(rng.uniform(-25, 25, 2)), np.radians(rng.uniform(-20, 20))
    corners = corners * np.cos(tilt)
    corners *= (1 + 0.25 * np.sin(tilt[0]) * corners[:, 1:] / side) * (
        1 + 0.25 * np.sin(tilt[1]) * corners[:, :1] / side
    )
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array(SIZE) / 2 + rng.uniform(-20, 20, 2)
    target = (corners @ rotation.T + middle).astype(np.float32)
    edge = len(screen)
    source = np.array([(0, 0), (edge, 0), (edge, edge), (0, edge)], np.float32)
    # Render at four times the size, then shrink, so that a camera's pixel is an average.
    large = cv2.warpPerspective(
        screen,
        cv2.getPerspectiveTransform(source, target * 4),
        (SIZE[0] * 4, SIZE[1] * 4),
        flags=cv2.INTER_AREA,
        borderValue=110,
    )
    frame = cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA)
    noisy = np.asarray(cv2.GaussianBlur(frame, (0, 0), blur), np.float64) + rng.normal(0, 4, frame.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _timed(reader: Reader, frame: Any) -> bytes | None:
    started = time.perf_counter()
    read = reader.read(frame)
    reader.seconds += time.perf_counter() - started
    reader.frames += 1
    return read


def _zxing(frame: Any) -> bytes | None:
    found = zxingcpp.read_barcodes(
        frame, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode), try_invert=False
    )
    return found[0].bytes if found else None


def _opencv(frame: Any) -> bytes | None:
    try:
        read, _, _ = cv2.QRCodeDetector().detectAndDecodeBytes(frame)
    except (cv2.error, AttributeError):
        return None
    return bytes(read) if len(read) else None


if __name__ == "__main__":
    typer.run(held)
