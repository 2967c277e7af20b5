from pathlib import Path

import numpy as np
import pytest

from facefare.biometrics import FacePipeline
from facefare.biometrics.models.install import install
from facefare.evaluation.dataset import Photo
from facefare.evaluation.extraction import MEASURES, Extracted
from facefare.identification.calibration import Calibration


@pytest.fixture(scope="session")
def models_dir():
    folder = Path.home() / ".cache" / "facefare" / "models"
    install(folder)
    return folder


@pytest.fixture(scope="session")
def pipeline(models_dir):
    return FacePipeline.load(models_dir)


@pytest.fixture(scope="session")
def crowd():
    """Made-up people: vectors as far from one another as faces are, and as far as views of one face are."""

    def make(people=120, photos=8, noise=0.17, group=lambda _: "", session=lambda _: ""):
        rng = np.random.default_rng(5)
        mean = Calibration.default().mean.astype(np.float64)
        mean /= np.linalg.norm(mean)
        # Faces differ in few directions, so that some strangers come near.
        directions = np.linalg.qr(rng.normal(size=(128, 12)))[0].T / np.sqrt(12)
        own = 0.38 * rng.normal(size=(people, 1, 12)) @ directions
        seen = mean + own + noise * rng.normal(size=(people, photos, 12)) @ directions
        vectors = (seen / np.linalg.norm(seen, axis=2, keepdims=True)).reshape(-1, 128).astype(np.float32)
        rows = [
            Photo(Path(f"{person:04}/{photo}.png"), person, group(person), session(photo))
            for person in range(people)
            for photo in range(photos)
        ]
        measures = rng.uniform(0, 1, (len(rows), len(MEASURES))).astype(np.float32)
        times = np.full((len(rows), 3), 5, np.float32)
        return rows, Extracted(vectors, measures, times, np.zeros(len(rows), np.uint8))

    return make
