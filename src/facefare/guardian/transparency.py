"""This guardian's transparency log among the other two: same entries, same order, co-signed.

Job: append what is about to be answered, agree on the log when a session starts, exchange checkpoints.
Invariants:
- the three logs have the same entries in the same order, since all three append what they agreed to answer, in
  lock-step; what a crash or a restored disk took from one, it gets back before it answers anything;
- what only one guardian has appended the others take over: an entry too many accuses nobody, an entry too few
  would hide a search;
- logs that contradict each other end the session: nothing is answered until somebody has looked;
- a checkpoint that can't be signed or co-signed is tried again and never keeps a payer waiting.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from facefare.audit.checkpoints import open_checkpoint
from facefare.audit.errors import AuditError
from facefare.audit.log import Log
from facefare.audit.notes import NoteKey, NoteSigner, Signature, SignedNote
from facefare.audit.witness import Witness
from facefare.guardian.errors import LinkError
from facefare.guardian.frames import (
    MAX_LOG_PART,
    LogCosignature,
    LogKnown,
    LogNote,
    LogPart,
    LogState,
    exchange,
    receive,
    send,
)
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.links import Session
from facefare.guardian.messages import GUARDIANS

_CHECKPOINT_EVERY = 3.0  # seconds between checkpoints of a log that grows
_CHECKPOINT_AT_LATEST = 15.0  # also between two waiting requests

_log = structlog.get_logger()


class Transparency:
    """One guardian's log and its part as a witness. Not thread-safe: the engine's thread owns it."""

    def __init__(
        self,
        index: int,
        folders: tuple[Path, Path],
        signers: tuple[NoteSigner, NoteSigner],
        peers: Mapping[int, GuardianIdentity],
    ) -> None:
        """`folders` and `signers` of the log and of the witness; raises `AuditError` for a log that can't be used."""
        self._index = index
        self._folder = folders[0]
        self._signer = signers[0]
        self._keys = {peer: NoteKey.parse(identity.log_key) for peer, identity in peers.items()}
        self._witnesses = [NoteKey.parse(identity.witness_key) for identity in peers.values()]
        self._witness = Witness(folders[1], signers[1], list(self._keys.values()))
        self._log = Log(self._folder, self._signer.key)
        self._signed_at = 0.0
        self._cosigned_size = -1  # of the last checkpoint that both others co-signed in this session

    def close(self) -> None:
        """Release the files."""
        self._log.close()

    @property
    def signer(self) -> NoteSigner:
        """The log's key: what it signs is checked by whoever checks the log."""
        return self._signer

    @property
    def size(self) -> int:
        """How many entries the log has."""
        return self._log.size

    def append(self, entries: Sequence[bytes]) -> None:
        """Append entries, durably; raises `AuditError`: then nothing may be answered."""
        self._log.append(entries)

    def due(self, *, busy: bool) -> bool:
        """Whether the three should sign now; later while requests wait."""
        waited = time.monotonic() - self._signed_at
        return self._cosigned_size != self.size and waited > (_CHECKPOINT_AT_LATEST if busy else _CHECKPOINT_EVERY)

    def settle(self, session: Session) -> None:
        """At a session's start: whoever lacks entries gets them. Raises `LinkError` where logs contradict."""
        self._log.close()
        self._log = Log(self._folder, self._signer.key)  # what failed in the last session is read again
        states = exchange(session, LogState(self.size, self._log.root()))
        states[self._index] = LogState(self.size, self._log.root())
        longest = max(range(GUARDIANS), key=lambda guardian: states[guardian].size)
        goal = states[longest]
        for guardian in range(GUARDIANS):
            size = states[guardian].size
            if size == goal.size and states[guardian].root != goal.root:
                raise self._contradiction(guardian)
            if size == goal.size:
                continue
            if self._index == guardian:
                self._fetch(session, longest, goal)
            elif self._index == longest:
                self._give(session, guardian, size)

    def _fetch(self, session: Session, helper: int, goal: LogState) -> None:
        before = self.size
        while self.size < goal.size:
            part = receive(session.channels[helper], LogPart)
            entries = part.entries[: goal.size - self.size]
            if self._log.root_with(entries) != part.root:
                raise self._contradiction(helper)
            self._log.append(entries)
        if self._log.root() != goal.root:
            raise self._contradiction(helper)
        _log.info("log_caught_up", guardian=self._index, entries=self.size - before)

    def _give(self, session: Session, guardian: int, size: int) -> None:
        for first in range(size, self.size, MAX_LOG_PART):
            end = min(first + MAX_LOG_PART, self.size)
            entries = tuple(self._log.entry(n) for n in range(first, end))
            send(session.channels[guardian], LogPart(entries, self._log.root_at(end)))

    def _contradiction(self, guardian: int) -> LinkError:
        _log.error("logs_contradict", guardian=self._index, other=guardian, size=self.size)
        return LinkError(guardian, f"The transparency logs of guardians {self._index} and {guardian} contradict.")

    def checkpoint(self, session: Session) -> None:
        """Sign the log, have it co-signed by both others and co-sign theirs."""
        self._signed_at = time.monotonic()
        for peer, channel in session.channels.items():
            send(channel, LogKnown(self._known(peer)))
        known = {peer: receive(channel, LogKnown).size for peer, channel in session.channels.items()}
        for peer, channel in session.channels.items():
            send(channel, self._note_for(known[peer]))
        notes = {peer: receive(channel, LogNote) for peer, channel in session.channels.items()}
        for peer, channel in session.channels.items():
            send(channel, LogCosignature(self._cosign(peer, notes[peer])))
        lines = [receive(channel, LogCosignature).line for channel in session.channels.values()]
        try:
            note = self._log.attach([Signature.parse(line) for line in lines if line is not None], self._witnesses)
            if all(note.time_signed_by(key) is not None for key in self._witnesses):
                self._cosigned_size = open_checkpoint(note, self._log.key).size
        except AuditError as error:
            _log.error("checkpoint_failed", guardian=self._index, kind=type(error).__name__)

    def _known(self, peer: int) -> int:
        try:
            note = self._witness.last_note(self._keys[peer].name)
            return 0 if note is None else open_checkpoint(note, self._keys[peer]).size
        except AuditError:
            return 0

    def _note_for(self, known: int) -> LogNote:
        try:
            note = self._log.sign_checkpoint(self._signer)
            proof = self._log.consistency_proof(known, self.size) if 0 < known <= self.size else []
            return LogNote(note.to_bytes(), tuple(proof))
        except AuditError as error:
            _log.error("checkpoint_failed", guardian=self._index, kind=type(error).__name__)
            return LogNote(None, ())

    def _cosign(self, peer: int, offered: LogNote) -> str | None:
        if offered.note is None:
            return None
        try:
            return str(self._witness.cosign(SignedNote.parse(offered.note), offered.proof, int(time.time())))
        except AuditError as error:
            _log.error("cosignature_refused", guardian=self._index, peer=peer, kind=type(error).__name__)
            return None
