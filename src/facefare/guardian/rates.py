"""How often something may be asked for: token buckets, days. Time is an argument (ms since 1970)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facefare.guardian.errors import RefusalCode, Refused

DAY_MS = 86_400_000


@dataclass
class Bucket:
    """`rate` tokens a second flow in, `burst` are the most it holds."""

    rate: float
    burst: float
    tokens: float
    at: int

    def refill(self, now: int) -> None:
        """Let in what came since; a clock that went back gives nothing."""
        self.tokens = min(self.burst, self.tokens + max(0, now - self.at) * self.rate / 1000)
        self.at = max(self.at, now)


def refilled(buckets: dict[str, Bucket], id: str, rate: float, burst: float, now: int) -> Bucket:
    """The bucket of this id, full where there was none."""
    bucket = buckets.setdefault(id, Bucket(rate, burst, burst, now))
    bucket.rate, bucket.burst = rate, burst  # a registration may have changed them
    bucket.refill(now)
    return bucket


def take(buckets: Sequence[Bucket], tokens: int = 1) -> None:
    """Take tokens out of all of them, or none and raise `Refused`."""
    if min(bucket.tokens for bucket in buckets) < tokens:
        raise Refused(RefusalCode.RATE_LIMITED, "Too many requests; wait a moment.")
    for bucket in buckets:
        bucket.tokens -= tokens
