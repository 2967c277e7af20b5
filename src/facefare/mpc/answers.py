"""The answer to one probe: none, one row, or several, and nothing else.

Each guardian gives the wallet its two components; only the three together say which. The size is the same
whatever the answer.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from facefare.mpc.errors import ShareMismatch

_FORMAT = struct.Struct("<BB6xQQQQ")


@dataclass(frozen=True)
class NoMatch:
    """No live row matched."""


@dataclass(frozen=True)
class Match:
    """Exactly one live row matched."""

    row: int


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
    """

    guardian: int
    several: bool
    own: tuple[int, int] = field(repr=False)
    following: tuple[int, int] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Encode as 40 bytes, little-endian: guardian, several, six zero bytes, four 64-bit words."""
        return _FORMAT.pack(self.guardian, self.several, *self.own, *self.following)

    @classmethod
    def from_bytes(cls, data: bytes) -> "AnswerShare":
        """Decode; raises ValueError for anything but 40 well-formed bytes."""
        if len(data) != _FORMAT.size:
            raise ValueError(f"An answer share has {_FORMAT.size} bytes, not {len(data)}.")
        guardian, several, p0, x0, p1, x1 = _FORMAT.unpack(data)
        if guardian > 2 or several > 1:
            raise ValueError("An answer share names guardian 0, 1 or 2 and says several or not.")
        return cls(guardian, bool(several), (p0, x0), (p1, x1))


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
    for i, part in enumerate(parts):
        if part.following != parts[(i + 1) % 3].own:
            raise ShareMismatch(f"Guardians {i} and {(i + 1) % 3} sent different values of one component.")
    if parts[0].several:
        return Several()
    parity, row = (parts[0].own[k] ^ parts[1].own[k] ^ parts[2].own[k] for k in (0, 1))
    if parity == 1:
        return Match(row)
    if (parity, row) != (0, 0):
        raise ShareMismatch("The opened answer is neither nothing nor one row.")
    return NoMatch()
