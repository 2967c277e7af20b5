"""What a wallet asks for before it is served to payers."""

import pytest
from typer.testing import CliRunner

from facefare.cli import command_line


def test_a_wallet_that_payers_can_reach_takes_no_consent_in_the_name_of_the_demo(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database_url)
    monkeypatch.setenv("FACEFARE_ORIGIN", "https://pay.example")
    ended = CliRunner().invoke(command_line(["wallet"]), ["wallet", "serve"])
    assert ended.exit_code == 1
    assert "FACEFARE_OPERATOR" in ended.output
