"""A second search for the same probes, in an order of the rows that no guardian knows.

The search is semi-honest: a guardian that lies inside it can flip the match bit of a row that it chooses. So the live
rows are also kept in a *secret order*, made of three permutations, each known to one pair of guardians (an oblivious
shuffle after Laur, Willemson, Zhang 2011, and Araki et al. 2021): nobody knows all three. Row n has the *label*
alpha (n + 1) + beta in GF(2^64), with alpha and beta secret; the wallet is told both, and the xor of the matched rows'
labels. To make this agree with a lie about row n, a liar would have to flip one bit at n's place, which it does not
know (a chance of 1 in the number of rows), or guess n's label (1 in 2^64).

Nor can it let many rows pass by a looser threshold: among the rows are SENTINELS that score one less than the
threshold, whatever the probe. One that loosens it for a part of all places only, to hit a victim who is just outside
and no sentinel, succeeds with a chance of at most 1 / (e SENTINELS).

Nor can it change a row on the way, to make it match somebody else: each row x carries the tag k . x modulo 2^16, with
k secret, and all are compared with the rows again at the end. A change that the tag does not show is a guess of
16 bits, once for each order; a wrong guess ends the session.

Invariants:
  - which searches are made twice is drawn after their answers are fixed, by a coin that no guardian can bias;
  - guardians see what they see in a search: uniform words, and "several or not"; the wallet sees a label only where
    at most one row matched;
  - a row that may not match any more is *revealed*: each pair shows the third where its permutation took this one row,
    and from then on its place is left out. The places of the others stay secret;
  - an order belongs to one session and is never stored.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.answers import Answer, Match, Several
from facefare.mpc.context import Context
from facefare.mpc.errors import ShareMismatch
from facefare.mpc.kernels import dots, gf_products, masked_xor
from facefare.mpc.rounds import Round, Rounds, reshare
from facefare.mpc.scan import Gathered
from facefare.mpc.sharing import THIRD, U16, as_probe, shamir_from_replicated, times_w, weighted_probe_share
from facefare.mpc.streams import Stream

TILE = 16_384
"""Rows worked on in one operation, so that searches come in between."""
SENTINELS = 512
_TAG, _COMPARE, _READY = 0, 4, 5
"""Phases; 1, 2 and 3 are the permutations of pairs 0 and 1, 1 and 2, 2 and 0."""
_SUMS = 4  # random sums of all differences
_FORMAT = struct.Struct("<BB2xI5Q")


_Part = tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint16]]


@dataclass(frozen=True, repr=False)
class _Held:
    """Shares (N, C) of rows, and two components (2, N) each of their labels and tags."""

    rows: NDArray[np.uint16]
    labels: NDArray[np.uint64]
    tags: NDArray[np.uint16]

    def empty_like(self) -> "_Held":
        return _Held(np.empty_like(self.rows), np.empty_like(self.labels), np.empty_like(self.tags))


class SecretOrder:
    """The rows of a gallery on their way into a secret order, and then in it."""

    def __init__(self, rows: NDArray[np.uint16], numbers: NDArray[np.uint64], upto: int) -> None:
        """Take in the rows that may match.

        Args:
            rows: (N, C) uint16, this guardian's shares.
            numbers: (N,) uint64, public: their numbers in the gallery.
            upto: all of them are below; of a row from there on, a recheck says nothing.
        """
        sentinels = np.zeros((SENTINELS, rows.shape[1]), U16)  # a public row is its own share
        sentinels[:, -2:] = -1 & 0xFFFF, 1
        rows = np.concatenate([rows, sentinels])
        numbers = np.concatenate([numbers, np.arange(SENTINELS, dtype=np.uint64) + np.uint64(1 << 63)])
        self._held = _Held(rows, np.empty((2, len(rows)), np.uint64), np.empty((2, len(rows)), U16))
        self._moved = self._held.empty_like()
        self._numbers, self._upto = numbers, upto
        self._key = np.zeros((2, 2), np.uint64)  # components i and i + 1 of (alpha, beta)
        self._tagging = np.zeros((1, rows.shape[1]), U16)  # share of k, as a probe's
        self._order = np.empty(0, np.intp)
        self._moved_to: dict[int, NDArray[np.uint32]] = {}  # by phase: where this guardian's pairs took each row
        self._phase, self._first = _TAG, 0

    @property
    def ready(self) -> bool:
        """Whether all three permutations are done and nothing was changed on the way."""
        return self._phase == _READY

    @property
    def place(self) -> tuple[int, int, int]:
        """How far it is, the same at all three: rows, phase, rows done in it."""
        return len(self.rows), self._phase, self._first

    @property
    def rows(self) -> NDArray[np.uint16]:
        """This guardian's shares (N + SENTINELS, C) of the rows, in their order so far."""
        return self._held.rows

    @property
    def everywhere(self) -> NDArray[np.uint64]:
        """All places as a bitmap, bit n % 64 of word n // 64."""
        size = len(self.rows)
        places = np.full(-(-size // 64), ~np.uint64(0))
        if size % 64:
            places[-1] = (1 << size % 64) - 1
        return places

    def advance(self, context: Context) -> Rounds[None]:
        """Do the next rows of the current phase.

        Raises:
            ShareMismatch: a row was changed on its way.
        """
        last = min(self._first + TILE, len(self.rows))
        part = slice(self._first, last)
        if self._phase == _TAG:
            if self._first == 0:
                self._begin(context)
            tags = self._tags(context, part)
            self._held.tags[:, part] = tags, (yield from reshare(tags))
        elif self._phase == _COMPARE:
            yield from self._compare(context, part)
        else:
            yield from self._permute(context, part)
        self._first = last
        if last == len(self.rows):
            if self._phase not in (_TAG, _COMPARE):
                self._held, self._moved = self._moved, self._held
                if len(self._order):
                    self._moved_to[self._phase] = places = np.empty(last, np.uint32)
                    places[self._order] = np.arange(last, dtype=np.uint32)
                    self._order = np.empty(0, np.intp)
            self._phase, self._first = self._phase + 1, 0
            if self.ready:
                self._held = self._moved = replace(self._held, tags=np.empty((2, 0), U16))  # free the memory

    def _begin(self, context: Context) -> None:
        """Draw alpha, beta and k, and give each row its label: all of it without a message."""
        components = []
        for component, stream in enumerate((context.own, context.next)):
            self._key[component] = stream.take((2,), np.uint64)
            alpha, beta = self._key[component]
            nonzero = self._numbers + np.uint64(1)
            self._held.labels[component] = gf_products(np.full_like(nonzero, alpha), nonzero) ^ beta
            components.append(as_probe(stream.take(self._tagging.shape, U16)))
        self._tagging = weighted_probe_share(shamir_from_replicated(*components))

    def _tags(self, context: Context, part: slice) -> NDArray[np.uint16]:
        """This guardian's additive part of k . x for these rows, masked."""
        rows = self.rows[part]
        out = np.empty((1, len(rows)), U16)
        dots(rows, self._tagging, context.own.take(out.shape, U16), context.next.take(out.shape, U16), out)
        tags: NDArray[np.uint16] = out[0]
        return tags

    def _compare(self, context: Context, part: slice) -> Rounds[None]:
        """Open random sums of the rows' tags less those they carry: zero, if no row was changed."""
        differences = self._tags(context, part) - self._held.tags[0, part]
        weights = Stream(hashlib.sha256(b"facefare/mpc/compare/1" + context.seed()).digest()[:16], 0)
        odd = weights.take((_SUMS, len(differences)), U16) | U16(1)
        own = (odd * differences).sum(axis=1, dtype=U16) + context.zero((_SUMS,), U16)
        expected = ((_SUMS,), U16)
        others = yield Round(own, own, from_previous=expected, from_following=expected)
        if (own + others[0] + others[1]).any():
            raise ShareMismatch("A row was changed on its way into a secret order: a guardian lied, or is broken.")

    def _permute(self, context: Context, part: slice) -> Rounds[None]:
        """Move rows by the current pair's permutation.

        The pair s, s + 1 turns its two shares of x into an additive sharing A + B = x, permutes, and gives the third
        guardian A - M and B + M - R with M and R from the stream that it lacks; R is the pair's own component.
        Labels and tags, which are replicated, go the same way.
        """
        s = self._phase - 1
        size = part.stop - part.start
        shape = (size, self.rows.shape[1])
        if context.index == (s + 2) % 3:
            words = ((size * (shape[1] + 5),), U16)
            own, following = (_unpacked(got, shape) for got in (yield Round(from_previous=words, from_following=words)))
        else:
            first_of_pair = context.index == s
            stream = context.next if first_of_pair else context.own
            if part.start == 0:  # sorting random keys gives a random order
                self._order = np.argsort(stream.take((len(self.rows),), np.uint64), kind="stable")
            at = self._order[part]
            m, r = (
                (stream.take(shape, U16), stream.take((size,), np.uint64), stream.take((size,), U16)) for _ in range(2)
            )
            x, labels, tags = self.rows[at], self._held.labels[:, at], self._held.tags[:, at]
            if first_of_pair:
                own = (
                    (x - times_w(x, 1)) * THIRD - m[0],
                    labels[0] ^ labels[1] ^ m[1],
                    tags[0] + tags[1] - m[2],
                )
                following = r
                yield Round(to_previous=_packed(*own))
            else:
                own = r
                following = (
                    (x - times_w(x, 2)) * THIRD + m[0] - r[0],
                    labels[1] ^ m[1] ^ r[1],
                    tags[1] + m[2] - r[2],
                )
                yield Round(to_following=_packed(*following))
        self._moved.rows[part] = shamir_from_replicated(own[0], following[0])
        self._moved.labels[:, part] = own[1], following[1]
        self._moved.tags[:, part] = own[2], following[2]

    def reveal(self, context: Context, numbers: NDArray[np.uint64]) -> Rounds[NDArray[np.uint32]]:
        """Where these rows are, for all three to know.

        Raises:
            ShareMismatch: two guardians took one row to two places: one of them lies.
        """
        places = np.searchsorted(self._numbers, numbers).astype(np.uint32)
        expected = (places.shape, np.uint32)
        for s, phase in enumerate(range(_TAG + 1, _COMPARE)):
            if context.index == (s + 2) % 3:
                first, second = yield Round(from_previous=expected, from_following=expected)
                if (first != second).any() or (first >= len(self.rows)).any():
                    raise ShareMismatch("The two other guardians took a row of a secret order to different places.")
                places = first
            else:
                places = self._moved_to[phase][places]
                yield Round(to_previous=places) if context.index == s else Round(to_following=places)
        return places

    def erase(self, places: NDArray[np.int32]) -> None:
        """Forget what lies at these places, once they are left out of every search."""
        self._held.rows[places] = 0

    def answer(self, context: Context, gathered: Gathered) -> Rounds[list["RecheckShare"]]:
        """This guardian's part of each probe's label, after a search of `rows`."""
        several = yield from gathered.sums.several(context)
        own = np.zeros(len(several), np.uint64)
        first = 0
        for tile in gathered.tiles:
            part = slice(first, first + tile.own.shape[1] * 64)
            labels = np.ascontiguousarray(self._held.labels[:, part])
            for b in range(len(several)):
                own[b] ^= masked_xor(tile.own[b], labels[0] ^ labels[1]) ^ masked_xor(tile.following[b], labels[0])
            first = part.stop
        own ^= context.zero_bits(own.shape)
        key = (int(self._key[0, 0]), int(self._key[0, 1])), (int(self._key[1, 0]), int(self._key[1, 1]))
        return [
            RecheckShare(context.index, bool(s), self._upto, 0 if s else int(label), *key)
            for s, label in zip(several, own, strict=True)
        ]


@dataclass(frozen=True)
class RecheckShare:
    """One guardian's part of a recheck's outcome.

    Attributes:
        guardian: 0, 1 or 2.
        several: whether more than one row matched; then the label's part is zero.
        upto: rows from this one on are not in the order.
        label: this guardian's part of the xor of the matched rows' labels.
        own, following: components i and i + 1 of (alpha, beta).
    """

    guardian: int
    several: bool
    upto: int
    label: int = field(repr=False)
    own: tuple[int, int] = field(repr=False)
    following: tuple[int, int] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Encode as 48 bytes, little-endian: guardian, several, two zero bytes, 32 and five times 64 bits."""
        return _FORMAT.pack(self.guardian, self.several, self.upto, self.label, *self.own, *self.following)

    @classmethod
    def from_bytes(cls, data: bytes) -> "RecheckShare":
        """Decode; raises ValueError for anything but 48 well-formed bytes."""
        if len(data) != _FORMAT.size:
            raise ValueError(f"A recheck's share has {_FORMAT.size} bytes, not {len(data)}.")
        guardian, several, upto, label, a0, b0, a1, b1 = _FORMAT.unpack(data)
        if guardian > 2 or several > 1:
            raise ValueError("A recheck's share names guardian 0, 1 or 2 and says several or not.")
        return cls(guardian, bool(several), upto, label, (a0, b0), (a1, b1))


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
    several, upto = {part.several for part in parts}, parts[0].upto
    if any(part.upto != upto for part in parts):
        raise ShareMismatch("The guardians disagree on which rows are in the secret order.")
    alpha, beta = (parts[0].own[k] ^ parts[1].own[k] ^ parts[2].own[k] for k in (0, 1))
    label = parts[0].label ^ parts[1].label ^ parts[2].label
    match answer:
        case Match(row) if row < upto:
            number = np.array([row + 1], np.uint64)
            expected = int(gf_products(np.array([alpha], np.uint64), number)[0]) ^ beta
        case Several():
            return  # nobody is charged
        case _:
            expected = 0
    if several != {False} or label != expected:
        raise ShareMismatch("A second search of the same probe in a secret order came to another answer.")


def _packed(x: NDArray[np.uint16], labels: NDArray[np.uint64], tags: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Shares, labels and tags as the 16-bit words of one message."""
    return np.concatenate([x.reshape(-1), labels.view(U16), tags])


def _unpacked(words: NDArray[np.uint16], shape: tuple[int, int]) -> _Part:
    rows, columns = shape
    x, labels, tags = np.split(words, [rows * columns, rows * (columns + 4)])
    return x.reshape(shape), labels.copy().view(np.uint64), tags
