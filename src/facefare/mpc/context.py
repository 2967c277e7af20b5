"""What one operation has in hand at one guardian: its place, its two links, its two streams.

Replicated components: guardian i holds component i ("own") and component i + 1 ("following"); it makes its own
component and sends it to guardian i - 1, who also holds it. That message is a *reshare*.
"""

import hashlib
import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.channels import Channel
from facefare.mpc.errors import OutOfStep
from facefare.mpc.streams import Scalar, Stream

_COIN_BYTES = 16


def as_bytes(array: NDArray[Scalar]) -> memoryview:
    """The array's memory as bytes, for a channel."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class Agreement:
    """That all three run the same operation, and a seed that none of them could foresee.

    Both headers leave at once and are read just before the first message of the operation itself: what is computed
    until then does not wait for them.
    """

    def __init__(self, index: int, previous: Channel, following: Channel, operation: bytes) -> None:
        """Send both neighbours the operation's digest and this guardian's coin."""
        self._index = index
        self._links = ((-1, previous), (1, following))
        self._digest = hashlib.sha256(operation).digest()
        self._coins = {index: os.urandom(_COIN_BYTES)}
        self._seed: bytes | None = None
        for _, link in self._links:
            link.send(self._digest + self._coins[index])

    def seed(self) -> bytes:
        """The three coins; raises `OutOfStep` where another guardian runs another operation."""
        if self._seed is None:
            for step, link in self._links:
                other = (self._index + step) % 3
                header = bytearray(len(self._digest) + _COIN_BYTES)
                link.receive_into(memoryview(header))
                if header[: len(self._digest)] != self._digest:
                    raise OutOfStep(f"Guardian {other} runs another operation than this one.")
                self._coins[other] = bytes(header[len(self._digest) :])
            self._seed = b"".join(self._coins[i] for i in range(3))
        return self._seed


@dataclass(frozen=True, repr=False)
class Context:
    """One guardian's side of one operation.

    Attributes:
        index: 0, 1 or 2.
        previous: the link to guardian index - 1.
        following: the link to guardian index + 1.
        own: the stream of k_index, in common with the previous guardian.
        next: the stream of k_{index + 1}, in common with the following guardian.
        agreement: with both others on what is run.
    """

    index: int
    previous: Channel
    following: Channel
    own: Stream
    next: Stream
    agreement: Agreement

    def seed(self) -> bytes:
        """The operation's seed, see `Agreement`."""
        return self.agreement.seed()

    def receive(self, link: Channel, shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
        """Receive an array of that shape over one of the two links, once it is sure that all run the same."""
        self.agreement.seed()
        array = np.empty(shape, dtype)
        if array.size:
            link.receive_into(as_bytes(array))
        return array

    def beside(self) -> "Context":
        """The same for a protocol that runs side by side: two that took from one stream would get out of step."""
        return replace(self, own=self.own.beside(), next=self.next.beside())

    def zero(self, shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
        """This guardian's part of a fresh additive sharing of zero: F(k_i) - F(k_{i+1})."""
        return self.own.take(shape, dtype) - self.next.take(shape, dtype)

    def zero_bits(self, shape: tuple[int, ...]) -> NDArray[np.uint64]:
        """This guardian's part of a fresh xor-sharing of zero: F(k_i) ^ F(k_{i+1})."""
        words = self.own.take(shape, np.uint64)
        words ^= self.next.take(shape, np.uint64)
        return words
