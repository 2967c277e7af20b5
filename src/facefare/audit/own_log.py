"""A payer's own check: does the access log the wallet shows leave out an identification?

For each search that was answered none or one, the guardians draw a tag of 64 bits and let the row that was answered,
which none of them knows, take it in: a running xor for each row, in shares (private-identification protocol). The
wallet learns the tag with the answer and must show it with the access-log entry. A payer has the guardians open the
own row (`openings`), and compares: the xor of all tags shown must be what was opened.

What it can't show: with 64 or more tags since the last comparison some *set* of them has the xor zero, and a wallet
could leave out exactly such a set, about half of all entries. So compare often, and keep what the last comparison left
(`Before`): from one comparison to the next there should be fewer than `COMPARE_WITHIN` payments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from facefare.audit.entries import entry_of_search
from facefare.audit.errors import OpeningError
from facefare.audit.log import read_frames
from facefare.audit.openings import Opened

COMPARE_WITHIN = 48
"""Payments: 2^48 subsets of tags against 2^64 values leave a chance of 2^-16 that any set can be left out unseen."""
_OVERLAP_MS = 60_000  # a search signed before an era began may have been answered in it
FORGOTTEN_AFTER_MS = 365 * 86_400_000
"""An entry whose signed request the wallet says it has forgotten has to be this old."""


@dataclass(frozen=True, repr=False)
class Access:
    """An access-log entry as the wallet shows it.

    Attributes:
        at: when the terminal signed the request (ms since 1970).
        tag: what the payer's row took in (`mpc.answers.Match.tag`).
        terminal, gallery, query_id, request_sha256: of the signed request, by which its entry in the transparency
            logs is found. The last two are None once the wallet has forgotten where it was.
    """

    at: int
    tag: int
    terminal: str
    gallery: str
    query_id: bytes | None
    request_sha256: bytes | None
    purpose: str = "payment"

    def logged(self) -> bytes | None:
        """The bytes that every guardian's transparency log must hold for this; None where that is forgotten."""
        if self.query_id is None or self.request_sha256 is None:
            return None
        return entry_of_search(
            terminal=self.terminal,
            purpose=self.purpose,
            issued_at=self.at,
            gallery=self.gallery,
            query_id=self.query_id,
            request_sha256=self.request_sha256,
        ).to_bytes()


@dataclass(frozen=True, repr=False)
class Shown:
    """What a wallet shows a payer: every access-log entry, and the tags of answers that it says it never got whole."""

    accesses: tuple[Access, ...]
    lost: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `{"accesses": [{"at", "tag", "terminal", "gallery", "query_id", "request_sha256", "purpose"}], "lost":
        [tag]}`; tags and bytes in hexadecimal, forgotten ones null. Raises OpeningError."""
        try:
            document = json.loads(text)
            accesses = tuple(
                Access(
                    at=int(one["at"]),
                    tag=int(one["tag"], 16),
                    terminal=one["terminal"],
                    gallery=one["gallery"],
                    query_id=_bytes(one["query_id"]),
                    request_sha256=_bytes(one["request_sha256"]),
                    purpose=one["purpose"],
                )
                for one in document["accesses"]
            )
            return cls(accesses, tuple(int(tag, 16) for tag in document.get("lost", ())))
        except (ValueError, KeyError, TypeError) as error:
            raise OpeningError("That is no access log as a wallet exports it.") from error


@dataclass(frozen=True, repr=False)
class Before:
    """The last comparison that came out right, kept by the payer: what was opened, and all tags that explained it."""

    era: int
    value: int
    tags: frozenset[int]

    def to_json(self) -> str:
        """For the payer's own file."""
        tags = sorted(f"{tag:016x}" for tag in self.tags)
        return json.dumps({"era": self.era, "value": f"{self.value:016x}", "tags": tags}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it; raises OpeningError."""
        try:
            document = json.loads(text)
            tags = frozenset(int(tag, 16) for tag in document["tags"])
            return cls(int(document["era"]), int(document["value"], 16), tags)
        except (ValueError, KeyError, TypeError) as error:
            raise OpeningError("That is not what the last comparison left.") from error


@dataclass(frozen=True)
class Comparison:
    """`complete`: nothing was left out. `lost`: answers that never reached the wallet and belong to this payer.

    `gone`: how many entries were shown at the last comparison and are not any more.
    """

    complete: bool
    compared: int
    lost: tuple[int, ...]
    unexplained: int
    gone: int = 0


def compare(opened: Opened, shown: Shown, before: Before | None = None) -> Comparison:
    """Compare what the guardians opened with what the wallet shows.

    Args:
        opened: from `combine`.
        shown: what the wallet shows of this row; what is from before `opened.since` is left aside. A lost answer's
            payer is unknown to the wallet, so one or two of them may be this payer's.
        before: the last comparison; only what came since is compared, and what was shown then has to be shown still.
    """
    if before is None or before.era != opened.era:
        before = Before(opened.era, 0, frozenset())
    ordered = sorted(shown.accesses, key=lambda access: access.at)
    new = [access for access in ordered if access.tag not in before.tags]
    gone = len(before.tags - {access.tag for access in ordered} - set(shown.lost))
    surely = [access.tag for access in new if access.at >= opened.since]
    maybe = [access.tag for access in new if opened.since - _OVERLAP_MS <= access.at < opened.since]
    rest = opened.value ^ before.value ^ _xor(surely)
    unused = [tag for tag in shown.lost if tag not in before.tags]
    for tags in ([], *(maybe[n:] for n in reversed(range(len(maybe))))):
        lost = _explained(rest ^ _xor(tags), unused)
        if lost is not None:
            return Comparison(not gone, len(surely) + len(tags), lost, 0, gone)
    return Comparison(False, len(surely), (), rest, gone)


def remember(opened: Opened, shown: Shown, result: Comparison, before: Before | None) -> Before:
    """What the next comparison starts from, after one that was complete."""
    earlier = before.tags if before is not None and before.era == opened.era else frozenset()
    counted = {access.tag for access in shown.accesses if access.at >= opened.since - _OVERLAP_MS}
    return Before(opened.era, opened.value, earlier | counted | set(result.lost))


def _explained(missing: int, lost: Sequence[int]) -> tuple[int, ...] | None:
    """At most two of the lost tags whose xor is what is missing; None if there are no such."""
    if missing == 0:
        return ()
    known = set(lost)
    if missing in known:
        return (missing,)
    return next(((tag, missing ^ tag) for tag in lost if missing ^ tag in known), None)


def not_logged(folder: Path, shown: Shown, *, now: int) -> list[Access]:
    """The accesses shown that are not in all three logs copied to `folder`; raises OSError.

    One that the wallet says it has forgotten is left aside if it is old enough at `now` (ms since 1970).
    """
    logs = []
    for guardian in range(3):
        with (folder / str(guardian) / "entries").open("rb") as file:
            logs.append(set(read_frames(file)))
    return [
        access
        for access in shown.accesses
        if not (access.logged() is None and access.at < now - FORGOTTEN_AFTER_MS)
        and any(access.logged() not in log for log in logs)
    ]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _xor(tags: Sequence[int]) -> int:
    value = 0
    for tag in tags:
        value ^= tag
    return value
