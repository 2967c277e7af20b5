"""Ed25519 public keys from outside: bytes for which nobody in particular can sign are no key.

Of the points of the curve, eight have an order that divides 8. A signature under one of them can be made without a
private key (Chalkias, Garillot, Nikolaenko 2020, "Taming the many EdDSAs"), so that who registers one vouches for
nothing. The curve is RFC 8032's: -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo 2^255 - 19.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P


def ed25519(raw: bytes) -> Ed25519PublicKey:
    """The key of 32 raw bytes; raises ValueError for another length, and for a point of small order."""
    key = Ed25519PublicKey.from_public_bytes(raw)
    y = (int.from_bytes(raw, "little") & (1 << 255) - 1) % _P
    # Of order 1, 2, 4: y is 1, -1, 0. Of order 8: the double has y = 0, that is y^2 = -x^2; put into the equation.
    if y in (0, 1, _P - 1) or (_D * pow(y, 4, _P) + 2 * y * y - 1) % _P == 0:
        raise ValueError("Anybody could sign for this key.")
    return key
