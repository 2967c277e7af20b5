"""How long it takes to teach a gate another place, and how often moving a screen about finds agreement by chance.

    python tools/teach_backdrop.py [PLACES]

Rendered places, twenty unless told otherwise. Prints the figures of docs/evaluation.md: minutes of frames without a
face, in steps of ten seconds, until something is let through that was not before (least, median, most).
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np

from facefare.biometrics.backdrop import FIRST, Backdrop, Behind
from facefare.evaluation.heads import HEIGHT, WIDTH, Frame, View, expose
from facefare.evaluation.rooms import Place, Stand, peopled

STEP = 0.5  # seconds between two frames
LONGEST = 3600.0
VIEW = View(face_width=150)


class Gate:
    """A camera that knows its place, and a clock."""

    def __init__(self, empty: Frame) -> None:
        self._now = 0.0
        self._backdrop = Backdrop(clock=lambda: self._now)
        self.sees(lambda: empty, 2 * FIRST)

    def sees(self, frame: Callable[[], Frame], seconds: float) -> None:
        """So many seconds without a face."""
        for _ in range(round(seconds / STEP)):
            self._now += STEP
            self._backdrop.learn(frame())

    def behind(self, frame: Frame) -> Behind:
        """Somebody in the middle of the frame, as `VIEW` says."""
        x, y, width = VIEW.x * WIDTH, VIEW.y * HEIGHT, VIEW.face_width
        face = SimpleNamespace(box=(x - width / 2, y - width / 2, width, width))
        return self._backdrop.behind(frame, face)  # type: ignore[arg-type]

    def minutes_until(self, shown: Callable[[], Frame], done: Callable[[], bool]) -> float:
        """How long `shown` has to be seen; infinite if an hour is not enough."""
        passed = 0.0
        while not done() and passed < LONGEST:
            self.sees(shown, 10)
            passed += 10
        return passed / 60 if passed < LONGEST else float("inf")


def with_somebody(place: Frame, seed: int) -> Frame:
    """The place with the body of somebody before it, as a camera sees it."""
    return expose(next(peopled(place, [VIEW], 0, seed)), VIEW, np.random.default_rng(seed))


def moved(frame: Frame, rng: np.random.Generator, pixels: float, zoom: float = 1.0) -> Frame:
    """The frame shifted by up to so many pixels and enlarged by up to `zoom`, at random."""
    size = rng.uniform(1, zoom) if zoom > 1 else 1.0
    x, y = rng.uniform(-pixels, pixels, 2) - rng.uniform(0, size - 1, 2) * (WIDTH, HEIGHT)
    shift = np.array([[size, 0, x], [0, size, y]], np.float32)
    return np.asarray(cv2.warpAffine(frame, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def measure(seed: int) -> Iterator[tuple[str, float]]:
    """Each figure of one place."""
    rng = np.random.default_rng(seed)
    place = Place(seed)
    empty, elsewhere = place.seen(), Place(seed + 1000).seen()
    beside = place.seen(Stand(float(rng.uniform(0.3, 0.8)), float(rng.uniform(-0.4, 0.4)), -float(rng.uniform(6, 18))))
    attack, person = with_somebody(elsewhere, seed), with_somebody(empty, seed)
    plain = np.full_like(empty, 120)
    for name, shown in (
        ("another empty place, held still", lambda: elsewhere),
        ("another empty place, held by hand", partial(moved, elsewhere, rng, 6)),
        ("a hand before the lens", lambda: plain),
    ):
        gate = Gate(empty)
        yield name, gate.minutes_until(shown, lambda gate=gate: gate.behind(attack) is not Behind.OTHER)
    knocked = place.seen(Stand(turned=20))
    gate, seen = Gate(empty), with_somebody(knocked, seed)
    yield "a knocked camera", gate.minutes_until(lambda: knocked, lambda: gate.behind(seen) is Behind.SAME)
    gate = Gate(empty)
    for name, screen in (("another place", attack), ("filmed beside the camera", with_somebody(beside, seed))):
        found = sum(gate.behind(moved(screen, rng, 0, 1.3)) is Behind.SAME for _ in range(45))
        yield f"% let through, 45 frames moved and zoomed, {name}", 100.0 * (found >= 3)
    for pixels in (8, 15, 25):
        found = sum(gate.behind(moved(person, rng, pixels)) is Behind.SAME for _ in range(10))
        yield f"% of views that agree, camera shaken by up to {pixels} pixels", 10.0 * found


if __name__ == "__main__":
    figures: dict[str, list[float]] = {}
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        for name, figure in measure(seed):
            figures.setdefault(name, []).append(figure)
        print("place", seed, file=sys.stderr)
    for name, values in figures.items():
        if name.startswith("%"):
            print(f"{name}: {np.mean(values):.0f}")
        else:
            print(f"{name}: {min(values):.1f}, {np.median(values):.1f}, {max(values):.1f} minutes")
