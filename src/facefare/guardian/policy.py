"""Whether this guardian, by its own judgement, takes part in a request. A pure state machine: no I/O.

State: ids already seen and two kinds of token buckets. Time is an argument (ms since 1970).
Invariants:
- a request is accepted only if its asker is registered here for the gallery, the signature is by the
  registered key over the exact payload, the time is inside the window, the id was never accepted, the sealed
  share is the one that was signed, and a search is for a payment;
- only what passed all of that takes a token, and without a token it is refused (limits fail closed);
- each refusal has one code, and the first that applies in this order is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from facefare.guardian.errors import MessageError, Refused
from facefare.guardian.messages import (
    EnrolPayload,
    OpenPayload,
    Operation,
    RefusalCode,
    SearchPayload,
    sha256,
    verify,
)
from facefare.guardian.registry import GalleryDefinition, Station, Terminal

PAYMENT = "payment"
ENROLMENT = Operation.ENROL.value


@dataclass(frozen=True)
class Limits:
    """What a guardian allows. Rates are requests a second and the burst that a rested bucket holds."""

    search_window_ms: int = 30_000
    enrolment_window_ms: int = 24 * 3_600_000  # the relay may have to wait for a guardian
    clock_skew_ms: int = 5_000
    terminal_rate: float = 2.0
    terminal_burst: float = 10.0
    overall_rate: float = 50.0
    overall_burst: float = 100.0


@dataclass
class _Bucket:
    rate: float
    burst: float
    tokens: float
    at: int

    def refill(self, now: int) -> None:
        self.tokens = min(self.burst, self.tokens + max(0, now - self.at) * self.rate / 1000)
        self.at = max(self.at, now)


@dataclass
class Policy:
    """The state of one guardian's judgement; `seen` maps ids to when (ms) they may be forgotten."""

    limits: Limits
    seen: dict[bytes, int] = field(default_factory=dict)
    _overall: _Bucket | None = None
    _terminals: dict[str, _Bucket] = field(default_factory=dict)

    def search(
        self,
        payload: bytes,
        signature: bytes,
        sealed: bytes,
        guardian: int,
        terminal: Terminal | None,
        gallery: GalleryDefinition | None,
        threshold: int,
        now: int,
    ) -> SearchPayload:
        """Accept a search and count it, or raise `Refused`; `terminal` and `gallery` as registered here.

        Raises:
            MessageError: the payload is none.
        """
        fields = SearchPayload.from_bytes(payload)
        if gallery is None:
            raise Refused(RefusalCode.UNKNOWN_GALLERY, "This guardian does not know that gallery.")
        if terminal is None or gallery.id not in terminal.galleries:
            raise Refused(RefusalCode.UNKNOWN_TERMINAL, "This guardian does not know that terminal for that gallery.")
        _check_signature(terminal.public_key, signature, payload)
        _check_sealed(sealed, fields.sealed_sha256[guardian])
        if fields.purpose != PAYMENT:
            raise Refused(RefusalCode.WRONG_PURPOSE, "Searches are for payments only.")
        if not gallery.min_threshold <= threshold <= gallery.max_threshold:
            raise Refused(RefusalCode.THRESHOLD_OUT_OF_RANGE, "The threshold is outside what this gallery allows.")
        self._check_fresh(fields.query_id, fields.issued_at, self.limits.search_window_ms, now)
        self._take(terminal.id, now)
        self._remember(fields.query_id, self.search_seen_until(fields), now)
        return fields

    def enrolment(
        self,
        payload: bytes,
        signature: bytes,
        sealed: bytes,
        guardian: int,
        station: Station | None,
        gallery: GalleryDefinition | None,
        now: int,
    ) -> EnrolPayload:
        """Accept an enrolment, or raise `Refused`. Sent again it is accepted again: the store knows its digest."""
        fields = EnrolPayload.from_bytes(payload)
        if gallery is None:
            raise Refused(RefusalCode.UNKNOWN_GALLERY, "This guardian does not know that gallery.")
        if station is None or gallery.id not in station.galleries:
            raise Refused(RefusalCode.UNKNOWN_STATION, "This guardian does not know that station for that gallery.")
        if station.demo_only and gallery.kind != "demo":
            raise Refused(
                RefusalCode.DEMO_KEY_ON_LIVE_GALLERY,
                "This station is for demos: it can't enrol into a live gallery.",
            )
        _check_signature(station.public_key, signature, payload)
        _check_sealed(sealed, fields.sealed_sha256[guardian])
        self._check_window(fields.issued_at, self.limits.enrolment_window_ms, now)
        return fields

    def opening(self, fields: OpenPayload, now: int) -> None:
        """Raise `Refused` unless a payer's opening is fresh; whose row it is, the engine judges."""
        self._check_window(fields.issued_at, self.limits.search_window_ms, now)

    def search_seen_until(self, fields: SearchPayload) -> int:
        """When (ms) the query id may be forgotten: from then on the request is stale anyway."""
        return fields.issued_at + self.limits.search_window_ms + self.limits.clock_skew_ms

    def replay(self, terminal: str, time: int) -> None:
        """After a restart: count a search that was accepted at `time` (ms), oldest first."""
        for bucket in (self._bucket(terminal, time), self._everyone(time)):
            bucket.tokens = max(0.0, bucket.tokens - 1)

    @property
    def memory_ms(self) -> int:
        """How far back requests still count for the rates."""
        limits = self.limits
        longest = max(limits.terminal_burst / limits.terminal_rate, limits.overall_burst / limits.overall_rate)
        return int(longest * 1000) + 1

    def _check_window(self, issued_at: int, window_ms: int, now: int) -> None:
        if not now - window_ms <= issued_at <= now + self.limits.clock_skew_ms:
            raise Refused(RefusalCode.STALE_REQUEST, "The request is too old, or its clock is ahead; make a new one.")

    def _check_fresh(self, request_id: bytes, issued_at: int, window_ms: int, now: int) -> None:
        self._check_window(issued_at, window_ms, now)
        if request_id in self.seen:
            raise Refused(RefusalCode.REPLAYED, "This request was seen before; make a new one.")

    def _remember(self, request_id: bytes, until: int, now: int) -> None:
        while self.seen:  # oldest first: windows are equal, so insertion order is nearly order of expiry
            oldest = next(iter(self.seen))
            if self.seen[oldest] >= now:
                break
            del self.seen[oldest]
        self.seen[request_id] = until

    def _take(self, terminal: str, now: int) -> None:
        buckets = self._bucket(terminal, now), self._everyone(now)
        if min(bucket.tokens for bucket in buckets) < 1:
            raise Refused(RefusalCode.RATE_LIMITED, "Too many requests; wait a moment.")
        for bucket in buckets:
            bucket.tokens -= 1

    def _bucket(self, terminal: str, now: int) -> _Bucket:
        limits = self.limits
        bucket = self._terminals.setdefault(
            terminal, _Bucket(limits.terminal_rate, limits.terminal_burst, limits.terminal_burst, now)
        )
        bucket.refill(now)
        return bucket

    def _everyone(self, now: int) -> _Bucket:
        limits = self.limits
        if self._overall is None:
            self._overall = _Bucket(limits.overall_rate, limits.overall_burst, limits.overall_burst, now)
        self._overall.refill(now)
        return self._overall


def _check_signature(key: bytes, signature: bytes, payload: bytes) -> None:
    try:
        verify(key, signature, payload)
    except MessageError as error:
        raise Refused(RefusalCode.BAD_SIGNATURE, str(error)) from None


def _check_sealed(sealed: bytes, signed_sha256: bytes) -> None:
    if sha256(sealed) != signed_sha256:
        raise Refused(RefusalCode.SEALED_MISMATCH, "The sealed share is not the one that was signed.")
