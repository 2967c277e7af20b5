"""Who may see the console: whoever has the token that the operator set; a cookie made from it lasts eight hours."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LASTS = timedelta(hours=8)
_MIN_TOKEN = 32


@dataclass(frozen=True, repr=False)
class StaffKey:
    """Checks the operator's token and the cookies that it gives."""

    token: str

    def __post_init__(self) -> None:
        if len(self.token) < _MIN_TOKEN:
            raise ValueError(f"The console's token has at least {_MIN_TOKEN} characters.")

    def fits(self, token: str) -> bool:
        """Whether this is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(self.token.encode(), token.encode())

    def cookie(self, now: datetime) -> str:
        """Good until eight hours from `now`."""
        until = str(int((now + LASTS).timestamp()))
        return f"{until}.{self._mac(until)}"

    def accepts(self, cookie: str, now: datetime) -> bool:
        """Whether the cookie is one of ours and has not ended."""
        until, _, mac = cookie.partition(".")
        return (
            hmac.compare_digest(mac.encode(), self._mac(until).encode())
            and until.isdecimal()
            and int(until) > now.timestamp()
        )

    def _mac(self, text: str) -> str:
        key = HKDF(SHA256(), 32, salt=None, info=b"facefare pages: staff").derive(self.token.encode())
        return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
