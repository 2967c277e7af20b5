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
from facefare.web.pages import staff, staff_sessions
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
        member = staff.by_token(connection, token)
        assert member is not None
        assert (member.name, member.role.value) == ("Sam", "support")
        session = staff_sessions.begin(connection, member, None)
    listed = run("staff", "list", environment=environment).stdout
    assert f"{id}  support  Sam  in force, passkeys: 0" in listed
    assert token not in listed
    link = run("staff", "invite", id, environment=environment).stdout.strip()
    with engine.begin() as connection:
        assert staff.invited(connection, link.partition("/app/console/join#")[2]).id == id
    assert run("staff", "revoke", id, environment=environment).returncode == 0
    with engine.begin() as connection:
        assert staff.by_token(connection, token) is None
        assert staff_sessions.seat_of(connection, session, None, passkeys_only=False) is None
    for again in ("revoke", "invite"):
        refused = run("staff", again, id, environment=environment)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr


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
