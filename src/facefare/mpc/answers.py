"""The answer to one probe: none, one row, or several, and nothing else.

Each guardian gives the wallet its two components; only the three together say which. The size is the same
whatever the answer.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from facefare.mpc.errors import ShareMismatch

_FORMAT = struct.Struct("<BB6xQQQQQ")


@dataclass(frozen=True)
class NoMatch:
    """No live row matched."""


@dataclass(frozen=True)
class Match:
    """Exactly one live row matched; `tag` is what the row's accumulator took in."""

    row: int
    tag: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Several:
    """More than one live row matched; which ones stays unknown to everyone."""


Answer = NoMatch | Match | Several


@dataclass(frozen=True)
class AnswerShare:
    """One guardian's part of one answer.

    Attributes:
        guardian: 0, 1 or 2.
        several: whether more than one row matched; then the components are zero.
        own: component i of (parity of the match bits, xor of the matched rows' numbers).
        following: component i + 1 of the same.
        tag: 64 bits that none of the three could choose, drawn for this probe; see `accumulators`.
    """

    guardian: int
    several: bool
    own: tuple[int, int] = field(repr=False)
    following: tuple[int, int] = field(repr=False)
    tag: int = 0

    def to_bytes(self) -> bytes:
        """Encode as 48 bytes, little-endian: guardian, several, six zero bytes, five 64-bit words."""
        return _FORMAT.pack(self.guardian, self.several, *self.own, *self.following, self.tag)

    @classmethod
    def from_bytes(cls, data: bytes) -> "AnswerShare":
        """Decode; raises ValueError for anything but 48 well-formed bytes."""
        if len(data) != _FORMAT.size:
            raise ValueError(f"An answer share has {_FORMAT.size} bytes, not {len(data)}.")
        guardian, several, p0, x0, p1, x1, tag = _FORMAT.unpack(data)
        if guardian > 2 or several > 1:
            raise ValueError("An answer share names guardian 0, 1 or 2 and says several or not.")
        return cls(guardian, bool(several), (p0, x0), (p1, x1), tag)


def combine(shares: Sequence[AnswerShare]) -> Answer:
    """Put three guardians' parts together.

    Raises:
        ShareMismatch: the three are not of guardians 0, 1, 2, or two holders of a component differ, or what
            they open is neither nothing nor one row.
    """
    parts = sorted(shares, key=lambda share: share.guardian)
    if [part.guardian for part in parts] != [0, 1, 2]:
        raise ShareMismatch("An answer takes one share of each of the three guardians.")
    if len({part.several for part in parts}) != 1:
        raise ShareMismatch("The guardians disagree on whether several rows matched.")
    if len({part.tag for part in parts}) != 1:
        raise ShareMismatch("The guardians disagree on the answer's tag.")
    for i, part in enumerate(parts):
        if part.following != parts[(i + 1) % 3].own:
            raise ShareMismatch(f"Guardians {i} and {(i + 1) % 3} sent different values of one component.")
    if parts[0].several:
        return Several()
    parity, row = (parts[0].own[k] ^ parts[1].own[k] ^ parts[2].own[k] for k in (0, 1))
    if parity == 1:
        return Match(row, parts[0].tag)
    if (parity, row) != (0, 0):
        raise ShareMismatch("The opened answer is neither nothing nor one row.")
    return NoMatch()
