"""No forbidden input passes, no allowed one is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facefare.mpc import InputRule, NoMatch, combine, held_by

RULE = InputRule(8, 3025, 8191)
WORD = st.one_of(
    st.integers(-140, 140),
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([-128, 127, -129, 128, 2**16, -(2**16), 2**31 - 1, -(2**31), 2**31 - 128, -(2**31) + 127]),
)


def allowed_in_plain(vector, rule):
    inside = all(-128 <= int(x) <= 127 for x in vector)
    return inside and rule.min_squared_norm <= sum(int(x) ** 2 for x in vector) <= rule.max_squared_norm


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.lists(WORD, min_size=8, max_size=8), st.lists(st.integers(-45, 45), min_size=8, max_size=8)),
        min_size=1,
        max_size=9,
    ),
)
def test_the_verdict_is_the_plain_rule_for_references_and_probes(trio, vectors):
    inputs = np.array(vectors, np.int64).astype(np.int32)
    plain = [allowed_in_plain(v, RULE) for v in vectors]
    assert trio.admit(inputs, RULE)[0].tolist() == plain
    nobody = [np.empty((0, 10), np.uint16)] * 3
    answers = trio.identify(nobody, np.zeros(0, np.uint64), inputs, [-5] * len(inputs), RULE)
    assert [None not in parts for parts in answers] == plain
    assert all(combine(parts) == NoMatch() for parts in answers if None not in parts)


@pytest.mark.parametrize(
    ("crafted", "why"),
    [
        ([0] * 8, "the zero vector is close to everyone"),
        ([127] * 8, "saturated"),
        ([-128] * 8, "saturated the other way"),
        ([30 + 65536, 30, 30, 30, 30, 0, 0, 0], "right modulo 2^16, with a huge norm"),
        ([256 * 256, 60, 0, 0, 0, 0, 0, 0], "its square vanishes modulo 2^32"),
        ([2**31 - 1, -(2**31), 60, 0, 0, 0, 0, 0], "wraps a sign test"),
        ([55, 0, 0, 0, 0, 0, 0, 1 << 16], "norm inside the band modulo 2^32"),
        ([54, 0, 0, 0, 0, 0, 0, 0], "just below the band"),
        ([90, 9, 2, 2, 2, 0, 0, 0], "just above the band"),
    ],
)
def test_a_crafted_input_is_refused_as_a_reference_and_as_a_probe(trio, crafted, why):
    inputs = np.array([crafted, [60] + [0] * 7])
    assert trio.admit(inputs, RULE)[0].tolist() == [False, True], why
    _, rows = trio.admit(np.tile([[60] + [0] * 7], (64, 1)), RULE)
    forbidden, _ = trio.identify(rows, np.array([~np.uint64(0)]), inputs, [-32_767] * 2, RULE)
    assert forbidden == [None] * 3, why


def test_the_shares_of_an_admitted_input_are_consistent_whatever_the_client_sent(trio):
    """Any three words are the components of something, so no malformed sharing can reach a dot product."""
    rng = np.random.default_rng(0)
    vector = np.array([[60, 1, 2, 3, 4, 5, 6, 7]])
    _, rows = trio.admit(vector, RULE)
    lost = trio.run(lambda i: trio.parties[i].recover(rows[i], 2))[2]
    np.testing.assert_array_equal(lost, rows[2])
    random = [rng.integers(0, 2**32, (1, 8), np.uint32) for _ in range(3)]
    parts = trio.run(lambda i: trio.parties[i].admit(held_by(i, random), RULE))
    assert not parts[0][0][0]


@pytest.mark.parametrize("bounds", [(7, 1, 2), (0, 1, 2), (2, 0, 5), (2, 6, 5), (2, 1, 8192)])
def test_an_impossible_rule_is_refused(bounds):
    with pytest.raises(ValueError, match=r"norm|dimensions"):
        InputRule(*bounds)
