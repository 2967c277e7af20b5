"""The top bit of a sum of two numbers that are shared bit by bit.

Two ways to the same carry: a *ripple* spends one AND a bit, and as many rounds; a *carry tree* of generate and
propagate bits spends 39 ANDs for 16 bits in 5 rounds. The ripple moves less and computes less, so it wins as soon
as a round's work outweighs a round's latency; the tree is for few rows or far-apart guardians.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.context import Context
from facefare.mpc.kernels import and_planes, majority, tree_level


class Planes(NamedTuple):
    """Replicated bits at one guardian: components i and i + 1, (bits, W) uint64 each, lowest bit first."""

    own: NDArray[np.uint64]
    following: NDArray[np.uint64]


def sign_by_ripple(context: Context, a: Planes, b: Planes) -> Planes:
    """Top bit of a + b, (1, W): bits - 1 ANDs, bits - 1 rounds."""
    top = len(a.own) - 1
    c0 = np.zeros_like(a.own[0])
    c1 = c0
    masks = context.zero_bits((top, *c0.shape))
    for k in range(top):
        out = np.empty_like(c0)
        majority(a.own[k], a.following[k], b.own[k], b.following[k], c0, c1, masks[k], out)
        c0, c1 = out, context.reshare(out)
    return Planes((a.own[top] ^ b.own[top] ^ c0)[np.newaxis], (a.following[top] ^ b.following[top] ^ c1)[np.newaxis])


def sign_by_tree(context: Context, a: Planes, b: Planes) -> Planes:
    """Top bit of a + b, (1, W), in 1 + ceil(log2(bits - 1)) rounds."""
    top = len(a.own) - 1
    g0, g1 = context.and_((a.own[:top], a.following[:top]), (b.own[:top], b.following[:top]), and_planes)
    p0, p1 = a.own ^ b.own, a.following ^ b.following
    sign0, sign1 = p0[top], p1[top]
    p0, p1 = p0[:top], p1[:top]
    while len(g0) > 1:
        pairs, odd = divmod(len(g0), 2)
        out = np.empty((2 * pairs - 1, g0.shape[1]), np.uint64)
        tree_level(g0, g1, p0, p1, context.zero_bits(out.shape), out)
        got = context.reshare(out)
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


RIPPLE_FROM_WORDS = 1024
"""From so many words a plane (65,536 rows) the ripple's saving outweighs its rounds; see bench/identification.py."""


def sign(context: Context, a: Planes, b: Planes) -> Planes:
    """Top bit of a + b, (1, W), by whichever of the two is faster for so many rows."""
    way = sign_by_ripple if a.own.shape[1] >= RIPPLE_FROM_WORDS else sign_by_tree
    return way(context, a, b)
