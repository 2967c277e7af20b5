"""What guardians do when a session starts, before they answer anything: agree on every gallery's history.

Job: finish what a crash left half done, and bring a guardian that is behind (its disk was restored from a
backup) up to the other two.
Invariants:
- a change that any guardian committed was prepared by all, so whoever has it prepared commits it too; what
  none committed all discard;
- a guardian catches up only if its own history is the beginning of the others', by the hash
  chain; its missing shares come from the other two masked by their common key (`Party.recover`), so that
  nobody, it included, sees two shares of a row. A few changes are replayed at once; a guardian further behind gets the
  whole gallery while the three serve (`transfers`);
- a refresh that any guardian committed was prepared by all, with the same mark; a chunk whose mark two guardians have
  and the third has not, the third gets back like rows it lacks: shares of two epochs are never searched together;
- accumulators that differ by the batch that was under way go back by it; any others begin anew, at all three;
- whoever is left with another history than the others is refused at the next request (`GALLERIES_DIFFER`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from facefare.guardian.accumulators import Accumulators
from facefare.guardian.frames import (
    ArrivalState,
    ChunkState,
    Entry,
    GalleryState,
    History,
    HistoryFits,
    States,
    SumState,
    SumStates,
    exchange,
    receive,
    send,
)
from facefare.guardian.gallery import Change, Gallery, Refreshed, head_after
from facefare.guardian.links import Session
from facefare.guardian.messages import GUARDIANS, Operation
from facefare.guardian.store import ShareStore
from facefare.guardian.transfers import Transfer
from facefare.mpc.party import Party

_log = structlog.get_logger()


_MAX_REPLAYED_CHANGES = 1000
_MAX_REPLAYED_ROWS = 16_384


def settle(
    session: Session, party: Party, index: int, store: ShareStore, galleries: Sequence[Gallery]
) -> dict[str, Transfer]:
    """Run at all three at a session's start; raises what links and store raise.

    Returns:
        By gallery, what has to be transferred before it can be used, the same at all three.
    """
    for gallery, states in _compare(session, store, galleries):
        _end_refresh(store, gallery, states)
        if gallery.prepared_head is None:
            continue
        if any(state.head == gallery.prepared_head for state in states.values()):
            store.commit(gallery)
            _log.info("change_completed", guardian=index, gallery=gallery.definition.id)
        else:
            store.discard(gallery)
            _log.info("change_discarded", guardian=index, gallery=gallery.definition.id)
    transfers: dict[str, Transfer] = {}
    for gallery, states in _compare(session, store, galleries):
        everyone = {index: _state(store, gallery), **states}
        behind = _who_is_behind(everyone)
        if behind is not None and _is_far(everyone, behind):
            transfer = _begin_transfer(session, index, store, gallery, behind, everyone)
            if transfer is not None:
                transfers[gallery.definition.id] = transfer
                continue
        store.forget_arrival(gallery)
        if behind is not None and not _is_far(everyone, behind):
            _catch_up(session, party, index, store, gallery, behind, everyone)
    for gallery, states in _compare(session, store, galleries):
        everyone = {index: _state(store, gallery), **states}
        if len(everyone) == GUARDIANS and len({state.head for state in everyone.values()}) == 1:
            _even_out(party, index, store, gallery, everyone)
    return transfers


def settle_sums(session: Session, sums: Sequence[tuple[Gallery, Accumulators]]) -> None:
    """Bring the accumulators of all galleries in step."""
    own: dict[str, SumState] = {}
    for gallery, accumulators in sums:
        accumulators.clear(gallery.deleted)
        at, name = accumulators.position, gallery.definition.id
        own[name] = SumState(name, at.era, at.taken, at.undoable, time.time_ns() // 1_000_000)
    others = exchange(session, SumStates(tuple(own.values())))
    for gallery, accumulators in sums:
        name = gallery.definition.id
        states = [own[name], *(state for other in others.values() for state in other.sums if state.gallery == name)]
        if len(states) != GUARDIANS:
            continue  # not made at all three yet, so never searched
        least, most = min(state.taken for state in states), max(state.taken for state in states)
        one_era = len({state.era for state in states}) == 1 and own[name].era > 0
        if one_era and least == most:
            continue
        if one_era and most == least + 1 and all(state.undoable for state in states if state.taken == most):
            if own[name].taken == most:
                accumulators.undo()
            continue
        accumulators.restart(1 + max(state.era for state in states), max(state.now for state in states))
        _log.warning("accumulators_began_anew", gallery=name)


def _end_refresh(store: ShareStore, gallery: Gallery, states: Mapping[int, GalleryState]) -> None:
    """Commit the prepared refresh if any other did, else forget it."""
    if gallery.prepared_refresh is None:
        return
    prepared = _chunk_state(gallery.prepared_refresh)
    if any(prepared in state.chunks for state in states.values()):
        store.commit_refresh(gallery)
    else:
        store.discard_refresh(gallery)


def _even_out(
    party: Party, index: int, store: ShareStore, gallery: Gallery, everyone: Mapping[int, GalleryState]
) -> None:
    """Give a guardian back the chunks that the other two have of a later epoch."""
    known = {guardian: {chunk.number: chunk for chunk in state.chunks} for guardian, state in everyone.items()}
    for number in sorted(known[index]):
        chunks = {guardian: known[guardian].get(number) for guardian in range(GUARDIANS)}
        for one in range(GUARDIANS):
            mine, first, second = (chunks[(one + step) % GUARDIANS] for step in range(GUARDIANS))
            if mine is None or first is None or first != second or mine == first or mine.epoch >= first.epoch:
                continue
            shares = party.recover(gallery.shares[gallery.rows_of(number)], one)
            if shares is not None:
                store.replace_chunk(gallery, Refreshed(number, first.epoch, first.mark), shares)
                _log.info("chunk_recovered", guardian=index, gallery=gallery.definition.id, chunk=number)


def _compare(
    session: Session, store: ShareStore, galleries: Sequence[Gallery]
) -> list[tuple[Gallery, dict[int, GalleryState]]]:
    """For each gallery that this guardian has, in one order at all three, the other two's states."""
    answers = exchange(session, States(tuple(_state(store, gallery) for gallery in galleries)))
    return [
        (
            gallery,
            {
                peer: state
                for peer, states in answers.items()
                for state in states.galleries
                if state.gallery == gallery.definition.id
            },
        )
        for gallery in sorted(galleries, key=lambda gallery: gallery.definition.id)
    ]


def _state(store: ShareStore, gallery: Gallery) -> GalleryState:
    waiting, arriving = gallery.prepared_refresh, store.arriving(gallery)
    return GalleryState(
        gallery.definition.id,
        gallery.version,
        gallery.head,
        gallery.rows,
        gallery.prepared_head,
        None if arriving is None else ArrivalState(arriving.standing, arriving.history, tuple(sorted(arriving.chunks))),
        tuple(_chunk_state(gallery.chunks[number]) for number in sorted(gallery.chunks)),
        None if waiting is None else _chunk_state(waiting),
    )


def _chunk_state(chunk: Refreshed) -> ChunkState:
    return ChunkState(chunk.number, chunk.epoch, chunk.mark)


def _who_is_behind(states: dict[int, GalleryState]) -> int | None:
    """The one guardian with fewer changes than the other two, who agree; None if it is not like that."""
    if len(states) != GUARDIANS:
        return None
    for one in range(GUARDIANS):
        first, second = (states[(one + step) % GUARDIANS] for step in (1, 2))
        if first.head == second.head and first.version > states[one].version:
            return one
    return None


def _is_far(states: Mapping[int, GalleryState], behind: int) -> bool:
    """Whether that guardian lacks more than is replayed change by change."""
    goal, now = states[(behind + 1) % GUARDIANS], states[behind]
    return goal.version - now.version > _MAX_REPLAYED_CHANGES or goal.rows - now.rows > _MAX_REPLAYED_ROWS


def _begin_transfer(
    session: Session,
    index: int,
    store: ShareStore,
    gallery: Gallery,
    behind: int,
    states: Mapping[int, GalleryState],
) -> Transfer | None:
    """A transfer to the guardian that is behind, if both others know its history as the beginning of theirs."""
    alike = states[(behind + 1) % GUARDIANS].chunks == states[(behind + 2) % GUARDIANS].chunks
    known = index == behind or store.head_at(gallery, states[behind].version) == states[behind].head
    answers = exchange(session, HistoryFits(known and alike))
    if not (known and alike and all(answer.fits for answer in answers.values())):
        _log.error("history_differs", guardian=behind, gallery=gallery.definition.id)
        return None
    return Transfer(index, store, gallery, behind, states)


def _catch_up(
    session: Session,
    party: Party,
    index: int,
    store: ShareStore,
    gallery: Gallery,
    behind: int,
    states: dict[int, GalleryState],
) -> None:
    """One guardian gets the changes it lacks from the next one, and their shares from both."""
    helper = (behind + 1) % GUARDIANS
    if index == behind:
        entries = receive(session.channels[helper], History).entries
        changes = [Change(Operation(e.operation), e.row, e.count, e.digest, e.attempt, e.key) for e in entries]
        fits = HistoryFits(_leads_to(gallery, changes, states[helper].head))
        for channel in session.channels.values():
            send(channel, fits)
    else:
        changes = store.history(gallery, states[behind].version)
        if index == helper:
            entries = tuple(Entry(c.operation.value, c.row, c.count, c.digest, c.attempt, c.key) for c in changes)
            send(session.channels[behind], History(entries))
        fits = receive(session.channels[behind], HistoryFits)
    if not fits.fits:
        _log.error("history_differs", guardian=behind, gallery=gallery.definition.id)
        return
    rows = _enrolled(changes)
    if index != behind:
        party.recover(gallery.shares[rows], behind)
        return
    shares = party.recover(np.zeros((len(rows), gallery.columns), np.uint16), behind)
    start = 0
    for change in changes:
        part = None
        if change.operation is Operation.ENROL and shares is not None:
            part = shares[start : start + change.count]
            start += change.count
        store.prepare(gallery, change, part)
        store.commit(gallery)
    _log.info("caught_up", guardian=index, gallery=gallery.definition.id, changes=len(changes))


def _enrolled(changes: Sequence[Change]) -> NDArray[np.int64]:
    """Rows of all enrolments, in order."""
    blocks = [np.arange(c.row, c.row + c.count) for c in changes if c.operation is Operation.ENROL]
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def _leads_to(gallery: Gallery, changes: Sequence[Change], target: bytes) -> bool:
    """Whether these changes, on top of what this guardian has, give the others' head."""
    head = gallery.head
    for number, change in enumerate(changes):
        head = head_after(head, gallery.version + number + 1, change)
    return head == target
