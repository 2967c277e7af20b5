"""The whole API on a real database, with fake guardians, spoken to by our own client."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from facefare.client import PayerClient, StationClient, TerminalClient
from facefare.identification.calibration import Calibration, Threshold
from facefare.payments import merchants
from facefare.payments.merchants import Terminal
from facefare.payments.top_ups import Funding
from facefare.wallet import galleries, stations
from facefare.wallet.consents import Notice
from facefare.web.api import create_app

NOTICE = Notice(
    version="2026-11",
    language="en",
    url="https://operator.example/privacy",
    operator="Example Transit",
    contact="privacy@operator.example",
    retention_days=395,
)


CALIBRATION = Calibration(
    model="labels",
    mean=np.zeros(2, np.float32),
    scale=160.0,
    min_squared_norm=1,
    max_squared_norm=8191,
    thresholds=(Threshold(1, 0.001, -3000), Threshold(3, 0.001, -2000)),
)


@dataclass
class World:
    """A gate, a till, an enrolment desk, and as many payers as a test wants."""

    app: FastAPI
    http: httpx.Client
    engine: Engine
    guardians: Any
    requests: Any
    gate: TerminalClient
    till: TerminalClient
    desk: StationClient

    def payer(self, label: str | None = None, funds: int = 1000) -> PayerClient:
        """A payer with money and, where a label is given, an enrolled face."""
        payer, _ = PayerClient.register(self.http, "EUR")
        if funds:
            payer.top_up(funds, "first")
        if label is not None:
            self.enrol(payer, label)
        return payer

    def enrol(self, payer: PayerClient, label: str) -> None:
        _, sha256 = payer.consent(NOTICE.version)
        self.desk.enrol(self.requests.enrolment(label, sha256).to_bytes())

    def look(self, label: str, amount: int = 280, **more: Any) -> Any:
        """Someone looks at the gate's camera."""
        return self.gate.attempt(amount=amount, currency="EUR", search=self.requests.search(label, **more).to_bytes())


@pytest.fixture
def world(engine: Engine, guardians: Any, requests: Any) -> Iterator[World]:
    public = requests.terminal_key.public_key().public_bytes_raw()
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Example Transit")
        for id in ("trm_gate", "trm_till"):
            merchants.register_terminal(
                connection, Terminal(id, merchant, f"place of {id}", public, id.removeprefix("trm_"))
            )
        stations.register(connection, "stn_desk", requests.station_key.public_key().public_bytes_raw())
        galleries.open_gallery(connection, "gal_town", kind="live")
        galleries.open_gallery(connection, "gal_demo", kind="demo")
    app = create_app(
        engine=engine,
        guardians=guardians,
        calibration=CALIBRATION,
        fpir=0.001,
        receipt_key=Ed25519PrivateKey.generate(),
        notice=NOTICE,
        funding=Funding.TEST,
    )
    with TestClient(app, raise_server_exceptions=False) as http:
        yield World(
            app,
            http,
            engine,
            guardians,
            requests,
            TerminalClient(http, "trm_gate", requests.terminal_key),
            TerminalClient(http, "trm_till", requests.terminal_key),
            StationClient(http),
        )
