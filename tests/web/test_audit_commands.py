"""`facefare wallet searches` and `assessment` on a database with some life in it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from facefare.cli import command_line


@pytest.fixture
def lively(world: Any, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Two payers by face, one of whom can't pay; a stranger; a dispute."""
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database_url)
    monkeypatch.setenv("FACEFARE_DATA_DIR", str(tmp_path / "run"))
    ada, _ = world.payer("ada"), world.payer("ben", funds=0)
    reply = world.look("ada")
    world.look("ada"), world.look("ben"), world.look("a stranger")
    ada.dispute(reply.payment_intent)
    return world


def run(*words: Any) -> Any:
    return CliRunner().invoke(command_line(), [str(word) for word in words])


def test_the_figures_of_an_installation_are_counts_and_name_nobody(lively: Any, tmp_path: Path) -> None:
    done = run("wallet", "assessment", tmp_path / "figures.md")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "figures.md").read_text()
    for row in (
        "| Accounts | 2 |",
        "| Consents in force | hands_free: 2 |",
        "| Faces at the guardians | gal_town: 2 |",
        "| Terminals | gate: 1, till: 1 |",
        "| Phones that may pay | attested: 0, self-made: 0 |",
        "insufficient_funds: 1, not_recognised: 1, paid_moments_ago: 1",
        '| "This wasn\'t me" in the last 30 days | refunded: 1 |',
        "| Ways of paying by face that are offered | the payer's own phone only |",
        "| Data was last forgotten on time | never |",
    ):
        assert row in page, row
    for personal in ("pay_", "con_", "fac_", "pi_"):
        assert personal not in page


def test_searches_are_told_by_the_day_and_only_as_hashes_of_public_entries(lively: Any, tmp_path: Path) -> None:
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert run("wallet", "searches", tmp_path / "w.json", "--from", today, "--to", today).exit_code == 0
    said = json.loads((tmp_path / "w.json").read_text())
    assert (len(said["paid"]), len(said["visible"]), said["lost_answers"]) == (2, 3, 0), "who can't pay sees it too"
    assert set(said["paid"]) < set(said["visible"])
    assert said.keys() == {"paid", "visible", "lost_answers", "since", "until"}
    assert run("wallet", "searches", tmp_path / "w.json", "--from", "2020-01-01", "--to", "2020-01-31").exit_code == 0
    assert json.loads((tmp_path / "w.json").read_text())["visible"] == []
    with lively.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM access_log").scalar() == 3
