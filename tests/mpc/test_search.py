"""Answers equal the plain integer computation, bit for bit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facefare.mpc import InputRule, Match, NoMatch, Several, combine, held_by, split


def bitmap(flags):
    padded = np.zeros(-(-len(flags) // 64) * 64, np.uint8)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view(np.uint64)


def expected(gallery, live, probe, threshold):
    scores = -((gallery.astype(np.int64) - probe) ** 2).sum(axis=1)
    rows = np.flatnonzero((scores >= threshold) & live)
    if len(rows) > 1:
        return Several()
    return Match(int(rows[0])) if len(rows) else NoMatch()


def enrolled(trio, gallery, rule):
    if not len(gallery):
        return [np.empty((0, rule.dimensions + 2), np.uint16)] * 3
    allowed, rows = trio.admit(gallery, rule)
    assert allowed.all()
    return rows


def search(trio, gallery, live, probes, thresholds, rule):
    answers = trio.identify(enrolled(trio, gallery, rule), bitmap(live), probes, thresholds, rule)
    return [combine(parts) for parts in answers]


@st.composite
def cases(draw):
    dimensions = draw(st.sampled_from([2, 8, 128]))
    rows = draw(st.sampled_from([0, 1, 2, 63, 64, 65, 127, 1023, 1024, 1025, 2500]))
    batch = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = rng.normal(size=(rows + batch, dimensions))
    lengths = rng.uniform(45, 88, size=(rows + batch, 1))
    vectors = np.rint(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * lengths).astype(np.int32)
    gallery, probes = vectors[:rows], vectors[rows:]
    for b in range(batch):  # 0 to 5 rows close to the probe
        for row in rng.integers(0, max(rows, 1), draw(st.integers(0, 5)) if rows else 0):
            gallery[row] = probes[b]
    live = rng.random(rows) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    thresholds = rng.choice([0, -1, -500, -3000, -20_000, -32_767], batch)
    return dimensions, gallery, live, probes, thresholds


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases())
def test_every_answer_equals_the_plain_computation(trio, case):
    dimensions, gallery, live, probes, thresholds = case
    answers = search(trio, gallery, live, probes, thresholds, InputRule(dimensions, 1, 8191))
    assert answers == [
        expected(gallery, live, probe, threshold) for probe, threshold in zip(probes, thresholds, strict=True)
    ]


@pytest.mark.parametrize("ripple_from", [64, 1 << 20])
def test_a_large_gallery_goes_through_carry_select_or_ripple_and_several_tiles(trio, monkeypatch, ripple_from):
    monkeypatch.setattr("facefare.mpc.scan.LANES", 1 << 15)
    monkeypatch.setattr("facefare.mpc.carry.RIPPLE_FROM_WORDS", ripple_from)
    rng = np.random.default_rng(5)
    gallery = rng.integers(-30, 31, (70_001, 4)).astype(np.int32)
    gallery[:, 0] = 40
    probes = np.array([gallery[69_999], [40, 30, -30, 99]], np.int32)[:, :]
    probes[1] = [-40, 40, 40, 40]
    live = np.ones(len(gallery), bool)
    thresholds = [-2, -2]
    answers = search(trio, gallery, live, probes, thresholds, InputRule(4, 1, 8191))
    assert answers == [expected(gallery, live, p, t) for p, t in zip(probes, thresholds, strict=True)]


@pytest.mark.parametrize("norm", [90, -90])
def test_the_farthest_allowed_pair_does_not_wrap_into_a_match(trio, norm):
    gallery = np.array([[norm, 0]], np.int32)
    probe = np.array([[-norm, 0]], np.int32)
    for threshold in (0, -3000, -32_399):
        answers = search(trio, gallery, np.array([True]), probe, [threshold], InputRule(2, 1, 8191))
        assert answers == [NoMatch()]
    assert search(trio, gallery, np.array([True]), probe, [-32_400], InputRule(2, 1, 8191)) == [Match(0)]


def test_matches_that_cancel_in_a_plain_xor_are_several(trio):
    """Rows a, b, c, a ^ b ^ c have parity 0 and xor 0; rectangles are the hard case of structured weights."""
    gallery = np.full((5000, 2), 60, np.int32)
    probe = np.array([[60, 60]], np.int32)
    for rows in ([1, 2, 3], [5, 1029, 5 + 2048, 1029 + 2048], [0, 1, 1024, 1025], [7, 8], list(range(0, 5000, 3))):
        live = np.zeros(5000, bool)
        live[rows] = True
        assert search(trio, gallery, live, probe, [-5], InputRule(2, 1, 8191)) == [Several()]


def test_shares_that_were_never_admitted_match_nothing_while_not_live(trio):
    rng = np.random.default_rng(3)
    rows = [rng.integers(0, 65536, (3000, 4), np.uint16) for _ in range(3)]
    nobody = np.zeros(47, np.uint64)
    (parts,) = trio.identify(rows, nobody, [[60, 60]], [-32_767], InputRule(2, 1, 8191))
    assert combine(parts) == NoMatch()


@pytest.mark.parametrize(
    ("gallery", "live", "thresholds"),
    [((64, 4), (2,), (1,)), ((64, 4), (1,), (2,)), ((64, 6), (1,), (1,))],
)
def test_sizes_that_do_not_fit_are_refused_and_end_nothing(trio, gallery, live, thresholds):
    rule = InputRule(2, 1, 8191)
    arrays = np.zeros(gallery, np.uint16), np.zeros(live, np.uint64), np.zeros(thresholds, np.int32)
    with pytest.raises(ValueError, match="fit"):
        trio.parties[0].identify(np.zeros((2, 1, 2), np.uint32), rule, *arrays)
    assert trio.admit(np.array([[60, 60]]), rule)[0].all()


@pytest.mark.parametrize("shape", [(1, 2), (3, 1, 2), (2, 1, 4)])
def test_inputs_that_are_no_two_components_are_refused_and_end_nothing(trio, shape):
    rule = InputRule(2, 1, 8191)
    with pytest.raises(ValueError, match="Components"):
        trio.parties[0].admit(np.zeros(shape, np.uint32), rule)
    assert trio.admit(np.array([[60, 60]]), rule)[0].all()


@pytest.mark.parametrize("threshold", [1, -32_768])
def test_a_threshold_outside_its_range_is_refused(trio, threshold):
    empty = np.zeros((0, 4), np.uint16), np.zeros(0, np.uint64)
    with pytest.raises(ValueError, match="threshold"):
        trio.parties[0].identify(
            np.zeros((2, 1, 2), np.uint32), InputRule(2, 1, 8191), *empty, np.array([threshold], np.int32)
        )


def test_the_row_that_was_answered_takes_in_the_tag_and_no_other_does(trio):
    rng = np.random.default_rng(8)
    rule = InputRule(8, 1, 8191)
    gallery = rng.integers(10, 32, (3000, 8)).astype(np.int32)
    gallery[[10, 11]] = [-60, 20, 20, 20, 0, 0, 0, 0]  # two alike: several
    rows = enrolled(trio, gallery, rule)
    sums = [np.zeros((2, len(gallery)), np.uint64) for _ in range(3)]
    expected_sums = np.zeros(len(gallery), np.uint64)
    live = np.ones(len(gallery), bool)
    for probes in (
        [gallery[7], gallery[2999]],
        [gallery[10], [-50, -50, -20, -20, 0, 0, 0, 0]],
        [gallery[7], gallery[7]],
    ):
        answers = trio.identify(rows, bitmap(live), probes, [-1, -1], rule, sums)
        for b in range(2):
            answer = combine(answers[b])
            assert answer == expected(gallery, live, np.array(probes[b]), -1)
            if isinstance(answer, Match):
                expected_sums[answer.row] ^= np.uint64(answer.tag)
    opened = sums[0][0] ^ sums[1][0] ^ sums[2][0]
    np.testing.assert_array_equal(opened, expected_sums)
    for i in range(3):
        np.testing.assert_array_equal(sums[i][1], sums[(i + 1) % 3][0])
        assert np.count_nonzero(sums[i][0]) > 2700, "one guardian's component of every row changes alike"


def test_tags_differ_from_search_to_search(trio):
    rule = InputRule(2, 1, 8191)
    rows = enrolled(trio, np.array([[60, 60]]), rule)

    def tag():
        (parts,) = trio.identify(rows, bitmap([True]), [[60, 60]], [-1], rule)
        return combine(parts).tag

    assert len({tag() for _ in range(5)}) == 5


@pytest.mark.parametrize("matching", [[], [2047], [100, 4100], [5, 1029, 2053]])
def test_shards_searched_by_sessions_of_their_own_give_one_combined_answer(trio, matching):
    rng = np.random.default_rng(4)
    rule = InputRule(8, 1, 8191)
    gallery = rng.integers(10, 32, (5000, 8)).astype(np.int32)
    gallery[matching] = [-60, 20, 20, 20, 0, 0, 0, 0]
    probes = np.array([[-60, 20, 20, 20, 0, 0, 0, 0], [0] * 8])  # the second one is forbidden
    thresholds = np.array([-1, -1], np.int32)
    rows = enrolled(trio, gallery, rule)
    components = split(probes.astype(np.int32))
    checked = trio.run(lambda i: trio.parties[i].check(held_by(i, components), rule))
    assert [verdict.tolist() for verdict, _ in checked] == [[True, False]] * 3
    seeds = [seed for _, seed in checked]
    assert len(set(seeds)) == 1
    gathered = []
    for first, last in ((0, 2048), (2048, 3072), (3072, 5000)):
        shard = type(trio)()  # three other machines
        live = bitmap(np.ones(last - first, bool))
        gathered.append(
            shard.run(
                lambda i: shard.parties[i].gather(
                    held_by(i, components),
                    rule,
                    rows[i][first:last],
                    live,
                    thresholds,
                    first_row=first,
                    rows=5000,
                    seed=seeds[0],
                )
            )
        )
    allowed = np.array([0])
    parts = trio.run(lambda i: trio.parties[i].open([shard[i].of(allowed) for shard in gathered]))
    assert [len(part) for part in parts] == [1] * 3
    assert combine([part[0] for part in parts]) == expected(gallery, np.ones(5000, bool), probes[0], -1)


@pytest.mark.parametrize(("first_row", "rows"), [(100, 5000), (1024, 1025), (-1024, 5000)])
def test_a_shard_that_lies_outside_the_gallery_is_refused(trio, first_row, rows):
    arrays = np.zeros((64, 4), np.uint16), np.zeros(1, np.uint64), np.zeros(1, np.int32)
    probe = np.zeros((2, 1, 2), np.uint32)
    with pytest.raises(ValueError, match="shard"):
        trio.parties[0].gather(probe, InputRule(2, 1, 8191), *arrays, first_row=first_row, rows=rows, seed=bytes(48))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases(), st.lists(st.integers(0, 4), max_size=3))
def test_nothing_of_a_forbidden_probe_is_opened_and_the_others_are_answered(trio, case, spoiled):
    dimensions, gallery, live, probes, thresholds = case
    rule = InputRule(dimensions, 1, 8191)
    probes = probes.copy()
    forbidden = {b for b in spoiled if b < len(probes)}
    for b in forbidden:
        probes[b] = 0
    answers = trio.identify(enrolled(trio, gallery, rule), bitmap(live), probes, thresholds, rule)
    for b, probe in enumerate(probes):
        if b in forbidden:
            assert answers[b] == [None] * 3
        else:
            assert combine(answers[b]) == expected(gallery, live, probe, thresholds[b])


def test_a_forbidden_probe_in_a_batch_leaves_the_accumulators_of_the_others_right(trio):
    rule = InputRule(2, 1, 8191)
    gallery = np.array([[60, 60], [-60, 60], [60, -60]])
    rows = enrolled(trio, gallery, rule)
    sums = [np.zeros((2, 3), np.uint64) for _ in range(3)]
    answers = trio.identify(rows, bitmap([True] * 3), [[127, 127], [-60, 60], [0, 0]], [-5] * 3, rule, sums)
    answer = combine(answers[1])
    assert answer == Match(1)
    opened = sums[0][0] ^ sums[1][0] ^ sums[2][0]
    assert opened.tolist() == [0, answer.tag, 0]
