"""The key of a gate, a till or a station."""

import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from facefare.terminal.commands import app


def test_a_key_is_made_once_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "terminal.pem"
    made = CliRunner().invoke(app, ["new-key", str(file)])
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert made.output.strip() == key.public_key().public_bytes_raw().hex()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert CliRunner().invoke(app, ["new-key", str(file)]).exit_code == 1
    assert file.read_bytes() == before
