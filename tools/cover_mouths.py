"""How often a covered mouth is seen, and a bare one taken for covered: `python tools/cover_mouths.py FOLDER [PEOPLE]`.

FOLDER is laid out as for `facefare evaluate`. Plain masks, light, middle and dark, with pleats and the face's own
shading, are drawn over the lower face of one photo each of so many people (400). Nothing of them is kept.
"""

import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import GATE, FacePipeline
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.landmarks import CHIN, NOSE_BASE
from facefare.biometrics.pipeline import Observation
from facefare.evaluation.dataset import read_dataset
from facefare.settings import Settings

_GREYS = {"light": 220, "middle": 170, "dark": 35}
_RIM = [93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 280, 197, 50]


def masked(photo: NDArray[np.uint8], face: Observation, grey: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The photo with a mask of this grey from below the eyes to under the chin."""
    points = face.landmarks[:, :2]
    area = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillPoly(area, [np.rint(points[_RIM]).astype(np.int32)], 255)
    shading = cv2.GaussianBlur(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY).astype(np.float32), (0, 0), 15)
    cloth = (grey + rng.normal(0, 3, area.shape)) * (0.6 + 0.4 * shading / max(float(shading[area > 0].mean()), 1.0))
    for part in (0.25, 0.5, 0.75):
        row = int(points[NOSE_BASE][1] + part * (points[CHIN][1] - points[NOSE_BASE][1]))
        cloth[row : row + 1] *= 0.85
    cloth = cv2.GaussianBlur(cloth, (0, 0), 0.7).clip(0, 255)[..., np.newaxis]
    cover = cv2.GaussianBlur(area, (0, 0), 1)[..., np.newaxis] / 255
    drawn: NDArray[np.uint8] = (photo * (1 - cover) + cloth * cover).astype(np.uint8)
    return drawn


def main() -> None:
    """Draw, look, count."""
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    pipeline = FacePipeline.load(Settings.read().cache_dir / "models")
    rng = np.random.default_rng(0)
    firsts = list({photo.person: photo for photo in reversed(read_dataset(Path(sys.argv[1])))}.values())
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    counts: Counter[tuple[str, str]] = Counter()
    chosen = rng.permutation(len(firsts))[:most]
    for done, index in enumerate(chosen, 1):
        photo = cv2.imread(str(firsts[index].file))
        try:
            bare = pipeline.observe(photo)
        except BiometricsError:
            continue
        views = {"bare": photo, **{name: masked(photo, bare, grey, rng) for name, grey in _GREYS.items()}}
        for name, view in views.items():
            try:
                covered = pipeline.observe(view).quality.mouth_visible < GATE.min_mouth_visible
                counts[name, "covered" if covered else "bare"] += 1
            except BiometricsError:
                counts[name, "no face"] += 1
        print(f"\r{done} of {len(chosen)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for name in ("bare", *_GREYS):
        print(f"{name}: " + ", ".join(f"{counts[name, said]} {said}" for said in ("covered", "bare", "no face")))


if __name__ == "__main__":
    main()
