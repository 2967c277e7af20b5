"""Backups of one guardian's share store: sealed, restorable while they are meant to be, noise afterwards.

Job: write, restore and end backups; compact the store.
Invariants:
- a backup is a consistent copy (a running guardian needn't stop), sealed under a key of its own that stays in
  `keys/backups` of the guardian's folder. To end a backup is to destroy its key, wherever copies of it lie: this is how
  a deletion reaches backups. Keep the keys apart from the backups, or they are one theft;
- a backup holds no transparency log (the others give it back), no accumulators and no keys;
- killed in the middle, a backup leaves a file that restores nothing, and an unsealed copy in the guardian's own folder
  that the next command or start removes: a deletion must not miss it;
- a restore either happened or is unfinished, and an unfinished one keeps the guardian from serving;
- a restored guardian answers nothing until it has every change and every refresh that the other two have
  (`settlement`), deletions included.

File: the magic line, a header line (JSON: name, gallery versions and epochs, time), then blocks of 4 bytes length and
AES-256-GCM of up to 1 MiB; the nonce is the block's number, the last block is marked, the header is authenticated.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from facefare.files import sentence
from facefare.guardian.ceremony import Folder, destroy
from facefare.guardian.database import SHARES, open_database
from facefare.guardian.errors import BackupError
from facefare.guardian.messages import Operation

_MAGIC = b"facefare guardian backup 1\n"
_BLOCK = 1 << 20
_OVERHEAD = 16
_KEPT_CHANGES = 50_000
_KEPT_MS = 30 * 24 * 3_600_000
_UNNEEDED = (
    "time < ? AND version <= (SELECT max(version) FROM sequence n WHERE n.gallery = sequence.gallery) - ? AND ("
    "(operation = ? AND key = x'') OR (operation IN (?, ?) AND EXISTS (SELECT 1 FROM sequence n WHERE "
    "n.gallery = sequence.gallery AND n.row = sequence.row AND n.version > sequence.version)))"
)


@contextmanager
def serving_alone(folder: Folder) -> Iterator[None]:
    """Hold the guardian's folder: one process serves, restores or compacts. Raises BackupError."""
    with (folder.path / "in-use").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError("The guardian of this folder is running; stop it first.") from None
        _remove_leftovers(folder)
        yield


def check_restored(folder: Folder) -> None:
    """Raise BackupError while a restore is unfinished."""
    if _marker(folder).exists():
        raise BackupError("A restore of this guardian is unfinished; run `facefare guardian restore` again.")


def back_up(folder: Folder, to: Path) -> dict[str, object]:
    """Write a backup; what its header says. Raises BackupError, CeremonyError."""
    if to.exists():
        raise BackupError(f"{to} exists already; a backup is never written over another.")
    with (folder.path / "backing-up").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError("Another backup of this guardian is being made.") from None
        return _back_up(folder, to)


def _back_up(folder: Folder, to: Path) -> dict[str, object]:
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(4).hex()}"
    copy = folder.path / "backup.tmp"
    copy.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(folder.shares)) as source, closing(sqlite3.connect(copy)) as target:
            copy.chmod(0o600)
            source.backup(target, pages=2048, sleep=0)
            target.execute("PRAGMA journal_mode=DELETE")
            galleries = target.execute(
                "SELECT gallery, max(version), (SELECT min(epoch) FROM chunks c WHERE c.gallery = s.gallery) "
                "FROM sequence s GROUP BY gallery"
            ).fetchall()
        header: dict[str, object] = {
            "name": name,
            "guardian": folder.identity.index,
            "time": int(time.time()),
            "galleries": {gallery: {"version": version, "epoch": epoch} for gallery, version, epoch in galleries},
        }
        key = AESGCM.generate_key(256)
        _write_key(_key_file(folder, name), key)
        _seal(copy, to, json.dumps(header).encode() + b"\n", key)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            to.unlink(missing_ok=True)
        _key_file(folder, name).unlink(missing_ok=True)  # else `prune` would count it as one of the newest
        why = sentence(error) if isinstance(error, OSError) else f"{error}."
        raise BackupError(f"The backup could not be written: {why}") from error
    finally:
        copy.unlink(missing_ok=True)
    return header


def restore(folder: Folder, source: Path) -> dict[str, object]:
    """Put a backup in the store's place; what its header says. Nothing changes where it can't be opened whole.

    Raises:
        BackupError: the guardian runs, the backup is another guardian's, altered or cut off, or its key was destroyed.
    """
    with serving_alone(folder):
        opened = folder.path / "restore.tmp"
        try:
            header = _unseal(folder, source, opened)
            _marker(folder).touch()
            _sync(folder.path)
            for rest in ("-wal", "-shm"):
                Path(f"{folder.shares}{rest}").unlink(missing_ok=True)
            opened.replace(folder.shares)
            _sync(folder.path)
            _marker(folder).unlink()
            _sync(folder.path)
        except OSError as error:
            raise BackupError(f"The backup could not be restored: {sentence(error)}") from error
        finally:
            opened.unlink(missing_ok=True)
        return header


def prune(folder: Folder, keep: int) -> list[str]:
    """Destroy the keys of all but the `keep` newest backups, which end them; their names."""
    keys = sorted((folder.path / "keys" / "backups").glob("*.key"))
    ended = keys[: max(0, len(keys) - keep)]
    for file in ended:
        destroy(file)
    if ended:
        _sync(ended[0].parent)
    return [file.stem for file in ended]


def compact(folder: Folder) -> tuple[int, int]:
    """Drop changes nobody can need any more and give the space back; changes dropped and bytes won.

    Dropped are, beyond the last 50,000 changes and 30 days: pauses and resumptions followed by another of the same
    row, and enrolments without a payer's key. Of each its head stays, by which a guardian that comes back from long ago
    is known to have been right. Deleted rows stay as filler: their numbers must not move.
    """
    with serving_alone(folder), closing(open_database(folder.shares, SHARES)) as database:
        before = folder.shares.stat().st_size
        values = (
            int(time.time() * 1000) - _KEPT_MS,
            _KEPT_CHANGES,
            Operation.ENROL.value,
            Operation.PAUSE.value,
            Operation.RESUME.value,
        )
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                f"INSERT INTO heads SELECT gallery, version, head FROM sequence WHERE {_UNNEEDED}",  # noqa: S608
                values,
            )
            dropped = database.execute(f"DELETE FROM sequence WHERE {_UNNEEDED}", values).rowcount  # noqa: S608
            database.execute("COMMIT")
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise BackupError(f"The store could not be compacted: {error}.") from error
        return dropped, before - folder.shares.stat().st_size


def _remove_leftovers(folder: Folder) -> None:
    """Unsealed copies that a killed process left, unless another one is at work on its own."""
    (folder.path / "restore.tmp").unlink(missing_ok=True)
    with (folder.path / "backing-up").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for rest in ("", "-journal", "-wal", "-shm"):
            Path(f"{folder.path / 'backup.tmp'}{rest}").unlink(missing_ok=True)


def _seal(source: Path, to: Path, header: bytes, key: bytes) -> None:
    cipher = AESGCM(key)
    with source.open("rb") as plain, to.open("xb") as file:
        to.chmod(0o600)
        file.write(_MAGIC + header)
        block, number = plain.read(_BLOCK), 0
        while block:
            following = plain.read(_BLOCK)
            sealed = cipher.encrypt(number.to_bytes(12, "big"), block, _associated(header, last=not following))
            file.write(len(sealed).to_bytes(4, "big") + sealed)
            block, number = following, number + 1
        file.flush()
        os.fsync(file.fileno())


def _unseal(folder: Folder, source: Path, to: Path) -> dict[str, object]:
    with source.open("rb") as file:
        if file.readline(64) != _MAGIC:
            raise BackupError(f"{source} is no guardian's backup.")
        header = file.readline(1 << 20)
        try:
            fields: dict[str, object] = json.loads(header)
            name = str(fields["name"])
        except (ValueError, KeyError, TypeError):
            raise BackupError(f"{source} is no guardian's backup.") from None
        if fields.get("guardian") != folder.identity.index:
            raise BackupError("That is the backup of another guardian.")
        try:
            key = _key_file(folder, name).read_bytes()
        except OSError:
            raise BackupError(f"The key of backup {name} was destroyed, or is not in keys/backups.") from None
        to.unlink(missing_ok=True)
        with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as plain:
            for block in _blocks(file, header, key):
                plain.write(block)
            plain.flush()
            os.fsync(plain.fileno())
        return fields


def _blocks(file: BinaryIO, header: bytes, key: bytes) -> Iterator[bytes]:
    cipher, number = AESGCM(key), 0
    head = file.read(4)
    while head:
        sealed = file.read(min(int.from_bytes(head, "big"), _BLOCK + _OVERHEAD))
        head = file.read(4)
        try:
            yield cipher.decrypt(number.to_bytes(12, "big"), sealed, _associated(header, last=not head))
        except (InvalidTag, ValueError):
            raise BackupError("The backup was altered or cut off; nothing was restored.") from None
        number += 1
    if number == 0:
        raise BackupError("The backup was altered or cut off; nothing was restored.")


def _associated(header: bytes, *, last: bool) -> bytes:
    return header + (b"last" if last else b"more")


def _key_file(folder: Folder, name: str) -> Path:
    if not name.replace("-", "").isalnum():
        raise BackupError("The backup's name is not one that was given.")
    return folder.path / "keys" / "backups" / f"{name}.key"


def _write_key(path: Path, key: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _marker(folder: Folder) -> Path:
    return folder.path / "restore-unfinished"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
