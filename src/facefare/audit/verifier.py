"""Check the three guardians' logs from the outside, offline.

What is checked is a folder:

    trust              three lines: the verifier keys of one guardian's log and of it as a witness, in order
    0/ 1/ 2/           each guardian's log as it publishes it: `checkpoint` and, copied after it, `entries`
    seen/              any signed checkpoints of these logs, from wherever: witnesses, payers, last year's copy

Take `trust` from where you would take it without this folder; whoever wrote the folder could have written it.

Found are, for each log: a checkpoint it did not sign or a witness did not co-sign; entries changed, left out or
cut off since any checkpoint ever seen; two histories; entries that are malformed, repeated or written after the
fact; a checkpoint that is not renewed as the others' are. And between the logs: an entry that one guardian has and
another, which had to take part, has not.
An entry younger than the oldest cosignature less the tolerance may still be on its way; such are counted.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from facefare.audit.checkpoints import Checkpoint, open_checkpoint
from facefare.audit.entries import ENROLLED, Entry
from facefare.audit.errors import BundleError, EntryError, NoteError
from facefare.audit.log import read_frames
from facefare.audit.merkle import Frontier, leaf_hash
from facefare.audit.notes import KeyKind, NoteKey, SignedNote

GUARDIANS = 3
TOLERANCE_S = 120  # how far clocks and checkpoints of the three may lie apart


class Fault(StrEnum):
    """What can be wrong with a log."""

    UNSIGNED = "unsigned"  # no checkpoint by this log
    NOT_COSIGNED = "not-cosigned"  # a witness's cosignature is missing or wrong
    TAMPERED = "tampered"  # entries are not those of the checkpoint
    TRUNCATED = "truncated"  # fewer entries than a checkpoint was signed for
    FORKED = "forked"  # signed checkpoints that contradict each other
    MALFORMED = "malformed"  # an entry that is not one
    REPEATED = "repeated"  # the same entry twice
    BACKDATED = "backdated"  # an entry much older than those before it
    STALE = "stale"  # co-signed much earlier than the others, though all three sign together
    UNLOGGED = "unlogged"  # answered, as another log shows, but not logged


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with which log, in words."""

    fault: Fault
    log: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What a verification found.

    For each log: `entries` by its checkpoint, and when it was co-signed (seconds since 1970; None: not by both
    others). Whoever is shown an old copy sees it there. `pending`: entries too young to compare.
    """

    findings: tuple[Finding, ...]
    entries: tuple[int, ...]
    cosigned: tuple[int | None, ...]
    compared: int
    pending: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(frozen=True)
class GuardianKeys:
    """One guardian's two keys: its log's and its own as a witness of the others."""

    log: NoteKey
    witness: NoteKey


def parse_trust(text: str) -> tuple[GuardianKeys, ...]:
    """Read a trust file. Raises BundleError."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        keys = tuple(GuardianKeys(NoteKey.parse(log), NoteKey.parse(witness)) for log, witness in lines)
    except (NoteError, ValueError) as error:
        raise BundleError(f"The trust file can't be read: {error}") from error
    kinds = {(pair.log.kind, pair.witness.kind) for pair in keys}
    distinct = {key.public for pair in keys for key in (pair.log, pair.witness)}
    if len(keys) != GUARDIANS or kinds != {(KeyKind.LOG, KeyKind.WITNESS)} or len(distinct) != 2 * GUARDIANS:
        raise BundleError("The trust file needs a log key and a witness key of three guardians, all different.")
    return keys


def verify(folder: Path, trust: tuple[GuardianKeys, ...], *, tolerance_s: int = TOLERANCE_S) -> Report:
    """Check a folder of three logs (see above). Raises BundleError if it can't be read."""
    seen = _seen(folder / "seen")
    reads = [_read_log(folder / str(index), index, trust, seen, tolerance_s) for index in range(GUARDIANS)]
    findings = [finding for read in reads for finding in read.findings]
    cosigned = tuple(read.cosigned for read in reads)
    newest = max((time for time in cosigned if time is not None), default=0)
    findings += [
        Finding(Fault.STALE, read.name, f"last co-signed {newest - read.cosigned} s before another log")
        for read in reads
        if read.cosigned is not None and newest - read.cosigned > tolerance_s
    ]
    too_young = _too_young(cosigned, tolerance_s)
    published = [read for read in reads if read.published]
    everywhere: dict[bytes, tuple[int, int, int]] = {}
    for number, read in enumerate(reads):
        for leaf, (index, time) in read.leaves.items():
            everywhere.setdefault(leaf, (number, index, time))
    pending = 0
    for leaf, (number, index, time) in everywhere.items():
        lacking = [read for read in published if leaf not in read.leaves]
        if lacking and time in too_young:
            pending += 1
            continue
        where = f"entry {index} of {trust[number].log.name}"
        findings += [Finding(Fault.UNLOGGED, read.name, f"{where} is missing here") for read in lacking]
    entries = tuple(read.size for read in reads)
    return Report(tuple(findings), entries, cosigned, len(everywhere) - pending, pending)


def _too_young(cosigned: tuple[int | None, ...], tolerance_s: int) -> range:
    """Times (ms) at which an entry may be in one log's checkpoint and not yet in another's."""
    times = [time for time in cosigned if time is not None]
    if len(times) < len(cosigned):
        return range(0)
    return range((min(times) - tolerance_s) * 1000 + 1, (max(times) + tolerance_s) * 1000 + 1)


@dataclass
class _LogRead:
    """One log as read. `leaves`: hash -> (index, time in ms). `cosigned`: its older cosignature, seconds."""

    name: str
    published: bool
    size: int
    cosigned: int | None
    leaves: dict[bytes, tuple[int, int]]
    findings: list[Finding]

    def find(self, fault: Fault, detail: str) -> None:
        self.findings.append(Finding(fault, self.name, detail))


def _read_log(
    folder: Path, number: int, trust: tuple[GuardianKeys, ...], seen: list[SignedNote], tolerance_s: int
) -> _LogRead:
    key = trust[number].log
    read = _LogRead(key.name, False, 0, None, {}, [])
    current = _current(folder, number, trust, read)
    if current is None:
        return read
    read.published, read.size = True, current.size
    signed: dict[int, set[bytes]] = {current.size: {current.root}}
    for note in seen:
        try:
            old = open_checkpoint(note, key)
        except NoteError:
            continue  # another log's, or nobody's: proves nothing
        signed.setdefault(old.size, set()).add(old.root)
    for size, roots in signed.items():
        if len(roots) > 1:
            read.find(Fault.FORKED, f"it signed {len(roots)} different trees of {size} entries")
    _walk(folder / "entries", current, signed, read, tolerance_s)
    return read


def _current(folder: Path, number: int, trust: tuple[GuardianKeys, ...], read: _LogRead) -> Checkpoint | None:
    try:
        note = SignedNote.parse((folder / "checkpoint").read_bytes())
        current = open_checkpoint(note, trust[number].log)
    except OSError:
        read.find(Fault.UNSIGNED, "it has published no checkpoint")
        return None
    except NoteError as error:
        read.find(Fault.UNSIGNED, str(error))
        return None
    times: list[int] = []
    for other, keys in enumerate(trust):
        if other == number:
            continue
        try:
            time = note.time_signed_by(keys.witness)
        except NoteError as error:
            read.find(Fault.NOT_COSIGNED, str(error))
            continue
        if time is None:
            read.find(Fault.NOT_COSIGNED, f"{keys.witness.name} did not co-sign the checkpoint")
        else:
            times.append(time)
    read.cosigned = min(times) if len(times) == GUARDIANS - 1 else None
    return current


def _walk(path: Path, current: Checkpoint, signed: dict[int, set[bytes]], read: _LogRead, tolerance_s: int) -> None:
    """Hash the entries up to the largest signed tree, comparing each signed tree on the way."""
    tree, newest, last = Frontier(), 0, max(signed)
    repeats: Counter[bytes] = Counter()
    try:
        with path.open("rb") as file:
            frames = read_frames(file)
            while True:
                _compare(tree, current, signed, read)
                if tree.size == last or (entry := next(frames, None)) is None:
                    break
                leaf = leaf_hash(entry)
                index = tree.size
                tree.add(leaf)
                if index >= current.size:
                    continue
                repeats[leaf] += 1
                try:
                    said = Entry.from_bytes(entry)
                except EntryError as error:
                    read.find(Fault.MALFORMED, f"entry {index}: {error}")
                    continue
                time = said.time
                if said.purpose == ENROLLED:  # may have waited for hours, and be tried again after a crash
                    repeats[leaf] = 1
                    time = max(time, newest)
                if time < newest - tolerance_s * 1000:
                    read.find(Fault.BACKDATED, f"entry {index} is older than those before it")
                newest = max(newest, time)
                read.leaves.setdefault(leaf, (index, time))
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error.strerror}.") from error
    for leaf, count in repeats.items():
        if count > 1:
            read.find(Fault.REPEATED, f"entry {read.leaves.get(leaf, (0, 0))[0]} appears {count} times")
    if tree.size < last:
        read.find(Fault.TRUNCATED, f"{tree.size} whole entries, but it signed for {last}")


def _compare(tree: Frontier, current: Checkpoint, signed: dict[int, set[bytes]], read: _LogRead) -> None:
    root = tree.root()
    for other in signed.get(tree.size, set()) - {root}:
        if tree.size == current.size and other == current.root:
            read.find(Fault.TAMPERED, f"its {tree.size} entries are not those of its checkpoint")
        else:
            read.find(Fault.FORKED, f"a tree of {tree.size} entries it signed is not part of this log")


def _seen(folder: Path) -> list[SignedNote]:
    notes = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        try:
            notes.append(SignedNote.parse(path.read_bytes()))
        except NoteError as error:
            raise BundleError(f"{path.name} is not a signed note: {error}") from error
    return notes
