"""What the documents name is there: files, tests, routes, settings, commands."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from facefare.cli import command_line
from facefare.settings import Settings
from facefare.web.api import app as api

ROOT = Path(__file__).resolve().parents[2]
PRIVACY = (ROOT / "docs" / "privacy.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def in_backticks(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def table_of_rules() -> list[list[str]]:
    """The rows of the table from rules to code and tests: rule, what is there, tested in, yours to do."""
    lines = PRIVACY[PRIVACY.index("| rule |") :].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    missing = [link for link in links if not re.match(r"[a-z]+:", link) and not (document.parent / link).exists()]
    assert missing == []


def test_every_file_that_the_privacy_guide_names_exists() -> None:
    named = [name for name in in_backticks(PRIVACY) if re.fullmatch(r"[\w/]+\.(py|md)", name)]
    assert len(named) > 15
    missing = [
        name for name in named if not any((ROOT / base / name).exists() for base in ("src/facefare", "tests", "docs"))
    ]
    assert missing == []


@pytest.mark.parametrize("row", table_of_rules(), ids=lambda row: row[0][:40])
def test_every_rule_names_tests_that_exist(row: list[str]) -> None:
    rule, there, tested, _ = row
    tests = in_backticks(tested)
    assert there
    assert tests or rule.startswith("35 "), "a rule without a test"
    for name in tests:
        path = ROOT / "tests" / name
        assert path.exists(), name
        files = [path] if path.is_file() else list(path.glob("test_*.py"))
        assert any("def test_" in file.read_text() for file in files), name


def test_the_rules_that_a_data_protection_officer_looks_for_are_there() -> None:
    rules = " ".join(row[0] for row in table_of_rules())
    for article in ("7 ", "9 ", "13 ", "15 ", "17 ", "20 ", "25 ", "35 ", "BIPA (Illinois) 15(a)", "EU AI Act 5(1)"):
        assert article in rules, article


def test_routes_that_the_documents_name_exist() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    known = set()
    for room in (api.attempts, api.cards, api.enrolments, api.held, api.operators, api.payers, api.rights):
        for route in room.router.routes:
            known |= {(method, route.path) for method in route.methods}  # type: ignore[attr-defined]
    named = set(re.findall(r"`(GET|POST|PUT|DELETE) (/v1/[\w/{}.]+)", text))
    assert len(named) > 8
    shapes = {(method, re.sub(r"{\w+}", "{}", path)) for method, path in known}
    assert {(method, path) for method, path in named if (method, re.sub(r"{\w+}", "{}", path)) not in shapes} == set()


def test_settings_that_the_documents_name_exist() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    named = set(re.findall(r"\bFACEFARE_([A-Z_]+)", text)) - {""}
    assert {name for name in named if name.lower() not in Settings.model_fields} == set()


def test_commands_that_the_documents_name_exist() -> None:
    root = typer.main.get_group(command_line())
    unknown, named = [], 0
    for document in DOCUMENTS:
        if document.name == "wire-format.md":  # `facefare opened row` is a line that is signed there
            continue
        for line in re.findall(r"(?:^|`|&& )facefare ((?:[a-z][a-z-]* ?)+)", document.read_text(), flags=re.MULTILINE):
            inside: dict[str, Any] = root.commands
            named += 1
            for word in line.split():
                if word not in inside:
                    unknown.append(f"{document.name}: facefare {line}")
                    break
                inside = getattr(inside[word], "commands", {})
                if not inside:  # what follows are arguments
                    break
    assert named > 20
    assert unknown == []


def test_the_first_screen_of_help_says_of_each_room_what_the_room_says_of_itself() -> None:
    whole = typer.main.get_group(command_line()).commands
    listed = typer.main.get_group(command_line([])).commands
    assert set(listed) == set(whole)
    own = set(whole) - {"bench", "demo"}  # these stand on top: nothing here knows what they do
    assert {name: listed[name].help for name in own} == {name: whole[name].help for name in own}
