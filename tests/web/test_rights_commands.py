"""`facefare fares …` and `facefare wallet retention …` on a real database."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from facefare.cli import command_line
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.payments import merchants, tariffs
from facefare.payments.disputes import WINDOW
from facefare.payments.merchants import Terminal
from facefare.settings import Settings
from facefare.wallet import access, consents, payers
from facefare.wallet.errors import WalletError
from facefare.web.commands import receipt_key
from facefare.web.pages import staff
from facefare.web.pages.staff import Role

FEED = {
    "agency.txt": "agency_id,agency_name,agency_url,agency_timezone\n1,Town,https://town.example,Europe/Vienna\n",
    "fare_products.txt": "fare_product_id,fare_product_name,amount,currency\nsingle,Single,2.80,EUR\n",
    "fare_leg_rules.txt": "leg_group_id,network_id,from_area_id,to_area_id,fare_product_id\nall,,,,single\n",
}


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database_url)
    monkeypatch.setenv("FACEFARE_DATA_DIR", str(tmp_path / "run"))

    def run(*words: str) -> Result:
        return CliRunner().invoke(command_line(), list(words))

    return run


def test_a_feed_and_a_file_are_imported_listed_and_assigned(
    run: Callable[..., Result], engine: Engine, tmp_path: Path
) -> None:
    feed = tmp_path / "feed"
    feed.mkdir()
    for name, content in FEED.items():
        (feed / name).write_text(content)
    assert run("fares", "import", str(feed)).exit_code == 1  # which tariff, from when?
    words = ("fares", "import", str(feed), "--tariff", "town", "--effective-from", "2026-01-01")
    assert run(*words).output == "town: 2026-01-01\n"
    assert run(*words).output == "town: nothing new\n"
    version = TariffVersion(
        effective_from=date(2026, 2, 1),
        products=(Product(id="p", amounts={"": 100}),),
        rules=(LegRule(id="r", bands=(Band(product="p"),)),),
        concessions={"child": 50, "senior": 30},
    )
    file = tmp_path / "boat.json"
    file.write_text(Tariff(id="boat", currency="USD", versions=(version,)).model_dump_json())
    assert run("fares", "import", str(file)).exit_code == 0
    assert run("fares", "list").output == "boat  USD  from 2026-02-01\ntown  EUR  from 2026-01-01\n"
    file.write_text("{}")
    refused = run("fares", "import", str(file))
    assert refused.exit_code == 1
    assert "boat.json is not a valid tariff" in refused.output
    with engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Town")
        merchants.register_terminal(connection, Terminal("trm_g", merchant, "Gate", bytes(32)))
        payer, _ = payers.register(connection, "EUR")
    assert run("fares", "assign", "trm_g", "--tariff", "town", "--stop", "Quay", "--kind", "flat").exit_code == 0
    assert run("fares", "assign", "trm_x", "--tariff", "town", "--stop", "Quay", "--kind", "flat").exit_code == 1
    for tariff, category, said in (
        ("boat", "child", ""),
        ("boat", "chidl", "no rider category 'chidl'; it has: child, senior."),
        ("boat", "", "it has: child, senior."),
        ("town", "child", "it has: none."),
        ("none", "child", "There is no tariff none."),
    ):
        given = run("fares", "grant", payer.id, "--tariff", tariff, "--category", category, "--through", "2026-12-31")
        assert (given.exit_code == 0, said in given.output) == (not said, True)
    with engine.connect() as connection:
        assert tariffs.point_of(connection, "trm_g").stop == "Quay"
        assert tariffs.category_of(connection, payer.id, "boat", date(2026, 12, 31)) == "child"
        assert tariffs.category_of(connection, payer.id, "boat", date(2027, 1, 1)) == ""


def test_a_retention_run_signs_a_record_even_when_there_is_nothing_to_forget(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    ran = run("wallet", "retention", "run")
    assert ran.exit_code == 0
    record = ran.output.strip()
    assert record in run("wallet", "retention", "list").output
    key = receipt_key(Settings()).public_key()
    assert consents.verified(record, key)["forgotten"]["faces unused for too long"] == 0
    with pytest.raises(WalletError):
        consents.verified(record, Ed25519PrivateKey.generate().public_key())


def test_why_staff_looked_at_a_payers_details_is_forgotten_after_the_window_for_disputes(
    run: Callable[..., Result], engine: Engine
) -> None:
    said = "dsp_1: rang from +49 170 000000"
    with engine.begin() as connection:
        payer, _ = payers.register(connection, "EUR")
        for days in (WINDOW.days + 1, 1):
            access.record(connection, payer.id, by="staff: Kim", purpose="dispute: rang us", outcome="details_read")
            staff.note(connection, staff.Member("stf_1", "Kim", Role.SUPPORT), staff.READ_PAYER, said)
            for table in ("access_log", "staff_action"):
                connection.execute(text(f"UPDATE {table} SET at = at - interval '{days} days'"))
    ran = run("wallet", "retention", "run")
    assert ran.exit_code == 0
    with engine.connect() as connection:
        about = connection.execute(text("SELECT about FROM staff_action ORDER BY at")).scalars().all()
        log = connection.execute(text("SELECT by, purpose FROM access_log ORDER BY at")).all()
    assert about == ["dsp_1", said]
    assert log == [("forgotten", "dispute"), ("staff: Kim", "dispute: rang us")]
    record = consents.verified(ran.output.strip(), receipt_key(Settings()).public_key())
    assert record["forgotten"]["reasons of staff"] == 1
