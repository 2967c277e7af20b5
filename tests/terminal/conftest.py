from pathlib import Path

import pytest

from demo.faces import Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.models.install import install


@pytest.fixture(scope="session")
def pipeline():
    folder = Path.home() / ".cache" / "facefare" / "models"
    install(folder)
    return FacePipeline.load(folder)


@pytest.fixture(scope="session")
def collins(pipeline):
    return Sitter(Person.EILEEN_COLLINS, pipeline)


@pytest.fixture(scope="session")
def hopper(pipeline):
    return Sitter(Person.GRACE_HOPPER, pipeline)
