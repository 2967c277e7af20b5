"""What a guardian does for the requests that all three accepted: search, open a row, change a gallery.

Invariants:
- a search may be made again in an order of the rows that no guardian knows (`mpc.recheck`); which ones is drawn once
  their answers are fixed;
- a search and an enrolment are in the transparency log, durably, before they are answered;
- a change is committed only after all three have prepared it durably; what a crash leaves is settled when the next
  session starts (`settlement`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from facefare.audit.openings import Components
from facefare.guardian.accumulators import AccumulatorFolder
from facefare.guardian.errors import LinkError, RefusalCode, Refused, StoreError
from facefare.guardian.frames import Announcement, Prepared, exchange
from facefare.guardian.gallery import Change, Committed, Gallery
from facefare.guardian.links import Session
from facefare.guardian.messages import GUARDIANS, Confirmation, OpenAnswer, Operation, SearchAnswer
from facefare.guardian.openings import Openings
from facefare.guardian.rechecks import Rechecks
from facefare.guardian.store import ShareStore
from facefare.guardian.transparency import Transparency
from facefare.guardian.work import Kind, Work
from facefare.mpc.party import Party

_log = structlog.get_logger()


class Operations:
    """One guardian's part in requests; the engine's thread calls it, at all three guardians in the same order."""

    def __init__(
        self,
        index: int,
        store: ShareStore,
        sums: AccumulatorFolder,
        rechecks: Rechecks,
        openings: Openings,
        transparency: Transparency,
        signing_key: Ed25519PrivateKey,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change`: called when a gallery has changed, before that is answered."""
        self._index = index
        self._store = store
        self._sums = sums
        self._rechecks = rechecks
        self._openings = openings
        self._transparency = transparency
        self._signing_key = signing_key
        self._on_change = on_change
        self._logger = ThreadPoolExecutor(1, "transparency-log")

    def close(self) -> None:
        """Wait for what is being logged."""
        self._logger.shutdown()

    def judge(self, work: Work, gallery: Gallery) -> Refused | None:
        """Why this guardian does not take part in a request about a gallery that it has as the others do."""
        if work.opening is not None:
            key = self._store.payer_key(gallery, work.opening.fields().row)
            try:
                self._openings.judge(work.opening, key, time.time_ns() // 1_000_000)
            except Refused as refusal:
                return refusal
            return None
        if work.kind.is_search and (overdue := self._rechecks.judge(gallery)) is not None:
            return overdue
        if work.operation is not None and self._made_before(gallery, work) is not None:
            return None
        if work.version != gallery.version:
            return Refused(
                RefusalCode.STALE_GALLERY_VERSION,
                f"The request is based on version {work.version}; the gallery is at version {gallery.version}.",
            )
        if work.operation is not None:
            count = 1 if work.components is None else work.components.shape[1]
            try:
                gallery.check(work.operation, work.row, count)
            except Refused as refusal:
                return refusal
        return None

    def run(self, session: Session, party: Party, gallery: Gallery, works: list[Work], attempt: bytes) -> None:
        """Answer requests that go together (`Work.goes_with`)."""
        match works[0].kind:
            case Kind.SEARCH | Kind.CHECK:
                self._search(party, gallery, works)
            case Kind.OPENING:
                self._open(gallery, works[0])
            case Kind.CHANGE:
                self._apply(session, party, gallery, works[0], attempt)

    def _search(self, party: Party, gallery: Gallery, works: list[Work]) -> None:
        paused_too = works[0].kind is Kind.CHECK
        probes = np.concatenate([work.components for work in works if work.components is not None], axis=1)
        thresholds = np.array([work.threshold for work in works], np.int32)
        # On the disk before it is answered: the disk is written while the rows are searched.
        logged = self._logger.submit(self._transparency.append, [work.entry for work in works])
        sums = self._sums.of(gallery.definition.id)
        state = sums.begin(gallery.rows)
        rule = gallery.definition.rule
        answers = party.identify(
            probes, rule, gallery.shares, gallery.enrolled if paused_too else gallery.live, thresholds, state
        )
        allowed = [b for b, answer in enumerate(answers) if answer is not None]
        rechecked = iter(
            self._rechecks.search(party, gallery, probes[:, allowed], thresholds[allowed], paused_too=paused_too)
        )
        logged.result()
        sums.keep()
        for work, answer in zip(works, answers, strict=True):
            if answer is None:
                work.fail(_not_well_formed())
            else:
                work.finish(SearchAnswer(answer.to_bytes(), next(rechecked)).to_bytes())

    def _open(self, gallery: Gallery, work: Work) -> None:
        """Seal this guardian's components of one row to its payer."""
        if work.opening is None:
            raise StoreError("That is no opening.")
        fields = work.opening.fields()
        sums = self._sums.of(gallery.definition.id)
        at, (own, following) = sums.position, sums.components(fields.row)
        parts = Components(self._index, at.era, at.since, at.taken, own, following)
        given = parts.give(fields.recipient, fields.gallery, fields.opening_id, self._transparency.signer)
        work.finish(OpenAnswer(given.sealed, given.signature).to_bytes())

    def _apply(self, session: Session, party: Party, gallery: Gallery, work: Work, attempt: bytes) -> None:
        """Run a change in two phases and confirm it."""
        committed = self._made_before(gallery, work)
        if committed is None:
            if work.operation is None:
                raise StoreError("A search is no change.")
            shares, count = None, 1
            if work.components is not None:
                count = work.components.shape[1]
                allowed, shares = party.admit(work.components, gallery.definition.rule)
                if not allowed.all():
                    work.fail(_not_well_formed())
                    return
            if work.entry:  # an enrolment that is then refused leaves an entry too many, which accuses nobody
                self._transparency.append([work.entry])
            change = Change(work.operation, work.row, count, work.digest, attempt, work.payer_key)
            try:
                committed = self._commit(session, gallery, change, shares)
            except Refused as refused:
                work.fail(refused)
                return
            self._rechecks.follow(party, gallery)
        confirmation = Confirmation.sign(
            self._signing_key,
            gallery=gallery.definition.id,
            row=committed.row,
            count=committed.count,
            version=committed.version,
            operation=committed.operation,
            time=committed.time,
            guardian=self._index,
        )
        work.finish(confirmation.to_bytes())

    def _commit(
        self, session: Session, gallery: Gallery, change: Change, shares: NDArray[np.uint16] | None
    ) -> Committed:
        """Prepare at all three, then commit; raises `Refused` at all three if one could not prepare."""
        try:
            if change.operation is Operation.ENROL:
                self._sums.of(gallery.definition.id).reserve(change.row + change.count)
            head: bytes | None = self._store.prepare(gallery, change, shares)
        except StoreError as error:
            _log.error("change_refused", guardian=self._index, kind=type(error).__name__)
            head = None
        others = exchange(session, Prepared(head))
        heads = {self._index: head} | {peer: frame.head for peer, frame in others.items()}
        unable = [guardian for guardian in range(GUARDIANS) if heads[guardian] is None]
        if unable:
            if head is not None:
                self._store.discard(gallery)
            detail = f"The disk of guardian {unable[0]} refused the change; nothing was changed."
            raise Refused(RefusalCode.STORAGE_FULL, detail, unable[0])
        for peer, frame in others.items():
            if frame.head != head:
                raise LinkError(peer, f"Guardian {peer} is out of step.")
        committed = self._store.commit(gallery)
        if change.operation is Operation.DELETE:
            self._sums.of(gallery.definition.id).clear(np.arange(change.row, change.row + change.count))
        self._on_change()
        return committed

    def _made_before(self, gallery: Gallery, work: Work) -> Committed | None:
        """What an equal request did already, so that sending one again is harmless."""
        if work.operation is Operation.ENROL:
            return self._store.find(gallery, work.digest)
        if work.operation is not None and gallery.in_effect(work.operation, work.row):
            return self._store.last(gallery, work.operation, work.row)
        return None


def unlike(index: int, gallery: Gallery | None, announcement: Announcement) -> Refused | None:
    """Why guardian `index` does nothing that is announced for its gallery: it has none, or another history of it."""
    if gallery is None:
        return Refused(RefusalCode.UNKNOWN_GALLERY, f"Guardian {index} does not know that gallery.")
    if gallery.standing == announcement.standing:
        return None
    return Refused(
        RefusalCode.GALLERIES_DIFFER,
        f"Guardian {index} has version {gallery.version} of the gallery, guardian 0 has another "
        f"history at version {announcement.version}; it has to catch up first.",
    )


def _not_well_formed() -> Refused:
    return Refused(
        RefusalCode.NOT_WELL_FORMED, "The template is outside what this gallery allows; nothing was compared."
    )
