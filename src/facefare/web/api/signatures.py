"""Who a terminal's request is from: RFC 9421 signatures in the one form that our client makes.

Accepted once, within a minute of its signing, over the exact body. The nonce is remembered only after the
signature was found right, so nobody can use up a terminal's nonces for it.
"""

import asyncio
import base64
import re
import time
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from facefare.client import SIGNATURE_LABEL, SIGNED_COMPONENTS, content_digest, signature_base
from facefare.payments import merchants
from facefare.payments.merchants import Terminal
from facefare.web.api.errors import RequestReplayed, SignatureMissing, SignatureStale, SignatureWrong
from facefare.web.api.services import Services, WithServices

FRESH_FOR = 60
"""Seconds that a signature is good for, and that a terminal's clock may be off."""

_INPUT = re.compile(
    re.escape(f"{SIGNATURE_LABEL}=")
    + f"(?P<parameters>{re.escape(SIGNED_COMPONENTS)}"
    + r';created=(?P<created>[0-9]{1,12});nonce="(?P<nonce>[A-Za-z0-9_-]{16,64})"'
    + r';keyid="(?P<terminal>trm_[A-Za-z0-9_-]{1,40})";alg="ed25519")'
)
_SIGNATURE = re.compile(re.escape(f"{SIGNATURE_LABEL}=") + r":(?P<signature>[A-Za-z0-9+/]{86}==):")
_documented = APIKeyHeader(
    name="Signature",
    scheme_name="terminal",
    auto_error=False,
    description="HTTP Message Signature (RFC 9421), label `facefare`, Ed25519, over @method, @path, @query"
    " and Content-Digest, with created, nonce, keyid and alg.",
)


async def _signed_terminal(
    request: Request, services: WithServices, _: Annotated[str | None, Depends(_documented)]
) -> Terminal:
    asked = _INPUT.fullmatch(request.headers.get("Signature-Input", ""))
    signature = _SIGNATURE.fullmatch(request.headers.get("Signature", ""))
    if asked is None or signature is None:
        raise SignatureMissing("Sign the request with the terminal's registered key (RFC 9421).")
    base = signature_base(
        request.method,
        request.scope["raw_path"].decode("ascii"),
        request.scope["query_string"].decode("ascii"),
        content_digest(await request.body()),
        asked["parameters"],
    )
    return await asyncio.to_thread(
        _verified,
        services,
        asked["terminal"],
        int(asked["created"]),
        asked["nonce"],
        base64.b64decode(signature["signature"]),
        base,
    )


def _verified(
    services: Services, terminal_id: str, created: int, nonce: str, signature: bytes, base: bytes
) -> Terminal:
    with services.engine.begin() as connection:
        terminal = merchants.terminal(connection, terminal_id)
        try:
            Ed25519PublicKey.from_public_bytes(terminal.public_key).verify(signature, base)
        except InvalidSignature as error:
            raise SignatureWrong("The signature is not by this terminal's key over this request.") from error
        if abs(time.time() - created) > FRESH_FOR:
            raise SignatureStale("The request was signed too long ago; check the terminal's clock.")
        if not merchants.take_nonce(connection, terminal.id, nonce):
            raise RequestReplayed("This request was sent before; sign a new one.")
    services.count_caller("terminal", terminal.id, services.limits.terminal)
    return terminal


SignedTerminal = Annotated[Terminal, Depends(_signed_terminal)]
