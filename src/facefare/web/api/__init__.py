"""The wallet's HTTP API: routes are thin, each a few calls into wallet, payments and ledger.

Three kinds of callers: payers (bearer token), terminals (RFC 9421 signatures by a registered key), and
enrolment stations (the sealed request is signed in itself). Every error is a problem detail (RFC 9457),
from one table in `problems`. Nothing that is derived from a face is stored or logged.
"""

from facefare.web.api.app import create_app

__all__ = ["create_app"]
