"""Pseudo-random streams that two guardians have in common.

Key k_j is known to guardians j and j - 1 only. A session's keys are made from fresh nonces of both holders, so a
snapshot of a machine that is started twice can't repeat a stream; each operation of a session has its own counter,
so no stretch is used twice.
"""

import math
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

NONCE_BYTES = 32
_ZEROS = memoryview(bytes(1 << 20))
_SLACK = 15  # the cipher's interface wants room for one more block
Scalar = TypeVar("Scalar", np.uint16, np.uint32, np.uint64)


def session_key(upper_nonce: bytes, lower_nonce: bytes) -> bytes:
    """Derive k_j for one session from the nonces of its holders j (upper) and j - 1 (lower)."""
    return HKDF(hashes.SHA256(), 16, salt=None, info=b"facefare/mpc/session/1").derive(upper_nonce + lower_nonce)


class Stream:
    """AES-128 in counter mode; each part of an operation has a stretch of its own, 2^56 blocks long."""

    def __init__(self, key: bytes, operation: int, part: int = 0) -> None:
        self._place = key, operation, part
        counter = operation.to_bytes(8, "big") + part.to_bytes(1, "big") + bytes(7)
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()

    def take(self, shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
        """Return the stream's next words in the given shape; both holders take the same stretches in order."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = np.empty(size + _SLACK, np.uint8)
        for start in range(0, size, len(_ZEROS)):
            self._encryptor.update_into(_ZEROS[: min(len(_ZEROS), size - start)], buffer.data[start:])
        return buffer[:size].view(dtype).reshape(shape)

    def beside(self) -> "Stream":
        """The stretch of the operation's next part, for a protocol that runs side by side with this one's."""
        key, operation, part = self._place
        return Stream(key, operation, part + 1)

    def __repr__(self) -> str:
        return "Stream(...)"
