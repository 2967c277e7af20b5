"""Three real guardians, and the wallet's API on a real database, for the promises that are tried on both."""

import asyncio
import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient

from facefare.payments import merchants
from facefare.payments.merchants import Terminal
from facefare.payments.top_ups import Funding
from facefare.wallet import galleries, stations
from facefare.wallet.consents import Notice
from facefare.web.api import create_app

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
    with _three.three_guardians(tmp_path_factory.mktemp("restraint")) as running:

        async def fill():
            async with running.relay() as guardians:
                await running.enrol_many(guardians, 1200)

        asyncio.run(fill())
        yield running


@pytest.fixture
def wallet(trio, engine):
    """Opens an honest wallet in front of the three guardians, with one terminal of this kind at this place."""
    three = sys.modules["three_guardians"]

    @contextlib.contextmanager
    def opened(place, kind="gate"):
        public = {name: key.public_key().public_bytes_raw() for name, key in trio.keys.items()}
        with engine.begin() as connection:
            merchant = merchants.register_merchant(connection, "Example")
            terminal = Terminal(three.TERMINAL, merchant, place, public[three.TERMINAL], kind)
            merchants.register_terminal(connection, terminal)
            stations.register(connection, three.STATION, public[three.STATION])
            galleries.open_gallery(connection, three.LIVE, kind="live")
        app = create_app(
            engine=engine,
            guardians=trio.relay(),
            calibration=trio.calibration,
            fpir=0.001,
            receipt_key=Ed25519PrivateKey.generate(),
            notice=Notice("1", "en", "https://operator.example/privacy", "Example", "dpo@operator.example", 395),
            funding=Funding.TEST,
        )
        with TestClient(app) as http:
            asyncio.run(trio.ready())
            if trio.version.get(three.LIVE):  # an earlier test's
                http.portal.call(app.state.services.changes.agree, three.LIVE)
            yield http

    return opened
