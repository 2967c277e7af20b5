"""Secret orders of a guardian's galleries, and the searches made again in them (`mpc.recheck`).

Job: say when a gallery needs a new order, make it step by step between requests, and use it.
Invariants:
- all that decides whether a search is made again is the same at all three guardians, but for the coin, which none of
  them can bend; the guardian that wants the most rechecks has its way;
- an order is used only as long as the rows in it match as they did when it was made: a deletion or a pause ends it at
  once, a refresh too; rows enrolled later are searched, but not in it;
- a guardian that has wanted rechecks for too long and got none answers no search any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.guardian.errors import RefusalCode, Refused
from facefare.guardian.gallery import Gallery
from facefare.mpc.party import Party
from facefare.mpc.recheck import SecretOrder

_SETTLED = 2.0  # seconds without a change before an order is begun
_RENEWED_EVERY = 60.0  # seconds an order is used before it is made anew for the sake of new rows alone


@dataclass(frozen=True)
class _Ordered:
    """An order of a gallery's live rows, of which there were `rows` with these bits when it was begun."""

    order: SecretOrder
    rows: int
    live: NDArray[np.uint64]

    @classmethod
    def begin(cls, gallery: Gallery) -> _Ordered:
        numbers = np.flatnonzero(np.unpackbits(gallery.live.view(np.uint8), bitorder="little")[: gallery.rows])
        order = SecretOrder(gallery.shares[numbers], numbers.astype(np.uint64), gallery.rows)
        return cls(order, gallery.rows, _among(gallery.live, gallery.rows))

    def holds(self, gallery: Gallery) -> bool:
        """Whether its rows match as they did."""
        return gallery.rows >= self.rows and np.array_equal(self.live, _among(gallery.live, self.rows))


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
        self._since: dict[str, float] = {}  # when an order was made
        self._served: dict[str, float] = {}  # when an order last held
        self._not_before: dict[str, float] = {}

    def agree(self, wanted: Iterable[int]) -> None:
        """What all three want."""
        self._permille = max(wanted)

    def forget(self, gallery: str | None = None) -> None:
        """Give up the orders of a gallery, or of all."""
        for orders in (self._ready, self._next):
            if gallery is None:
                orders.clear()
            else:
                orders.pop(gallery, None)

    def wait(self, gallery: str) -> None:
        """Work on no order of this gallery for a moment: it has changed, or something went wrong."""
        self._not_before[gallery] = time.monotonic() + _SETTLED

    def due(self, galleries: Iterable[Gallery]) -> str | None:
        """At the leader: a gallery whose order is to be made or continued."""
        now = time.monotonic()
        for gallery in galleries if self._permille else ():
            name, ready = gallery.definition.id, self._ready.get(gallery.definition.id)
            if now < self._not_before.get(name, 0.0):
                continue
            lacks_rows = ready is not None and ready.rows < gallery.rows and now > self._since[name] + _RENEWED_EVERY
            if name in self._next or ready is None or lacks_rows or not ready.holds(gallery):
                return name
        return None

    def advance(self, party: Party, gallery: Gallery) -> bool:
        """Do one step of the gallery's next order; begin anew if rows have changed. Whether it is ready."""
        name = gallery.definition.id
        coming = self._next.get(name)
        if coming is None or not coming.holds(gallery):
            coming = self._next[name] = _Ordered.begin(gallery)
        party.reorder(coming.order)
        if coming.order.ready:
            self._ready[name] = self._next.pop(name)
            self._since[name] = time.monotonic()
        return coming.order.ready

    def judge(self, gallery: Gallery) -> Refused | None:
        """Why this guardian answers no search of the gallery, if it does not."""
        name, now = gallery.definition.id, time.monotonic()
        if not self.wanted or self._holding(gallery) is not None:
            self._served[name] = now
        if now - self._served.setdefault(name, now) <= self._patience:
            return None
        return Refused(
            RefusalCode.RECHECK_OVERDUE,
            "For too long no search could be made again in a secret order: another guardian keeps it from being made.",
        )

    def in_use(self, gallery: Gallery) -> bool:
        """Whether searches of this gallery are made again."""
        return self._permille > 0 and self._holding(gallery) is not None

    def search(
        self, party: Party, gallery: Gallery, probes: NDArray[np.uint32], thresholds: NDArray[np.int32]
    ) -> Sequence[bytes | None]:
        """For each of the allowed probes (2, B, D) this guardian's part of the recheck; None if there was none."""
        ready = self._holding(gallery)
        if ready is None or not self._permille or not len(thresholds) or party.draw() % 1000 >= self._permille:
            return [None] * len(thresholds)
        return [share.to_bytes() for share in party.recheck(probes, gallery.definition.rule, ready.order, thresholds)]

    def _holding(self, gallery: Gallery) -> _Ordered | None:
        ready = self._ready.get(gallery.definition.id)
        return ready if ready is not None and ready.holds(gallery) else None


def _among(live: NDArray[np.uint64], rows: int) -> NDArray[np.uint64]:
    """The bits of the first `rows` rows."""
    words = live[: -(-rows // 64)].copy()
    if rows % 64:
        words[-1] &= np.uint64((1 << rows % 64) - 1)
    return words
