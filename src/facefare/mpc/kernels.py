"""The loops over rows, compiled by numba. Nothing here talks to anyone or decides anything.

Every intermediate is cast back to its own width, so that the loops become vector code of that width. Rows stand
in words of 64: bit p of plane word w belongs to row 64 w + row_of_bit(p), see `bit_planes`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

U8, U16, U64 = np.uint8, np.uint16, np.uint64
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile without the interpreter lock and keep the machine code beside the source."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))


@compiled
def dots(
    rows: NDArray[np.uint16],
    probes: NDArray[np.uint16],
    plus: NDArray[np.uint16],
    minus: NDArray[np.uint16],
    out: NDArray[np.uint16],
) -> None:
    """out[b, n] = rows[n] . probes[b] + plus[b, n] - minus[b, n] modulo 2^16.

    rows (N, C), probes (B, C), plus, minus and out (B, M) with M >= N; columns from N on get the masks alone.
    """
    N, C = rows.shape
    B, M = out.shape
    whole = N - N % 4 if B > 1 else 0
    for n in range(0, whole, 4):
        for b in range(B):
            a0 = U16(0)
            a1 = U16(0)
            a2 = U16(0)
            a3 = U16(0)
            for c in range(C):
                p = probes[b, c]
                a0 = U16(a0 + U16(rows[n, c] * p))
                a1 = U16(a1 + U16(rows[n + 1, c] * p))
                a2 = U16(a2 + U16(rows[n + 2, c] * p))
                a3 = U16(a3 + U16(rows[n + 3, c] * p))
            out[b, n] = U16(a0 + plus[b, n] - minus[b, n])
            out[b, n + 1] = U16(a1 + plus[b, n + 1] - minus[b, n + 1])
            out[b, n + 2] = U16(a2 + plus[b, n + 2] - minus[b, n + 2])
            out[b, n + 3] = U16(a3 + plus[b, n + 3] - minus[b, n + 3])
    for b in range(B):
        for n in range(whole, N):
            a0 = U16(0)
            for c in range(C):
                a0 = U16(a0 + U16(rows[n, c] * probes[b, c]))
            out[b, n] = U16(a0 + plus[b, n] - minus[b, n])
        for n in range(N, M):
            out[b, n] = U16(plus[b, n] - minus[b, n])


@compiled
def bit_planes(values: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Cut 16-bit values into bit planes.

    values (W, 16): 64 neighbouring uint16 a line, read as uint64 (little-endian) and used up as scratch.
    out (16, W): word w of plane k holds bit k of the 64 values, value 4 j + l at bit 16 l + j. (A 16 x 16 bit
    transpose in each of the four lanes, Warren, Hacker's Delight, 7-3.)
    """
    W = values.shape[0]
    masks = (
        U64(0x00FF00FF00FF00FF),
        U64(0x0F0F0F0F0F0F0F0F),
        U64(0x3333333333333333),
        U64(0x5555555555555555),
    )
    for w in range(W):
        line = values[w]
        for j in range(8):
            t = ((line[j] >> U64(8)) ^ line[j + 8]) & masks[0]
            line[j + 8] ^= t
            line[j] ^= t << U64(8)
        for base in (0, 8):
            for j in range(base, base + 4):
                t = ((line[j] >> U64(4)) ^ line[j + 4]) & masks[1]
                line[j + 4] ^= t
                line[j] ^= t << U64(4)
        for base in (0, 4, 8, 12):
            for j in range(base, base + 2):
                t = ((line[j] >> U64(2)) ^ line[j + 2]) & masks[2]
                line[j + 2] ^= t
                line[j] ^= t << U64(2)
        for j in range(0, 16, 2):
            t = ((line[j] >> U64(1)) ^ line[j + 1]) & masks[3]
            line[j + 1] ^= t
            line[j] ^= t << U64(1)
        for k in range(16):
            out[k, w] = line[k]


@compiled
def in_row_order(planes: NDArray[np.uint64]) -> None:
    """Move bit 16 l + j of every word to bit 4 j + l, in place: the order of `bit_planes` back to the rows'.

    A 4 x 16 bit transpose as two perfect shuffles (delta swaps).
    """
    flat = planes.reshape(-1)
    for i in range(flat.shape[0]):
        x = flat[i]
        for _ in range(2):
            # one outer perfect shuffle: position p goes to (2 p) mod 63
            t = (x ^ (x >> U64(16))) & U64(0x00000000FFFF0000)
            x = x ^ t ^ (t << U64(16))
            t = (x ^ (x >> U64(8))) & U64(0x0000FF000000FF00)
            x = x ^ t ^ (t << U64(8))
            t = (x ^ (x >> U64(4))) & U64(0x00F000F000F000F0)
            x = x ^ t ^ (t << U64(4))
            t = (x ^ (x >> U64(2))) & U64(0x0C0C0C0C0C0C0C0C)
            x = x ^ t ^ (t << U64(2))
            t = (x ^ (x >> U64(1))) & U64(0x2222222222222222)
            x = x ^ t ^ (t << U64(1))
        flat[i] = x


@compiled
def majority(
    a0: NDArray[np.uint64],
    a1: NDArray[np.uint64],
    b0: NDArray[np.uint64],
    b1: NDArray[np.uint64],
    c0: NDArray[np.uint64],
    c1: NDArray[np.uint64],
    mask: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:
    """One ripple step on replicated bits: out = own component of maj(a, b, c) = a ^ (a ^ b)(a ^ c).

    All (W,); x0 and x1 are components i and i + 1, mask this guardian's part of a sharing of zero.
    """
    for w in range(out.shape[0]):
        x0 = a0[w] ^ b0[w]
        x1 = a1[w] ^ b1[w]
        y0 = a0[w] ^ c0[w]
        y1 = a1[w] ^ c1[w]
        out[w] = (x0 & (y0 ^ y1)) ^ (x1 & y0) ^ mask[w] ^ a0[w]


@compiled
def and_planes(
    x0: NDArray[np.uint64],
    x1: NDArray[np.uint64],
    y0: NDArray[np.uint64],
    y1: NDArray[np.uint64],
    mask: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:
    """Own component of the AND of replicated bits, all (K, W)."""
    for k in range(out.shape[0]):
        for w in range(out.shape[1]):
            out[k, w] = (x0[k, w] & (y0[k, w] ^ y1[k, w])) ^ (x1[k, w] & y0[k, w]) ^ mask[k, w]


@compiled
def tree_level(
    g0: NDArray[np.uint64],
    g1: NDArray[np.uint64],
    p0: NDArray[np.uint64],
    p1: NDArray[np.uint64],
    mask: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:
    """One level of the carry tree, own components: lines 0..m-1 of out are p_high & g_low, then p_high & p_low.

    g, p (K, W) with m = K // 2 pairs; the lowest pair needs no p, so out has 2 m - 1 lines.
    """
    m = g0.shape[0] // 2
    for j in range(m):
        for w in range(g0.shape[1]):
            h0 = p0[2 * j + 1, w]
            h1 = p1[2 * j + 1, w]
            out[j, w] = (h0 & (g0[2 * j, w] ^ g1[2 * j, w])) ^ (h1 & g0[2 * j, w]) ^ mask[j, w]
    for j in range(1, m):
        r = m + j - 1
        for w in range(g0.shape[1]):
            h0 = p0[2 * j + 1, w]
            h1 = p1[2 * j + 1, w]
            out[r, w] = (h0 & (p0[2 * j, w] ^ p1[2 * j, w])) ^ (h1 & p0[2 * j, w]) ^ mask[r, w]


@compiled
def gf_products(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Multiply in GF(2^64) = GF(2)[x] / (x^64 + x^4 + x^3 + x + 1), value by value, x and y (K,).

    Many at a time, so that the loop becomes vector code; the same time for all values.
    """
    out = np.zeros_like(x)
    for i in range(63, -1, -1):  # Horner's rule, from the top bit of y
        for k in range(x.shape[0]):
            p = out[k]
            p = (p << U64(1)) ^ (U64(0x1B) & (U64(0) - (p >> U64(63))))
            out[k] = p ^ (x[k] & (U64(0) - ((y[k] >> U64(i)) & U64(1))))
    return out


@compiled
def accumulate(bits: NDArray[np.uint64], tag: np.uint64, sums: NDArray[np.uint64]) -> None:
    """sums[n] ^= tag where bit n is set, for one component of match bits (W,) in row order and sums (N,), N <= 64 W."""
    for n in range(sums.shape[0]):
        sums[n] ^= tag & (U64(0) - ((bits[n >> 6] >> U64(n & 63)) & U64(1)))


@compiled
def masked_xor(bits: NDArray[np.uint64], words: NDArray[np.uint64]) -> np.uint64:
    """The xor of words[n] over the set bits n, for bits (W,) in row order and words (N,), N <= 64 W."""
    out = U64(0)
    for n in range(words.shape[0]):
        out ^= words[n] & (U64(0) - ((bits[n >> 6] >> U64(n & 63)) & U64(1)))
    return out


@compiled
def fold(
    bits: NDArray[np.uint64],
    row_weights: NDArray[np.uint64],
    row_cubes: NDArray[np.uint64],
    sums: NDArray[np.uint64],
) -> None:
    """Sum up one component of match bits, block by block; linear over GF(2), so it may run on shares.

    Args:
        bits: (W,) in row order, W a multiple of 16.
        row_weights: c (1024,), the same for each block.
        row_cubes: c^3 (1024,).
        sums: out (4, W / 16): each block's parity (all bits alike), xor of places, sum of weights, of cubes.
    """
    for block in range(sums.shape[1]):
        parity = U64(0)
        index = U64(0)
        ones = U64(0)
        threes = U64(0)
        for k in range(16):
            word = bits[block * 16 + k]
            word_parity = U64(0)
            for i in range(64):
                m = U64(0) - ((word >> U64(i)) & U64(1))
                word_parity ^= m
                index ^= m & U64(i)
                ones ^= m & row_weights[k * 64 + i]
                threes ^= m & row_cubes[k * 64 + i]
            index ^= word_parity & U64(64 * k)
            parity ^= word_parity
        sums[0, block] = parity
        sums[1, block] = index
        sums[2, block] = ones
        sums[3, block] = threes
