"""What the protocol asks of a link between two guardians.

Whoever makes a channel sees to it that it is ordered, reliable, authenticated and encrypted.
"""

from typing import Protocol


class Channel(Protocol):
    """Both directions between two guardians."""

    def send(self, data: bytes | memoryview) -> None:
        """Queue the bytes and return at once; the caller will not touch the buffer again.

        Raises:
            ChannelClosed: the other side is gone.
        """

    def receive_into(self, buffer: memoryview) -> None:
        """Wait until the buffer is full.

        Raises:
            ChannelClosed: the other side is gone.
        """
