"""Secret orders of a guardian's galleries, and the searches made again in them (`mpc.recheck`).

Job: say when a gallery needs a new order, make it step by step between requests, and use it.
Invariants:
- all that decides whether a search is made again is the same at all three guardians, but for the coin, which none of
  them can bend; the guardian that wants the most rechecks has its way;
- an order outlives changes: the place of a row that is paused or deleted is revealed, and left out from then on (of a
  deleted row nothing is kept there). Only a row enrolled below its last one, which is rare, ends it;
- an order is made anew for rows enrolled or resumed since, which it can't protect, and after a refresh, since its
  shares are to be of use no longer than the refreshed ones;
- a guardian that has wanted rechecks for too long and got none answers no search any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from facefare.guardian.errors import RefusalCode, Refused
from facefare.guardian.gallery import Gallery
from facefare.mpc.party import Party
from facefare.mpc.recheck import SecretOrder

_RENEWED_EVERY = 60.0  # seconds an order is used before it is made anew
_PAUSE = 2.0  # seconds without work on an order that could not be made


class _Ordered:
    """An order of the rows that a gallery had when it was begun, paused ones too."""

    def __init__(self, gallery: Gallery) -> None:
        self.rows = gallery.rows
        self._known = gallery.enrolled.copy()
        numbers = _numbers(self._known)
        self.order = SecretOrder(gallery.shares[numbers], numbers.astype(np.uint64), gallery.rows)
        self._places = np.full(gallery.rows, -1, np.int32)  # of rows that were revealed
        self._revealed = 0
        self.live = self.enrolled = self.order.everywhere  # places, bit n % 64 of word n // 64
        self.since = 0.0

    def follow(self, party: Party, gallery: Gallery) -> None:
        """Let all three know the places of rows that may not match any more, and forget what is deleted."""
        out = self._left_out(gallery.live)
        hidden = out[self._places[out] < 0]
        if len(hidden):
            self._places[hidden] = party.reveal(self.order, hidden.astype(np.uint64))
            self._revealed += len(hidden)
        deleted = self._places[self._left_out(gallery.enrolled)]
        self.order.erase(deleted)
        self.live, self.enrolled = self._without(self._places[out]), self._without(deleted)

    def _without(self, out: NDArray[np.int32]) -> NDArray[np.uint64]:
        """All places but these."""
        places = self.order.everywhere
        np.bitwise_and.at(places, out // 64, ~(np.uint64(1) << (out % 64).astype(np.uint64)))
        return places

    def holds(self, gallery: Gallery) -> bool:
        """Whether no row was enrolled meanwhile below its last one: a recheck would deny it."""
        rows = _first(gallery.enrolled, self.rows)
        return not (rows & ~self._known).any()

    def lacks(self, gallery: Gallery) -> bool:
        """Whether rows were enrolled or resumed since."""
        out = int(np.bitwise_count(self._known & ~gallery.live[: len(self._known)]).sum())
        return gallery.rows > self.rows or self._revealed > out

    def _left_out(self, rows: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Numbers of the order's rows that are not among these."""
        return _numbers(self._known & ~rows[: len(self._known)])


class Rechecks:
    """The orders of all galleries at one guardian."""

    def __init__(self, wanted: int, patience: float) -> None:
        """Begin without an order.

        Args:
            wanted: how many of a thousand searches this guardian wants to be made again.
            patience: for so many seconds it answers without, if it wants any.
        """
        self.wanted = self._permille = wanted
        self._patience = patience
        self._ready: dict[str, _Ordered] = {}
        self._next: dict[str, _Ordered] = {}
        self._outdated: set[str] = set()  # refreshed since the order was begun
        self._served: dict[str, float] = {}  # when there was an order last
        self._not_before: dict[str, float] = {}

    def agree(self, wanted: Iterable[int]) -> None:
        """What all three want."""
        self._permille = max(wanted)

    def forget(self) -> None:
        """Give up all orders: they belong to a session."""
        self._ready.clear()
        self._next.clear()
        self._outdated.clear()

    def renew(self, gallery: str) -> None:
        """Make an order of this gallery anew: its rows' shares are refreshed."""
        self._next.pop(gallery, None)
        self._outdated.add(gallery)

    def wait(self, gallery: str) -> None:
        """Work on no order of this gallery for a moment: something went wrong."""
        self._not_before[gallery] = time.monotonic() + _PAUSE

    def due(self, galleries: Iterable[Gallery]) -> str | None:
        """At the leader: a gallery whose order is to be made or continued."""
        now = time.monotonic()
        for gallery in galleries if self._permille else ():
            name, ready = gallery.definition.id, self._ready.get(gallery.definition.id)
            if now < self._not_before.get(name, 0.0):
                continue
            if name in self._next or name in self._outdated or ready is None:
                return name
            if now > ready.since + _RENEWED_EVERY and ready.lacks(gallery):
                return name
        return None

    def advance(self, party: Party, gallery: Gallery) -> bool:
        """Do one step of the gallery's next order. Whether it is ready."""
        name = gallery.definition.id
        if name not in self._next:
            self._next[name] = _Ordered(gallery)
            self._outdated.discard(name)
        coming = self._next[name]
        party.reorder(coming.order)
        if coming.order.ready:
            coming.follow(party, gallery)
            coming.since = time.monotonic()
            self._ready[name] = self._next.pop(name)
        return coming.order.ready

    def follow(self, party: Party, gallery: Gallery) -> None:
        """The gallery was changed."""
        name = gallery.definition.id
        for orders in (self._ready, self._next):
            if name in orders and not orders[name].holds(gallery):
                del orders[name]
        if name in self._ready:
            self._ready[name].follow(party, gallery)

    def judge(self, gallery: Gallery) -> Refused | None:
        """Why this guardian answers no search of the gallery, if it does not."""
        name, now = gallery.definition.id, time.monotonic()
        if not self.wanted or name in self._ready:
            self._served[name] = now
        if now - self._served.setdefault(name, now) <= self._patience:
            return None
        return Refused(
            RefusalCode.RECHECK_OVERDUE,
            "For too long no search could be made again in a secret order: another guardian keeps it from being made.",
        )

    def in_use(self, gallery: Gallery) -> bool:
        """Whether searches of this gallery are made again."""
        return self._permille > 0 and gallery.definition.id in self._ready

    def search(
        self,
        party: Party,
        gallery: Gallery,
        probes: NDArray[np.uint32],
        thresholds: NDArray[np.int32],
        *,
        paused_too: bool,
    ) -> Sequence[bytes | None]:
        """For each of the allowed probes (2, B, D) this guardian's part of the recheck, or None."""
        ready = self._ready.get(gallery.definition.id)
        if ready is None or not self._permille or not len(thresholds) or party.draw() % 1000 >= self._permille:
            return [None] * len(thresholds)
        places, rule = ready.enrolled if paused_too else ready.live, gallery.definition.rule
        return [share.to_bytes() for share in party.recheck(probes, rule, ready.order, places, thresholds)]


def _first(bits: NDArray[np.uint64], rows: int) -> NDArray[np.uint64]:
    """The bits of the first `rows` rows."""
    words = bits[: -(-rows // 64)].copy()
    if rows % 64:
        words[-1] &= np.uint64((1 << rows % 64) - 1)
    return words


def _numbers(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Which bits of a bitmap are set."""
    words = np.flatnonzero(rows)
    word, bit = np.nonzero(np.unpackbits(rows[words].view(np.uint8), bitorder="little").reshape(-1, 64))
    return words[word] * 64 + bit
