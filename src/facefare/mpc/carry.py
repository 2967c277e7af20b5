"""The top bit of a sum of two numbers that are shared bit by bit.

Three ways to the same carry, for 16 bits: a *ripple* spends 15 ANDs in 15 rounds; *carry select* works on the upper
half for both carries that may come from the lower one, 22 ANDs in 9 rounds; a *carry tree* of generate and propagate
bits spends 39 ANDs in 5 rounds. The fewer ANDs win as soon as a round's work outweighs a round's latency; the tree is
for few rows or far-apart guardians.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.context import Context
from facefare.mpc.kernels import and_planes, majority, tree_level
from facefare.mpc.rounds import Rounds, reshare


class Planes(NamedTuple):
    """Replicated bits at one guardian: components i and i + 1, (bits, W) uint64 each, lowest bit first."""

    own: NDArray[np.uint64]
    following: NDArray[np.uint64]


def sign_by_ripple(context: Context, a: Planes, b: Planes) -> Rounds[Planes]:
    """Top bit of a + b, (1, W): bits - 1 ANDs, bits - 1 rounds."""
    top = len(a.own) - 1
    c0 = np.zeros_like(a.own[0])
    c1 = c0
    masks = context.zero_bits((top, *c0.shape))
    for k in range(top):
        out = np.empty_like(c0)
        majority(a.own[k], a.following[k], b.own[k], b.following[k], c0, c1, masks[k], out)
        c0, c1 = out, (yield from reshare(out))
    return Planes((a.own[top] ^ b.own[top] ^ c0)[np.newaxis], (a.following[top] ^ b.following[top] ^ c1)[np.newaxis])


def sign_by_select(context: Context, a: Planes, b: Planes) -> Rounds[Planes]:
    """Top bit of a + b, (1, W): the lower half ripples while the upper one does so for both carries into it."""
    top = len(a.own) - 1
    low = (top + 1) // 2
    words = a.own.shape[1]
    zeros = np.zeros(words, np.uint64)
    masks = iter(context.zero_bits((low + 2 * (top - low), words)))
    carry = (zeros, zeros)  # components of the carry out of the lower half, so far
    without, with_carry = carry, carry  # out of the upper half, if none comes in, and if one does

    def step(k: int, carry_in: tuple[NDArray[np.uint64], NDArray[np.uint64]], out: NDArray[np.uint64]) -> None:
        majority(a.own[k], a.following[k], b.own[k], b.following[k], *carry_in, next(masks), out)

    for k in range(low):
        high = low + k
        out = np.empty((1 if high >= top else 2 if k == 0 else 3, words), np.uint64)
        step(k, carry, out[0])
        if high < top:
            step(high, without, out[1])
            if k > 0:
                step(high, with_carry, out[2])
        got = yield from reshare(out)
        carry = (out[0], got[0])
        if high < top:
            without = (out[1], got[1])
            # a | b = a ^ b ^ ab: the first carry costs one AND for both
            with_carry = (
                (out[2], got[2])
                if k > 0
                else (a.own[high] ^ b.own[high] ^ out[1], a.following[high] ^ b.following[high] ^ got[1])
            )
    differ = (without[0] ^ with_carry[0])[np.newaxis], (without[1] ^ with_carry[1])[np.newaxis]
    picked = np.empty_like(differ[0])
    chosen = (carry[0][np.newaxis], carry[1][np.newaxis])
    and_planes(*differ, *chosen, next(masks)[np.newaxis], picked)
    got = yield from reshare(picked)
    return Planes(
        (a.own[top] ^ b.own[top] ^ without[0]) ^ picked, (a.following[top] ^ b.following[top] ^ without[1]) ^ got
    )


def sign_by_tree(context: Context, a: Planes, b: Planes) -> Rounds[Planes]:
    """Top bit of a + b, (1, W), in 1 + ceil(log2(bits - 1)) rounds."""
    top = len(a.own) - 1
    g0 = np.empty_like(a.own[:top])
    and_planes(a.own[:top], a.following[:top], b.own[:top], b.following[:top], context.zero_bits(g0.shape), g0)
    g1 = yield from reshare(g0)
    p0, p1 = a.own ^ b.own, a.following ^ b.following
    sign0, sign1 = p0[top], p1[top]
    p0, p1 = p0[:top], p1[:top]
    while len(g0) > 1:
        pairs, odd = divmod(len(g0), 2)
        out = np.empty((2 * pairs - 1, g0.shape[1]), np.uint64)
        tree_level(g0, g1, p0, p1, context.zero_bits(out.shape), out)
        got = yield from reshare(out)
        g0, p0 = _merged(g0, p0, out, pairs, odd)
        g1, p1 = _merged(g1, p1, got, pairs, odd)
    return Planes((sign0 ^ g0[0])[np.newaxis], (sign1 ^ g1[0])[np.newaxis])


def _merged(
    g: NDArray[np.uint64], p: NDArray[np.uint64], ands: NDArray[np.uint64], pairs: int, odd: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Generate and propagate of each pair, one component; an odd top line waits for the next level."""
    merged_g = np.empty((pairs + odd, g.shape[1]), np.uint64)
    merged_p = np.zeros_like(merged_g)  # the lowest line's propagate is never used
    np.bitwise_xor(g[1 : 2 * pairs : 2], ands[:pairs], out=merged_g[:pairs])
    merged_p[1:pairs] = ands[pairs:]
    if odd:
        merged_g[pairs] = g[-1]
        merged_p[pairs] = p[-1]
    return merged_g, merged_p


SELECT_FROM_WORDS, RIPPLE_FROM_WORDS = 256, 8192
"""From 16,384 lanes on carry select is faster than the tree, from 524,288 on the ripple than both; measured."""


def sign(context: Context, a: Planes, b: Planes) -> Rounds[Planes]:
    """Top bit of a + b, (1, W), by whichever of the three is fastest for so many rows."""
    words = a.own.shape[1]
    if words >= RIPPLE_FROM_WORDS:
        return sign_by_ripple(context, a, b)
    return sign_by_select(context, a, b) if words >= SELECT_FROM_WORDS else sign_by_tree(context, a, b)
