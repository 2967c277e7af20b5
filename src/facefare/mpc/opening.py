"""Open "none", "row i" or "several", and never more.

Opening the xor of the matched rows' numbers outright would hand over a candidate list: two matches can be solved
for. So the guardians first test, in secret, whether at most one bit is set. Let row n have a random weight r_n in
GF(2^64), drawn after the probe is fixed, and let S_k be the sum of r_n^k over matched rows. Then
    d = S_1^3 + S_3
is zero where at most one row matched, and otherwise a non-zero polynomial of degree 3 in the weights, hence zero
with probability at most 3 / 2^64 (Schwartz 1980, Zippel 1979). It costs one secret product, S_1 S_1^2, since
squaring is linear. d is opened times a secret random element, so that only "zero or not" is seen.

The weights are r_{1024 h + l} = a_h + c_l. With b the match bits, row parities p_h and column parities q_l, the
coefficient of a_h^2 a_k in d is p_h p_k, of c_l^2 c_m it is q_l q_m, of a_h^2 c_l it is p_h q_l + b_{h,l}. All are
zero only if at most one p and one q are odd and b_{h,l} = p_h q_l: at most one match. So structured weights are as
sound as independent ones, and the sums cost two masked xors a row.
"""

import copy
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.answers import AnswerShare
from facefare.mpc.carry import Planes
from facefare.mpc.context import Context
from facefare.mpc.kernels import fold, gf_products
from facefare.mpc.rounds import Round, Rounds, reshare
from facefare.mpc.streams import Stream

BLOCK = 1024
"""Rows that share a weight a_h; a tile of rows is a whole number of blocks."""


class MatchSums:
    """Sums over match bits, for both of a guardian's components, gathered tile by tile (or shard by shard)."""

    def __init__(self, seed: bytes, rows: int, batch: int) -> None:
        """Expand the seed, on which all three guardians agree after the probes are fixed, into weights and tags."""
        stream = Stream(hashlib.sha256(b"facefare/mpc/weights/1" + seed).digest()[:16], 0)
        self._row_weights = stream.take((BLOCK,), np.uint64)
        self._row_cubes = _cubes(self._row_weights)
        self._block_weights = stream.take((-(-rows // BLOCK),), np.uint64)
        self._block_cubes = _cubes(self._block_weights)
        self.tags = stream.take((batch,), np.uint64)
        self._sums = np.zeros((2, batch, 4), np.uint64)

    def add(self, first_row: int, matched: Planes) -> None:
        """Add match bits (B, W) in row order; the first stands for row `first_row`, a multiple of BLOCK.

        With T_k a block's sum of c_l^k over set bits, its sum of (a + c_l)^3 is a^3 T_0 + a^2 T_1 + a T_1^2 + T_3.
        """
        first = first_row // BLOCK
        blocks = slice(first, first + matched.own.shape[1] * 64 // BLOCK)
        a, a3 = self._block_weights[blocks], self._block_cubes[blocks]
        a2 = gf_products(a, a)
        start = np.arange(blocks.start, blocks.stop, dtype=np.uint64) * np.uint64(BLOCK)
        for sums, bits in zip(self._sums, matched, strict=True):
            for b in range(len(bits)):
                t = np.empty((4, len(a)), np.uint64)
                fold(bits[b], self._row_weights, self._row_cubes, t)
                odd, place, t1, t3 = t
                s3 = (odd & a3) ^ gf_products(a2, t1) ^ gf_products(a, gf_products(t1, t1)) ^ t3
                terms = (odd & np.uint64(1), place ^ (odd & start), t1 ^ (odd & a), s3)
                sums[b] ^= np.array([np.bitwise_xor.reduce(term) for term in terms])

    def of(self, probes: NDArray[np.intp]) -> "MatchSums":
        """The sums of some of the probes only."""
        part = copy.copy(self)
        part._sums, part.tags = np.ascontiguousarray(self._sums[:, probes]), self.tags[probes]
        return part

    @classmethod
    def combined(cls, parts: Sequence["MatchSums"]) -> "MatchSums":
        """The sums of a gallery from those of its shards, all made from one seed."""
        whole = copy.copy(parts[0])
        whole._sums = np.bitwise_xor.reduce([part._sums for part in parts])
        return whole

    def several(self, context: Context) -> Rounds[NDArray[np.bool_]]:
        """(B,) bool, the same at all three guardians: whether more than one row matched; two rounds."""
        batch = self._sums.shape[1]
        s1, s3 = self._sums[:, :, 2], self._sums[:, :, 3]
        squares = np.stack([gf_products(component, component) for component in s1])  # linear, so each by itself
        own = _product(s1, squares) ^ context.zero_bits((batch,))
        following = yield from reshare(own)
        d = np.stack([own ^ s3[0], following ^ s3[1]])
        blind = np.stack([context.own.take((batch,), np.uint64), context.next.take((batch,), np.uint64)])
        part = _product(d, blind) ^ context.zero_bits((batch,))
        expected = ((batch,), np.uint64)
        others = yield Round(part, part, from_previous=expected, from_following=expected)
        several: NDArray[np.bool_] = part ^ others[0] ^ others[1] != 0
        return several

    def open(self, context: Context) -> Rounds[list[AnswerShare]]:
        """Test each probe's sums and give this guardian's parts of the answers."""
        several = yield from self.several(context)
        own, following = self._sums[:, :, :2]
        return [
            AnswerShare(
                context.index,
                several=bool(several[b]),
                own=(0, 0) if several[b] else _pair(own[b]),
                following=(0, 0) if several[b] else _pair(following[b]),
                tag=int(self.tags[b]),
            )
            for b in range(len(several))
        ]


def _pair(words: NDArray[np.uint64]) -> tuple[int, int]:
    return int(words[0]), int(words[1])


def _cubes(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return gf_products(gf_products(x, x), x)


def _product(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Own part, not yet masked, of the product of replicated values x and y, (2, B) each."""
    return gf_products(x[0], y[0] ^ y[1]) ^ gf_products(x[1], y[0])
