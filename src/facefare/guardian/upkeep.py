"""What a guardian does between requests: refresh shares, bring a gallery back to who lacks it, make secret orders.

Guardian 0 chooses what comes next; all three then do the same. One task is short, so that no request waits long.
Invariant: a refresh and a transfer are prepared at all three and then committed, chunk by chunk, like a change.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from facefare.guardian.accumulators import AccumulatorFolder
from facefare.guardian.errors import LinkError, Refused, StoreError
from facefare.guardian.frames import Announcement, Prepared, Task, TaskKind, exchange
from facefare.guardian.gallery import Gallery
from facefare.guardian.links import LEADER, PATIENCE, WARM_UP_PATIENCE, Session
from facefare.guardian.operations import unlike
from facefare.guardian.rechecks import Rechecks
from facefare.guardian.store import ShareStore
from facefare.guardian.transfers import Transfer
from facefare.mpc.party import Party

_TRANSFER_PAUSE = 30.0  # seconds before a step is tried again that the receiver could not keep

_log = structlog.get_logger()

Agree = Callable[[Session, Sequence[Refused | None]], list[Refused | None]]
"""Tells the other two why this guardian takes no part in something; returns what all three make of it."""


class Upkeep:
    """One guardian's part in tasks; the engine's thread calls it."""

    def __init__(
        self,
        index: int,
        store: ShareStore,
        sums: AccumulatorFolder,
        rechecks: Rechecks,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change`: called when a gallery has changed."""
        self._index = index
        self._store = store
        self._sums = sums
        self._rechecks = rechecks
        self._on_change = on_change
        self._to_refresh: deque[tuple[str, Task]] = deque()  # at the leader, by gallery
        self._to_transfer: deque[tuple[str, Task]] = deque()  # the same; comes first
        self._transfers: dict[str, Transfer] = {}
        self._transfer_from = 0.0  # when the leader may announce a step

    def begin(self, transfers: Mapping[str, Transfer], galleries: Sequence[Gallery]) -> None:
        """A session starts: galleries that one guardian lacks come first, then a refresh that was broken off."""
        self._transfers = dict(transfers)
        self._to_transfer = deque(
            (name, Task(TaskKind.TRANSFER, step))
            for name, transfer in self._transfers.items()
            for step in range(transfer.steps)
        )
        self._transfer_from = 0.0
        self._queue_refresh(galleries, unfinished_only=True)

    def refresh_all(self, galleries: Sequence[Gallery]) -> None:
        """Have all shares refreshed, unless that is being done."""
        if not self._to_refresh:
            self._queue_refresh(galleries)

    def is_coming(self, gallery: str) -> bool:
        """Whether this guardian is just getting the gallery back from the other two."""
        transfer = self._transfers.get(gallery)
        return transfer is not None and transfer.lacking == self._index

    def next(self, galleries: Iterable[Gallery]) -> tuple[str, Task] | None:
        """At the leader: a gallery's id and the task that is due."""
        if self._to_transfer and time.monotonic() > self._transfer_from:
            return self._to_transfer[0]
        if self._to_refresh:
            return self._to_refresh[0]
        name = self._rechecks.due(galleries)
        return None if name is None else (name, Task(TaskKind.REORDER, 0))

    def announced(self, task: tuple[str, Task]) -> None:
        """At the leader: the task that `next` gave is under way."""
        for queue in (self._to_transfer, self._to_refresh):
            if queue and queue[0] is task:
                queue.popleft()

    def run(
        self,
        session: Session,
        party: Party,
        gallery: Gallery | None,
        announcement: Announcement,
        task: Task,
        agree: Agree,
    ) -> None:
        """Do the announced task on its gallery, which this guardian may lack."""
        if task.kind == TaskKind.TRANSFER:
            agree(session, [])
            self._transfer(session, party, announcement.gallery, task.part)
            return
        (refused,) = agree(session, [self._judge(gallery, announcement, task)])
        if refused is not None or gallery is None:
            _log.error("task_refused", guardian=self._index, task=task.kind)
            if task.kind == TaskKind.REORDER:
                self._rechecks.wait(announcement.gallery)
            return
        match task.kind:
            case TaskKind.REORDER:
                if self._rechecks.advance(party, gallery):
                    _log.info("secret_order_ready", guardian=self._index, gallery=gallery.definition.id)
            case TaskKind.REFRESH_SUMS:  # counts as a batch: who is one ahead after a crash goes back by it
                sums = self._sums.of(gallery.definition.id)
                party.refresh_sums(sums.begin(gallery.rows))
                sums.keep()
            case _:
                self._refresh(session, party, gallery, task.part, announcement.attempt)

    def _judge(self, gallery: Gallery | None, announcement: Announcement, task: Task) -> Refused | None:
        lacks_chunk = gallery is not None and task.kind == TaskKind.REFRESH and task.part not in gallery.chunks
        return unlike(self._index, None if lacks_chunk else gallery, announcement)

    def _queue_refresh(self, galleries: Sequence[Gallery], *, unfinished_only: bool = False) -> None:
        """At the leader: what is to be refreshed, all or what a refresh broken off has left behind."""
        if self._index != LEADER:
            return
        self._to_refresh.clear()
        for gallery in galleries:
            name = gallery.definition.id
            newest = max((chunk.epoch for chunk in gallery.chunks.values()), default=0)
            chunks = [
                number
                for number, chunk in sorted(gallery.chunks.items())
                if not unfinished_only or chunk.epoch < newest
            ]
            if not chunks or name in self._transfers:
                continue
            self._to_refresh.append((name, Task(TaskKind.REFRESH_SUMS, 0)))
            self._to_refresh.extend((name, Task(TaskKind.REFRESH, number)) for number in chunks)

    def _refresh(self, session: Session, party: Party, gallery: Gallery, number: int, attempt: bytes) -> None:
        """Refresh one chunk's shares from entropy of all three that is stored nowhere."""
        shares = gallery.shares[gallery.rows_of(number)].copy()
        self._rechecks.renew(gallery.definition.id)
        party.refresh(shares)
        try:
            mark: bytes | None = self._store.prepare_refresh(gallery, number, attempt, shares).mark
        except StoreError as error:
            _log.error("refresh_refused", guardian=self._index, kind=type(error).__name__)
            mark = None
        others = exchange(session, Prepared(mark))
        if mark is None or any(frame.head != mark for frame in others.values()):
            if mark is not None:
                self._store.discard_refresh(gallery)
            return
        self._store.commit_refresh(gallery)
        self._on_change()

    def _transfer(self, session: Session, party: Party, name: str, step: int) -> None:
        """One step of a gallery's way to the guardian that lacks it."""
        transfer = self._transfers.get(name)
        if transfer is None or step >= transfer.steps:
            raise LinkError(LEADER, "Guardian 0 is out of step.")
        session.set_patience(WARM_UP_PATIENCE)  # the last one erases what was there before
        kept = transfer.run(step, session, party)
        session.set_patience(PATIENCE)
        if not kept:
            if self._index == LEADER:
                self._to_transfer.appendleft((name, Task(TaskKind.TRANSFER, step)))
                self._transfer_from = time.monotonic() + _TRANSFER_PAUSE
            return
        if step == transfer.steps - 1:
            del self._transfers[name]
            gallery = self._store.load(transfer.gallery.definition)
            self._sums.of(name).clear(gallery.deleted)
            self._on_change()
