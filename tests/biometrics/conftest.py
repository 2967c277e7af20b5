from pathlib import Path

import pytest

from demo.faces import Person, Sitter, portrait
from facefare.biometrics import FacePipeline
from facefare.biometrics.models.install import install


@pytest.fixture(scope="session")
def models_dir():
    folder = Path.home() / ".cache" / "facefare" / "models"
    install(folder)
    return folder


@pytest.fixture(scope="session")
def pipeline(models_dir):
    return FacePipeline.load(models_dir)


@pytest.fixture(scope="session")
def collins(pipeline):
    return Sitter(Person.EILEEN_COLLINS, pipeline)


@pytest.fixture(scope="session")
def hopper(pipeline):
    return Sitter(Person.GRACE_HOPPER, pipeline)


@pytest.fixture(scope="session")
def astronaut():
    return portrait(Person.EILEEN_COLLINS)
