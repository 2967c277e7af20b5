"""Proof of restraint: do payments, error rates and honest strangers explain the searches that were made?

Two questions:
1. Is there an identification without an entry that the payer can see? Expected: none. Each one is an alarm.
2. For each terminal: are there more searches without a payment than honest strangers and refused payers explain?

The second is a statistical test and says how much it could find. A day's searches without a payment have

    mean      m = s + r p / (1 - r)          s strangers, p payments, r the rate of payers refused (FNMR)
    variance  m + (c s)^2                    Poisson, and days differ by a factor of standard deviation c

and over d days the calibrated number of strangers is itself uncertain by a factor of standard deviation u, which no
number of days averages out: variance = sum of the days' + (u sum s)^2. The one-sided test is on the normal
approximation, at level ALPHA over the whole report (Bonferroni). Hence the floor: fewer than about z u s extra searches
a day are never found by counting, however long one waits. 50 a day drown among 1,000 strangers known to 5 %. What finds
them: a count of people that does not come from the terminal (a light barrier: u becomes 0.01), searches at hours when
the place is closed, and, where the one searched for is a payer, that payer's accumulator (`own_log`).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from statistics import NormalDist
from typing import Self

from facefare.audit.entries import CHECK, ENROLLED, PAYMENT, Entry
from facefare.audit.errors import BundleError
from facefare.audit.log import read_frames

ALPHA = 0.01
POWER = 0.9
FEWEST = 5
"""Fewer payments of one terminal, in a day or in all, are not told: searches are public, so the rest is not either."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Site:
    """What is known of a terminal's place, measured when nobody had a reason to cheat.

    Attributes:
        strangers: searches a day by people who are no payers.
        spread: relative standard deviation of that from day to day.
        uncertainty: relative standard error of `strangers` itself.
        refused: rate of payers who are not recognised (FNMR at the site's threshold).
        open_from, open_to: hours (UTC) within which searches are expected.
    """

    strangers: float
    spread: float
    uncertainty: float
    refused: float
    open_from: int = 0
    open_to: int = 24

    def __post_init__(self) -> None:
        rates = (self.spread, self.uncertainty, self.refused)
        if self.strangers < 0 or min(rates) < 0 or self.refused >= 1 or not 0 <= self.open_from < self.open_to <= 24:
            raise BundleError("A site's strangers, rates or hours are not possible.")

    def expected(self, paid: int, days: int) -> tuple[float, float]:
        """Mean and variance of the searches without a payment, over `days` days with `paid` payments in all."""
        strangers = self.strangers * days
        mean = strangers + self.refused * paid / (1 - self.refused)
        variance = mean + days * (self.spread * self.strangers) ** 2 + (self.uncertainty * strangers) ** 2
        return mean, variance


@dataclass(frozen=True)
class WalletWord:
    """What the wallet says of its side, as SHA-256 of log entries: nothing of a payer.

    `paid`: searches that led to a payment; `visible`: searches that some payer finds in the own access log;
    `lost_answers`: how many answers did not reach it whole. All of searches signed from `since` on and before `until`
    (ms since 1970); no others are looked at.
    """

    paid: frozenset[bytes]
    visible: frozenset[bytes]
    lost_answers: int = 0
    since: int = 0
    until: int = 1 << 53

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `{"paid": [hex], "visible": [hex], "lost_answers": n, "since": ms, "until": ms}`. Raises BundleError."""
        try:
            document = json.loads(text)
            paid, visible = (frozenset(bytes.fromhex(one) for one in document[name]) for name in ("paid", "visible"))
            numbers = {name: int(document[name]) for name in ("lost_answers", "since", "until") if name in document}
            return cls(paid, visible, **numbers)
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError("The wallet's file can't be read.") from error


@dataclass(frozen=True)
class PayerChecks:
    """How many payers compared their accumulator with their access log, and how many found it incomplete."""

    checked: int = 0
    incomplete: int = 0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `{"checked": n, "incomplete": m}`. Raises BundleError."""
        try:
            document = json.loads(text)
            return cls(int(document["checked"]), int(document["incomplete"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError("The file of payers' comparisons can't be read.") from error


@dataclass(frozen=True)
class Search:
    """One search of the log: who asked, when (ms since 1970), and the SHA-256 of its entry."""

    terminal: str
    time: int
    id: bytes

    @property
    def day(self) -> date:
        """The day (UTC)."""
        return datetime.fromtimestamp(self.time / 1000, UTC).date()

    @property
    def hour(self) -> int:
        """The hour (UTC)."""
        return datetime.fromtimestamp(self.time / 1000, UTC).hour


@dataclass(frozen=True)
class DayCount:
    """One terminal's day."""

    day: date
    searches: int
    paid: int
    expected: float
    deviation: float  # standard deviation of the unpaid that is expected

    @property
    def unpaid(self) -> int:
        """Searches that led to no payment."""
        return self.searches - self.paid

    @property
    def shown_unpaid(self) -> str:
        """The same for the public: not exact where it would tell how few payments there were."""
        return _shown(self.searches, self.unpaid)


@dataclass(frozen=True)
class TerminalCount:
    """One terminal over all days. `smallest_found`: extra searches a day that are found with probability POWER.

    `tests`: how many the whole report makes; the more, the more it takes to be found by one.
    """

    terminal: str
    site: Site
    by_day: tuple[DayCount, ...]
    expected: float
    deviation: float
    smallest_found: float
    tests: int

    @property
    def days(self) -> int:
        """Days from the first to the last."""
        return len(self.by_day)

    @property
    def searches(self) -> int:
        """All searches."""
        return sum(day.searches for day in self.by_day)

    @property
    def unpaid(self) -> int:
        """Searches that led to no payment."""
        return sum(day.unpaid for day in self.by_day)

    @property
    def shown_unpaid(self) -> str:
        """The same for the public."""
        return _shown(self.searches, self.unpaid)


@dataclass(frozen=True)
class Reconciliation:
    """`alarms`: of the first question, in words; `excesses`: of the second."""

    terminals: tuple[TerminalCount, ...]
    alarms: tuple[str, ...]
    excesses: tuple[str, ...]
    payers: PayerChecks
    lost_answers: int

    @property
    def ok(self) -> bool:
        """Whether everything is explained."""
        return not self.alarms and not self.excesses


def search_id(entry: bytes) -> bytes:
    """How wallet and auditor name a search: SHA-256 of its log entry."""
    return sha256(entry).digest()


def searches_in(folder: Path) -> list[Search]:
    """Searches for a payment in a copy of the three logs, each once. Verify it first. Raises OSError, EntryError."""
    found = [(data, entry) for data, entry in _entries(folder).items() if entry.purpose == PAYMENT]
    return [Search(entry.terminal, entry.time, search_id(data)) for data, entry in found]


@dataclass(frozen=True)
class StationCount:
    """What one station did: comparisons with those enrolled already, and enrolments. Each comparison is for one."""

    station: str
    compared: int
    enrolled: int


def stations_in(folder: Path, wallet: WalletWord) -> list[StationCount]:
    """What each station did in the wallet's period. Verify the copy first. Raises OSError, EntryError."""
    entries = [entry for entry in _entries(folder).values() if wallet.since <= entry.time < wallet.until]
    compared = Counter(entry.terminal for entry in entries if entry.purpose == CHECK)
    enrolled = Counter(entry.terminal for entry in entries if entry.purpose == ENROLLED)
    return [StationCount(station, compared[station], enrolled[station]) for station in sorted(compared | enrolled)]


def _entries(folder: Path) -> dict[bytes, Entry]:
    found: dict[bytes, Entry] = {}
    for guardian in range(3):
        with (folder / str(guardian) / "entries").open("rb") as file:
            found.update((data, Entry.from_bytes(data)) for data in read_frames(file))
    return found


def sites_from_json(text: str) -> dict[str, Site]:
    """Read `{"trm_…": {"strangers": n, "spread": c, "uncertainty": u, "refused": r}}`. Raises BundleError."""
    try:
        return {terminal: Site(**fields) for terminal, fields in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError("The file of sites can't be read.") from error


def reconcile(
    searches: Iterable[Search], wallet: WalletWord, sites: Mapping[str, Site], payers: PayerChecks
) -> Reconciliation:
    """Answer both questions; a terminal without a site is an excess by itself: nothing explains its searches."""
    known = {search.id: search for search in searches if wallet.since <= search.time < wallet.until}
    alarms = _alarms(known, wallet, payers)
    by_terminal: dict[str, list[Search]] = defaultdict(list)
    for search in known.values():
        by_terminal[search.terminal].append(search)
    counts, excesses = [], []
    tests = sum(1 + len({search.day for search in of_terminal}) for of_terminal in by_terminal.values())
    for terminal, of_terminal in sorted(by_terminal.items()):
        site = sites.get(terminal)
        if site is None:
            excesses.append(f"{terminal}: {len(of_terminal)} searches, and nothing is known of its place")
            continue
        count = _count(terminal, site, of_terminal, wallet.paid, tests)
        counts.append(count)
        excesses += _excesses(count, of_terminal, tests)
    return Reconciliation(tuple(counts), tuple(alarms), tuple(excesses), payers, wallet.lost_answers)


def p_value(count: int, mean: float, deviation: float) -> float:
    """How likely so many or more are, if the site's figures hold."""
    return 1.0 if deviation == 0 and count <= mean else 1 - _NORMAL.cdf((count - 0.5 - mean) / max(deviation, 1e-9))


def power(site: Site, *, extra: float, days: int, paid_a_day: int = 0, tests: int = 1) -> float:
    """How likely `extra` searches a day are found in a report over `days` days and `tests` tests."""
    mean, variance = site.expected(paid_a_day * days, days)
    critical = mean + _critical(tests) * math.sqrt(variance)
    with_extra = math.sqrt(variance + extra * days)
    return 1 - _NORMAL.cdf((critical - mean - extra * days) / max(with_extra, 1e-9))


def smallest_found(site: Site, *, days: int, paid_a_day: int = 0, tests: int = 1) -> float:
    """Extra searches a day that are found with probability POWER."""
    low, high = 0.0, 1.0
    while power(site, extra=high, days=days, paid_a_day=paid_a_day, tests=tests) < POWER:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        if power(site, extra=middle, days=days, paid_a_day=paid_a_day, tests=tests) < POWER:
            low = middle
        else:
            high = middle
    return high


def _shown(searches: int, unpaid: int) -> str:
    if searches - unpaid >= FEWEST:
        return f"{unpaid:,}"
    return f"at least {max(searches - FEWEST + 1, 0):,}"


def _critical(tests: int) -> float:
    return _NORMAL.inv_cdf(1 - ALPHA / tests)


def _alarms(known: Mapping[bytes, Search], wallet: WalletWord, payers: PayerChecks) -> list[str]:
    alarms = []
    hidden = [known[one] for one in wallet.paid - wallet.visible if one in known]
    for terminal, count in sorted(Counter(search.terminal for search in hidden).items()):
        alarms.append(f"{terminal}: {count} payments that no payer finds in the own access log")
    unlogged = (wallet.paid | wallet.visible) - known.keys()
    if unlogged:
        alarms.append(f"{len(unlogged)} identifications that are in no guardian's log")
    if payers.incomplete:
        alarms.append(f"{payers.incomplete} of {payers.checked} payers found their access log incomplete")
    return alarms


def _count(terminal: str, site: Site, searches: Sequence[Search], paid: frozenset[bytes], tests: int) -> TerminalCount:
    made = Counter(search.day for search in searches)
    settled = Counter(search.day for search in searches if search.id in paid)
    by_day = []
    for ordinal in range(min(made).toordinal(), max(made).toordinal() + 1):
        day = date.fromordinal(ordinal)
        mean, variance = site.expected(settled[day], 1)
        by_day.append(DayCount(day, made[day], settled[day], mean, math.sqrt(variance)))
    mean, variance = site.expected(settled.total(), len(by_day))
    smallest = smallest_found(site, days=len(by_day), paid_a_day=settled.total() // len(by_day), tests=tests)
    return TerminalCount(terminal, site, tuple(by_day), mean, math.sqrt(variance), smallest, tests)


def _excesses(count: TerminalCount, searches: Sequence[Search], tests: int) -> list[str]:
    found = []
    for day in count.by_day:
        if p_value(day.unpaid, day.expected, day.deviation) < ALPHA / tests:
            found.append(f"{count.terminal} on {day.day}: {day.shown_unpaid} unpaid, {day.expected:,.0f} expected")
    if p_value(count.unpaid, count.expected, count.deviation) < ALPHA / tests:
        unpaid, expected = count.shown_unpaid, f"{count.expected:,.0f}"
        found.append(f"{count.terminal} over {count.days} days: {unpaid} unpaid, {expected} expected")
    closed = sum(not count.site.open_from <= search.hour < count.site.open_to for search in searches)
    if closed:
        found.append(f"{count.terminal}: {closed} searches while the place was closed")
    return found
