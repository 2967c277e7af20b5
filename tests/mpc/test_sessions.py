"""Streams are never reused, parties never drift apart, and messages have the stated size."""

import numpy as np
import pytest

from facefare.mpc import InputRule, OutOfStep, SessionEnded
from facefare.mpc.streams import Stream

RULE = InputRule(2, 1, 8191)


def search_all(trio, rows, batch=1):
    gallery = np.zeros((rows, 4), np.uint16)
    live = np.zeros(-(-rows // 64), np.uint64)
    return trio.identify([gallery] * 3, live, [[60, 20]] * batch, [-5] * batch, RULE)


def ends(trio):
    return [*trio.previous, *trio.following]


def test_two_runs_of_one_operation_send_different_bytes(trio):
    search_all(trio, 1024)
    first = {message for end in ends(trio) for message in end.received}
    for end in ends(trio):
        end.received.clear()
    search_all(trio, 1024)
    second = {message for end in ends(trio) for message in end.received if len(message) > 16}
    assert not first & second


def test_a_stretch_of_a_stream_depends_on_key_and_operation():
    key = bytes(range(16))
    words = [Stream(k, n).take((8,), np.uint64).tobytes() for k, n in ((key, 0), (key, 1), (key[::-1], 0))]
    assert len(set(words)) == 3
    split = Stream(key, 0)
    assert split.take((3,), np.uint64).tobytes() + split.take((5,), np.uint64).tobytes() == words[0]


def test_parties_that_run_different_operations_stop(trio):
    gallery = np.zeros((64, 4), np.uint16)
    shares = np.zeros((2, 1, 2), np.uint32)

    def work(i):
        return trio.parties[i].refresh(gallery) if i == 1 else trio.parties[i].admit(shares, RULE)

    with pytest.raises(OutOfStep):
        trio.run(work)
    for party in trio.parties:
        with pytest.raises(SessionEnded):
            party.admit(shares, RULE)


@pytest.mark.parametrize("differing", ["live", "threshold", "accumulators"])
def test_parties_that_disagree_on_what_is_public_stop(trio, differing):
    gallery, probes = np.zeros((64, 4), np.uint16), np.zeros((2, 1, 2), np.uint32)

    def work(i):
        live = np.array([1 if i == 2 and differing == "live" else 0], np.uint64)
        threshold = np.array([-6 if i == 2 and differing == "threshold" else -5], np.int32)
        sums = np.zeros((2, 64), np.uint64) if i == 2 and differing == "accumulators" else None
        return trio.parties[i].identify(probes, RULE, gallery, live, threshold, sums)

    with pytest.raises(OutOfStep):
        trio.run(work)


def sent_by_each(trio, work):
    """Bytes and the larger number of messages on a link, for each guardian."""

    def counts():
        return [
            (p.sent_bytes + f.sent_bytes, p.sent_messages, f.sent_messages)
            for p, f in zip(trio.previous, trio.following, strict=True)
        ]

    before = counts()
    work()
    return [(b[0] - a[0], max(b[1] - a[1], b[2] - a[2])) for a, b in zip(before, counts(), strict=True)]


HEADERS, OPENING = 2 * (32 + 16), 8 + 2 * 8
NORM, TREE_OF_32_BITS, SIGNS = 4, 8 * (31 + 29 + 15 + 7 + 3 + 1), 8
FIXED = HEADERS + OPENING + NORM + TREE_OF_32_BITS + SIGNS
PLANES_OF_32_BITS = 8 * 32
"""For one probe of two dimensions; guardian 0 alone sends bit planes for the tests."""


@pytest.mark.parametrize(("rows", "bits", "rounds"), [(524_288, 31, 19), (65_536, 38, 13), (1024, 55, 12)])
def test_a_search_sends_31_bits_a_row_and_guardian_by_ripple_38_by_carry_select_55_by_the_tree(
    trio, rows, bits, rounds
):
    sent = sent_by_each(trio, lambda: search_all(trio, rows))
    searched = rows * bits // 8 + FIXED
    assert [size for size, _ in sent] == [searched + PLANES_OF_32_BITS, searched, searched]
    assert max(messages for _, messages in sent) <= rounds


def test_sizes_of_messages_do_not_depend_on_the_shares(trio):
    rng = np.random.default_rng(1)
    sizes = []
    for _ in range(2):
        for end in ends(trio):
            end.received.clear()
        gallery = rng.integers(0, 65536, (2048, 4), np.uint16)
        live = np.full(32, ~np.uint64(0))
        trio.identify([gallery] * 3, live, rng.integers(20, 60, (1, 2)), [-5], RULE)
        sizes.append([[len(m) for m in end.received] for end in ends(trio)])
    assert sizes[0] == sizes[1]


def test_refreshed_shares_hold_the_same_rows_and_nothing_else_in_common(trio):
    vectors = np.tile(np.array([[60, 20]]), (500, 1))
    _, rows = trio.admit(vectors, RULE)
    old = [r.copy() for r in rows]
    trio.run(lambda i: trio.parties[i].refresh(rows[i]))
    for i in range(3):
        assert (old[i] == rows[i]).mean() < 0.02
    recovered = trio.run(lambda i: trio.parties[i].recover(rows[i], 0))[0]
    np.testing.assert_array_equal(recovered, rows[0])


@pytest.mark.parametrize("lost_by", range(3))
def test_a_lost_share_comes_back_and_each_helper_alone_sends_noise(trio, lost_by):
    _, rows = trio.admit(np.tile(np.array([[60, 20]]), (4000, 1)), RULE)
    for end in ends(trio):
        end.received.clear()
    given = [r if i != lost_by else np.zeros_like(r) for i, r in enumerate(rows)]
    results = trio.run(lambda i: trio.parties[i].recover(given[i], lost_by))
    np.testing.assert_array_equal(results[lost_by], rows[lost_by])
    assert [results[(lost_by + k) % 3] for k in (1, 2)] == [None, None]
    for end in (trio.previous[lost_by], trio.following[lost_by]):
        part = np.frombuffer(end.received[-1], np.uint16)
        assert len(np.unique(part)) > 10_000  # of 16,000 equal rows' words: masked, not repeated


def test_refreshed_accumulators_open_to_the_same_and_have_nothing_else_in_common(trio):
    components = np.random.default_rng(5).integers(0, 2**64, (3, 100_000), np.uint64)
    held = [components[[i, (i + 1) % 3]] for i in range(3)]
    old = [h.copy() for h in held]
    trio.run(lambda i: trio.parties[i].refresh_sums(held[i]))
    for i in range(3):
        assert (old[i] == held[i]).mean() < 1e-4
        np.testing.assert_array_equal(held[i][1], held[(i + 1) % 3][0])
    opened = np.bitwise_xor.reduce([h[0] for h in held])
    np.testing.assert_array_equal(opened, np.bitwise_xor.reduce(components))
