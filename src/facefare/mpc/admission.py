"""Which inputs are allowed into a search or a gallery: decided on shares, once for each input.

Modulo 2^16 a crafted probe with a huge norm can look right and match half of all rows. So inputs come shared over
Z_2^32, replicated, and the guardians check, without opening an honest input,
  - every coordinate: x + 128 >= 0 and 127 - x >= 0 as signed 32-bit numbers, which together say -128 <= x <= 127;
  - the exact squared norm n: n - min >= 0 and max - n >= 0. The lower bound keeps out vectors near the centre,
    which are close to everyone; the upper one keeps every score inside 16 bits.
Each guardian goes over to 16-bit Shamir shares by itself. A reference becomes (x, -n, 0) and a probe (2 y, 1, 0), so
that their dot product less the probe's norm is minus the squared distance; of that norm each guardian subtracts its
part. (The idle column makes whole pairs.) So a search begins without a round for its inputs, and is checked beside.

The signs of all tests are opened to the guardians: all zero for an allowed input, so they say nothing about it;
of a forbidden one they say which tests it failed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.carry import Planes, sign_by_tree
from facefare.mpc.context import Context
from facefare.mpc.kernels import bit_planes
from facefare.mpc.rounds import Round, Rounds, reshare
from facefare.mpc.sharing import U16, U32, as_probe, shamir_from_replicated, weighted_probe_share

MIN_COORDINATE, MAX_COORDINATE = -128, 127
LARGEST_SQUARED_NORM = 8191
"""Two vectors of this squared norm are at most (2 sqrt(8191))^2 = 32,764 apart: minus that still is an int16."""


@dataclass(frozen=True)
class InputRule:
    """Which vectors a gallery allows, as references and as probes.

    Attributes:
        dimensions: D, even, at least 2.
        min_squared_norm: at least 1.
        max_squared_norm: at most LARGEST_SQUARED_NORM.
    """

    dimensions: int
    min_squared_norm: int
    max_squared_norm: int

    def __post_init__(self) -> None:
        if self.dimensions < 2 or self.dimensions % 2:
            raise ValueError("A template has an even number of dimensions.")
        if not 1 <= self.min_squared_norm <= self.max_squared_norm <= LARGEST_SQUARED_NORM:
            raise ValueError(f"Squared norms lie within 1 and {LARGEST_SQUARED_NORM}, lower bound first.")


@dataclass(frozen=True, repr=False)
class Probes:
    """Probes as this guardian searches with them: 16-bit shares (B, D + 2), and its parts (B,) of the squared norms."""

    shares: NDArray[np.uint16]
    norms: NDArray[np.uint16]


class Inputs:
    """B inputs as one guardian holds them: two of three components of each, over Z_2^32."""

    def __init__(self, context: Context, components: NDArray[np.uint32], rule: InputRule) -> None:
        """Compute this guardian's part of the squared norms; no message is needed.

        Args:
            context: the operation they are for.
            components: (2, B, D) uint32, components i and i + 1.
            rule: what is allowed.
        """
        self._context, self._rule = context, rule
        self._x = components
        own, following = components
        squares: NDArray[np.uint32] = (own * (own + following) + following * own).sum(axis=1, dtype=U32)
        self._norms: NDArray[np.uint32] = squares + context.zero(squares.shape, U32)

    def as_probes(self) -> Probes:
        """What this guardian searches with: 2 x and, against a reference's minus norm, 1; of use only if allowed."""
        return self._probes((np.zeros_like(self._norms), np.zeros_like(self._norms)))

    def as_bounded_probes(self, thresholds: NDArray[np.int32]) -> Rounds[Probes]:
        """The same with norm + threshold in the idle column: a row (0, -1, 1) then scores threshold - 1."""
        norms = yield from self._replicated_norms()
        bounds = (n + one * thresholds.view(U32) for n, one in zip(norms, self._ones(), strict=True))
        return self._probes((next(bounds), next(bounds)))

    def _probes(self, idle: tuple[NDArray[np.uint32], NDArray[np.uint32]]) -> Probes:
        columns = []
        for x, constant, last in zip(self._x, self._ones(), idle, strict=True):
            column = np.empty((len(x), self._rule.dimensions + 2), U16)
            column[:, :-2] = (x * U32(2)).astype(U16)
            column[:, -2], column[:, -1] = constant, last.astype(U16)
            columns.append(as_probe(column))
        return Probes(weighted_probe_share(shamir_from_replicated(*columns)), self._norms.astype(U16))

    def as_references(self) -> Rounds[tuple[NDArray[np.bool_], NDArray[np.uint16]]]:
        """The verdict, and what this guardian stores: shares (B, D + 2) of x, minus the norm and an idle zero."""
        norms = yield from self._replicated_norms()
        columns = []
        for x, n in zip(self._x, norms, strict=True):
            column = np.zeros((len(x), self._rule.dimensions + 2), U16)
            column[:, :-2] = x.astype(U16)
            column[:, -2] = np.negative(n).astype(U16)
            columns.append(column)
        allowed = yield from self._none_outside(norms)
        return allowed, shamir_from_replicated(*columns)

    def verdict(self) -> Rounds[NDArray[np.bool_]]:
        """(B,) bool, the same at all three guardians: whether the input is allowed."""
        return (yield from self._none_outside((yield from self._replicated_norms())))

    def _replicated_norms(self) -> Rounds[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
        return self._norms, (yield from reshare(self._norms))

    def _none_outside(self, norms: tuple[NDArray[np.uint32], NDArray[np.uint32]]) -> Rounds[NDArray[np.bool_]]:
        tests = [_tests(x, n, self._rule, one) for x, n, one in zip(self._x, norms, self._ones(), strict=True)]
        return (yield from _none_negative(self._context, *tests))

    def _ones(self) -> tuple[np.uint32, np.uint32]:
        """This guardian's components of the constant 1, which is component 0 alone."""
        return U32(self._context.index == 0), U32(self._context.index == 2)


def _tests(x: NDArray[np.uint32], n: NDArray[np.uint32], rule: InputRule, one: np.uint32) -> NDArray[np.uint32]:
    """One component of the values that must not be negative, (B, 2 D + 2); `one`: that component of 1."""
    return np.concatenate(
        [
            x + one * U32(-MIN_COORDINATE),
            one * U32(MAX_COORDINATE) - x,
            (n - one * U32(rule.min_squared_norm))[:, np.newaxis],
            (one * U32(rule.max_squared_norm) - n)[:, np.newaxis],
        ],
        axis=1,
    )


def _none_negative(
    context: Context, own: NDArray[np.uint32], following: NDArray[np.uint32]
) -> Rounds[NDArray[np.bool_]]:
    """Open, for each line of replicated values (B, T), whether none is negative as a signed 32-bit number."""
    B, T = own.shape
    planes = np.zeros((32, -(-B * T // 64)), np.uint64)
    zeros = np.zeros_like(planes)
    # x_0 + x_1 is known to guardian 0 alone, x_2 to guardians 1 and 2.
    match context.index:
        case 0:
            c0 = context.own.take(planes.shape, np.uint64)
            c1 = _planes32(own + following) ^ c0
            yield Round(to_following=c1)
            a, b = Planes(c0, c1), Planes(zeros, zeros)
        case 1:
            masked, _ = yield Round(from_previous=(planes.shape, np.uint64))
            a = Planes(masked, zeros)
            b = Planes(zeros, _planes32(following))
        case _:
            yield Round()
            a = Planes(zeros, context.next.take(planes.shape, np.uint64))
            b = Planes(_planes32(own), zeros)
    signs = yield from sign_by_tree(context, a, b)
    # Component i - 1 is the one that guardian i lacks; guardian i + 1 holds it as its following one.
    _, missing = yield Round(to_previous=signs.following, from_following=(signs.own.shape, np.uint64))
    opened = signs.own ^ signs.following ^ missing
    bits = np.unpackbits(opened.view(np.uint8), bitorder="little")
    # bit 16 l + j of a word is value 4 j + l, see kernels.bit_planes
    values = bits.reshape(-1, 4, 16).transpose(0, 2, 1).reshape(-1)[: B * T]
    negative: NDArray[np.bool_] = np.logical_or.reduce(values.reshape(B, T), axis=1)
    return ~negative


def _planes32(values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Bit planes (32, W) of 32-bit values of any shape, filled up with zeros to whole words."""
    flat = np.zeros(-(-values.size // 64) * 64, U32)
    flat[: values.size] = values.reshape(-1)
    out = np.empty((32, len(flat) // 64), np.uint64)
    for half in (0, 1):
        words = (flat >> U32(16 * half)).astype(U16).view(np.uint64).reshape(-1, 16)
        bit_planes(words, out[16 * half : 16 * half + 16])
    return out
