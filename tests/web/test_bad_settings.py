"""What a wrong setting, or a database that is away or of another shape, says: one sentence, and no secret."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, make_url
from typer.testing import CliRunner

from facefare.cli import command_line
from facefare.errors import SettingsError
from facefare.identification.errors import GuardianUnavailable, IdentificationError
from facefare.identification.none import NoGuardians
from facefare.settings import Settings
from facefare.wallet import galleries
from facefare.wallet.errors import WalletError
from facefare.web.commands import _guardians


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GUARDIANS", "[sec-ret", "JSON"),
        ("DATABASE_URL", "mysql://a:sec-ret@localhost/x", "postgresql://"),
        ("STAFF_TOKEN", "sec-ret", "32 characters"),
        ("ORIGIN", "https://sec-ret.example/", "slash"),
        ("ORIGIN", "http://sec-ret.example", "https://"),
        ("SELF_MADE_LIMIT", "sec-ret", "integer"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"FACEFARE_{name}", value)
    with pytest.raises(SettingsError, match=f"^FACEFARE_{name}: ") as caught:
        Settings.read()
    assert said in str(caught.value)
    assert "sec-ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FACEFARE_FACEALONE", "FACEFARE_FACE_ALONE?"),
        ("FACEFARE_STAF_TOKEN", "FACEFARE_STAFF_TOKEN?"),
        ("facefare_orgin", "FACEFARE_ORIGIN?"),
        ("FACEFARE_XYZZY", "is no setting."),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_mistyped_name_is_refused_and_the_nearest_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, said: str, in_file: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if in_file:
        (tmp_path / ".env").write_text(f"{name}=sec-ret\n")
    else:
        monkeypatch.setenv(name, "sec-ret")
    with pytest.raises(SettingsError) as caught:
        Settings.read()
    assert said in str(caught.value)
    assert "sec-ret" not in str(caught.value)


def test_an_empty_setting_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFARE_STAFF_TOKEN", "")
    monkeypatch.setenv("FACEFARE_ORIGIN", "")
    assert (Settings.read().staff_token, Settings.read().origin) == (None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"port": 1}, "can't be used"), ({"database": "postgres"}, "facefare wallet migrate")],
)
def test_a_database_that_is_away_or_of_another_shape_is_said_in_a_sentence(
    engine: Engine, database_url: str, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    url = make_url(database_url).set(**change)  # type: ignore[arg-type]
    if "port" in change:
        url = url.set(host="127.0.0.1", query={})
    environment = {**os.environ, "FACEFARE_DATABASE_URL": url.render_as_string(hide_password=False)}
    told = subprocess.run(
        [sys.executable, "-m", "facefare", "wallet", "staff", "list"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=60,
    )
    assert told.returncode == 1
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_a_wallet_for_payers_own_phones_needs_no_guardians_and_one_for_hands_free_does(tmp_path: Path) -> None:
    assert isinstance(_guardians(Settings(guardians=[], relay_dir=tmp_path)), NoGuardians)
    with pytest.raises(IdentificationError, match="FACEFARE_GUARDIANS"):
        _guardians(Settings(guardians=[], relay_dir=tmp_path, hands_free=True))


def test_without_guardians_whatever_is_asked_ends_as_when_they_are_away() -> None:
    nobody = NoGuardians()
    assert asyncio.run(nobody.status()) == (None, None, None)
    for asked in (nobody.delete("gal_a", 0, 0), nobody.pause("gal_a", 0, 0), nobody.resume("gal_a", 0, 0)):
        with pytest.raises(GuardianUnavailable):
            asyncio.run(asked)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wallet", "register-merchant", " "), "has a name"),
        (("wallet", "revoke-terminal", "trm_nobody"), "no terminal trm_nobody"),
        (("wallet", "open-gallery", "gal_x", "--kind", "other"), "live or demo"),
        (("fares", "grant", "pay_x", "--tariff", "t", "--category", "c", "--through", "2027-01-01"), "tariff t"),
    ],
)
def test_what_names_nothing_that_is_there_changes_nothing_and_says_so(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database_url)
    told = CliRunner().invoke(command_line(), list(arguments))
    assert told.exit_code == 1
    assert isinstance(told.exception, SystemExit)
    assert said in told.output


def test_a_gallery_keeps_its_kind(connection: Connection) -> None:
    galleries.open_gallery(connection, "gal_kind", kind="live")
    galleries.open_gallery(connection, "gal_kind", kind="live")
    with pytest.raises(WalletError, match="other kind"):
        galleries.open_gallery(connection, "gal_kind", kind="demo")
