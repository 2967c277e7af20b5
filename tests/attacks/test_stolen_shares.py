"""A dump of guardians' shares, used as a template store: one is noise, two are everything, and we say so."""

import numpy as np

from facefare.mpc import InputRule
from facefare.mpc.sharing import missing_share_part

RULE = InputRule(32, 1000, 8191)
PEOPLE = 2000


def people(rng, count=PEOPLE):
    vectors = rng.normal(size=(count, 32))
    return 67 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def views(rng, centres):
    noisy = centres + rng.normal(size=centres.shape) * 3
    return np.rint(noisy).astype(np.int32)


def scores(a, b):
    """Mated and non-mated comparison scores of two stores' rows, read as signed words and compared by cosine."""
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))
    table = a @ b.T
    return np.diag(table), table[~np.eye(len(table), dtype=bool)]


def d_sys(mated, non_mated, bins=15):
    """Global linkability after Gomez-Barrero et al. 2017: 0 is unlinkable, 1 is fully linkable."""
    edges = np.linspace(min(mated.min(), non_mated.min()), max(mated.max(), non_mated.max()) + 1e-9, bins + 1)
    p_m, _ = np.histogram(mated, edges)
    p_n, _ = np.histogram(non_mated, edges)
    p_m, p_n = p_m / p_m.sum(), p_n / p_n.sum()
    ratio = np.divide(p_m, p_n, out=np.full(bins, np.inf), where=p_n > 0)
    ratio = np.minimum(ratio, 1e9)  # only mated scores in this bin
    local = np.where(ratio > 1, 2 * ratio / (1 + ratio) - 1, 0)
    return float((local * p_m).sum())


def enrolled(trio, vectors):
    allowed, shares = trio.admit(vectors, RULE)
    assert allowed.all()
    return [share[:, :32].view(np.int16) for share in shares]


def rebuilt_by(shares, i):
    """What guardians i and i + 1 make of their shares together: the value at 0 of the line through both."""
    first, second = shares[i].view(np.uint16), shares[(i + 1) % 3].view(np.uint16)
    # the third guardian's share, then the mean of three points of degree 1 is the value at 0
    third = missing_share_part(first, 1) + missing_share_part(second, 2)
    return ((first + second + third) * np.uint16(43691)).view(np.int16)


def test_two_operators_shares_of_the_same_people_are_unlinkable_at_one_guardian(trio):
    """Also of the very same template, which an operator that copies another's enrolment would have."""
    rng = np.random.default_rng(11)
    centres = people(rng)
    same = views(rng, centres)
    metro, canteen, copied = (enrolled(trio, v) for v in (same, views(rng, centres), same))
    for i in range(3):
        for other in (canteen, copied):
            linkability = d_sys(*scores(metro[i], other[i]))
            print(f"guardian {i}: D_sys {linkability:.3f}")
            assert linkability < 0.05, "independent noise of this sample size gives about 0.02"


def test_two_guardians_that_collude_rebuild_the_templates_and_link_them(trio):
    """Not a defence: the limit that the threat model states."""
    rng = np.random.default_rng(12)
    centres = people(rng)
    first, second = views(rng, centres), views(rng, centres)
    metro, canteen = enrolled(trio, first), enrolled(trio, second)
    for i in range(3):
        np.testing.assert_array_equal(rebuilt_by(metro, i), first)
    linkability = d_sys(*scores(rebuilt_by(metro, 1), rebuilt_by(canteen, 1)))
    print(f"two guardians: D_sys {linkability:.3f}")
    assert linkability > 0.95


def test_one_guardian_s_dump_finds_nobody(trio):
    rng = np.random.default_rng(13)
    centres = people(rng)
    stores = enrolled(trio, views(rng, centres))
    probes = views(rng, centres)
    for store in stores:
        mated, non_mated = scores(store, probes)
        assert abs(mated.mean() - non_mated.mean()) < 0.06, "two standard errors of 200 noise scores are 0.025"


def test_backups_of_two_guardians_from_before_and_after_a_refresh_do_not_fit(trio):
    rng = np.random.default_rng(14)
    vectors = views(rng, people(rng))
    _, shares = trio.admit(vectors, RULE)
    before = [share.copy() for share in shares]
    trio.run(lambda i: trio.parties[i].refresh(shares[i]))
    mixed = [before[0][:, :32].view(np.int16), shares[1][:, :32].view(np.int16), None]
    guess = rebuilt_by(mixed, 0)
    assert (guess == vectors).mean() < 0.02
    after = [share[:, :32].view(np.int16) for share in shares]
    np.testing.assert_array_equal(rebuilt_by(after, 0), vectors)
