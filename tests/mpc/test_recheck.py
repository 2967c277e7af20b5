"""A second search in a secret order agrees with an honest answer, and with no lie."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facefare.mpc import InputRule, Match, NoMatch, Several, ShareMismatch, combine, held_by, scan, split
from facefare.mpc.recheck import SENTINELS, RecheckShare, SecretOrder, confirm
from facefare.mpc.sharing import THIRD, times_w

RULE = InputRule(4, 1, 8191)


def vectors(rng, count):
    return np.rint(rng.normal(size=(count, 4)) * 15 + 25).clip(-40, 40).astype(np.int32)


def ordered(trio, rows, numbers=None):
    count = len(rows[0])
    numbers = np.arange(count, dtype=np.uint64) if numbers is None else numbers
    orders = [SecretOrder(share, numbers, 10 * count + 10) for share in rows]
    while not orders[0].ready:
        trio.run(lambda i: trio.parties[i].reorder(orders[i]))
    return orders


def recheck(trio, orders, probes, thresholds, places=None):
    components = split(np.asarray(probes, np.int32))
    places = orders[0].everywhere if places is None else places
    parts = trio.run(
        lambda i: trio.parties[i].recheck(
            held_by(i, components), RULE, orders[i], places, np.asarray(thresholds, np.int32)
        )
    )
    return [list(part) for part in zip(*parts, strict=True)]


def opened(orders, i):
    """Rows of an order, by guardians i and i + 1 together: what no one of them can do."""
    a, b = orders[i].rows, orders[(i + 1) % 3].rows
    return ((a - times_w(a, 1) + b - times_w(b, 2)) * THIRD).view(np.int16)[:, :4]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2, 64, 65, 1024, 2500]), st.sampled_from([7, 64, 16_384]))
def test_an_honest_answer_is_confirmed_whatever_the_gallery_and_the_batch(trio, monkeypatch, seed, count, tile):
    monkeypatch.setattr("facefare.mpc.recheck.TILE", max(tile, -(-count // 40) or 1))
    rng = np.random.default_rng(seed)
    gallery = vectors(rng, count)
    rows = trio.admit(gallery, RULE)[1] if count else [np.empty((0, 6), np.uint16)] * 3
    numbers = np.sort(rng.choice(10 * count + 1, count, replace=False)).astype(np.uint64)
    orders = ordered(trio, rows, numbers)
    probes = np.concatenate([vectors(rng, 2), gallery[:1], gallery[-1:]]) if count else vectors(rng, 2)
    for probe, parts in zip(probes, recheck(trio, orders, probes, [-1] * len(probes)), strict=True):
        matched = np.flatnonzero(((gallery.astype(int) - probe) ** 2).sum(axis=1) <= 1)
        honest = Several() if len(matched) > 1 else Match(int(numbers[matched[0]])) if len(matched) else NoMatch()
        confirm(honest, parts)
        assert {part.several for part in parts} == {len(matched) > 1}
        for lie in (NoMatch(), Match(0), Match(10 * count + 5)):
            if lie != honest and honest != Several():
                with pytest.raises(ShareMismatch):
                    confirm(lie, parts)


def test_the_order_is_a_permutation_that_differs_each_time_and_no_pair_s_own_one(trio):
    gallery = vectors(np.random.default_rng(1), 500)
    _, rows = trio.admit(gallery, RULE)
    found = []
    for _ in range(2):
        orders = ordered(trio, rows)
        moved = opened(orders, 0)
        np.testing.assert_array_equal(moved, opened(orders, 1))
        sentinels = [(0, 0, 0, 0)] * SENTINELS
        assert sorted(map(tuple, moved)) == sorted([*map(tuple, gallery), *sentinels])
        assert (moved[:500] == gallery).all(axis=1).mean() < 0.05
        assert 150 < (moved[:500] == 0).all(axis=1).sum() < 350, "sentinels lie among the rows"
        found.append(moved)
    people = (found[0] != 0).any(axis=1)
    assert (found[0] == found[1]).all(axis=1)[people].mean() < 0.05


@pytest.mark.parametrize("holder", range(3))
def test_what_a_guardian_holds_and_gets_of_an_order_is_uniform(trio, holder):
    gallery = np.tile([[60, 60, 1, 1]], (20_000, 1))
    _, rows = trio.admit(gallery, RULE)
    for end in (*trio.previous, *trio.following):
        end.received.clear()
    orders = ordered(trio, rows)
    got = b"".join(m for end in (trio.previous[holder], trio.following[holder]) for m in end.received if len(m) > 64)
    for data in (orders[holder].rows.tobytes(), got):
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        mean = counts.sum() / 256
        assert ((counts - mean) ** 2 / mean).sum() < 400
        words = np.frombuffer(data, np.uint16)[: 2**15]
        assert len(np.unique(words)) > 20_000, "20,000 equal rows show no repetition"


@pytest.mark.parametrize("liar", range(3))
def test_a_liar_that_flips_a_chosen_row_is_caught_by_the_recheck(trio, liar):
    """It flips row 7's match bit in the search, and in the recheck whatever place it likes, or the label it sends."""
    rng = np.random.default_rng(2)
    gallery = vectors(rng, 300)
    gallery[:, 0] = 40
    _, rows = trio.admit(gallery, RULE)
    orders = ordered(trio, rows)
    stranger = np.array([[-40, 40, 40, 40]])
    parts = recheck(trio, orders, stranger, [-1])[0]
    confirm(NoMatch(), parts)
    with pytest.raises(ShareMismatch):
        confirm(Match(7), parts)
    for forged in rng.integers(0, 2**64, 50, np.uint64):
        lied = [
            RecheckShare(
                p.guardian, p.several, p.upto, p.label ^ int(forged) * (p.guardian == liar), p.own, p.following
            )
            for p in parts
        ]
        with pytest.raises(ShareMismatch):
            confirm(Match(7), lied)
    said = parts[liar]
    for own, following in (((said.own[0] ^ 1, said.own[1]), said.following), (said.own, (0, said.following[1]))):
        lied = [
            *parts[:liar],
            replace(said, own=own, following=following),
            *parts[liar + 1 :],
        ]
        with pytest.raises(ShareMismatch):
            confirm(NoMatch(), lied)
    hidden = [*parts[:liar], replace(said, several=True, label=0), *parts[liar + 1 :]]
    with pytest.raises(ShareMismatch):
        confirm(NoMatch(), hidden)


@pytest.mark.parametrize("liar", range(3))
def test_a_flip_at_any_one_place_of_the_order_confirms_the_chosen_row_one_time_in_n(trio, liar, monkeypatch):
    gallery = vectors(np.random.default_rng(3), 64)
    gallery[:, 0] = 40
    _, rows = trio.admit(gallery, RULE)
    orders = ordered(trio, rows)
    confirmed = 0
    for place in range(64 + SENTINELS):
        word, flip = place // 64, np.uint64(1) << np.uint64(place % 64)

        def flipped(self, context, gathered, word=word, flip=flip, honest=SecretOrder.answer):
            tile = gathered.tiles[0]  # a lie about a bit is a lie about one component, which two guardians then hold
            if context.index == liar:
                tile.own[0, word] ^= flip
            if context.index == (liar - 1) % 3:
                tile.following[0, word] ^= flip
            return honest(self, context, gathered)

        with monkeypatch.context() as patch:
            patch.setattr(SecretOrder, "answer", flipped)
            (parts,) = recheck(trio, orders, [[-40, 40, 40, 40]], [-1])
        try:
            confirm(Match(7), parts)
        except ShareMismatch:
            continue
        confirmed += 1
    assert confirmed == 1


@pytest.mark.parametrize("liar", range(3))
def test_a_liar_that_loosens_the_threshold_for_all_rows_is_caught_by_the_sentinels(trio, liar, monkeypatch):
    """Row 7 is just too far; with 4 more on every score it alone would match, in whatever order."""
    gallery = vectors(np.random.default_rng(6), 300)
    gallery[:, 0], gallery[7] = 40, [-40, 40, 40, 42]
    _, rows = trio.admit(gallery, RULE)
    orders = ordered(trio, rows)
    (parts,) = recheck(trio, orders, [[-40, 40, 40, 40]], [-4])
    confirm(Match(7), parts)
    (parts,) = recheck(trio, orders, [[-40, 40, 40, 40]], [-3])
    confirm(NoMatch(), parts)
    honest = scan.dots

    def dots(rows, probes, plus, minus, out):
        honest(rows, probes, plus, minus, out)
        if threading.current_thread().name == f"guardian {liar}":
            out += np.uint16(1)

    monkeypatch.setattr(scan, "dots", dots)
    loosened = trio.identify(
        rows, np.full(5, ~np.uint64(0)) >> np.array([0] * 4 + [20], np.uint64), [[-40, 40, 40, 40]], [-3], RULE
    )[0]
    assert combine(loosened) == Match(7), "the search itself does not notice"
    (parts,) = recheck(trio, orders, [[-40, 40, 40, 40]], [-3])
    assert {part.several for part in parts} == {True}
    with pytest.raises(ShareMismatch):
        confirm(Match(7), parts)


@pytest.mark.parametrize("changed", ["a stored share", "a row on its way", "a row's tag"])
@pytest.mark.parametrize("liar", range(3))
def test_a_liar_that_changes_a_row_for_the_recheck_is_caught_while_the_order_is_made(trio, liar, changed, monkeypatch):
    """Else it could turn the victim's row into one that matches an accomplice, in the order too."""
    _, rows = trio.admit(vectors(np.random.default_rng(5), 300), RULE)
    if changed == "a stored share":
        rows[liar][7, 0] += np.uint16(9)
    else:
        honest = SecretOrder._permute

        def permute(self, context, part):
            if context.index == liar and self._phase == 1 + liar:  # its first permutation as the first of a pair
                self._held.rows[11, 2] += np.uint16(30 * (changed == "a row on its way"))
                self._held.tags[0, 11] += np.uint16(changed == "a row's tag")
            yield from honest(self, context, part)

        monkeypatch.setattr(SecretOrder, "_permute", permute)
    with pytest.raises(ShareMismatch, match="changed"):
        ordered(trio, rows)


def test_the_coin_is_the_same_at_all_three_new_each_time_and_a_liar_can_t_bend_it(trio):
    drawn = [trio.run(lambda i: trio.parties[i].draw()) for _ in range(20)]
    assert all(len(set(three)) == 1 for three in drawn)
    assert len({three[0] for three in drawn}) == 20
    end = trio.previous[1]
    honest = end.send
    end.send = lambda data: honest(bytes(data) if len(data) > 16 else bytes(len(data)))
    with pytest.raises(ShareMismatch):
        trio.run(lambda i: trio.parties[i].draw())


def test_a_row_that_was_enrolled_later_is_let_pass_but_no_older_one_beside_it(trio):
    gallery = vectors(np.random.default_rng(7), 20)
    _, rows = trio.admit(gallery, RULE)
    orders = ordered(trio, rows)  # says nothing of rows from 210 on
    stranger, payer = recheck(trio, orders, [[-40, 40, 40, 40], gallery[3]], [-1, -1])
    confirm(Match(210), stranger)
    with pytest.raises(ShareMismatch):
        confirm(Match(209), stranger)
    with pytest.raises(ShareMismatch):
        confirm(Match(210), payer)
    later = replace(stranger[0], upto=211)
    with pytest.raises(ShareMismatch, match="order"):
        confirm(Match(210), [later, *stranger[1:]])


def test_an_order_that_is_not_ready_searches_nothing(trio):
    _, rows = trio.admit(vectors(np.random.default_rng(4), 10), RULE)
    order = SecretOrder(rows[0], np.arange(10, dtype=np.uint64), 10)
    with pytest.raises(ValueError, match="order"):
        trio.parties[0].recheck(np.zeros((2, 1, 4), np.uint32), RULE, order, order.everywhere, np.array([-1], np.int32))
    with pytest.raises(ValueError, match="order"):
        trio.parties[0].reveal(order, np.array([3], np.uint64))


def test_a_revealed_row_is_where_all_three_say_and_left_out_it_pays_for_nobody(trio):
    gallery = vectors(np.random.default_rng(8), 300)
    numbers = np.arange(5, 905, 3, dtype=np.uint64)
    _, rows = trio.admit(gallery, RULE)
    orders = ordered(trio, rows, numbers)
    gone = np.array([17, 0, 299])
    said = trio.run(lambda i: trio.parties[i].reveal(orders[i], numbers[gone]))
    for places in said:
        np.testing.assert_array_equal(places, said[0])
    np.testing.assert_array_equal(opened(orders, 0)[said[0]], gallery[gone])
    live = orders[0].everywhere
    for place in map(int, said[0]):
        live[place // 64] &= ~(np.uint64(1) << np.uint64(place % 64))
    paused, other = recheck(trio, orders, gallery[[17, 18]], [-1, -1], live)
    confirm(NoMatch(), paused)
    confirm(Match(int(numbers[18])), other)
    with pytest.raises(ShareMismatch):
        confirm(Match(int(numbers[17])), paused)
    for order in orders:
        order.erase(said[0])
    for i in range(3):
        assert not orders[i].rows[said[0]].any()


@pytest.mark.parametrize("phase", [1, 2, 3])
@pytest.mark.parametrize("liar", range(3))
def test_a_guardian_that_reveals_another_row_s_place_is_caught(trio, liar, phase):
    _, rows = trio.admit(vectors(np.random.default_rng(9), 40), RULE)
    orders = ordered(trio, rows)
    if phase in orders[liar]._moved_to:
        orders[liar]._moved_to[phase] = orders[liar]._moved_to[phase][::-1].copy()
        with pytest.raises(ShareMismatch, match="places"):
            trio.run(lambda i: trio.parties[i].reveal(orders[i], np.array([3], np.uint64)))
    else:
        assert (phase - 1 - liar) % 3 == 1, "each guardian lacks the other pair's permutation, and no other"


@pytest.mark.parametrize("data", [b"", bytes(47), bytes(49), b"\x03" + bytes(47), b"\x00\x02" + bytes(46)])
def test_bytes_that_are_no_share_of_a_recheck_are_refused(data):
    with pytest.raises(ValueError, match="share"):
        RecheckShare.from_bytes(data)


def test_a_share_of_a_recheck_survives_the_wire_and_shows_nothing():
    share = RecheckShare(2, False, 2**32 - 1, 2**64 - 1, (5, 6), (7, 2**63))
    assert RecheckShare.from_bytes(share.to_bytes()) == share
    assert str(2**64 - 1) not in repr(share)
