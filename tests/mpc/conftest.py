"""Three guardians in one process, joined by queues."""

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from facefare.mpc import ChannelClosed, InputRule, Party, held_by, split


class QueueChannel:
    """One end of an in-memory link; records what came in, for tests of a guardian's view."""

    def __init__(self, outgoing: queue.SimpleQueue[bytes | None], incoming: queue.SimpleQueue[bytes | None]):
        self._outgoing, self._incoming = outgoing, incoming
        self._rest = b""
        self.received: list[bytes] = []
        self.sent_bytes = 0
        self.sent_messages = 0

    def send(self, data: bytes | memoryview) -> None:
        self.sent_bytes += len(data)
        self.sent_messages += 1
        self._outgoing.put(bytes(data))

    def receive_into(self, buffer: memoryview) -> None:
        filled = 0
        while filled < len(buffer):
            if not self._rest:
                try:
                    message = self._incoming.get(timeout=60)
                except queue.Empty:  # a real link loses its patience too, where guardians are out of step
                    raise ChannelClosed("The other side is silent.") from None
                if message is None:
                    raise ChannelClosed("The other side is gone.")
                self._rest = message
                self.received.append(message)
            piece = self._rest[: len(buffer) - filled]
            buffer[filled : filled + len(piece)] = piece
            self._rest = self._rest[len(piece) :]
            filled += len(piece)

    def close(self) -> None:
        self._outgoing.put(None)


class Trio:
    """Three parties; `run` calls a function for each in its own thread and gives the three results."""

    def __init__(self) -> None:
        ends: list[tuple[QueueChannel, QueueChannel]] = []
        for _ in range(3):  # link i joins guardian i (towards its previous) with guardian i - 1
            up: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            down: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            ends.append((QueueChannel(up, down), QueueChannel(down, up)))
        self.previous = [ends[i][0] for i in range(3)]
        self.following = [ends[(i + 1) % 3][1] for i in range(3)]
        self.parties: list[Party] = self.run(lambda i: Party(i, self.previous[i], self.following[i]))

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        results: list[Any] = [None] * 3
        failures: list[BaseException] = []

        def call(i: int) -> None:
            try:
                results[i] = work(i)
            except BaseException as error:
                failures.append(error)
                self.previous[i].close()
                self.following[i].close()

        threads = [threading.Thread(target=call, args=(i,), name=f"guardian {i}") for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise next((f for f in failures if not isinstance(f, ChannelClosed)), failures[0])
        return results

    def admit(self, vectors: np.ndarray, rule: InputRule) -> tuple[np.ndarray, list[np.ndarray]]:
        components = split(np.asarray(vectors, np.int32))
        results = self.run(lambda i: self.parties[i].admit(held_by(i, components), rule))
        for verdict, _ in results[1:]:
            np.testing.assert_array_equal(verdict, results[0][0])
        return results[0][0], [share for _, share in results]

    def identify(
        self,
        rows: list[np.ndarray],
        live: np.ndarray,
        probes: Any,
        thresholds: Any,
        rule: InputRule,
        sums: list[np.ndarray] | None = None,
    ) -> list[list[Any]]:
        """For each probe what the three guardians answer."""
        components = split(np.asarray(probes, np.int32))
        thresholds = np.asarray(thresholds, np.int32)
        parts = self.run(
            lambda i: self.parties[i].identify(
                held_by(i, components), rule, rows[i], live, thresholds, sums[i] if sums else None
            )
        )
        return [list(part) for part in zip(*parts, strict=True)]


@pytest.fixture
def trio() -> Trio:
    return Trio()
