"""The operator guide's example files are read by what reads an operator's."""

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.guardian.ceremony import perform_on_one_machine
from facefare.keyfiles import write_new
from facefare.terminal.configuration import Configuration
from facefare.terminal.enrolling import Station
from facefare.terminal.fares import Place
from facefare.terminal.held import HeldTerms
from facefare.terminal.till import TillTerms

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "operator.md").read_text()
EXAMPLES = {found[1]: found[0] for found in re.findall(r"^```toml\n(# ([\w. ]+\.toml).*?)^```", GUIDE, re.S | re.M)}
OPERATOR = Ed25519PrivateKey.generate().public_key().public_bytes_raw()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    for one in perform_on_one_machine(folder, ports=range(1, 7), galleries=()):
        (folder / f"guardian-{one.index}.json").write_text(one.to_json())
    for key in ("terminal.pem", "station.pem"):
        write_new(folder / key, Ed25519PrivateKey.generate())
    default = resources.files("facefare.identification").joinpath("default_calibration.json").read_text()
    (folder / "calibration.json").write_text(default)
    return folder


def written(folder: Path, name: str) -> Path:
    file = folder / name
    file.write_text(EXAMPLES[name].replace("OPERATOR_KEY", OPERATOR.hex()))
    return file


def test_the_guide_has_an_example_of_each_file() -> None:
    assert sorted(EXAMPLES) == ["gate.toml", "held gate.toml", "station.toml", "till.toml"]


def test_a_gate_that_searches_stands_where_the_example_says(folder: Path) -> None:
    gate = Configuration.load(written(folder, "gate.toml"))
    assert gate.fare == Place("Central", "entry", "EUR", "metro")
    assert [one.index for one in gate.guardians] == [0, 1, 2]
    assert gate.codes == "https://pay.example/app/pay"
    instead = written(folder, "gate.toml")
    priced = [line.removeprefix("# ") if "# fare =" in line else line for line in instead.read_text().splitlines()]
    instead.write_text("\n".join(line for line in priced if 'kind = "entry"' not in line))
    assert Configuration.load(instead).fare.price().most == 280  # type: ignore[union-attr]


def test_a_gate_for_codes_shows_every_term_at_its_own_default(folder: Path) -> None:
    gate = Configuration.load(written(folder, "held gate.toml"))
    assert gate.held is not None
    assert gate.held.codes_only
    assert gate.guardians == ()
    assert gate.held.operator_key.public_bytes_raw() == OPERATOR
    shown = tomllib.loads(EXAMPLES["held gate.toml"])["held"]
    terms = {name: getattr(gate.held, name) for name in vars(HeldTerms())}
    assert terms == vars(HeldTerms())
    assert set(terms) <= set(shown)


def test_a_till_shows_every_term_at_its_own_default(folder: Path) -> None:
    till = Configuration.load(written(folder, "till.toml")).till
    assert till == TillTerms("EUR", receipts="https://pay.example")
    assert set(tomllib.loads(EXAMPLES["till.toml"])["till"]) == set(vars(till))


def test_a_station_serves_both_ways(folder: Path) -> None:
    station = Station.load(written(folder, "station.toml"))
    assert (station.id, station.gallery, len(station.guardians)) == ("stn_desk1", "gal_metro", 3)
    assert station.operator_key.public_bytes_raw() == OPERATOR
