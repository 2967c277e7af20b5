"""The two kinds of arithmetic shares, and the step from one to the other.

*Clients* (terminals, enrolment stations) share replicated over Z_2^32 (Araki et al. 2016): x_0 + x_1 + x_2 is the
secret, and component x_j goes to guardians j and j - 1, who make sure that they got the same. Any three words are
the components of *something*, so there is no malformed sharing to detect, only malformed secrets (see `admission`).

*Guardians* keep Shamir shares of degree 1 over the Galois ring Z_2^16[w], w^2 + w + 1 = 0, at the points
1, w, w^2 (Shamir 1979; Abspoel et al. 2019 for Galois rings). Coordinates go in pairs a + b w, so a share is again
D words of 16 bits, and a dot product of two shares costs one wrapping dot of length D.
A polynomial of degree 2 is at 0 a third of the sum of its values at the cube roots of unity, so the product's
constant term is the plain sum of the guardians' dots once the probe's shares carry the factor 1/3.

The step from the one to the other is local (Cramer, Damgård, Ishai 2005): x_j counts with the line that is 1 at 0
and 0 at the point of the one guardian that lacks x_j.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

U16 = np.uint16
U32 = np.uint32
THIRD = U16(43691)
"""1/3 modulo 2^16."""


def split(
    secret: NDArray[np.int32], entropy: Callable[[int], bytes] = os.urandom
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Cut integers into three components; guardian i gets components i and i + 1 (modulo 3).

    Args:
        secret: (..., D) int32.
        entropy: gives that many fresh random bytes.

    Returns:
        Three arrays (..., D) uint32, each alone (and each two) uniformly random; they add up to the secret
        modulo 2^32.
    """
    value = np.ascontiguousarray(secret, np.int32).view(U32)
    first = np.frombuffer(entropy(value.nbytes), U32).reshape(value.shape)
    second = np.frombuffer(entropy(value.nbytes), U32).reshape(value.shape)
    return first, second, value - first - second


def held_by(guardian: int, components: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Components i and i + 1 of three (..., D), as guardian i holds them: (2, ..., D)."""
    return np.stack([components[guardian], components[(guardian + 1) % 3]])


def times_w(x: NDArray[np.uint16], power: int) -> NDArray[np.uint16]:
    """Multiply ring elements, laid out as pairs (..., 2P) uint16, by w to a power."""
    a, b = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    match power % 3:
        case 0:
            out[...] = x
        case 1:  # (a + b w) w = -b + (a - b) w
            out[..., 0::2] = np.negative(b)
            out[..., 1::2] = a - b
        case _:  # (a + b w) w^2 = (b - a) - a w
            out[..., 0::2] = b - a
            out[..., 1::2] = np.negative(a)
    return out


def shamir_from_replicated(own: NDArray[np.uint16], following: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Turn guardian i's two components into its Shamir share, without a message.

    x_j counts at guardian i with 1 - w^(i - j - 1): that is 1 - w^2 for its own component j = i and 1 - w for
    component j = i + 1, the same for all three guardians.

    Args:
        own: component x_i, pairs (..., 2P) uint16.
        following: component x_{i+1}, the same shape.
    """
    return own - times_w(own, 2) + following - times_w(following, 1)


def as_probe(x: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Lay ring elements a + b w out as a - b w, the form of a probe's components.

    (a + b w)(c - d w) has the constant term a c + b d: the dot product of the two pairs.
    """
    out = x.copy()
    out[..., 1::2] = np.negative(x[..., 1::2])
    return out


def weighted_probe_share(share: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Scale a probe's share so that a plain dot with a row's share is this guardian's part of the score.

    The constant term of (c + d w)(e + f w) is c e - d f, so the second of each pair changes sign; and the weight
    1/3 of the cube roots of unity goes in here.
    """
    return as_probe(share * THIRD)


def missing_share_part(share: NDArray[np.uint16], distance: int) -> NDArray[np.uint16]:
    """What a guardian contributes to the share of another one that lost it.

    The line through the points of guardians r + 1 and r + 2 is at guardian r's point
    -w times the first plus -w^2 times the second.

    Args:
        share: this guardian's share, pairs (..., 2P) uint16.
        distance: 1 where this is guardian r + 1, 2 where it is r + 2.
    """
    return np.negative(times_w(share, distance))
