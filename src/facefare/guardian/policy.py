"""Whether this guardian, by its own judgement, takes part in a request. A pure state machine: no I/O.

State: ids already seen, token buckets, searches of the day, and comparisons that no enrolment followed yet. Time is an
argument (ms since 1970).
Invariants:
- a request is accepted only if its asker is registered here for the gallery, the signature is by the
  registered key over the exact payload, the template is of the gallery's embedder, the time is inside the window, the
  id was never accepted, the sealed share is the one that was signed, and a search is for a payment;
- only what passed all of that takes a token, and without a token it is refused (limits fail closed);
- a terminal has so many searches a day (UTC), whatever its rate: a stolen key is no way to look through a crowd;
- an enrolment's own template may be compared with those enrolled already, once for each enrolment, and a station
  has few such comparisons a day that no enrolment followed: it is no way to ask who somebody is;
- each refusal has one code, and the first that applies in this order is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from facefare.audit.entries import PAYMENT
from facefare.guardian.errors import MessageError, Refused
from facefare.guardian.messages import EnrolPayload, Operation, RefusalCode, SearchPayload, sha256, verify
from facefare.guardian.rates import DAY_MS, Bucket, refilled, take
from facefare.guardian.registry import GalleryDefinition, Station, Terminal
from facefare.guardian.sealing import templates_in

ENROLMENT = Operation.ENROL.value

RATES_REMEMBER_MS = 600_000
"""A rested bucket is full within this time: the request log keeps no more for a restart."""


@dataclass(frozen=True)
class Limits:
    """What a guardian allows. Rates are requests a second and the burst that a rested bucket holds.

    A station's are templates a second. `unfinished_checks`: comparisons of one station within `enrolment_window_ms`
    that were answered and not followed by the enrolment. `recheck_permille`: how many of a thousand searches are made
    again in a secret order (`mpc.recheck`), so that another guardian's lie is caught; what the strictest wants counts.
    `recheck_patience_s`: a guardian that wants rechecks and gets none for so long answers no search.
    `opening_rate` is of one payer's row, `openings_rate` of all together (`guardian.openings`).
    """

    search_window_ms: int = 30_000
    enrolment_window_ms: int = 24 * 3_600_000  # the relay may have to wait for a guardian
    clock_skew_ms: int = 5_000
    terminal_rate: float = 2.0
    terminal_burst: float = 10.0
    terminal_daily: int = 20_000
    overall_rate: float = 50.0
    overall_burst: float = 100.0
    recheck_permille: int = 1000
    recheck_patience_s: float = 600.0
    station_rate: float = 0.05
    station_burst: float = 20.0
    unfinished_checks: int = 10
    opening_rate: float = 0.1
    opening_burst: float = 5.0
    openings_rate: float = 5.0
    openings_burst: float = 50.0

    def __post_init__(self) -> None:
        for rate, burst in (
            (self.terminal_rate, self.terminal_burst),
            (self.overall_rate, self.overall_burst),
            (self.station_rate, self.station_burst),
            (self.opening_rate, self.opening_burst),
            (self.openings_rate, self.openings_burst),
        ):
            if not 0 < burst <= rate * RATES_REMEMBER_MS / 1000:
                raise ValueError("A burst is above 0 and made up for by its rate within ten minutes.")

    def check_window(self, issued_at: int, window_ms: int, now: int) -> None:
        """Raise `Refused` unless a request that was signed at `issued_at` may still be answered at `now` (ms)."""
        if not now - window_ms <= issued_at <= now + self.clock_skew_ms:
            raise Refused(RefusalCode.STALE_REQUEST, "The request is too old, or its clock is ahead; make a new one.")


@dataclass
class Policy:
    """The state of one guardian's judgement.

    `seen` maps ids to when (ms) they may be forgotten; `unfinished` the ids of comparisons that no enrolment followed
    to their station and the same; `today` is a day (days since 1970, UTC) and each terminal's searches of it.
    """

    limits: Limits
    seen: dict[bytes, int] = field(default_factory=dict)
    unfinished: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    today: tuple[int, dict[str, int]] = (0, {})
    _counted: dict[bytes, int] = field(default_factory=dict)
    _overall: Bucket | None = None
    _terminals: dict[str, Bucket] = field(default_factory=dict)
    _stations: dict[str, Bucket] = field(default_factory=dict)

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
        _check_model(fields.model, gallery)
        if fields.purpose != PAYMENT:
            raise Refused(RefusalCode.WRONG_PURPOSE, "Searches are for payments only.")
        _check_threshold(threshold, gallery)
        self._check_fresh(fields.query_id, fields.issued_at, self.limits.search_window_ms, now)
        searches = self._searches_today(terminal, now)
        take((self._terminal(terminal.id, terminal.rate, now), self._everyone(now)))
        self.today[1][terminal.id] = searches + 1
        _remember(self.seen, fields.query_id, self.search_seen_until(fields), now)
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
        """Accept an enrolment and count its templates, or raise `Refused`.

        Sent again it is accepted again, and counted once: the store knows its digest.
        """
        fields, gallery = self._enrolment(payload, signature, sealed, guardian, station, gallery)
        self.limits.check_window(fields.issued_at, self.limits.enrolment_window_ms, now)
        if fields.enrolment_id not in self._counted:
            take((self._station(fields.station, now),), templates_in(sealed, gallery.dimensions))
            _remember(self._counted, fields.enrolment_id, self.enrolment_until(fields), now)
        return fields

    def check(
        self,
        payload: bytes,
        signature: bytes,
        sealed: bytes,
        guardian: int,
        station: Station | None,
        gallery: GalleryDefinition | None,
        threshold: int,
        now: int,
    ) -> EnrolPayload:
        """Accept that an enrolment's template is compared, and count it as an enrolment and a search; or `Refused`.

        It stays unfinished until `end_check`. Raises MessageError where the payload is none.
        """
        fields, gallery = self._enrolment(payload, signature, sealed, guardian, station, gallery)
        _check_threshold(threshold, gallery)
        self._check_fresh(fields.enrolment_id, fields.issued_at, self.limits.search_window_ms, now)
        self.unfinished = {id: (whose, until) for id, (whose, until) in self.unfinished.items() if until >= now}
        open_checks = sum(whose == fields.station for whose, _ in self.unfinished.values())
        if open_checks >= self.limits.unfinished_checks:
            raise Refused(
                RefusalCode.RATE_LIMITED, "Too many comparisons of this station were not followed by an enrolment."
            )
        take((self._station(fields.station, now), self._everyone(now)))
        _remember(self.seen, fields.enrolment_id, self.check_seen_until(fields), now)
        _remember(self._counted, fields.enrolment_id, self.enrolment_until(fields), now)
        self.unfinished[fields.enrolment_id] = (fields.station, self.enrolment_until(fields))
        return fields

    def end_check(self, enrolment_id: bytes) -> None:
        """The comparison was followed by the enrolment, or gave no answer from here."""
        self.unfinished.pop(enrolment_id, None)

    def _enrolment(
        self,
        payload: bytes,
        signature: bytes,
        sealed: bytes,
        guardian: int,
        station: Station | None,
        gallery: GalleryDefinition | None,
    ) -> tuple[EnrolPayload, GalleryDefinition]:
        """Raise `Refused` unless a station that may says this, of a template that belongs here."""
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
        _check_model(fields.model, gallery)
        return fields, gallery

    def search_seen_until(self, fields: SearchPayload) -> int:
        """When (ms) the query id may be forgotten: from then on the request is stale anyway."""
        return fields.issued_at + self.limits.search_window_ms + self.limits.clock_skew_ms

    def check_seen_until(self, fields: EnrolPayload) -> int:
        """When (ms) the id of a comparison may be forgotten: from then on it is too old to be made."""
        return fields.issued_at + self.limits.search_window_ms + self.limits.clock_skew_ms

    def enrolment_until(self, fields: EnrolPayload) -> int:
        """When (ms) an enrolment is stale."""
        return fields.issued_at + self.limits.enrolment_window_ms + self.limits.clock_skew_ms

    def replay(self, asker: str, purpose: str, templates: int, time: int, rate: float | None = None) -> None:
        """After a restart: count a request that was accepted at `time` (ms), oldest first; `rate`: its terminal's own.

        A comparison and its enrolment count as two here, and an enrolment sent again as another: for some minutes less
        is allowed, never more.
        """
        buckets = [self._terminal(asker, rate, time) if purpose == PAYMENT else self._station(asker, time)]
        if purpose != ENROLMENT:
            buckets.append(self._everyone(time))
        for bucket in buckets:
            bucket.tokens = max(0.0, bucket.tokens - templates)

    def _check_fresh(self, request_id: bytes, issued_at: int, window_ms: int, now: int) -> None:
        self.limits.check_window(issued_at, window_ms, now)
        if request_id in self.seen:
            raise Refused(RefusalCode.REPLAYED, "This request was seen before; make a new one.")

    def _searches_today(self, terminal: Terminal, now: int) -> int:
        """How many the terminal made before this one; raises `Refused` where it has no more."""
        day = now // DAY_MS
        if day > self.today[0]:  # a clock that went back gives no new day
            self.today = (day, {})
        searches, most = self.today[1].get(terminal.id, 0), self.limits.terminal_daily
        if searches >= (most if terminal.daily is None else min(terminal.daily, most)):
            raise Refused(RefusalCode.RATE_LIMITED, "This terminal has made all its searches of the day.")
        return searches

    def _terminal(self, id: str, own_rate: float | None, now: int) -> Bucket:
        limits = self.limits
        rate = limits.terminal_rate if own_rate is None else min(own_rate, limits.terminal_rate)
        return refilled(self._terminals, id, rate, min(limits.terminal_burst, rate * RATES_REMEMBER_MS / 1000), now)

    def _station(self, id: str, now: int) -> Bucket:
        limits = self.limits
        return refilled(self._stations, id, limits.station_rate, limits.station_burst, now)

    def _everyone(self, now: int) -> Bucket:
        limits = self.limits
        if self._overall is None:
            self._overall = Bucket(limits.overall_rate, limits.overall_burst, limits.overall_burst, now)
        self._overall.refill(now)
        return self._overall


def _remember(ids: dict[bytes, int], request_id: bytes, until: int, now: int) -> None:
    while ids:  # oldest first: windows are equal, so insertion order is nearly order of expiry
        oldest = next(iter(ids))
        if ids[oldest] >= now:
            break
        del ids[oldest]
    ids[request_id] = until


def _check_threshold(threshold: int, gallery: GalleryDefinition) -> None:
    if not gallery.min_threshold <= threshold <= gallery.max_threshold:
        raise Refused(RefusalCode.THRESHOLD_OUT_OF_RANGE, "The threshold is outside what this gallery allows.")


def _check_model(model: str, gallery: GalleryDefinition) -> None:
    if model != gallery.model:
        raise Refused(
            RefusalCode.WRONG_MODEL, f"The template is of {model}; this gallery holds templates of {gallery.model}."
        )


def _check_signature(key: bytes, signature: bytes, payload: bytes) -> None:
    try:
        verify(key, signature, payload)
    except MessageError as error:
        raise Refused(RefusalCode.BAD_SIGNATURE, str(error)) from None


def _check_sealed(sealed: bytes, signed_sha256: bytes) -> None:
    if sha256(sealed) != signed_sha256:
        raise Refused(RefusalCode.SEALED_MISMATCH, "The sealed share is not the one that was signed.")
