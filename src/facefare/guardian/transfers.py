"""A whole gallery for a guardian that lacks it: its disk was lost, or it was away for longer than changes are replayed.

Job: the steps in which it gets history, bitmaps and shares, one at a time between requests, the same at all three.
Invariants:
- it takes only what continues its own history (an empty one continues into anything), and only what both others say
  alike; from one of them alone it takes nothing;
- its shares come masked by the other two's common key (`Party.recover`): it sees one uniform word and the one that
  completes it to its own share, and nobody sees two shares of a row;
- what has arrived is durable and stays through a crash; the gallery is used when all of it is there, not before. The
  gallery can't change meanwhile, since a change takes all three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import structlog

from facefare.guardian.errors import StoreError
from facefare.guardian.frames import (
    MAX_PART,
    ChunkRows,
    Dated,
    Entry,
    GalleryState,
    HistoryPart,
    Kept,
    receive,
    send,
)
from facefare.guardian.gallery import CHUNK, Bits, Change, Gallery, Record, Refreshed, head_after, standing_of
from facefare.guardian.links import Session
from facefare.guardian.messages import GUARDIANS, Operation
from facefare.guardian.store import ShareStore
from facefare.mpc.party import Party

_log = structlog.get_logger()


class Transfer:
    """One gallery on its way to the guardian that lacks it."""

    def __init__(
        self, index: int, store: ShareStore, gallery: Gallery, lacking: int, states: Mapping[int, GalleryState]
    ) -> None:
        """Plan the steps; the same at all three, since all have the same `states`.

        Args:
            index: of this guardian.
            store: its store.
            gallery: as it has it.
            lacking: who lacks the gallery; the other two have it alike.
            states: of all three, by index.

        Raises:
            StoreFull, StoreError: it can't be begun here.
        """
        goal, now = states[(lacking + 1) % GUARDIANS], states[lacking]
        self.lacking = lacking
        self.gallery = gallery
        self._index = index
        self._store = store
        chunks = {chunk.number: Refreshed(chunk.number, chunk.epoch, chunk.mark) for chunk in goal.chunks}
        standing = standing_of(goal.head, chunks.values())
        have, done = now.version, frozenset[int]()
        if now.arriving is not None and now.arriving.standing == standing:
            have, done = now.arriving.history, frozenset(now.arriving.chunks)
        self._goal = goal
        self._changes = goal.version - now.version
        self._history = [(after, min(after + MAX_PART, goal.version)) for after in range(have, goal.version, MAX_PART)]
        self._chunks = [chunks[number] for number in sorted(chunks.keys() - done)]
        self.steps = len(self._history) + len(self._chunks) + 1
        if index == lacking:
            store.expect(gallery, standing, goal.version, goal.head)
            _log.info("catching_up", guardian=index, gallery=gallery.definition.id, steps=self.steps)

    def run(self, step: int, session: Session, party: Party) -> bool:
        """Run a step; whether the guardian that lacks the gallery has it durably now, the same at all three."""
        helpers = [(self.lacking + distance) % GUARDIANS for distance in (1, 2)]
        if step < len(self._history):
            kept = self._pass_history(*self._history[step], session, helpers)
        elif step < self.steps - 1:
            kept = self._pass_chunk(self._chunks[step - len(self._history)], session, party, helpers)
        else:
            kept = self._index != self.lacking or self._finish()
        if self._index != self.lacking:
            return receive(session.channels[self.lacking], Kept).kept
        for helper in helpers:
            send(session.channels[helper], Kept(kept))
        return kept

    def _pass_history(self, after: int, upto: int, session: Session, helpers: Sequence[int]) -> bool:
        if self._index != self.lacking:
            records = self._store.records(self.gallery, after, upto)
            send(session.channels[self.lacking], HistoryPart(tuple(_dated(record) for record in records)))
            return True
        parts = [receive(session.channels[helper], HistoryPart).changes for helper in helpers]
        first, second = ({dated.version: _record(dated) for dated in part} for part in parts)
        both = sorted(first.keys() & second.keys())  # compaction may have dropped more at one of them
        alike = all((first[n].change, first[n].head) == (second[n].change, second[n].head) for n in both)
        if not alike or not self._continues([first[n] for n in both], after, upto):
            _log.error("history_differs", guardian=self._index, gallery=self.gallery.definition.id)
            return False
        return self._keep(lambda: self._store.take_history(self.gallery, upto, [first[n] for n in both]))

    def _continues(self, records: Sequence[Record], after: int, upto: int) -> bool:
        """Whether the hash chain holds wherever two changes follow each other."""
        before, head = after, self._store.head_at(self.gallery, after)
        for record in records:
            if not before < record.version <= upto:
                return False
            follows = head is not None and record.version == before + 1
            if follows and head_after(head or b"", record.version, record.change) != record.head:
                return False
            before, head = record.version, record.head
        return upto != self._goal.version or (before, head) == (upto, self._goal.head)

    def _pass_chunk(self, chunk: Refreshed, session: Session, party: Party, helpers: Sequence[int]) -> bool:
        if self._index != self.lacking:
            bits, shares = self.gallery.chunk(chunk.number)
            send(session.channels[self.lacking], ChunkRows(*(part.tobytes() for part in bits)))
            party.recover(shares, self.lacking)
            return True
        first, second = (receive(session.channels[helper], ChunkRows) for helper in helpers)
        rows = party.recover(np.zeros((CHUNK, self.gallery.columns), np.uint16), self.lacking)
        if first != second or rows is None:
            _log.error("history_differs", guardian=self._index, gallery=self.gallery.definition.id)
            return False
        bits = Bits(*(np.frombuffer(part, np.uint64) for part in (first.used, first.live, first.deleted)))
        return self._keep(lambda: self._store.take_chunk(self.gallery, chunk, bits, rows))

    def _finish(self) -> bool:
        if not self._keep(lambda: self._store.finish_arrival(self.gallery)):
            return False
        _log.info("caught_up", guardian=self._index, gallery=self.gallery.definition.id, changes=self._changes)
        return True

    def _keep(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except StoreError as error:
            _log.error("transfer_refused", guardian=self._index, kind=type(error).__name__)
            return False
        return True


def _dated(record: Record) -> Dated:
    change = record.change
    entry = Entry(change.operation.value, change.row, change.count, change.digest, change.attempt, change.key)
    return Dated(record.version, record.head, record.time, entry)


def _record(dated: Dated) -> Record:
    e = dated.entry
    change = Change(Operation(e.operation), e.row, e.count, e.digest, e.attempt, e.key)
    return Record(dated.version, dated.head, dated.time, change)
