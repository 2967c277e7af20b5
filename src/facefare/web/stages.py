"""How long each stage of an attempt takes, in this process: numbers only, for the last hour."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_KEPT = 3600.0
_MOST = 20_000


@dataclass
class Stages:
    """Durations by stage; may be used from several threads."""

    _taken: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure what is done inside, also where it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self._taken.setdefault(stage, deque(maxlen=_MOST)).append((now, (now - began) * 1000))

    def figures(self) -> dict[str, tuple[float, float, int]]:
        """For each stage: median and 95th percentile (nearest rank) in milliseconds, and how many were measured."""
        since = time.monotonic() - _KEPT
        found = {}
        for stage, taken in list(self._taken.items()):
            times = sorted(took for at, took in list(taken) if at > since)
            if times:
                found[stage] = (_rank(times, 0.5), _rank(times, 0.95), len(times))
        return found


def _rank(times: list[float], part: float) -> float:
    return times[max(0, -(-int(part * 1000) * len(times) // 1000) - 1)]
