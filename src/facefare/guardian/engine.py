"""The three guardians in lock-step: one thread at each runs the same operations in the same order.

Job: take this guardian's accepted requests, agree with the other two on what is run next, run it.
Invariants:
- guardian 0 announces; each guardian runs an operation only on a request that the relay handed to it too and
  that its own policy accepted, and only from the same gallery history (`head`) as the other two. If one
  refuses, all three skip that request, with the reason;
- a search may be made again in an order of the rows that no guardian knows (`mpc.recheck`); which ones is drawn once
  their answers are fixed, as often as the strictest of the three wants;
- a search and an enrolment are in the transparency log, durably and at all three in the same place, before they are
  answered;
- shares are refreshed chunk by chunk between requests, prepared and committed like a change; so arrives, step by step,
  a whole gallery at a guardian that lacks it (`transfers`);
- a change is committed only after all three have prepared it durably; what a crash leaves is settled when
  the next session starts (`settlement`);
- anything unexpected ends the session: waiting requests fail, a new session with fresh keys is made.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from facefare.audit.openings import Components
from facefare.guardian.accumulators import Accumulators
from facefare.guardian.errors import (
    GuardianUnreachable,
    LinkError,
    RefusalCode,
    Refused,
    StoreError,
)
from facefare.guardian.frames import (
    MAX_BATCH,
    Announcement,
    Prepared,
    Refusal,
    Task,
    TaskKind,
    Verdict,
    exchange,
    receive,
    send,
)
from facefare.guardian.gallery import Change, Committed, Gallery
from facefare.guardian.links import LEADER, Links, Session
from facefare.guardian.messages import (
    GUARDIANS,
    Confirmation,
    GalleryStatus,
    OpenAnswer,
    Operation,
    SearchAnswer,
)
from facefare.guardian.openings import Openings
from facefare.guardian.rechecks import Rechecks
from facefare.guardian.registry import Registry
from facefare.guardian.settlement import settle, settle_sums
from facefare.guardian.store import ShareStore
from facefare.guardian.transfers import Transfer
from facefare.guardian.transparency import Transparency
from facefare.guardian.work import Kind, Work
from facefare.mpc.admission import InputRule
from facefare.mpc.errors import MpcError
from facefare.mpc.party import Party
from facefare.mpc.recheck import SecretOrder
from facefare.mpc.sharing import held_by

_HEARTBEAT = 1.0  # seconds between the leader's announcements when there is nothing to do
_PATIENCE = 10.0  # seconds one read may take
_WARM_UP_PATIENCE = 180.0  # the first run compiles the kernels
_PAIRING_WAIT = 1.0  # seconds a follower waits for the relay to hand it an announced request
_RETRY_PAUSE = 0.2
_PAUSE_IN_TASKS = 0.01  # between two chunks, for a request to come first
_TRANSFER_PAUSE = 30.0  # seconds before a step is tried again that the receiver could not keep

_log = structlog.get_logger()


class Engine:
    """One guardian's part in all operations."""

    def __init__(
        self,
        index: int,
        links: Links,
        store: ShareStore,
        registry: Registry,
        signing_key: Ed25519PrivateKey,
        transparency: Transparency,
        sums: Path,
        rechecks: Rechecks,
        openings: Openings,
    ) -> None:
        """Prepare the thread; what it is given is from now on that thread's alone. `sums`: accumulators' folder."""
        self.index = index
        self._links = links
        self._store = store
        self._registry = registry
        self._signing_key = signing_key
        self._transparency = transparency
        self._sums_folder = sums
        self._sums: dict[str, Accumulators] = {}
        self._rechecks = rechecks
        self._openings = openings
        self._wants_refresh = False
        self._checkpoint_wanted = False
        self._to_refresh: deque[tuple[str, Task]] = deque()  # at the leader, by gallery
        self._to_transfer: deque[tuple[str, Task]] = deque()  # the same; comes first
        self._transfers: dict[str, Transfer] = {}
        self._transfer_from = 0.0  # when the leader may announce a step
        self._task_is_due = False  # at the leader: requests were announced last
        self._logger = ThreadPoolExecutor(1, "transparency-log")
        self._waiting: dict[bytes, Work] = {}
        self._running: list[Work] = []
        self._change = threading.Condition()
        self._missing: int | None = (index + 1) % GUARDIANS
        self._stopping = False
        self.galleries: tuple[GalleryStatus, ...] = ()
        self.rechecked: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # --- from other threads ---

    def start(self) -> None:
        """Begin to look for the peers."""
        self._thread.start()

    def stop(self) -> None:
        """End the session and the thread."""
        self._stopping = True
        with self._change:
            self._change.notify_all()
        self._links.close()
        self._thread.join(timeout=10)
        self._logger.shutdown()
        for sums in self._sums.values():
            sums.close()

    @property
    def missing(self) -> int | None:
        """Which guardian keeps this one from working; None while in session with both."""
        return self._missing

    def submit(self, work: Work) -> None:
        """Queue a request; raises `GuardianUnreachable` at once when there is no session."""
        with self._change:
            if self._missing is not None:
                raise GuardianUnreachable(self._missing)
            older = self._waiting.get(work.key)
            if older is not None:
                older.fail(Refused(RefusalCode.REPLAYED, "The same request came again.", self.index))
            self._waiting[work.key] = work
            self._change.notify_all()

    def want_refresh(self) -> None:
        """Ask the leader to have all shares refreshed."""
        self._wants_refresh = True

    def withdraw(self, work: Work) -> None:
        """Forget a request whose caller has stopped waiting."""
        with self._change:
            if self._waiting.get(work.key) is work:
                del self._waiting[work.key]

    # --- the engine's thread ---

    def _run(self) -> None:
        while not self._stopping:
            session = None
            try:
                self._refresh_status()
                session = self._links.connect()
                party = self._begin(session)
                _log.info("session_started", guardian=self.index)
                with self._change:
                    self._missing = None
                while not self._stopping:
                    self._step(session, party)
            except LinkError as error:
                self._lose(error.peer, error)
            except MpcError as error:
                self._lose((self.index + 1) % GUARDIANS, error)
            except Exception as error:  # a fault here (a full disk, a bug): the session can't be trusted
                _log.error("engine_fault", guardian=self.index, kind=type(error).__name__)
                self._lose(self.index, error)
            finally:
                if session is not None:
                    session.close()
            if not self._stopping:
                time.sleep(_RETRY_PAUSE)

    def _lose(self, peer: int, error: Exception) -> None:
        with self._change:
            had_session, self._missing = self._missing is None, peer
            waiting, self._waiting = self._waiting, {}
        if had_session and not self._stopping:
            _log.warning("session_lost", guardian=self.index, peer=peer, kind=type(error).__name__)
        for work in [*self._running, *waiting.values()]:
            work.fail(GuardianUnreachable(peer))
        self._running = []

    def _begin(self, session: Session) -> Party:
        """Keys, settling of half-done changes, and one empty run that compiles and tries everything."""
        session.set_patience(_WARM_UP_PATIENCE)
        self._rechecks.forget()
        party = Party(self.index, session.previous, session.following)
        galleries = [self._store.load(definition) for definition in self._registry.galleries()]
        self._transfers = settle(session, party, self.index, self._store, galleries)
        self._to_transfer = deque(
            (name, Task(TaskKind.TRANSFER, step))
            for name, transfer in self._transfers.items()
            for step in range(transfer.steps)
        )
        self._transfer_from = 0.0
        self._transparency.settle(session)
        settle_sums(session, [(gallery, self._sums_of(gallery)) for gallery in galleries])
        self._queue_refresh(galleries, unfinished_only=True)
        self._refresh_status()
        probe = held_by(self.index, (np.ones((1, 2), np.uint32), *np.zeros((2, 1, 2), np.uint32)))
        rows, none_live = np.zeros((64, 4), np.uint16), np.zeros(1, np.uint64)
        rule, threshold = InputRule(2, 1, 2), np.array([-1], np.int32)
        party.identify(probe, rule, rows, none_live, threshold)
        order = SecretOrder(rows, np.arange(len(rows), dtype=np.uint64), len(rows))
        while not order.ready:
            party.reorder(order)
        party.draw()
        party.recheck(probe, rule, order, order.everywhere, threshold)
        session.set_patience(_PATIENCE)
        return party

    def _step(self, session: Session, party: Party) -> None:
        """One announcement, and what it asks for."""
        announcement = self._announce(session) if self.index == LEADER else self._listen(session)
        gallery = self._gallery(announcement.gallery)
        match announcement.task:
            case None:
                self._serve(session, party, gallery, announcement)
            case Task(TaskKind.TRANSFER, step):
                self._transfer(session, party, announcement.gallery, step)
            case Task(TaskKind.REORDER):
                self._reorder(session, party, gallery, announcement)
            case Task(kind, part):
                self._refresh(session, party, gallery, announcement, part if kind == TaskKind.REFRESH else None)
        if announcement.checkpoint:
            self._transparency.checkpoint(session)

    def _serve(self, session: Session, party: Party, gallery: Gallery | None, announcement: Announcement) -> None:
        """Run the announced requests that all three accept; none: a heartbeat."""
        works = self._claim(announcement)
        refusals = self._agree(session, [self._judge(work, gallery, announcement) for work in works])
        if not works:  # all three have ended the step before
            for sums in self._sums.values():
                sums.prepare()
            galleries = (self._store.load(definition) for definition in self._registry.galleries())
            self.rechecked = frozenset(one.definition.id for one in galleries if self._rechecks.in_use(one))
        chosen: list[Work] = []
        for work, refusal in zip(works, refusals, strict=True):
            if refusal is not None and work is not None:
                work.fail(refusal)
            elif refusal is None and work is not None:
                chosen.append(work)
        if not all(work.goes_with(chosen[0]) for work in chosen):
            raise LinkError(LEADER, "Guardian 0 named requests that can't be answered together.")
        if chosen and gallery is not None:
            match chosen[0].kind:
                case Kind.SEARCH | Kind.CHECK:
                    self._search(party, gallery, chosen)
                case Kind.OPENING:
                    self._open(gallery, chosen[0])
                case Kind.CHANGE:
                    self._apply(session, party, gallery, chosen[0], announcement.attempt)
        self._running = []

    def _announce(self, session: Session) -> Announcement:
        with self._change:
            may_transfer = self._to_transfer and time.monotonic() > self._transfer_from
            tasks = self._to_transfer if may_transfer else self._to_refresh
            next_task = tasks[0] if tasks else self._to_reorder()
            pause = _PAUSE_IN_TASKS if next_task else _HEARTBEAT
            self._change.wait_for(lambda: self._waiting or self._stopping, pause)
            batch: list[Work] = []
            for work in self._waiting.values():
                if not batch or work.goes_with(batch[0]):
                    batch.append(work)
                if len(batch) == MAX_BATCH:
                    break
        if batch and next_task and self._task_is_due:
            batch = []
        self._task_is_due = bool(batch)  # where requests never pause, they and tasks take turns
        name, task = (batch[0].gallery, None) if batch else next_task or ("", None)
        if task is not None and tasks:
            tasks.popleft()
        if not name and self._store.erasure_pending:
            self._store.truncate_log()
        gallery = self._gallery(name)
        announcement = Announcement(
            attempt=os.urandom(16),
            gallery=name,
            standing=gallery.standing if gallery else b"",
            version=gallery.version if gallery else 0,
            keys=tuple(work.key for work in batch),
            task=task,
            checkpoint=self._checkpoint_wanted,
        )
        for channel in session.channels.values():
            send(channel, announcement)
        return announcement

    def _listen(self, session: Session) -> Announcement:
        announcement = receive(session.channels[LEADER], Announcement)
        if not announcement.gallery and self._store.erasure_pending:
            self._store.truncate_log()
        return announcement

    def _claim(self, announcement: Announcement) -> list[Work | None]:
        """Take the announced requests out of the queue, waiting a moment for the relay to bring them."""
        keys = announcement.keys
        with self._change:
            self._change.wait_for(lambda: all(key in self._waiting for key in keys), _PAIRING_WAIT)
            works = [self._waiting.pop(key, None) for key in keys]
        self._running = [work for work in works if work is not None]
        return works

    def _gallery(self, name: str) -> Gallery | None:
        definition = self._registry.gallery(name) if name else None
        return None if definition is None else self._store.load(definition)

    def _judge(self, work: Work | None, gallery: Gallery | None, announcement: Announcement) -> Refused | None:
        """Why this guardian does not take part, if it does not."""
        if work is None:
            return Refused(
                RefusalCode.REQUEST_NOT_SEEN, f"Guardian {self.index} was not handed the same request in time."
            )
        if work.refusal is not None:
            return work.refusal
        if gallery is None or work.gallery != announcement.gallery:
            return Refused(RefusalCode.UNKNOWN_GALLERY, f"Guardian {self.index} does not know that gallery.")
        transfer = self._transfers.get(announcement.gallery)
        if transfer is not None and transfer.lacking == self.index:
            return Refused(
                RefusalCode.GALLERIES_DIFFER,
                f"Guardian {self.index} is getting this gallery back from the other two; try again in a minute.",
            )
        if gallery.standing != announcement.standing:
            return self._galleries_differ(gallery, announcement)
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

    def _galleries_differ(self, gallery: Gallery, announcement: Announcement) -> Refused:
        return Refused(
            RefusalCode.GALLERIES_DIFFER,
            f"Guardian {self.index} has version {gallery.version} of the gallery, guardian 0 has another "
            f"history at version {announcement.version}; it has to catch up first.",
        )

    def _agree(self, session: Session, own: Sequence[Refused | None]) -> list[Refused | None]:
        """For each request the first refusal of any guardian, the same list at all three."""
        verdict = Verdict(
            tuple(None if refused is None else Refusal(refused.code.value, refused.detail) for refused in own),
            self._wants_refresh,
            self._transparency.due(busy=bool(own)),
            self._rechecks.wanted,
        )
        verdicts = {self.index: verdict, **exchange(session, verdict)}
        self._checkpoint_wanted = any(said.wants_checkpoint for said in verdicts.values())
        self._rechecks.agree(said.recheck_permille for said in verdicts.values())
        if verdict.wants_refresh:
            self._wants_refresh = False
        if any(said.wants_refresh for said in verdicts.values()) and not self._to_refresh:
            self._queue_refresh([self._store.load(definition) for definition in self._registry.galleries()])
        agreed: list[Refused | None] = []
        for n in range(len(own)):
            agreed.append(None)
            for guardian in range(GUARDIANS):
                if len(verdicts[guardian].refusals) != len(own):
                    raise LinkError(guardian, f"Guardian {guardian} is out of step.")
                said = verdicts[guardian].refusals[n]
                if said is not None:
                    agreed[-1] = Refused(RefusalCode(said.code), said.detail, guardian)
                    break
        return agreed

    def _search(self, party: Party, gallery: Gallery, works: list[Work]) -> None:
        paused_too = works[0].kind is Kind.CHECK
        probes = np.concatenate([work.components for work in works if work.components is not None], axis=1)
        thresholds = np.array([work.threshold for work in works], np.int32)
        # On the disk before it is answered: the disk is written while the rows are searched.
        logged = self._logger.submit(self._transparency.append, [work.entry for work in works])
        sums = self._sums_of(gallery)
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

    def _to_reorder(self) -> tuple[str, Task] | None:
        """At the leader: a gallery whose next order is to be worked on."""
        name = self._rechecks.due(self._store.load(definition) for definition in self._registry.galleries())
        return None if name is None else (name, Task(TaskKind.REORDER, 0))

    def _reorder(self, session: Session, party: Party, gallery: Gallery | None, announcement: Announcement) -> None:
        """Work on a gallery's next secret order."""
        refusal = None
        if gallery is None:
            refusal = Refused(RefusalCode.UNKNOWN_GALLERY, f"Guardian {self.index} does not know that gallery.")
        elif gallery.standing != announcement.standing:
            refusal = self._galleries_differ(gallery, announcement)
        (agreed,) = self._agree(session, [refusal])
        if agreed is not None or gallery is None:
            _log.error("reorder_refused", guardian=self.index)
            self._rechecks.wait(announcement.gallery)
        elif self._rechecks.advance(party, gallery):
            _log.info("secret_order_ready", guardian=self.index, gallery=gallery.definition.id)

    def _open(self, gallery: Gallery, work: Work) -> None:
        """Seal this guardian's components of one row to its payer."""
        if work.opening is None:
            raise StoreError("That is no opening.")
        fields = work.opening.fields()
        sums = self._sums_of(gallery)
        at, (own, following) = sums.position, sums.components(fields.row)
        parts = Components(self.index, at.era, at.since, at.taken, own, following)
        given = parts.give(fields.recipient, fields.gallery, fields.opening_id, self._transparency.signer)
        work.finish(OpenAnswer(given.sealed, given.signature).to_bytes())

    def _queue_refresh(self, galleries: Sequence[Gallery], *, unfinished_only: bool = False) -> None:
        """At the leader: what is to be refreshed, all or what a refresh broken off has left behind."""
        if self.index != LEADER:
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

    def _refresh(
        self,
        session: Session,
        party: Party,
        gallery: Gallery | None,
        announcement: Announcement,
        number: int | None,
    ) -> None:
        """Refresh one chunk's shares, or all accumulators' (None), from entropy of all three that is stored nowhere."""
        refusal = None
        if gallery is None or (number is not None and number not in gallery.chunks):
            refusal = Refused(RefusalCode.UNKNOWN_GALLERY, f"Guardian {self.index} does not know that gallery.")
        elif gallery.standing != announcement.standing:
            refusal = self._galleries_differ(gallery, announcement)
        (agreed,) = self._agree(session, [refusal])
        if agreed is not None or gallery is None:
            _log.error("refresh_refused", guardian=self.index)
            return
        if number is None:  # counts as a batch: who is one ahead after a crash goes back by it
            sums = self._sums_of(gallery)
            party.refresh_sums(sums.begin(gallery.rows))
            sums.keep()
            return
        shares = gallery.shares[gallery.rows_of(number)].copy()
        self._rechecks.renew(gallery.definition.id)
        party.refresh(shares)
        try:
            mark: bytes | None = self._store.prepare_refresh(gallery, number, announcement.attempt, shares).mark
        except StoreError as error:
            _log.error("refresh_refused", guardian=self.index, kind=type(error).__name__)
            mark = None
        others = exchange(session, Prepared(mark))
        if mark is None or any(frame.head != mark for frame in others.values()):
            if mark is not None:
                self._store.discard_refresh(gallery)
            return
        self._store.commit_refresh(gallery)
        self._refresh_status()

    def _transfer(self, session: Session, party: Party, name: str, step: int) -> None:
        """One step of a gallery's way to the guardian that lacks it."""
        self._agree(session, [])
        transfer = self._transfers.get(name)
        if transfer is None or step >= transfer.steps:
            raise LinkError(LEADER, "Guardian 0 is out of step.")
        session.set_patience(_WARM_UP_PATIENCE)  # the last one erases what was there before
        kept = transfer.run(step, session, party)
        session.set_patience(_PATIENCE)
        if not kept:
            if self.index == LEADER:
                self._to_transfer.appendleft((name, Task(TaskKind.TRANSFER, step)))
                self._transfer_from = time.monotonic() + _TRANSFER_PAUSE
            return
        if step == transfer.steps - 1:
            del self._transfers[name]
            gallery = self._store.load(transfer.gallery.definition)
            self._sums_of(gallery).clear(gallery.deleted)
            self._refresh_status()

    def _sums_of(self, gallery: Gallery) -> Accumulators:
        name = gallery.definition.id
        if name not in self._sums:
            self._sums[name] = Accumulators(self._sums_folder / f"{name}.sums")
        return self._sums[name]

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
            guardian=self.index,
        )
        work.finish(confirmation.to_bytes())

    def _commit(
        self, session: Session, gallery: Gallery, change: Change, shares: NDArray[np.uint16] | None
    ) -> Committed:
        """Prepare at all three, then commit; raises `Refused` at all three if one could not prepare."""
        try:
            if change.operation is Operation.ENROL:
                self._sums_of(gallery).reserve(change.row + change.count)
            head: bytes | None = self._store.prepare(gallery, change, shares)
        except StoreError as error:
            _log.error("change_refused", guardian=self.index, kind=type(error).__name__)
            head = None
        others = exchange(session, Prepared(head))
        heads = {self.index: head} | {peer: frame.head for peer, frame in others.items()}
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
            self._sums_of(gallery).clear(np.arange(change.row, change.row + change.count))
        self._refresh_status()
        return committed

    def _made_before(self, gallery: Gallery, work: Work) -> Committed | None:
        """What an equal request did already, so that sending one again is harmless."""
        if work.operation is Operation.ENROL:
            return self._store.find(gallery, work.digest)
        if work.operation is not None and gallery.in_effect(work.operation, work.row):
            return self._store.last(gallery, work.operation, work.row)
        return None

    def _refresh_status(self) -> None:
        self.galleries = tuple(self._store.load(definition).status() for definition in self._registry.galleries())


def _not_well_formed() -> Refused:
    return Refused(
        RefusalCode.NOT_WELL_FORMED, "The template is outside what this gallery allows; nothing was compared."
    )
