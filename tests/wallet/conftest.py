"""An open gallery, and who changes it."""

from typing import Any

import pytest
from sqlalchemy import Engine

from facefare.wallet import galleries, stations
from facefare.wallet.carrying import Changes


@pytest.fixture
def changes(engine: Engine, guardians: Any, requests: Any) -> Changes:
    with engine.begin() as connection:
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
        galleries.open_gallery(connection, "gal_town", kind="live")
    return Changes(engine, guardians, threshold=lambda _: -2000)
