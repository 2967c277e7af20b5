"""What an interrupted run leaves, so that the next one need not begin anew: sealed, and destroyed at the end.

Invariants:
  - whatever is written to disk is AES-256-GCM under a key made for this run;
  - the key is written to memory only (a tmpfs such as /run or /dev/shm): without one nothing is kept at all;
  - a finished run destroys key and pieces; a machine that is switched off loses the key and with it the pieces;
  - a run that was killed and not taken up again within `_RESUMABLE` loses its key as soon as any other run begins.
"""

import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from facefare.evaluation.errors import ResumeError

_NONCE = 12
_NAME = "facefare-evaluation-{}.key"
_RESUMABLE = 24 * 3600.0
"""Seconds since a run last began in which it can be taken up again."""


class SealedPieces:
    """Numbered pieces of one run, identified by what it works on."""

    def __init__(self, folder: Path, key_file: Path, key: bytes, run: bytes) -> None:
        self._folder = folder
        self._key_file = key_file
        self._cipher = AESGCM(key)
        self._run = run

    @classmethod
    def open(cls, folder: Path, work: bytes, in_memory: Path | None = None) -> Self | None:
        """Open what an earlier run on the same `work` left, or begin; None where nothing may be kept.

        `in_memory` is where keys go; the first of $XDG_RUNTIME_DIR and /dev/shm if not given.
        """
        keys = in_memory or _memory_folder()
        if keys is None:
            return None
        _forget_abandoned(keys, folder)
        run = hashlib.sha256(work).digest()
        name = run.hex()[:16]
        key_file, own = keys / _NAME.format(name), folder / name
        try:
            key = key_file.read_bytes()
        except OSError:
            key = b""
        if len(key) != 32:
            shutil.rmtree(own, ignore_errors=True)  # of a run whose key is gone: noise
            key = secrets.token_bytes(32)
            descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(key)
        key_file.touch()
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(own, key_file, key, run)

    def get(self, number: int) -> bytes | None:
        """Return a piece, or None if it is not there. Raises ResumeError if it was changed."""
        try:
            data = self._file(number).read_bytes()
        except OSError:
            return None
        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], self._label(number))
        except InvalidTag as error:
            raise ResumeError(f"{self._folder} was changed. Delete it and start again.") from error

    def put(self, number: int, piece: bytes) -> None:
        """Seal and write a piece, whole or not at all."""
        nonce = secrets.token_bytes(_NONCE)
        part = self._file(number).with_suffix(".part")
        part.write_bytes(nonce + self._cipher.encrypt(nonce, piece, self._label(number)))
        part.replace(self._file(number))

    def destroy(self) -> None:
        """Destroy the key, then the pieces."""
        self._key_file.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06}"

    def _label(self, number: int) -> bytes:
        return self._run + number.to_bytes(4, "big")


def _forget_abandoned(keys: Path, folder: Path) -> None:
    """Destroy the keys, and then the pieces, of runs that nobody took up again in time; keys of other users stay."""
    for key_file in keys.glob(_NAME.format("*")):
        try:
            if time.time() - key_file.stat().st_mtime > _RESUMABLE:
                key_file.unlink()
                name = key_file.stem.removeprefix(_NAME.format("").removesuffix(".key"))
                shutil.rmtree(folder / name, ignore_errors=True)
        except OSError:
            continue


def _memory_folder() -> Path | None:
    candidates = [Path(os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"), Path("/dev/shm")]  # noqa: S108
    return next((folder for folder in candidates if folder.is_dir() and os.access(folder, os.W_OK)), None)
