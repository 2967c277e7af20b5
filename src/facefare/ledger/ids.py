"""Prefixed ids (`pi_…`, `pay_…`): 128 bits in Crockford's base 32, the first 48 the time in milliseconds.

The time comes first so that new rows lie beside each other in an index (as in UUID version 7, RFC 9562).
"""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """A fresh id: `prefix`, an underscore and 26 characters, 80 of its bits random."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
