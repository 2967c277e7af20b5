"""The three guardians in lock-step: one thread at each runs the same operations in the same order.

Job: take this guardian's accepted requests, agree with the other two on what is run next, have it run (`operations`
for requests, `upkeep` for what is done between them).
Invariants:
- guardian 0 announces; each guardian runs an operation only on a request that the relay handed to it too and
  that its own policy accepted, and only from the same gallery history (`head`) as the other two. If one
  refuses, all three skip that request, with the reason;
- how many searches are made again is what the strictest of the three wants;
- where requests never pause, they and tasks take turns;
- anything unexpected ends the session: waiting requests fail, a new session with fresh keys is made.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.guardian.accumulators import AccumulatorFolder
from facefare.guardian.errors import (
    GuardianUnreachable,
    LinkError,
    RefusalCode,
    Refused,
)
from facefare.guardian.frames import (
    MAX_BATCH,
    Announcement,
    Refusal,
    Verdict,
    exchange,
    receive,
    send,
)
from facefare.guardian.gallery import Gallery
from facefare.guardian.links import LEADER, PATIENCE, WARM_UP_PATIENCE, Links, Session
from facefare.guardian.messages import (
    GUARDIANS,
    GalleryStatus,
)
from facefare.guardian.openings import Openings
from facefare.guardian.operations import Operations, unlike
from facefare.guardian.rechecks import Rechecks
from facefare.guardian.registry import Registry
from facefare.guardian.settlement import settle, settle_sums
from facefare.guardian.store import ShareStore
from facefare.guardian.transparency import Transparency
from facefare.guardian.upkeep import Upkeep
from facefare.guardian.work import Work
from facefare.mpc.admission import InputRule
from facefare.mpc.errors import MpcError
from facefare.mpc.party import Party
from facefare.mpc.recheck import SecretOrder
from facefare.mpc.sharing import held_by

_HEARTBEAT = 1.0  # seconds between the leader's announcements when there is nothing to do
_PAIRING_WAIT = 1.0  # seconds a follower waits for the relay to hand it an announced request
_RETRY_PAUSE = 0.2
_PAUSE_IN_TASKS = 0.01  # between two chunks, for a request to come first

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
        self._transparency = transparency
        self._rechecks = rechecks
        self._sums = AccumulatorFolder(sums)
        self._operations = Operations(
            index, store, self._sums, rechecks, openings, transparency, signing_key, self._refresh_status
        )
        self._upkeep = Upkeep(index, store, self._sums, rechecks, self._refresh_status)
        self._wants_refresh = False
        self._checkpoint_wanted = False
        self._task_is_due = False  # at the leader: requests were announced last
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
        self._operations.close()
        self._sums.close()

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
        session.set_patience(WARM_UP_PATIENCE)
        self._rechecks.forget()
        party = Party(self.index, session.previous, session.following)
        galleries = self._all_galleries()
        transfers = settle(session, party, self.index, self._store, galleries)
        self._transparency.settle(session)
        settle_sums(session, [(gallery, self._sums.of(gallery.definition.id)) for gallery in galleries])
        self._upkeep.begin(transfers, galleries)
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
        session.set_patience(PATIENCE)
        return party

    def _step(self, session: Session, party: Party) -> None:
        """One announcement, and what it asks for."""
        announcement = self._announce(session) if self.index == LEADER else self._listen(session)
        gallery = self._gallery(announcement.gallery)
        if announcement.task is None:
            self._serve(session, party, gallery, announcement)
        else:
            self._upkeep.run(session, party, gallery, announcement, announcement.task, self._agree)
        if announcement.checkpoint:
            self._transparency.checkpoint(session)

    def _serve(self, session: Session, party: Party, gallery: Gallery | None, announcement: Announcement) -> None:
        """Run the announced requests that all three accept; none: a heartbeat."""
        works = self._claim(announcement)
        refusals = self._agree(session, [self._judge(work, gallery, announcement) for work in works])
        if not works:  # all three have ended the step before
            self._sums.prepare()
            in_use = (one.definition.id for one in self._all_galleries() if self._rechecks.in_use(one))
            self.rechecked = frozenset(in_use)
        chosen: list[Work] = []
        for work, refusal in zip(works, refusals, strict=True):
            if refusal is not None and work is not None:
                work.fail(refusal)
            elif refusal is None and work is not None:
                chosen.append(work)
        if not all(work.goes_with(chosen[0]) for work in chosen):
            raise LinkError(LEADER, "Guardian 0 named requests that can't be answered together.")
        if chosen and gallery is not None:
            self._operations.run(session, party, gallery, chosen, announcement.attempt)
        self._running = []

    def _announce(self, session: Session) -> Announcement:
        with self._change:
            next_task = self._upkeep.next(self._store.load(one) for one in self._registry.galleries())
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
        if task is not None and next_task is not None:
            self._upkeep.announced(next_task)
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
        if self._upkeep.is_coming(announcement.gallery):
            return Refused(
                RefusalCode.GALLERIES_DIFFER,
                f"Guardian {self.index} is getting this gallery back from the other two; try again in a minute.",
            )
        return unlike(self.index, gallery, announcement) or self._operations.judge(work, gallery)

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
        if any(said.wants_refresh for said in verdicts.values()):
            self._upkeep.refresh_all(self._all_galleries())
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

    def _refresh_status(self) -> None:
        self.galleries = tuple(gallery.status() for gallery in self._all_galleries())

    def _all_galleries(self) -> list[Gallery]:
        return [self._store.load(definition) for definition in self._registry.galleries()]
