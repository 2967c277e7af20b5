"""The three real guardians of `three_guardians.py`, for this room's tests."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("three_guardians", Path(__file__).with_name("three_guardians.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("three_guardians", _module)
if sys.modules["three_guardians"] is _module:
    _spec.loader.exec_module(_module)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Three guardians in session, with generous limits."""
    with sys.modules["three_guardians"].three_guardians(tmp_path_factory.mktemp("trio")) as running:
        yield running
