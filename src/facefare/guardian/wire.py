"""Strict CBOR: exact bytes to checked values, and back.

Invariants: a decoded message has exactly the fields of its class, each inside its limits, and the bytes are
the plain encoding of it: no tag, no repeated key, nothing after the end. Anything else is a `MessageError`,
whose text names the field and never its content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import cbor2

from facefare.guardian.errors import MessageError

Check = Callable[[object], Any]
"""Gives the checked value, or raises ValueError with the end of a sentence that starts "Field x …"."""


def integer(low: int, high: int) -> Check:
    """An integer from `low` to `high`."""

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return value

    return check


def octets(low: int, high: int | None = None) -> Check:
    """A byte string of `low` to `high` bytes (of `low` exactly, without `high`)."""
    most = low if high is None else high

    def check(value: object) -> bytes:
        if not isinstance(value, bytes) or not low <= len(value) <= most:
            raise ValueError(f"must be a byte string of {low} to {most} bytes")
        return value

    return check


def text(pattern: str) -> Check:
    """A text that matches the whole pattern."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be a text like {pattern}")
        return value

    return check


def list_of(item: Check, low: int, high: int | None = None) -> Check:
    """A list of `low` to `high` items (of `low` exactly, without `high`); a tuple once decoded."""
    most = low if high is None else high

    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not low <= len(value) <= most:
            raise ValueError(f"must be a list of {low} to {most}")
        return tuple(item(entry) for entry in value)

    return check


def maybe(item: Check) -> Check:
    """The item, or null."""
    return lambda value: None if value is None else item(value)


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def nested(message: type[Message]) -> Check:
    """A message inside a message."""
    return lambda value: message.from_map(value)


class Message:
    """A CBOR map with the fields of `_FIELDS` and no other; subclasses are frozen dataclasses.

    A field in `_OPTIONAL` is left out where it is None, and is never null.
    """

    _FIELDS: ClassVar[Mapping[str, Check]]
    _OPTIONAL: ClassVar[frozenset[str]] = frozenset()
    _LIMIT: ClassVar[int]

    def to_map(self) -> dict[str, Any]:
        """The fields as plain CBOR values."""

        def plain(value: Any) -> Any:
            if isinstance(value, Message):
                return value.to_map()
            return [plain(item) for item in value] if isinstance(value, tuple) else value

        fields = {name: plain(getattr(self, name)) for name in self._FIELDS}
        return {name: value for name, value in fields.items() if value is not None or name not in self._OPTIONAL}

    def to_bytes(self) -> bytes:
        """The CBOR bytes that travel."""
        return cbor2.dumps(self.to_map())

    @classmethod
    def from_map(cls, value: object) -> Self:
        """A checked message; raises `MessageError`."""
        if (
            not isinstance(value, dict)
            or cls._FIELDS.keys() - cls._OPTIONAL - value.keys()
            or value.keys() - cls._FIELDS.keys()
        ):
            raise MessageError(f"A {cls.__name__} must have exactly the fields {', '.join(cls._FIELDS)}.")
        checked: dict[str, Any] = {}
        for name, check in cls._FIELDS.items():
            if name not in value:
                continue
            try:
                checked[name] = check(value[name])
            except ValueError as error:
                raise MessageError(f"Field {name} of a {cls.__name__} {error}.") from None
        return cls(**checked)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A checked message; raises `MessageError`, also when `data` is longer than any such message."""
        if len(data) > cls._LIMIT:
            raise MessageError(f"A {cls.__name__} has at most {cls._LIMIT} bytes, this one {len(data)}.")
        try:
            value = cbor2.loads(data, max_depth=8, allow_indefinite=False, allow_duplicate_keys=False)
            plain = cbor2.dumps(value) == data  # no tag, nothing after the end, shortest lengths
        except Exception as error:  # a decoder of semantic tags may raise anything
            raise MessageError(f"A {cls.__name__} must be CBOR; these bytes are not.") from error
        if not plain:
            raise MessageError(f"A {cls.__name__} must be plain CBOR: no tags and nothing after its end.")
        return cls.from_map(value)
