"""Compile all kernels once, so that no service has to at its first request: `python -m facefare.mpc.compile`."""

import queue
import threading

import numpy as np

from facefare.mpc.admission import InputRule
from facefare.mpc.party import Party
from facefare.mpc.sharing import held_by, split


class _Pipe:
    """One end of an in-memory link."""

    def __init__(self, outgoing: "queue.SimpleQueue[bytes]", incoming: "queue.SimpleQueue[bytes]") -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._rest = b""

    def send(self, data: bytes | memoryview) -> None:
        self._outgoing.put(bytes(data))

    def receive_into(self, buffer: memoryview) -> None:
        while len(self._rest) < len(buffer):
            self._rest += self._incoming.get()
        buffer[:] = self._rest[: len(buffer)]
        self._rest = self._rest[len(buffer) :]


def compile_all() -> None:
    """Run the protocol among three parties of this process, on made-up inputs, by all ways of adding."""
    queues = [(queue.SimpleQueue[bytes](), queue.SimpleQueue[bytes]()) for _ in range(3)]
    components = split(np.full((2, 2), 60, np.int32))

    def run(i: int) -> None:
        up, down = queues[i]
        next_up, next_down = queues[(i + 1) % 3]
        party = Party(i, _Pipe(up, down), _Pipe(next_down, next_up))
        probes = held_by(i, components)
        for rows in (64, 16_384, 524_288):
            live = np.zeros(rows // 64, np.uint64)
            for batch in (1, 2):
                thresholds = np.full(batch, -1, np.int32)
                rule = InputRule(2, 1, 8191)
                party.identify(probes[:, :batch], rule, np.zeros((rows, 4), np.uint16), live, thresholds)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    compile_all()
