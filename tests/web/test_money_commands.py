"""`facefare ledger …` and `facefare wallet api-keys …` as they are typed, on real books."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from facefare.cli import command_line
from facefare.client import ApiError, MerchantClient

HEADER = "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,payment_intent_id\n"
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database_url)
    monkeypatch.setenv("FACEFARE_DATA_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Result:
        return CliRunner().invoke(command_line(), list(words))

    return run


def a_day_later(engine: Engine) -> None:
    """Let everything so far have happened yesterday."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in ("ledger_transfer", "payment_intent", "card_top_up"):
            connection.execute(text(f"UPDATE {table} SET created_at = created_at - interval '1 day'"))


def test_a_day_is_settled_once_and_exported_with_nothing_that_says_who_paid(
    world: Any, run: Callable[..., Result], tmp_path: Path
) -> None:
    ada = world.payer("ada")
    paid = world.look("ada").payment_intent
    world.gate.refund(paid, "k", 80)
    a_day_later(world.engine)
    settled = run("ledger", "settle", "--day", str(YESTERDAY))
    assert (settled.exit_code, "2.00" in settled.output) == (0, True)
    assert "2.00" not in run("ledger", "settle").output  # yesterday, again
    assert run("ledger", "settle", "--day", str(datetime.now(UTC).date())).exit_code == 1
    days = ("--from", str(YESTERDAY), "--to", str(YESTERDAY))
    assert run("ledger", "export", str(tmp_path / "out.csv"), *days).exit_code == 0
    assert run("ledger", "export", str(tmp_path / "out.json"), *days, "--format", "json").exit_code == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    (exported,) = json.loads((tmp_path / "out.json").read_text())
    assert [(row["payment_intent"], row["amount"].lstrip("'")) for row in rows] == [(paid, "280"), (paid, "-80")]
    assert (exported["paid_out"], [line["amount"] for line in exported["lines"]]) == (200, [280, -80])
    for file in ("out.csv", "out.json"):
        assert ada.account().id not in (tmp_path / file).read_text()
    verified = run("ledger", "verify", "--json", str(tmp_path / "found.json"))
    assert (verified.exit_code, verified.output) == (0, "Every money invariant holds.\n")
    assert json.loads((tmp_path / "found.json").read_text()) == []


def test_a_broken_invariant_ends_the_command_with_its_name_in_a_process_of_its_own(
    world: Any, run: Callable[..., Result], database_url: str, tmp_path: Path
) -> None:
    world.payer("ada")
    paid = world.look("ada").payment_intent
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE payment_intent SET captured = 279"))
    done = subprocess.run(
        [sys.executable, "-m", "facefare", "ledger", "verify", "--json", str(tmp_path / "found.json")],
        env={**os.environ, "FACEFARE_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "BROKEN: a payment that succeeded took exactly what it says, once" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text())[0]["broken_by"] == [paid]


def test_the_processors_report_is_reconciled_and_every_difference_named(
    world: Any, run: Callable[..., Result], tmp_path: Path
) -> None:
    world.payer("ada", funds=0)
    with world.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for number, amount in enumerate((2000, 1000)):
            connection.execute(
                text(
                    "INSERT INTO card_top_up (id, payer_id, amount, currency, automatic, state, intent)"
                    " SELECT :id, id, :amount, 'EUR', false, 'succeeded', :intent FROM payer"
                ),
                {"id": f"top_{number}", "amount": amount, "intent": f"pi_{number}"},
            )
            connection.execute(
                text(
                    "INSERT INTO ledger_transfer (id, kind, debit_account, credit_account, currency, amount, reason)"
                    " VALUES (:id, 'posted', 'b', 'a', 'EUR', :amount, 'top_up')"
                ),
                {"id": f"top_{number}", "amount": amount},
            )
    report, found = tmp_path / "report.csv", tmp_path / "found.json"
    today = str(datetime.now(UTC).date())
    words = ("ledger", "reconcile", str(report), "--from", today, "--to", today, "--json", str(found))
    lines = ["txn_1,x,eur,20.00,0.55,19.45,charge,ch_0,pi_0\n", "txn_2,x,eur,10.00,0.25,9.75,charge,ch_1,pi_1\n"]
    report.write_text(HEADER + "".join(lines))
    same = run(*words)
    assert (same.exit_code, same.output) == (
        0,
        "2 movements are the same, 0 differ. Fees of the processor: 0.80 EUR.\n",
    )
    report.write_text(HEADER + lines[0] + "txn_3,x,eur,-5.00,0,-5.00,refund,re_9,pi_0\n")
    differ = run(*words)
    assert differ.exit_code == 1
    assert "1 movements are the same, 2 differ." in differ.output
    differences = json.loads(found.read_text())["differences"]
    assert {(one["what"], one["name"]) for one in differences} == {("missing_there", "pi_1"), ("missing_here", "re_9")}
    report.write_text("nonsense\n1\n")
    unread = run(*words)
    assert (unread.exit_code, "is no itemised balance report: it has no column" in unread.output) == (1, True)


def test_api_keys_are_made_listed_and_revoked(world: Any, run: Callable[..., Result]) -> None:
    with world.engine.connect() as connection:
        merchant = connection.execute(text("SELECT id FROM merchant")).scalar_one()
    made = run("wallet", "api-keys", "create", merchant, "books", "--auditor")
    key_id, key = made.output.split()
    auditor = MerchantClient(world.http, key)
    assert (auditor.broken_invariants(), list(auditor.settlements())) == ({}, [])
    with pytest.raises(ApiError, match="payments:read"):
        list(auditor.payments())
    listed = run("wallet", "api-keys", "list", merchant).output
    assert key not in listed
    assert "ledger:verify settlements:read  in force" in listed
    assert run("wallet", "api-keys", "revoke", key_id).exit_code == 0
    assert "revoked" in run("wallet", "api-keys", "list", merchant).output
    with pytest.raises(ApiError, match="revoked"):
        auditor.merchant()
    assert run("wallet", "api-keys", "create", "mer_none", "x").exit_code == 1
