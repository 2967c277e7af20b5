"""Whatever file is named to a command, what comes out is for people: no traceback, none of Python's own words."""

import re
import shutil
import socket
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from facefare import cli
from facefare.guardian import ceremony

_RAW = re.compile(
    r"Errno|Traceback|codec|unpack|NoneType|object is not|subscriptable|indices|unexpected keyword|positional argument"
    r"|KeyError|TypeError|ValueError|Expecting value|pydantic\.dev|cryptography\.io|\bint\(\)|<class"
)
_FILES = {
    "nowhere/at/all": None,
    "empty": b"",
    "bytes": bytes(range(256)) * 4,
    "folder": ...,
    "object.json": b'{"a": 1}',
    "list.json": b"[1]",
    "words": b"some words\nof no use\n",
    "table.toml": b"[held]\nx = 1\n[fare]\namount = 'x'\n[till]\ntips = 3\n",
}
_FETCHES = {("models", "install"), ("web", "assets")}  # these go to package registries


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        elif command.callback.__module__.startswith("facefare."):
            yield (*path, name), command


def kinds(command: Any) -> dict[str, str]:
    hints = typing.get_type_hints(command.callback)
    return {name: str(hint) for name, hint in hints.items() if name != "return"}


COMMANDS = {
    path: command
    for path, command in leaves(typer.main.get_group(cli.command_line()))
    if path not in _FETCHES and any("Path" in kind for kind in kinds(command).values())
}


def words(path: tuple[str, ...], command: Any, file: str, only: str | None) -> list[str]:
    """The command with `file` wherever it takes one (or where `only` says), and something plausible elsewhere."""
    said, named = list(path), kinds(command)
    hints = typing.get_type_hints(command.callback)
    for parameter in command.params:
        kind = named[parameter.name]
        is_file = "Path" in kind and only in (None, parameter.name)
        if path[0] == "guardian" and parameter.name == "folder" and path[1] not in ("init", "create-relay"):
            value = "guardian"  # one that is there; a folder that is none is tried by itself
        elif is_file:
            value = file
        elif "Path" in kind:
            value = "object.json"
        elif "datetime" in kind:
            value = "2026-01-01"
        elif isinstance(hints[parameter.name], type) and issubclass(hints[parameter.name], Enum):
            value = next(iter(hints[parameter.name])).value
        else:
            value = "1" if "int" in kind else "x"
        if parameter.param_type_name == "argument":
            said += [value] * (3 if parameter.nargs == -1 else 1)
        elif (parameter.required or is_file) and not parameter.is_flag:
            said += [parameter.opts[0], value]
    return said


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    ceremony.init(folder / "guardian", index=0, name="Council", host="127.0.0.1", http_port=1, link_port=2)
    return folder


@pytest.fixture(scope="module")
def database(databases: Any) -> Iterator[str]:
    with databases.one() as url:
        yield url


@pytest.fixture
def here(scratch: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(scratch)
    monkeypatch.setenv("FACEFARE_DATABASE_URL", database)
    for name in ("DATA_DIR", "CACHE_DIR"):
        monkeypatch.setenv(f"FACEFARE_{name}", str(scratch / "own"))
    return scratch


def lay(folder: Path) -> None:
    for name, content in _FILES.items():
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        if content is ...:
            target.mkdir()
        elif isinstance(content, bytes):
            target.write_bytes(content)
    shutil.rmtree(folder / "nowhere", ignore_errors=True)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and all that was printed; anything but an orderly end fails the test."""
    monkeypatch.setattr(sys, "argv", ["facefare", *arguments])
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    text = printed.out + printed.err + (code if isinstance(code, str) else "")
    return (1 if isinstance(code, str) else int(typing.cast(int, code or 0))), text


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_file_that_can_not_be_used_is_said_in_a_sentence(
    path: tuple[str, ...],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = COMMANDS[path]
    files = [name for name, kind in kinds(command).items() if "Path" in kind]
    for only in [None, *(files if len(files) > 1 else ())]:
        for file in _FILES if only is None else ("nowhere/at/all", "bytes", "folder"):
            lay(here)
            arguments = words(path, command, file, only)
            code, text = said(arguments, capsys, monkeypatch)
            assert not _RAW.search(text), f"{' '.join(arguments)}: {text}"
            assert code == 0 or text.strip(), f"{' '.join(arguments)} said nothing"


def test_a_folder_that_is_no_guardians_is_said_to_be_none(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(here)
    for path, command in COMMANDS.items():
        if path[0] == "guardian" and "folder" in kinds(command) and path[1] not in ("init", "create-relay", "join"):
            _, *rest = words(path, command, "words", None)
            arguments = ["guardian", *("folder" if word == "guardian" else word for word in rest)]
            code, text = said(arguments, capsys, monkeypatch)
            assert (code, "is no guardian's folder" in text) == (1, True), f"{' '.join(arguments)}: {text}"


def test_a_taken_port_is_said_in_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (["wallet", "serve", "--port"], ["web", "screen", "--port"]):
            code, text = said([*command, str(port)], capsys, monkeypatch)
            assert (code, text.strip()) == (1, f"Nothing can listen at 127.0.0.1:{port}: Address already in use.")


def test_a_report_of_accuracy_that_is_none_is_refused_before_the_wallet_serves(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(here)
    for file in ("nowhere/at/all", "object.json", "bytes"):
        monkeypatch.setenv("FACEFARE_ACCURACY_REPORT", file)
        code, text = said(["wallet", "serve", "--port", "0"], capsys, monkeypatch)
        assert code == 1
        assert f"FACEFARE_ACCURACY_REPORT: {file} is no report of `facefare evaluate --json`." in text


def test_the_version_is_the_packages_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(["--version"], capsys, monkeypatch) == (0, f"facefare {version('facefare')}\n")
