"""A guardian's own judgement, without any I/O."""

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from facefare.guardian.errors import RefusalCode, Refused
from facefare.guardian.messages import EnrolPayload, SearchPayload, sha256
from facefare.guardian.policy import Limits, Policy
from facefare.guardian.registry import GalleryDefinition, Station, Terminal

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
LIVE = GalleryDefinition("gal_live", "live", "m", 128, 200, 8191, -4000, -100)
DEMO = GalleryDefinition("gal_demo", "demo", "m", 128, 200, 8191, -4000, -100)
TERMINAL = Terminal("trm_a", PUBLIC, ("gal_live",))
NOW = 1_800_000_000_000
SEALED = b"sealed share of guardian 1"
HASHES = (sha256(b"0"), sha256(SEALED), sha256(b"2"))


def ask(policy: Policy, query: int = 1, **changes: object) -> SearchPayload:
    """A good search for guardian 1, with changes to the payload or to what surrounds it."""
    fields = {
        "v": 1,
        "gallery": "gal_live",
        "model": "m",
        "terminal": "trm_a",
        "purpose": "payment",
        "query_id": query.to_bytes(16, "big"),
        "issued_at": NOW,
        "sealed_sha256": HASHES,
        "component_sha256": HASHES,
    }
    around: dict = {
        "sealed": SEALED,
        "terminal": TERMINAL,
        "gallery": LIVE,
        "threshold": -2000,
        "now": NOW,
        "signature": None,
    }
    for name, value in changes.items():
        if name.startswith("around_"):
            around[name.removeprefix("around_")] = value
        else:
            fields[name] = value
    payload = SearchPayload(**fields).to_bytes()  # type: ignore[arg-type]
    return policy.search(
        payload,
        around["signature"] or KEY.sign(payload),
        around["sealed"],
        1,
        around["terminal"],
        around["gallery"],
        around["threshold"],
        around["now"],
    )


def refusal(policy: Policy, **changes: object) -> RefusalCode:
    with pytest.raises(Refused) as refused:
        ask(policy, **changes)
    return refused.value.code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"around_gallery": None}, RefusalCode.UNKNOWN_GALLERY),
        ({"around_terminal": None}, RefusalCode.UNKNOWN_TERMINAL),
        ({"around_terminal": Terminal("trm_a", PUBLIC, ("gal_demo",))}, RefusalCode.UNKNOWN_TERMINAL),
        ({"around_signature": bytes(64)}, RefusalCode.BAD_SIGNATURE),
        ({"around_terminal": Terminal("trm_a", bytes(32), ("gal_live",))}, RefusalCode.BAD_SIGNATURE),
        ({"around_sealed": b"another"}, RefusalCode.SEALED_MISMATCH),
        ({"sealed_sha256": (HASHES[1], HASHES[0], HASHES[2])}, RefusalCode.SEALED_MISMATCH),
        ({"model": "another-embedder"}, RefusalCode.WRONG_MODEL),
        ({"purpose": "attendance"}, RefusalCode.WRONG_PURPOSE),
        ({"purpose": "enrolment"}, RefusalCode.WRONG_PURPOSE),
        ({"around_threshold": -4001}, RefusalCode.THRESHOLD_OUT_OF_RANGE),
        ({"around_threshold": -99}, RefusalCode.THRESHOLD_OUT_OF_RANGE),
        ({"issued_at": NOW - 30_001}, RefusalCode.STALE_REQUEST),
        ({"issued_at": NOW + 5_001}, RefusalCode.STALE_REQUEST),
    ],
)
def test_a_search_is_refused_for_the_first_reason_and_leaves_no_trace(changes, code) -> None:
    policy = Policy(Limits(terminal_burst=1, overall_burst=1))
    assert refusal(policy, **changes) == code
    ask(policy)  # neither the id nor the only token was used up


def test_a_query_id_is_accepted_once_and_a_restart_does_not_forget() -> None:
    policy = Policy(Limits())
    fields = ask(policy)
    assert refusal(policy) == RefusalCode.REPLAYED
    restarted = Policy(Limits(), dict(policy.seen))
    assert refusal(restarted) == RefusalCode.REPLAYED
    later = policy.search_seen_until(fields)
    assert refusal(policy, around_now=later) == RefusalCode.STALE_REQUEST


@given(st.integers(0, 60_000), st.integers(0, 60_000))
def test_no_request_is_accepted_twice_whenever_it_is_sent_again(first: int, second: int) -> None:
    policy = Policy(Limits())
    accepted = 0
    for moment in sorted((first, second)):
        try:
            ask(policy, around_now=NOW + moment)
            accepted += 1
        except Refused:
            pass
        for other in range(2, 5):  # others come in between and let old ids be forgotten
            with contextlib.suppress(Refused):
                ask(policy, query=other + moment * 10, issued_at=NOW + moment, around_now=NOW + moment)
    assert accepted <= 1


def test_ids_are_forgotten_once_their_requests_are_stale() -> None:
    policy = Policy(Limits(terminal_rate=1000, terminal_burst=1000, overall_rate=1000, overall_burst=1000))
    for n in range(200):
        ask(policy, query=n, issued_at=NOW + 1000 * n, around_now=NOW + 1000 * n)
    assert len(policy.seen) <= 37


def test_a_terminal_and_all_together_are_limited_by_rate() -> None:
    limits = Limits(terminal_rate=1, terminal_burst=3, overall_rate=1, overall_burst=5)
    policy = Policy(limits)
    other = {"around_terminal": Terminal("trm_b", PUBLIC, ("gal_live",)), "terminal": "trm_b"}
    for n in range(3):
        ask(policy, query=n)
    assert refusal(policy, query=10) == RefusalCode.RATE_LIMITED
    for n in range(3, 5):
        ask(policy, query=n, **other)
    assert refusal(policy, query=11, **other) == RefusalCode.RATE_LIMITED
    ask(policy, query=10, around_now=NOW + 1000)  # a refusal for the rate does not use the id up


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60))
def test_never_more_than_burst_and_rate_allow(gaps: list[int]) -> None:
    limits = Limits(terminal_rate=2, terminal_burst=4, overall_rate=100, overall_burst=100)
    policy = Policy(limits)
    now, accepted = NOW, []
    for n, gap in enumerate(gaps):
        now += gap
        try:
            ask(policy, query=n, issued_at=now, around_now=now)
            accepted.append(now)
        except Refused:
            continue
    for start in range(len(accepted)):
        for end in range(start, len(accepted)):
            assert end - start + 1 <= 4 + (accepted[end] - accepted[start]) * 2 / 1000 + 1e-6


def test_a_clock_that_jumps_back_gives_no_tokens() -> None:
    policy = Policy(Limits(terminal_rate=1, terminal_burst=1, overall_rate=100, overall_burst=100))
    ask(policy, query=1)
    assert refusal(policy, query=2, issued_at=NOW - 9000, around_now=NOW - 9000) == RefusalCode.RATE_LIMITED
    assert refusal(policy, query=3, around_now=NOW) == RefusalCode.RATE_LIMITED


def test_what_was_asked_before_a_restart_still_counts() -> None:
    policy = Policy(Limits(terminal_rate=1, terminal_burst=3, overall_rate=100, overall_burst=100))
    for n in range(3):
        policy.replay("trm_a", "payment", 1, NOW - 100 + n)
    assert refusal(policy) == RefusalCode.RATE_LIMITED


def test_a_terminals_own_rate_counts_where_it_is_the_lower_one_also_after_a_restart() -> None:
    cafe = Terminal("trm_a", PUBLIC, ("gal_live",), rate=0.01)
    policy = Policy(Limits(terminal_rate=2, terminal_burst=10))
    for query in range(6):
        ask(policy, query, around_terminal=cafe)
    assert refusal(policy, query=7, around_terminal=cafe) == RefusalCode.RATE_LIMITED
    ask(policy, 8, around_terminal=cafe, around_now=NOW + 100_000, issued_at=NOW + 100_000)
    restarted = Policy(Limits(terminal_rate=2, terminal_burst=10))
    for query in range(6):
        restarted.replay("trm_a", "payment", 1, NOW - 5000 + query, 0.01)
    assert refusal(restarted, query=9, around_terminal=cafe) == RefusalCode.RATE_LIMITED
    policy = Policy(Limits(terminal_rate=0.02, terminal_burst=3))
    eager = Terminal("trm_a", PUBLIC, ("gal_live",), rate=5.0)
    for query in range(3):
        ask(policy, query, around_terminal=eager)
    soon = {"around_now": NOW + 1000, "issued_at": NOW + 1000}
    assert refusal(policy, query=4, around_terminal=eager, **soon) == RefusalCode.RATE_LIMITED, "never above the limits"


DAY = 86_400_000
MIDNIGHT = NOW // DAY * DAY + DAY


def test_a_terminal_has_so_many_searches_a_day_whatever_its_rate_and_a_stolen_key_no_more() -> None:
    policy = Policy(Limits(terminal_rate=1000, terminal_burst=1000, terminal_daily=3))
    other = Terminal("trm_b", PUBLIC, ("gal_live",))
    for query in range(3):
        ask(policy, query)
    assert refusal(policy, query=4) == RefusalCode.RATE_LIMITED
    assert refusal(policy, query=4, issued_at=MIDNIGHT - 1, around_now=MIDNIGHT - 1) == RefusalCode.RATE_LIMITED
    ask(policy, 5, terminal="trm_b", around_terminal=other)
    ask(policy, 6, issued_at=MIDNIGHT, around_now=MIDNIGHT)
    late = MIDNIGHT - 2000  # a clock that goes back gives yesterday's searches to nobody
    ask(policy, 7, issued_at=late, around_now=late)
    ask(policy, 8, issued_at=late, around_now=late)
    assert refusal(policy, query=9, issued_at=late, around_now=late) == RefusalCode.RATE_LIMITED


def test_a_terminals_own_day_counts_where_it_is_the_smaller_one_and_refused_searches_do_not() -> None:
    cafe = Terminal("trm_a", PUBLIC, ("gal_live",), daily=2)
    policy = Policy(Limits(terminal_daily=5, terminal_burst=10))
    ask(policy, 1, around_terminal=cafe)
    for _ in range(10):
        assert refusal(policy, query=1, around_terminal=cafe) == RefusalCode.REPLAYED
    ask(policy, 2, around_terminal=cafe)
    assert refusal(policy, query=3, around_terminal=cafe) == RefusalCode.RATE_LIMITED
    large = Terminal("trm_a", PUBLIC, ("gal_live",), daily=100)
    for query in range(3, 6):
        ask(policy, query, around_terminal=large)
    assert refusal(policy, query=6, around_terminal=large) == RefusalCode.RATE_LIMITED, "never more than the limits"


def test_rates_that_a_restart_would_forget_are_no_limits() -> None:
    with pytest.raises(ValueError, match="ten minutes"):
        Limits(station_rate=0.01, station_burst=7)
    with pytest.raises(ValueError, match="above 0"):
        Limits(overall_burst=0)


def enrol(
    policy: Policy,
    station: Station | None,
    into: GalleryDefinition | None,
    now: int = NOW,
    *,
    sealed: bytes = SEALED,
    threshold: int | None = None,
    key: Ed25519PrivateKey = KEY,
    **changes: object,
) -> EnrolPayload:
    """An enrolment; with a threshold, the comparison before it."""
    fields = {
        "v": 1,
        "gallery": "gal_live",
        "model": "m",
        "station": station.id if station else "stn_a",
        "consent_sha256": bytes(32),
        "enrolment_id": bytes(16),
        "issued_at": NOW,
        "sealed_sha256": (HASHES[0], sha256(sealed), HASHES[2]),
        "component_sha256": HASHES,
        **changes,
    }
    payload = EnrolPayload(**fields).to_bytes()  # type: ignore[arg-type]
    if threshold is not None:
        return policy.check(payload, key.sign(payload), sealed, 1, station, into, threshold, now)
    return policy.enrolment(payload, key.sign(payload), sealed, 1, station, into, now)


def test_a_demo_station_enrols_into_demo_galleries_only() -> None:
    station = Station("stn_a", PUBLIC, ("gal_live", "gal_demo"), demo_only=True)
    enrol(Policy(Limits()), station, DEMO, gallery="gal_demo")
    with pytest.raises(Refused) as refused:
        enrol(Policy(Limits()), station, LIVE)
    assert refused.value.code is RefusalCode.DEMO_KEY_ON_LIVE_GALLERY


@pytest.mark.parametrize(
    ("station", "gallery", "now", "code"),
    [
        (None, LIVE, NOW, RefusalCode.UNKNOWN_STATION),
        (Station("stn_a", PUBLIC, (), demo_only=False), LIVE, NOW, RefusalCode.UNKNOWN_STATION),
        (Station("stn_a", PUBLIC, ("gal_live",), demo_only=False), None, NOW, RefusalCode.UNKNOWN_GALLERY),
        (Station("stn_a", bytes(32), ("gal_live",), demo_only=False), LIVE, NOW, RefusalCode.BAD_SIGNATURE),
        (
            Station("stn_a", PUBLIC, ("gal_live",), demo_only=False),
            LIVE,
            NOW + 25 * 3_600_000,
            RefusalCode.STALE_REQUEST,
        ),
        (
            Station("stn_a", PUBLIC, ("gal_other",), demo_only=False),
            GalleryDefinition("gal_other", "live", "m2", 128, 200, 8191, -4000, -100),
            NOW,
            RefusalCode.WRONG_MODEL,
        ),
    ],
)
def test_an_enrolment_is_refused_for_its_reason(station, gallery, now, code) -> None:
    changes = {"gallery": gallery.id} if gallery else {}
    with pytest.raises(Refused) as refused:
        enrol(Policy(Limits()), station, gallery, now, **changes)
    assert refused.value.code is code
    with pytest.raises(Refused) as refused:
        enrol(Policy(Limits()), station, gallery, now, threshold=-2000, **changes)
    assert refused.value.code is code


def test_an_enrolment_may_be_sent_again_until_it_is_confirmed() -> None:
    station = Station("stn_a", PUBLIC, ("gal_live",), demo_only=False)
    policy = Policy(Limits())
    assert enrol(policy, station, LIVE) == enrol(policy, station, LIVE, NOW + 3_600_000)


# --- enrolments by rate, and the comparison before one ---

DESK = Station("stn_a", PUBLIC, ("gal_live",), demo_only=False)


def numbered(n: int) -> bytes:
    return n.to_bytes(16, "big")


def check(policy: Policy, n: int, now: int = NOW, **changes: object) -> EnrolPayload:
    return enrol(policy, DESK, LIVE, now, threshold=-2000, enrolment_id=numbered(n), issued_at=now, **changes)


def test_a_station_enrols_no_faster_than_its_rate_and_once_counted_may_send_again() -> None:
    policy = Policy(Limits(station_rate=0.01, station_burst=3))
    for n in range(3):
        enrol(policy, DESK, LIVE, enrolment_id=numbered(n))
    with pytest.raises(Refused) as refused:
        enrol(policy, DESK, LIVE, enrolment_id=numbered(3))
    assert refused.value.code is RefusalCode.RATE_LIMITED
    enrol(policy, DESK, LIVE, enrolment_id=numbered(2))  # sent again
    enrol(policy, DESK, LIVE, NOW + 100_000, enrolment_id=numbered(3))


def test_many_templates_in_one_enrolment_count_as_many() -> None:
    policy = Policy(Limits(station_rate=1, station_burst=100))
    batch = bytes(80 + 99 * 8 * 128)
    enrol(policy, DESK, LIVE, sealed=batch, enrolment_id=numbered(1))
    enrol(policy, DESK, LIVE, enrolment_id=numbered(2))
    with pytest.raises(Refused):
        enrol(policy, DESK, LIVE, enrolment_id=numbered(3))


def test_enrolments_before_a_restart_still_count() -> None:
    policy = Policy(Limits(station_rate=0.01, station_burst=3))
    policy.replay("stn_a", "enrol", 2, NOW - 100)
    policy.replay("stn_a", "enrolment", 1, NOW - 50)
    with pytest.raises(Refused) as refused:
        enrol(policy, DESK, LIVE)
    assert refused.value.code is RefusalCode.RATE_LIMITED


def test_an_enrolments_template_is_compared_once_and_never_after_it_got_old() -> None:
    policy = Policy(Limits())
    check(policy, 1)
    policy.end_check(numbered(1))
    with pytest.raises(Refused) as refused:
        check(policy, 1)
    assert refused.value.code is RefusalCode.REPLAYED
    with pytest.raises(Refused) as refused:
        enrol(policy, DESK, LIVE, NOW + 30_001, threshold=-2000)
    assert refused.value.code is RefusalCode.STALE_REQUEST
    with pytest.raises(Refused) as refused:
        check(Policy(Limits(), dict(policy.seen)), 1)
    assert refused.value.code is RefusalCode.REPLAYED
    enrol(policy, DESK, LIVE, enrolment_id=numbered(1))  # the enrolment itself may still come


@pytest.mark.parametrize("threshold", [-4001, -99])
def test_a_comparison_keeps_to_the_gallerys_thresholds(threshold) -> None:
    with pytest.raises(Refused) as refused:
        enrol(Policy(Limits()), DESK, LIVE, threshold=threshold)
    assert refused.value.code is RefusalCode.THRESHOLD_OUT_OF_RANGE


def test_a_comparison_takes_one_token_with_its_enrolment() -> None:
    policy = Policy(Limits(station_rate=0.01, station_burst=2))
    for n in range(2):
        check(policy, n)
        enrol(policy, DESK, LIVE, enrolment_id=numbered(n))
    with pytest.raises(Refused) as refused:
        check(policy, 2)
    assert refused.value.code is RefusalCode.RATE_LIMITED


def test_a_comparison_counts_among_all_searches() -> None:
    policy = Policy(Limits(overall_burst=1))
    check(policy, 1)
    assert refusal(policy, query=2) == RefusalCode.RATE_LIMITED


@given(st.lists(st.tuples(st.integers(0, 7_200_000), st.booleans()), min_size=1, max_size=60))
def test_a_station_never_has_more_answers_a_day_without_an_enrolment_than_allowed(steps) -> None:
    limits = Limits(station_rate=1, station_burst=100, unfinished_checks=3)
    policy = Policy(limits)
    now, left_open = NOW, []
    for n, (gap, finishes) in enumerate(steps):
        now += gap
        if n % 7 == 6:  # a restart
            policy = Policy(limits, dict(policy.seen), dict(policy.unfinished))
        try:
            check(policy, n, now)
        except Refused:
            continue
        if finishes:
            policy.end_check(numbered(n))
        else:
            left_open.append(now)
    for start in left_open:
        assert sum(start <= other <= start + limits.enrolment_window_ms for other in left_open) <= 3


def test_one_stations_open_comparisons_are_not_held_against_another() -> None:
    policy = Policy(Limits(unfinished_checks=1))
    check(policy, 1)
    with pytest.raises(Refused):
        check(policy, 2)
    other = Station("stn_b", PUBLIC, ("gal_live",), demo_only=False)
    enrol(policy, other, LIVE, threshold=-2000, enrolment_id=numbered(3))
