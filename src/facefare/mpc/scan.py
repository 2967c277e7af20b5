"""One pass over a gallery (or a shard of it): dots, conversion, signs, live rows, sums; nothing is opened.

Rows are worked on in tiles; one probe's million rows are one tile, a batch's tile is smaller so that it stays in cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.admission import Probes
from facefare.mpc.answers import AnswerShare
from facefare.mpc.carry import Planes, sign
from facefare.mpc.context import Context
from facefare.mpc.kernels import accumulate, bit_planes, dots, in_row_order
from facefare.mpc.opening import BLOCK, MatchSums
from facefare.mpc.rounds import Round, Rounds
from facefare.mpc.sharing import U16

LANES = 1 << 20
"""Probes times rows worked on at a time."""


@dataclass(frozen=True, repr=False)
class Gathered:
    """What one pass leaves at one guardian: sums to open, and the match bits (B, W) of each tile, in shares."""

    sums: MatchSums
    tiles: list[Planes]

    def of(self, probes: NDArray[np.intp]) -> "Gathered":
        """The same for some of the probes only."""
        return Gathered(self.sums.of(probes), [Planes(tile.own[probes], tile.following[probes]) for tile in self.tiles])

    def accumulate(self, answers: Sequence[AnswerShare], accumulators: NDArray[np.uint64]) -> None:
        """Let the rows answered take in the answers' tags; accumulators (2, N) uint64 of this gallery or shard."""
        for b, answer in enumerate(answers):
            if answer.several:
                continue
            first = 0
            for tile in self.tiles:
                for component, bits in enumerate(tile):
                    sums = accumulators[component, first : first + bits.shape[1] * 64]
                    accumulate(bits[b], np.uint64(answer.tag), sums)
                first += tile.own.shape[1] * 64


def check_sizes(
    gallery: NDArray[np.uint16],
    live: NDArray[np.uint64],
    probes: tuple[int, int],
    thresholds: NDArray[np.int32],
    accumulators: NDArray[np.uint64] | None = None,
) -> None:
    """Raise ValueError where a search's arrays do not fit each other and its probes' shape, or a threshold is off."""
    N = len(gallery)
    if live.shape != (-(-N // 64),) or gallery.shape[1:] != probes[1:] or thresholds.shape != probes[:1]:
        raise ValueError("Gallery, live rows, probes and thresholds do not fit each other.")
    if accumulators is not None and accumulators.shape != (2, N):
        raise ValueError("There are two components of an accumulator for each row.")
    if len(thresholds) and not (thresholds.min() >= -32_767 and thresholds.max() <= 0):
        raise ValueError("A threshold lies within -32,767 and 0.")


def gather(
    context: Context,
    gallery: NDArray[np.uint16],
    live: NDArray[np.uint64],
    probes: Probes,
    thresholds: NDArray[np.int32],
    *,
    rows: int | None = None,
    first_row: int = 0,
    seed: bytes | None = None,
) -> Rounds[Gathered]:
    """Go over the rows tile by tile; see `Party.identify` for the arrays.

    Of a shard: the rows of the whole gallery, the shard's first one, and the seed of all shards.
    """
    N, B = len(gallery), len(probes.shares)
    tile = max(1, LANES // max(B, 1) // BLOCK) * BLOCK
    sums, tiles = None, []
    for first in range(0, N if B else 0, tile):
        below = yield from _below_threshold(context, gallery[first : first + tile], probes, thresholds)
        matched = _matched(context.index, below, B, live[first // 64 :])
        sums = sums or MatchSums(seed or context.seed(), rows or N, B)
        sums.add(first_row + first, matched)
        tiles.append(matched)
    return Gathered(sums or MatchSums(seed or context.seed(), rows or N, B), tiles)


def _below_threshold(
    context: Context, rows: NDArray[np.uint16], probes: Probes, thresholds: NDArray[np.int32]
) -> Rounds[Planes]:
    """Replicated sign bits of score - threshold, (1, W), B x M lanes with M a whole number of blocks."""
    B, M = len(probes.shares), -(-len(rows) // BLOCK) * BLOCK
    z = np.empty((B, M), U16)
    dots(rows, probes.shares, context.own.take((B, M), U16), context.next.take((B, M), U16), z)
    z -= probes.norms[:, np.newaxis]
    expected = ((B, M), U16)
    planes = (16, B * M // 64)
    zeros = np.zeros(planes, np.uint64)
    # Guardians 0 and 1 tell each other z_0 and z_1, so that u = z_0 + z_1 - threshold is component 1 as it is; z_2 is
    # known to guardian 2, which shares it by one message.
    match context.index:
        case 0:
            mask = context.own.take(planes, np.uint64)
            _, z_1 = yield Round(to_following=z, from_following=expected)
            u, z2 = Planes(zeros, _planes_of_u(z, z_1, thresholds)), Planes(mask, zeros)
        case 1:
            z_0, masked = yield Round(to_previous=z, from_previous=expected, from_following=(planes, np.uint64))
            u, z2 = Planes(_planes_of_u(z_0, z, thresholds), zeros), Planes(zeros, masked)
        case _:
            mask = context.next.take(planes, np.uint64)
            masked = _planes(z) ^ mask
            yield Round(to_previous=masked)
            u, z2 = Planes(zeros, zeros), Planes(masked, mask)
    return (yield from sign(context, u, z2))


def _planes_of_u(z_0: NDArray[np.uint16], z_1: NDArray[np.uint16], thresholds: NDArray[np.int32]) -> NDArray[np.uint64]:
    return _planes(z_0 + z_1 - thresholds.astype(U16)[:, np.newaxis])


def _planes(z: NDArray[np.uint16]) -> NDArray[np.uint64]:
    words = z.view(np.uint64).reshape(-1, 16)
    out = np.empty((16, len(words)), np.uint64)
    bit_planes(words, out)
    return out


def _matched(index: int, below: Planes, batch: int, live: NDArray[np.uint64]) -> Planes:
    """Match bits (B, W) in row order, live rows only; component 0 carries the negation."""
    bits = []
    for component, plane in zip((index, (index + 1) % 3), below, strict=True):
        words = ~plane if component == 0 else plane
        words = words.reshape(batch, -1)
        in_row_order(words)
        known = min(len(live), words.shape[1])
        words[:, :known] &= live[:known]
        words[:, known:] = 0
        bits.append(words)
    return Planes(*bits)
