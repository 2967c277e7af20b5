"""What one operation has in hand at one guardian: its place, its two links, its two streams.

Replicated components: guardian i holds component i ("own") and component i + 1 ("following"); it makes its own
component and sends it to guardian i - 1, who also holds it. That message is a *reshare*.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.channels import Channel
from facefare.mpc.streams import Scalar, Stream


def as_bytes(array: NDArray[Scalar]) -> memoryview:
    """The array's memory as bytes, for a channel."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@dataclass(frozen=True, repr=False)
class Context:
    """One guardian's side of one operation.

    Attributes:
        index: 0, 1 or 2.
        previous: the link to guardian index - 1.
        following: the link to guardian index + 1.
        own: the stream of k_index, in common with the previous guardian.
        next: the stream of k_{index + 1}, in common with the following guardian.
    """

    index: int
    previous: Channel
    following: Channel
    own: Stream
    next: Stream

    def receive(self, link: Channel, shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
        """Receive an array of that shape over one of the two links."""
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
