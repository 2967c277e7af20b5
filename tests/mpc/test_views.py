"""What one guardian sees has the same distribution whatever the secrets.

Exhaustive in Z_4 (as the multiples of 2^14 of the real ring, so that the real code runs): every lane of one run
stands for one choice of all randomness. Then statistical, in the real ring.
"""

import itertools
import threading
from collections import Counter

import numpy as np
import pytest

from facefare.mpc import InputRule
from facefare.mpc.admission import Probes
from facefare.mpc.carry import Planes, sign_by_ripple, sign_by_select, sign_by_tree
from facefare.mpc.context import Agreement, Context
from facefare.mpc.rounds import run
from facefare.mpc.scan import _below_threshold


class Scripted:
    """A stream that gives out prepared stretches in order."""

    def __init__(self, stretches):
        self._stretches = iter(stretches)

    def take(self, shape, dtype):
        stretch = np.asarray(next(self._stretches), dtype)
        return stretch.reshape(shape).copy()


def lanes_to_word_planes(bits):
    """(lanes,) of 0/1 -> (lanes / 64,) uint64."""
    return np.packbits(bits.astype(np.uint8), bitorder="little").view(np.uint64)


def run_scripted(trio, work, stretches):
    """Run work(context) at all three; stretches(j) scripts the stream of k_j, for each of its two holders."""
    results = [None] * 3

    def call(i):
        previous, following = trio.previous[i], trio.following[i]
        context = Context(
            i,
            previous,
            following,
            own=Scripted(stretches(i)),
            next=Scripted(stretches((i + 1) % 3)),
            agreement=Agreement(i, previous, following, b"scripted"),
        )
        results[i] = work(context)

    for end in (*trio.previous, *trio.following):
        end.received.clear()
    threads = [threading.Thread(target=call, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for end in (*trio.previous, *trio.following):
        end.received.pop(0)  # the header, which depends on nothing secret
    return results


@pytest.mark.parametrize("way", [sign_by_ripple, sign_by_select, sign_by_tree])
def test_all_randomness_of_a_three_bit_sign_gives_every_secret_the_same_view(trio, way):
    ands = 2 if way is sign_by_ripple else 3
    variables = 3 * ands + 6 + 6  # masks of the ANDs, then two random components of each of 3 + 3 input bits
    lanes = np.arange(1 << variables)
    bit = lambda k: lanes_to_word_planes((lanes >> k) & 1)  # noqa: E731
    words = len(lanes) // 64
    masks = {j: [bit(j * ands + k) for k in range(ands)] for j in range(3)}
    # the tree: two ANDs at once, then one; the others take all their masks at once
    masks = {j: [np.stack(m[:2]), m[2][None]] if way is sign_by_tree else [np.stack(m)] for j, m in masks.items()}
    views = []
    every = itertools.product(range(8), repeat=2)
    for a, b in every if way is sign_by_ripple else [(0, 0), (7, 7), (3, 5), (5, 2)]:
        components = []
        for value, base in ((a, 3 * ands), (b, 3 * ands + 6)):
            c0 = np.stack([bit(base + k) for k in range(3)])
            c1 = np.stack([bit(base + 3 + k) for k in range(3)])
            secret = np.stack([np.full(words, ~np.uint64(0) if value >> k & 1 else np.uint64(0)) for k in range(3)])
            components.append((c0, c1, secret ^ c0 ^ c1))
        held = [[Planes(c[i], c[(i + 1) % 3]) for c in components] for i in range(3)]
        signs = run_scripted(
            trio, lambda context: run(context, way(context, *held[context.index]))[0], lambda j: masks[j]
        )
        opened = signs[0].own ^ signs[1].own ^ signs[2].own
        assert (opened == (~np.uint64(0) if (a + b) & 4 else 0)).all()
        view = []
        for i in range(3):
            seen = [*held[i][0].own, *held[i][0].following, *held[i][1].own, *held[i][1].following]
            for message in trio.following[i].received:
                seen.extend(np.frombuffer(message, np.uint64).reshape(-1, words))
            # a guardian also knows its masks; they are part of its view
            seen.extend(np.concatenate([np.atleast_2d(m) for m in masks[i] + masks[(i + 1) % 3]]))
            bits = np.unpackbits(np.stack(seen).view(np.uint8), axis=1, bitorder="little")
            code = (bits.astype(np.uint64) << np.arange(len(bits), dtype=np.uint64)[:, None]).sum(
                axis=0, dtype=np.uint64
            )
            view.append(np.unique(code, return_counts=True))
        views.append(view)
    for view in views[1:]:
        for i in range(3):
            np.testing.assert_array_equal(view[i][0], views[0][i][0])
            np.testing.assert_array_equal(view[i][1], views[0][i][1])


def test_all_randomness_of_a_conversion_in_z4_gives_every_score_the_same_view(trio, monkeypatch):
    """Masks of the dots (three in Z_4), of the boolean sharing (two bits) and of the last AND."""
    monkeypatch.setattr("facefare.mpc.carry.RIPPLE_FROM_WORDS", 0)
    lanes = np.arange(1 << 11)
    top = np.uint16(1 << 14)
    field = lambda at, width: (lanes >> at) & ((1 << width) - 1)  # noqa: E731
    words = len(lanes) // 64

    def planes_of(low, high):
        """Masks (16, W) of which planes 14 and 15 vary; in the kernels' order of bits."""
        out = np.zeros((16, words), np.uint64)
        for plane, bits in ((14, low), (15, high)):
            ordered = bits.reshape(-1, 16, 4).transpose(0, 2, 1).reshape(-1)  # value 4 j + l to bit 16 l + j
            out[plane] = lanes_to_word_planes(ordered)
        return out

    dot_masks = [(field(2 * j, 2).astype(np.uint16) * top) for j in range(3)]
    sharing = {0: planes_of(field(6, 1), field(7, 1))}

    def and_masks(j):
        last = np.zeros((15, words), np.uint64)
        ordered = field(8 + j, 1).reshape(-1, 16, 4).transpose(0, 2, 1).reshape(-1)
        last[14] = lanes_to_word_planes(ordered)
        return [last]

    def stretches(j):
        return [dot_masks[j], *([sharing[j]] if j in sharing else []), *and_masks(j)]

    histograms = []
    for parts in [(s, 0, 0) for s in range(4)] + [(1, 3, 2), (2, 2, 3), (3, 1, 1)]:
        rows = [np.full((len(lanes), 1), p, np.uint16) for p in parts]
        probe = Probes(np.array([[top]], np.uint16), np.zeros(1, np.uint16))
        signs = run_scripted(
            trio,
            lambda c: run(c, _below_threshold(c, rows[c.index], probe, np.zeros(1, np.int32)))[0],
            stretches,
        )
        opened = signs[0].own ^ signs[1].own ^ signs[2].own
        assert (opened == (~np.uint64(0) if sum(parts) & 2 else 0)).all()
        histogram = []
        for i in range(3):
            columns = []
            for link in (trio.previous[i], trio.following[i]):
                for number, message in enumerate(link.received):
                    if number == 0 and link in (trio.previous[1], trio.following[0]):  # z_0, z_1: a 16-bit word a lane
                        columns.append(np.frombuffer(message, np.uint16) >> 14)
                        continue
                    for plane in np.frombuffer(message, np.uint64).reshape(-1, words):
                        bits = np.unpackbits(plane.view(np.uint8), bitorder="little")
                        columns.append(bits.reshape(-1, 4, 16).transpose(0, 2, 1).reshape(-1))
            # the guardian's own masks, which it knows
            columns += [m >> 14 for m in (dot_masks[i], dot_masks[(i + 1) % 3])]
            columns += [field(8 + i, 1), field(8 + (i + 1) % 3, 1)]
            columns += [field(6, 2)] * (i in (0, 2))
            histogram.append(Counter(zip(*(c.tolist() for c in columns), strict=True)))
        histograms.append((parts, histogram))
    _, first = histograms[0]
    for parts, histogram in histograms[1:]:
        # Guardian i's own unmasked part is fixed within `parts`; what it receives must not tell the others'.
        for i in range(3):
            if parts[i] == histograms[0][0][i]:
                assert histogram[i] == first[i]


def test_what_each_guardian_receives_is_uniform(trio):
    """A chi-square test of bytes in the real ring, for a gallery and a probe as regular as can be."""
    rows = 60_000
    rule = InputRule(2, 1, 8191)
    _, shares = trio.admit(np.tile([[60, 60]], (rows, 1)), rule)
    for end in (*trio.previous, *trio.following):
        end.received.clear()
    live = np.full(-(-rows // 64), ~np.uint64(0))
    live[-1] = (1 << (rows % 64)) - 1
    trio.identify(shares, live, [[60, 60]], [-5], rule)
    for end in (*trio.previous, *trio.following):
        data = b"".join(message for message in end.received if len(message) >= 1024)
        if not data:
            continue
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        chi2 = ((counts - len(data) / 256) ** 2 / (len(data) / 256)).sum()
        assert chi2 < 400, "255 degrees of freedom: 400 is beyond one in a hundred million"


@pytest.mark.parametrize("holder", range(3))
def test_a_stored_share_is_uniform_whatever_the_reference(trio, holder):
    _, shares = trio.admit(np.tile([[60, 60]], (30_000, 1)), InputRule(2, 1, 8191))
    counts = np.bincount(shares[holder].view(np.uint8).reshape(-1), minlength=256)
    mean = counts.sum() / 256
    assert ((counts - mean) ** 2 / mean).sum() < 400
