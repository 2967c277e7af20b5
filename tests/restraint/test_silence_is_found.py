"""Real guardians, the wallet on a real database, a payer with the command line: who keeps silent is found."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import text
from three_guardians import LIVE, STATION, TERMINAL, synthetic_templates
from typer.testing import CliRunner

from facefare.cli import command_line
from facefare.client import PayerClient, StationClient, TerminalClient
from facefare.guardian.ceremony import write_trust
from facefare.web.payer_commands import CheckError, fetch_own_log


def run(*words):
    return CliRunner().invoke(command_line(), [str(word) for word in words])


@pytest.fixture
def site(trio, engine, wallet, database_url, monkeypatch, tmp_path):
    """An honest wallet in front of the three guardians, a gate, and Ada, enrolled with a key of her own."""
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database_url)
    write_trust(tmp_path / "trust", trio.identities)
    with wallet("Gate 1") as http:
        ada, _ = PayerClient.register(http, "EUR")
        ada.top_up(1000, "first")
        _, consent = ada.consent("1")
        made = run("payer", "new-key", tmp_path / "check-key.pem")
        assert made.exit_code == 0
        (face,) = synthetic_templates(1, seed=7000)
        request = trio.enrol_request(
            face,
            gallery=LIVE,
            station=STATION,
            key=trio.keys[STATION],
            consent_sha256=consent,
            payer_key=bytes.fromhex(made.output.strip()),
        )
        StationClient(http).enrol(request.to_bytes())

        def look(template=face):
            search = trio.search_request(template, gallery=LIVE).to_bytes()
            return TerminalClient(http, TERMINAL, trio.keys[TERMINAL]).attempt(
                amount=280, currency="EUR", search=search
            )

        def check():
            """What the payer does, as the guide says."""
            key = load_pem_private_key((tmp_path / "check-key.pem").read_bytes(), None)
            fetch_own_log(ada, key, tmp_path / "mine")
            urls = [f"http://{one.host}:{one.public_port}" for one in trio.identities]
            assert run("audit", "fetch", *urls, "--to", tmp_path / "copy").exit_code == 0
            return run("audit", "my-log", tmp_path / "mine", "--trust", tmp_path / "trust", "--logs", tmp_path / "copy")

        def reconciled():
            """What an auditor does, as the guide says; one stranger looks at the gate each day."""
            day = datetime.now(UTC).strftime("%Y-%m-%d")
            assert run("wallet", "searches", tmp_path / "w.json", "--from", day, "--to", day).exit_code == 0
            known = {"strangers": 1, "spread": 0.1, "uncertainty": 0.05, "refused": 0.01}
            (tmp_path / "sites.json").write_text(json.dumps({TERMINAL: known}))
            return run("audit", "reconcile", tmp_path / "copy", tmp_path / "w.json", tmp_path / "sites.json")

        yield SimpleNamespace(
            ada=ada, look=look, check=check, reconciled=reconciled, engine=engine, folder=tmp_path, http=http
        )
        ada.delete_face()


def test_an_honest_wallet_passes_the_payers_check_and_the_auditors(site) -> None:
    assert [site.look().outcome for _ in range(3)] == ["accepted", "already_paid", "already_paid"]
    assert site.look(synthetic_templates(1, seed=7001)[0]).outcome == "use_card"
    first = site.check()
    assert first.exit_code == 0, first.output
    assert "3 identifications since the last comparison, all shown." in first.output
    site.look()
    second = site.check()
    assert second.exit_code == 0, second.output
    assert "1 identifications since the last comparison, all shown." in second.output
    audited = site.reconciled()
    assert audited.exit_code == 0, audited.output
    assert f"{TERMINAL}: 5 searches in 1 days, 1 without a payment" in audited.output
    said = json.loads((site.folder / "w.json").read_text())
    assert (len(said["paid"]), len(said["visible"]), said["lost_answers"]) == (4, 4, 0)
    assert site.ada.account().id not in str(said)


def test_a_wallet_that_identified_a_payer_and_kept_silent_is_found_by_both(site) -> None:
    for _ in range(3):
        site.look()
    with site.engine.begin() as connection:
        newest = connection.execute(text("SELECT max(id) FROM access_log")).scalar_one()
        connection.execute(text("DELETE FROM access_log WHERE id = :id"), {"id": newest})
    checked = site.check()
    assert checked.exit_code == 1
    assert "INCOMPLETE" in checked.output
    audited = site.reconciled()
    assert audited.exit_code == 1
    assert f"ALARM: {TERMINAL}: 1 payments that no payer finds in the own access log" in audited.output


def test_an_entry_taken_out_after_it_was_shown_is_found(site) -> None:
    site.look()
    site.look()
    assert site.check().exit_code == 0
    with site.engine.begin() as connection:
        connection.execute(text("DELETE FROM access_log WHERE id = (SELECT min(id) FROM access_log)"))
    checked = site.check()
    assert checked.exit_code == 1
    assert "GONE: 1" in checked.output


def test_a_search_that_no_guardian_logged_is_found_by_both(site) -> None:
    site.look()
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE access_log SET issued_at = issued_at + 1"))
    checked = site.check()
    assert checked.exit_code == 1
    assert f"NOT IN EVERY LOG: {TERMINAL}" in checked.output
    audited = site.reconciled()
    assert "ALARM: 1 identifications that are in no guardian's log" in audited.output


def test_a_key_that_was_not_given_at_enrolment_opens_nothing(site) -> None:
    with pytest.raises(CheckError, match="Another key"):
        fetch_own_log(site.ada, Ed25519PrivateKey.generate(), site.folder / "other")
    assert not (site.folder / "other").exists()
