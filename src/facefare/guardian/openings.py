"""Whether this guardian takes part in opening a payer's row.

Job: the row's own payer asks, now, and not too often. Not thread-safe: the engine's thread owns it.
Invariants:
- only what the key given at enrolment signed takes a token, so that nobody else can use up a payer's;
- without a token nothing is opened: who asks each second learns when a payer was identified, not only how often;
- what is known of earlier openings is gone with a restart, so buckets begin empty then, not full.
"""

from __future__ import annotations

from collections import OrderedDict

from facefare.guardian.errors import MessageError, RefusalCode, Refused
from facefare.guardian.messages import OpenRequest, verify
from facefare.guardian.policy import Limits
from facefare.guardian.rates import Bucket, take


class Openings:
    """One guardian's judgement of openings; times are ms since 1970."""

    def __init__(self, limits: Limits, now: int) -> None:
        self._limits = limits
        self._started = now
        self._everyone = Bucket(limits.openings_rate, limits.openings_burst, 0.0, now)
        self._rows: OrderedDict[tuple[str, int], Bucket] = OrderedDict()

    def judge(self, opening: OpenRequest, key: bytes | None, now: int) -> None:
        """Raise `Refused`, or count the opening; `key` as given when the row was enrolled."""
        fields = opening.fields()
        self._limits.check_window(fields.issued_at, self._limits.search_window_ms, now)
        if key is None:
            raise Refused(RefusalCode.ROW_NOT_ENROLLED, "No payer's key was given for that row when it was enrolled.")
        try:
            verify(key, opening.signature, opening.payload)
        except MessageError:
            raise Refused(RefusalCode.BAD_SIGNATURE, "Only the row's own payer may have it opened.") from None
        self._everyone.refill(now)
        take((self._row(fields.gallery, fields.row, now), self._everyone))

    def _row(self, gallery: str, row: int, now: int) -> Bucket:
        limits = self._limits
        rest = 1000 * limits.opening_burst / limits.opening_rate  # ms, after which a bucket is as if it never was
        while self._rows:
            oldest, bucket = next(iter(self._rows.items()))
            if bucket.at + rest > now:
                break
            del self._rows[oldest]
        fresh = Bucket(limits.opening_rate, limits.opening_burst, 0.0, self._started)
        bucket = self._rows.setdefault((gallery, row), fresh)
        self._rows.move_to_end((gallery, row))
        bucket.refill(now)
        return bucket
