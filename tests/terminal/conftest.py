from pathlib import Path
from typing import Any

import pytest

from demo.faces import Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.models.install import install
from facefare.terminal.codes import PaidByCode


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


class Code:
    """Codes whose payer does what the test says."""

    def __init__(self) -> None:
        self.offered: list[Any] = []
        self.paid: Any = None
        self.answering = True

    def offer(self, offer: Any) -> None:
        if not self.offered or self.offered[-1] != offer:
            self.paid = None
            self.offered.append(offer)

    @property
    def shown(self) -> str | None:
        return "https://pay.example/pi_code" if self.answering and self.offered[-1] else None

    def keep_up(self) -> Any:
        return self.paid

    def payment(self, amount: int, *, before: bool = False) -> PaidByCode:
        return PaidByCode(None, amount, before)  # type: ignore[arg-type]

    def take(self, paid: Any) -> bool:
        taken, self.paid = paid is self.paid, None
        return taken


@pytest.fixture
def code() -> Code:
    return Code()
