"""Keys of sealed enrolments that wait for the guardians, outside the database, so that erasing reaches the database.

A database remembers what was overwritten: in free space of its pages, in its write-ahead log, in its backups. A
sealed enrolment therefore is stored encrypted (AES-256-GCM) under a key of its own in a file of its own, and when
the enrolment ends, the file is overwritten and removed: what the database still has is noise to everybody, whatever
becomes of the guardians' keys. The folder must not be backed up.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from facefare.wallet.errors import InvalidEnrolment

_KEY, _NONCE = 32, 12


class PendingKeys:
    """One folder; names are ids of changes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def lock(self, change_id: str, data: bytes) -> bytes:
        """The data encrypted under a new key, which is on the disk before this returns."""
        key, nonce = os.urandom(_KEY), os.urandom(_NONCE)
        with os.fdopen(os.open(self._folder / change_id, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return nonce + AESGCM(key).encrypt(nonce, data, change_id.encode())

    def unlock(self, change_id: str, locked: bytes) -> bytes:
        """The data; raises InvalidEnrolment where its key is gone."""
        try:
            key = (self._folder / change_id).read_bytes()
            return AESGCM(key).decrypt(locked[:_NONCE], locked[_NONCE:], change_id.encode())
        except (OSError, ValueError, InvalidTag) as error:
            raise InvalidEnrolment("The key of a pending enrolment is gone, so it can't be sent again.") from error

    def shred(self, change_id: str) -> None:
        """Overwrite and remove the key; once is enough."""
        try:
            with (self._folder / change_id).open("r+b") as file:
                file.write(bytes(_KEY))
                file.flush()
                os.fsync(file.fileno())
            (self._folder / change_id).unlink()
        except FileNotFoundError:
            return

    def shred_all_but(self, change_ids: set[str]) -> None:
        """Remove the keys of enrolments that never came to be, left by a crash."""
        for path in self._folder.iterdir():
            if path.name not in change_ids:
                self.shred(path.name)
