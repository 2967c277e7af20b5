"""Three real guardians, and the wallet's API on a real database, for the promises that are tried on both."""

import importlib.util
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]


def _load(name, path):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _TESTS / path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_three = _load("three_guardians", "guardian/three_guardians.py")
world = _load("web_world", "web/conftest.py").world


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    """Three guardians in session with 1,200 payers enrolled."""
    import asyncio

    with _three.three_guardians(tmp_path_factory.mktemp("restraint")) as running:

        async def fill():
            async with running.relay() as guardians:
                await running.enrol_many(guardians, 1200)

        asyncio.run(fill())
        yield running
