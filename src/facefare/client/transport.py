"""How requests are signed, sent and answered; what the clients of all roles share.

Terminals sign every request: HTTP Message Signatures (RFC 9421) with Ed25519 over method, path, query and
Content-Digest (RFC 9530), with a time and a nonce, so a request can be neither altered nor replayed.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Generator
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_LABEL = "facefare"
SIGNED_COMPONENTS = '("@method" "@path" "@query" "content-digest")'


class ApiError(Exception):
    """The wallet answered with a problem (RFC 9457); `code` is the last part of its `type`."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def is_answer(self) -> bool:
        """Whether the wallet decided something: not where it was out of reach, broke down, or was asked too often."""
        return 400 <= self.status < 500 and self.status != httpx.codes.TOO_MANY_REQUESTS


class Unreachable(ApiError):
    """The wallet did not answer."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(0, "unreachable", f"The wallet did not answer: {type(error).__name__}.")


def content_digest(body: bytes) -> str:
    """The Content-Digest header of `body` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def signature_base(method: str, path: str, query: str, digest: str, parameters: str) -> bytes:
    """The bytes that are signed (RFC 9421, section 2.5); `query` without its question mark."""
    return (
        f'"@method": {method}\n"@path": {path}\n"@query": ?{query}\n"content-digest": {digest}\n'
        f'"@signature-params": {parameters}'
    ).encode()


def proof_of(key: Ed25519PrivateKey, merchant: str, terminal: str) -> dict[str, str]:
    """A terminal's new public key and its own signature, for this merchant and terminal only."""
    public = key.public_key().public_bytes_raw()
    statement = f"facefare terminal key v1\n{merchant}\n{terminal}\n{public.hex()}".encode()
    return {
        "public_key": base64.b64encode(public).decode(),
        "proof": base64.b64encode(key.sign(statement)).decode(),
    }


class TerminalAuth(httpx.Auth):
    """Signs each request with the terminal's registered key."""

    requires_request_body = True

    def __init__(self, terminal_id: str, key: Ed25519PrivateKey) -> None:
        self._terminal_id = terminal_id
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add Content-Digest, Signature-Input and Signature."""
        digest = content_digest(request.content)
        parameters = (
            f'{SIGNED_COMPONENTS};created={int(time.time())};nonce="{secrets.token_urlsafe(16)}"'
            f';keyid="{self._terminal_id}";alg="ed25519"'
        )
        base = signature_base(
            request.method,
            request.url.raw_path.partition(b"?")[0].decode("ascii"),
            request.url.query.decode("ascii"),
            digest,
            parameters,
        )
        request.headers["Content-Digest"] = digest
        request.headers["Signature-Input"] = f"{SIGNATURE_LABEL}={parameters}"
        request.headers["Signature"] = f"{SIGNATURE_LABEL}=:{base64.b64encode(self._key.sign(base)).decode()}:"
        yield request


class BearerAuth(httpx.Auth):
    """Sends a payer's token or a merchant's API key."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the Authorization header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class Client:
    """Sends requests, and turns problems into errors."""

    def __init__(self, http: httpx.Client, auth: httpx.Auth | None = None) -> None:
        self._http = http
        self._auth = auth

    def _call(self, method: str, path: str, json: object = None, headers: dict[str, str] | None = None) -> Any:
        try:
            response = self._http.request(method, path, json=json, headers=headers, auth=self._auth)
        except httpx.TransportError as error:
            raise Unreachable(error) from error
        if response.is_success:
            return response.json() if response.content else None
        try:
            problem = response.json()
            code, detail = problem["type"].rpartition(":")[2], problem["detail"]
        except (ValueError, KeyError, TypeError, AttributeError):
            code, detail = "no-problem-details", f"The wallet answered {response.status_code}."
        raise ApiError(response.status_code, code, detail)

    def _keyed(self, path: str, json: object, idempotency_key: str) -> Any:
        """A POST that is carried out once for the key."""
        return self._call("POST", path, json, {"Idempotency-Key": idempotency_key})
