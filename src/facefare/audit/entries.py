"""What a guardian writes of a request it answered, and what it must not.

An entry is public: which terminal asked, what for, when, and commitments by which those who know the request
can recognise it. It has no field for a payer, a score or an outcome, and one with any further field is refused.

Time and salt come with the signed request, so all three guardians write the *same bytes*: a verifier finds an
entry that one of them left out by comparing the three logs.

A commitment is HMAC-SHA256 under a salt of its own, derived from the request's 16-byte salt, which is derived from
the request's id: 128 random bits that terminal, wallet and guardians know and outsiders don't. The guardians
forget it when the request is stale; who may prove something (the payer, the wallet) keeps it with the payment. To
open one commitment is to hand over its name, its salt and the value; the others stay closed. With the id
forgotten, the entry can no longer be tied to a request by anyone.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import cbor2

from facefare.audit.errors import EntryError

SALT_BYTES = 16
MAX_ENTRY_BYTES = 512
PAYMENT, CHECK, ENROLLED = "payment", "enrolment", "enrolled"
"""Purposes: a terminal's search for a payment; a station's search for look-alikes before an enrolment; an enrolment."""
COMMITTED = frozenset({"gallery", "query", "request"})
"""What can be committed to: the gallery, the query's or enrolment's id, the hash of the signed request."""

_TERMINAL = re.compile(r"[a-z]{3}_[A-Za-z0-9_-]{1,40}")
_PURPOSE = re.compile(r"[a-z-]{1,32}")
_MAX_TIME_MS = 1 << 53
_FIELDS = {"v", "terminal", "purpose", "time", "commitments"}


@dataclass(frozen=True)
class Entry:
    """One answered request. `terminal`: or station; `time` in ms since 1970, as the signed request states it."""

    terminal: str
    purpose: str
    time: int
    commitments: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if not isinstance(self.terminal, str) or _TERMINAL.fullmatch(self.terminal) is None:
            raise EntryError("An entry names a terminal or station by its id.")
        if not isinstance(self.purpose, str) or _PURPOSE.fullmatch(self.purpose) is None:
            raise EntryError("An entry's purpose is a short word.")
        if type(self.time) is not int or not 0 <= self.time < _MAX_TIME_MS:
            raise EntryError("An entry's time is in milliseconds since 1970.")
        if not isinstance(self.commitments, Mapping) or not self.commitments.keys() <= COMMITTED:
            raise EntryError("An entry commits to gallery, query and request, nothing else.")
        if any(not isinstance(value, bytes) or len(value) != 32 for value in self.commitments.values()):
            raise EntryError("A commitment has 32 bytes.")

    def to_bytes(self) -> bytes:
        """Write the entry: deterministic CBOR (RFC 8949, 4.2.1)."""
        fields = {
            "v": 1,
            "terminal": self.terminal,
            "purpose": self.purpose,
            "time": self.time,
            "commitments": dict(self.commitments),
        }
        return cbor2.dumps(fields, canonical=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an entry. Raises EntryError for anything but the one encoding of a proper entry."""
        if len(data) > MAX_ENTRY_BYTES:
            raise EntryError("The entry is too long.")
        try:
            fields = cbor2.loads(data)
        except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as error:
            raise EntryError("The entry is not CBOR.") from error
        if not isinstance(fields, dict) or fields.keys() != _FIELDS or fields.pop("v") != 1:
            raise EntryError("The entry has other fields than an entry has.")
        entry = cls(**fields)
        if entry.to_bytes() != data:
            raise EntryError("The entry is not in its one proper encoding.")
        return entry

    def check(self, opening: "Opening") -> None:
        """Check that this entry committed to what is opened. Raises EntryError."""
        committed = self.commitments.get(opening.name)
        if committed is None or not hmac.compare_digest(committed, opening.commitment()):
            raise EntryError(f"The entry did not commit to this {opening.name}.")


@dataclass(frozen=True, repr=False)
class Opening:
    """What it takes to prove one commitment: its own salt and the value. Proves nothing of the others."""

    name: str
    salt: bytes
    value: bytes

    def commitment(self) -> bytes:
        """Return the commitment this opens."""
        # Name and value can't run into each other: names have no zero byte.
        return hmac.digest(self.salt, self.name.encode() + b"\x00" + self.value, "sha256")


def opening_of(name: str, value: bytes, request_salt: bytes) -> Opening:
    """Return the opening of one commitment of a request, from the request's salt."""
    if len(request_salt) != SALT_BYTES:
        raise EntryError(f"A request's salt has {SALT_BYTES} bytes.")
    salt = hmac.digest(request_salt, b"facefare audit salt v1\x00" + name.encode(), "sha256")
    return Opening(name, salt, value)


def salt_of(query_id: bytes) -> bytes:
    """Return a request's salt, from its 16 random bytes of id."""
    return hmac.digest(query_id, b"facefare audit request salt v1", "sha256")[:SALT_BYTES]


def entry_of_search(
    *, terminal: str, purpose: str, issued_at: int, gallery: str, query_id: bytes, request_sha256: bytes
) -> Entry:
    """Return the entry of a search, from what its signed payload says; `request_sha256` is over that payload.

    Whoever knows these (the guardians while they answer; wallet and payer later) gets the same bytes.
    """
    values = {"gallery": gallery.encode(), "query": query_id, "request": request_sha256}
    return entry_of(terminal=terminal, purpose=purpose, time=issued_at, values=values, request_salt=salt_of(query_id))


def entry_of_enrolment(
    *, station: str, issued_at: int, gallery: str, enrolment_id: bytes, request_sha256: bytes
) -> Entry:
    """Return the entry of an enrolment, from what its signed payload says; `request_sha256` is over that payload.

    The payload has the consent's hash in it, so who shows the payload shows under which consent it was.
    """
    values = {"gallery": gallery.encode(), "query": enrolment_id, "request": request_sha256}
    salt = salt_of(enrolment_id)
    return entry_of(terminal=station, purpose=ENROLLED, time=issued_at, values=values, request_salt=salt)


def entry_of(*, terminal: str, purpose: str, time: int, values: Mapping[str, bytes], request_salt: bytes) -> Entry:
    """Return the entry for an answered request; `values` are what is committed to (see `COMMITTED`)."""
    commitments = {name: opening_of(name, value, request_salt).commitment() for name, value in values.items()}
    return Entry(terminal, purpose, time, commitments)
