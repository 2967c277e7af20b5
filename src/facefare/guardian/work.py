"""A request that waits for the engine, as this guardian got it from the relay.

Invariant: what two guardians must agree on is in its key; whoever waits for it hears one answer or one error.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from facefare.guardian.errors import GuardianError, Refused
from facefare.guardian.messages import OpenRequest, Operation


class Kind(Enum):
    """What a request asks for: a search among live rows, one among paused rows too, a row's opening, a change."""

    SEARCH = "search"
    CHECK = "check"
    OPENING = "opening"
    CHANGE = "change"

    @property
    def is_search(self) -> bool:
        """Whether it has a probe that is compared with rows."""
        return self in (Kind.SEARCH, Kind.CHECK)


@dataclass(eq=False, repr=False)
class Work:
    """One request as this guardian got it from the relay.

    Attributes:
        kind: what it asks for.
        key: 32 bytes, equal at the three guardians for one request (all that they must agree on is in it).
        operation: of a change.
        opening: of an opening, with its signature.
        gallery: its id.
        version: the gallery version the request is based on.
        refusal: why this guardian's own policy says no.
        components: two of three components of the inputs, (2, n, D) uint32; none for a row operation.
        threshold: of a search.
        entry: of a search or an enrolment, for the transparency log.
        row, digest, payer_key: of a change.
        done: gets the answer share's bytes, or the confirmation, or an error.
    """

    kind: Kind
    key: bytes
    gallery: str
    version: int
    operation: Operation | None = None
    refusal: Refused | None = None
    components: NDArray[np.uint32] | None = None
    threshold: int = 0
    entry: bytes = b""
    row: int = 0
    digest: bytes = b""
    payer_key: bytes = b""
    opening: OpenRequest | None = None
    done: Future[bytes] = field(default_factory=Future)

    def goes_with(self, other: Work) -> bool:
        """Whether both can be answered together."""
        return self is other or (self.kind is other.kind and self.kind.is_search and self.gallery == other.gallery)

    def fail(self, error: GuardianError) -> None:
        """Give up with this error, unless the caller has left already."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_exception(error)

    def finish(self, answer: bytes) -> None:
        """Hand the answer over, unless the caller has left already."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_result(answer)
