"""A second search for the same probes, in an order of the rows that no guardian knows.

The search is semi-honest: a guardian that lies inside it can flip the match bit of a row that it chooses. So the live
rows are also kept in a *secret order*, made of three permutations, each known to one pair of guardians (an oblivious
shuffle after Laur, Willemson, Zhang 2011, and Araki et al. 2021): nobody knows all three. Row n has the *label*
alpha (n + 1) + beta in GF(2^64), with alpha and beta secret; the wallet is told both, and the xor of the matched rows'
labels. To make this agree with a lie about row n, a liar would have to flip one bit at n's place, which it does not
know (a chance of 1 in the number of rows), or guess n's label (1 in 2^64).

Invariants:
  - which searches are made twice is drawn after their answers are fixed, by a coin that no guardian can bias;
  - guardians see what they see in a search: uniform words, and "several or not"; the wallet sees a label only where
    at most one row matched;
  - the order is made anew in each session and after each change of the gallery, and is never stored.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.answers import Answer, Match, NoMatch
from facefare.mpc.context import Context
from facefare.mpc.errors import ShareMismatch
from facefare.mpc.kernels import gf_products, masked_xor
from facefare.mpc.rounds import Round, Rounds
from facefare.mpc.scan import Gathered
from facefare.mpc.sharing import THIRD, U16, shamir_from_replicated, times_w

TILE = 16_384
"""Rows moved in one operation, so that searches come in between."""
_PAIRS = 3
_FORMAT = struct.Struct("<BB6x5Q")


class SecretOrder:
    """The rows of a gallery on their way into a secret order, and then in it."""

    def __init__(self, rows: NDArray[np.uint16], numbers: NDArray[np.uint64]) -> None:
        """Take in the rows that may match.

        Args:
            rows: (N, C) uint16, this guardian's shares; a copy that is this object's own.
            numbers: (N,) uint64, public: their numbers in the gallery.
        """
        self._rows, self._numbers = rows, numbers
        self._labels = np.empty((2, len(rows)), np.uint64)
        self._key = np.zeros((2, 2), np.uint64)  # components i and i + 1 of (alpha, beta)
        self._order = np.empty(0, np.intp)
        self._moved = np.empty_like(rows), np.empty_like(self._labels)
        self._pair, self._first = 0, 0

    @property
    def ready(self) -> bool:
        """Whether all three permutations are done."""
        return self._pair == _PAIRS

    @property
    def place(self) -> tuple[int, int, int]:
        """How far it is, the same at all three: rows, pair, rows moved by it."""
        return len(self._rows), self._pair, self._first

    @property
    def rows(self) -> NDArray[np.uint16]:
        """This guardian's shares (N, C) of the rows, in their order so far."""
        return self._rows

    def advance(self, context: Context) -> Rounds[None]:
        """Move the next rows by the current pair's permutation.

        The pair s, s + 1 turns its two Shamir shares into an additive sharing A + B = x, permutes, and gives the
        third guardian A - M and B + M - R with M and R from the stream that it lacks; R is the pair's own component.
        """
        if self._pair == 0 and self._first == 0:
            self._label(context)
        s, N = self._pair, len(self._rows)
        last = min(self._first + TILE, N)
        shape, labels = (last - self._first, self._rows.shape[1]), (last - self._first,)
        if context.index == (s + 2) % 3:
            (of_previous, of_following) = yield Round(
                from_previous=((_words(shape),), U16), from_following=((_words(shape),), U16)
            )
            theirs = _unpacked(of_previous, shape), _unpacked(of_following, shape)
            rows = shamir_from_replicated(theirs[0][0], theirs[1][0])
            held = np.stack([theirs[0][1], theirs[1][1]])
        else:
            first_of_pair = context.index == s
            stream = context.next if first_of_pair else context.own
            if self._first == 0:  # sorting random keys gives a random order
                self._order = np.argsort(stream.take((N,), np.uint64), kind="stable")
            at = self._order[self._first : last]
            m, r = stream.take(shape, U16), stream.take(shape, U16)
            label_m, label_r = stream.take(labels, np.uint64), stream.take(labels, np.uint64)
            share = self._rows[at]
            if first_of_pair:
                part = (share - times_w(share, 1)) * THIRD - m
                label = self._labels[0, at] ^ self._labels[1, at] ^ label_m
                yield Round(to_previous=_packed(part, label))
                rows, held = shamir_from_replicated(part, r), np.stack([label, label_r])
            else:
                part = (share - times_w(share, 2)) * THIRD + m - r
                label = self._labels[1, at] ^ label_m ^ label_r
                yield Round(to_following=_packed(part, label))
                rows, held = shamir_from_replicated(r, part), np.stack([label_r, label])
        self._moved[0][self._first : last], self._moved[1][:, self._first : last] = rows, held
        self._first = last
        if last == N:
            (self._rows, self._labels), self._moved = self._moved, (self._rows, self._labels)
            self._pair, self._first = self._pair + 1, 0
            if self.ready:
                self._order, self._moved = np.empty(0, np.intp), (self._rows[:0], self._labels[:, :0])

    def answer(self, context: Context, gathered: Gathered) -> Rounds[list["RecheckShare"]]:
        """This guardian's part of each probe's label, after a search of `rows`."""
        several = yield from gathered.sums.several(context)
        own = np.zeros(len(several), np.uint64)
        first = 0
        for tile in gathered.tiles:
            part = slice(first, first + tile.own.shape[1] * 64)
            labels = np.ascontiguousarray(self._labels[:, part])
            for b in range(len(several)):
                own[b] ^= masked_xor(tile.own[b], labels[0] ^ labels[1]) ^ masked_xor(tile.following[b], labels[0])
            first = part.stop
        own ^= context.zero_bits(own.shape)
        key = (int(self._key[0, 0]), int(self._key[0, 1])), (int(self._key[1, 0]), int(self._key[1, 1]))
        return [
            RecheckShare(context.index, bool(s), 0 if s else int(label), *key)
            for s, label in zip(several, own, strict=True)
        ]

    def _label(self, context: Context) -> None:
        """Draw alpha and beta, and give each row its label: all of it without a message."""
        for component, stream in enumerate((context.own, context.next)):
            self._key[component] = stream.take((2,), np.uint64)
            alpha, beta = self._key[component]
            nonzero = self._numbers + np.uint64(1)
            self._labels[component] = gf_products(np.full_like(nonzero, alpha), nonzero) ^ beta


@dataclass(frozen=True)
class RecheckShare:
    """One guardian's part of a recheck's outcome.

    Attributes:
        guardian: 0, 1 or 2.
        several: whether more than one row matched; then the label's part is zero.
        label: this guardian's part of the xor of the matched rows' labels.
        own, following: components i and i + 1 of (alpha, beta).
    """

    guardian: int
    several: bool
    label: int = field(repr=False)
    own: tuple[int, int] = field(repr=False)
    following: tuple[int, int] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Encode as 48 bytes, little-endian: guardian, several, six zero bytes, five 64-bit words."""
        return _FORMAT.pack(self.guardian, self.several, self.label, *self.own, *self.following)

    @classmethod
    def from_bytes(cls, data: bytes) -> "RecheckShare":
        """Decode; raises ValueError for anything but 48 well-formed bytes."""
        if len(data) != _FORMAT.size:
            raise ValueError(f"A recheck's share has {_FORMAT.size} bytes, not {len(data)}.")
        guardian, several, label, a0, b0, a1, b1 = _FORMAT.unpack(data)
        if guardian > 2 or several > 1:
            raise ValueError("A recheck's share names guardian 0, 1 or 2 and says several or not.")
        return cls(guardian, bool(several), label, (a0, b0), (a1, b1))


def confirm(answer: Answer, shares: Sequence[RecheckShare]) -> None:
    """Compare an answer with the outcome of its recheck.

    Raises:
        ShareMismatch: they do not agree, or the shares do not fit each other: a guardian lied, or is broken.
    """
    parts = sorted(shares, key=lambda share: share.guardian)
    if [part.guardian for part in parts] != [0, 1, 2]:
        raise ShareMismatch("A recheck takes one share of each of the three guardians.")
    if any(part.following != parts[(i + 1) % 3].own for i, part in enumerate(parts)):
        raise ShareMismatch("Two guardians sent different values of one component of a recheck.")
    several = {part.several for part in parts}
    alpha, beta = (parts[0].own[k] ^ parts[1].own[k] ^ parts[2].own[k] for k in (0, 1))
    label = parts[0].label ^ parts[1].label ^ parts[2].label
    match answer:
        case Match(row):
            number = np.array([row + 1], np.uint64)
            expected = int(gf_products(np.array([alpha], np.uint64), number)[0]) ^ beta
        case NoMatch():
            expected = 0
        case _:
            return  # several: nobody is charged
    if several != {False} or label != expected:
        raise ShareMismatch("A second search of the same probe in a secret order came to another answer.")


def _words(shape: tuple[int, int]) -> int:
    return shape[0] * (shape[1] + 4)


def _packed(part: NDArray[np.uint16], label: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Shares and labels as the 16-bit words of one message."""
    return np.concatenate([part.reshape(-1), label.view(U16)])


def _unpacked(words: NDArray[np.uint16], shape: tuple[int, int]) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    size = shape[0] * shape[1]
    return words[:size].reshape(shape), words[size:].copy().view(np.uint64)
