"""Files that people write or name: what is wrong with one is a sentence with its name in it.

Python's own words ("[Errno 2] …", "codec can't decode byte …") are for programmers.
"""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class UnreadableFile(OSError):
    """A file is there, and what is in it is of another kind than it has to be."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EINVAL, what, str(path))


def sentence(error: OSError) -> str:
    """What the machine refused, and where."""
    named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return f"{named}{(error.strerror or str(error)).removesuffix('.')}."


def read_text(path: Path) -> str:
    """The text of a file; raises OSError, UnreadableFile where it is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UnreadableFile(path, "This is no text (UTF-8)") from None


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says; raises OSError, UnreadableFile."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UnreadableFile(path, f"This is no TOML: {error}") from None


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is nothing that is known here",
    "unexpected_keyword_argument": "is nothing that is known here",
    "bool_type": "has to be true or false",
}


def explained(error: ValidationError) -> str:
    """What is wrong with a document and where in it, without what stands there."""
    said = []
    for one in error.errors():
        place, what = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ").removesuffix(".")
        word = _WORDS.get(one["type"])
        said.append(f"{place}: {what}".removeprefix(": ") if word is None else f"{place} {word}")
    return "; ".join(said)
