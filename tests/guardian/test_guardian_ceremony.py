"""The key ceremony and its commands."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from facefare.guardian import ceremony
from facefare.guardian.commands import app
from facefare.guardian.errors import CeremonyError
from facefare.guardian.policy import Limits
from facefare.guardian.registry import GalleryDefinition, Station, Terminal

KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
GALLERY = GalleryDefinition("gal_a", "live", "m", 128, 200, 8191, -4000, -100)


def folders(base: Path) -> list[ceremony.Folder]:
    ceremony.perform_on_one_machine(
        base,
        ports=range(7100, 7106),
        galleries=[GALLERY],
        terminals=[Terminal("trm_a", KEY, ("gal_a",))],
        stations=[Station("stn_a", KEY, ("gal_a",), demo_only=False)],
    )
    return [ceremony.Folder(base / f"guardian-{index}") for index in range(3)]


def test_each_folder_holds_its_own_private_keys_only_and_others_can_not_read_them(tmp_path: Path) -> None:
    seen: set[bytes] = set()
    for folder in folders(tmp_path):
        private = [file for file in folder.path.rglob("*") if file.is_file() and b"PRIVATE" in file.read_bytes()]
        assert sorted(file.name for file in private) == [
            "log.pem",
            "sealing.pem",
            "signing.pem",
            "tls.pem",
            "witness.pem",
        ]
        for file in private:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.read_bytes() not in seen
            seen.add(file.read_bytes())
        assert stat.S_IMODE((folder.path / "keys").stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.shares.stat().st_mode) == 0o600
        assert sorted(folder.peers()) == [n for n in range(3) if n != folder.identity.index]


def test_keys_are_never_overwritten_and_a_peers_keys_never_change_silently(tmp_path: Path) -> None:
    first, second, _ = folders(tmp_path)
    with pytest.raises(CeremonyError):
        ceremony.init(first.path, index=0, name="x", host="127.0.0.1", http_port=1, link_port=2)
    other = ceremony.init(tmp_path / "o", index=1, name="x", host="127.0.0.1", http_port=1, link_port=2)
    with pytest.raises(CeremonyError):
        ceremony.join(first.path, other)
    ceremony.join(first.path, second.identity)
    with pytest.raises(CeremonyError):
        ceremony.join(first.path, first.identity)
    with pytest.raises(CeremonyError):
        ceremony.write_key(first.tls_key, Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("file", "content"),
    [("limits.json", '{"terminal_rat": 1}'), ("limits.json", "{"), ("identity.json", "{}")],
)
def test_a_broken_file_is_named_in_the_error(tmp_path: Path, file: str, content: str) -> None:
    folder = folders(tmp_path)[0]
    (folder.path / file).write_text(content)
    with pytest.raises(CeremonyError, match=file):
        ceremony.Folder(folder.path).limits()


def test_limits_are_read_back(tmp_path: Path) -> None:
    folder = folders(tmp_path)[0]
    assert folder.limits() == Limits()
    ceremony.set_limits(folder.path, Limits(terminal_rate=7))
    assert folder.limits().terminal_rate == 7


def test_the_commands_perform_a_ceremony(tmp_path: Path) -> None:
    runner = CliRunner()

    def facefare_guardian(*arguments: object, fails: bool = False) -> str:
        result = runner.invoke(app, [str(argument) for argument in arguments])
        assert (result.exit_code != 0) == fails, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.output

    mine, other = tmp_path / "mine", tmp_path / "other"
    facefare_guardian("init", mine, "--index", 0, "--name", "Operator")
    facefare_guardian("init", other, "--index", 1, "--name", "Bank", "--http-port", 7103, "--link-port", 7104)
    facefare_guardian("join", mine, other / "identity.json")
    facefare_guardian("join", mine, mine / "identity.json", fails=True)
    facefare_guardian("create-gallery", mine, "gal_a", "--kind", "live", "--model", "m")
    output = facefare_guardian("create-gallery", mine, "gal_a", "--kind", "demo", "--model", "m", fails=True)
    assert "exists already" in output
    facefare_guardian("register-terminal", mine, "trm_a", "--key", KEY.hex(), "--gallery", "gal_a")
    facefare_guardian("register-terminal", mine, "trm_b", "--key", "zz", "--gallery", "gal_a", fails=True)
    facefare_guardian("register-station", mine, "stn_a", "--key", KEY.hex(), "--gallery", "gal_a", "--demo-only")
    facefare_guardian("create-relay", tmp_path / "relay", "wallet")
    facefare_guardian("register-relay", mine, "wallet", tmp_path / "relay" / "relay.pem")
    registry = ceremony.Folder(mine).registry()
    assert registry.terminal("trm_a") == Terminal("trm_a", KEY, ("gal_a",))
    assert registry.station("stn_a") == Station("stn_a", KEY, ("gal_a",), demo_only=True)
    assert "no gallery gal_x" in facefare_guardian(
        "register-terminal", mine, "trm_a", "--key", "00" * 32, "--gallery", "gal_x", fails=True
    )
    facefare_guardian("remove", mine, "trm_a")
    assert "not registered" in facefare_guardian("remove", mine, "trm_a", fails=True)
    assert registry.terminal("trm_a") is None
    registry.close()
    assert "has not joined" in facefare_guardian("serve", mine, fails=True)
    assert "is it served?" in facefare_guardian("status", mine, fails=True)
    facefare_guardian("status", tmp_path / "nothing", fails=True)


@pytest.mark.parametrize(("name", "http", "link"), [(" ", 1, 2), ("x", 7, 7), ("x", 0, 2), ("x", 1, 65536)])
def test_a_guardian_that_nobody_could_name_or_reach_gets_no_keys(
    tmp_path: Path, name: str, http: int, link: int
) -> None:
    with pytest.raises(CeremonyError):
        ceremony.init(tmp_path / "g", index=0, name=name, host="127.0.0.1", http_port=http, link_port=link)
    assert not (tmp_path / "g").exists()


def test_a_file_that_is_no_identity_is_named(tmp_path: Path) -> None:
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff")
    result = CliRunner().invoke(app, ["join", str(tmp_path), str(tmp_path / "picture.json")])
    assert result.exit_code == 1
    assert "picture.json" in result.output
