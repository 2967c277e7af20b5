"""Staff from the command line, a terminal's proof of its key, and the times of stages."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from facefare.payments import merchants
from facefare.payments.errors import ProofWrong
from facefare.web.pages import staff
from facefare.web.stages import Stages


def run(*arguments: str, environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "facefare", "wallet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    import os

    return {**os.environ, "FACEFARE_DATABASE_URL": database_url}


def test_a_member_is_added_listed_and_revoked(engine: Engine, environment: dict[str, str]) -> None:
    added = run("staff", "add", "Sam", "--role", "support", environment=environment)
    id, token = added.stdout.split()
    with engine.begin() as connection:
        begun = staff.begin_session(connection, token)
        assert begun is not None
        assert (begun[0].name, begun[0].role.value) == ("Sam", "support")
    listed = run("staff", "list", environment=environment).stdout
    assert f"{id}  support  Sam  in force" in listed
    assert token not in listed
    assert run("staff", "revoke", id, environment=environment).returncode == 0
    with engine.begin() as connection:
        assert staff.begin_session(connection, token) is None
        assert staff.member_of(connection, begun[1]) is None
    again = run("staff", "revoke", id, environment=environment)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr


def test_a_key_is_proved_for_one_terminal_of_one_merchant(tmp_path: Path, environment: dict[str, str]) -> None:
    file = tmp_path / "key.pem"
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(pem)
    told = run("key-proof", str(file), "--merchant", "mer_1", "--terminal", "trm_1", environment=environment)
    key, proof = (bytes.fromhex(line) for line in told.stdout.split())
    merchants.check_proof("mer_1", "trm_1", key, proof)
    for merchant, terminal in (("mer_2", "trm_1"), ("mer_1", "trm_2")):
        with pytest.raises(ProofWrong):
            merchants.check_proof(merchant, terminal, key, proof)
    assert "PRIVATE" not in told.stdout + told.stderr


def test_stages_tell_median_and_nineteen_of_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("facefare.web.stages.time.monotonic", lambda: now[0])
    stages = Stages()
    assert stages.figures() == {}
    for took in range(1, 21):
        with stages.timed("search"):
            now[0] += took / 1000
    median, slow, count = stages.figures()["search"]
    assert (round(median), round(slow), count) == (10, 19, 20)
    with pytest.raises(ValueError), stages.timed("begin"):
        raise ValueError
    assert stages.figures()["begin"][2] == 1
    now[0] += 3601
    assert stages.figures() == {}
