"""Protocols as generators of rounds, so that two can run side by side in the rounds of the longer one.

A protocol yields a `Round`, which says what goes to either neighbour and what is to come back, and is resumed with what
came. All three guardians run the same protocols in the same order, so what shares a message comes apart again in order.
Protocols side by side take from streams of their own (`Context.beside`).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from facefare.mpc.channels import Channel
from facefare.mpc.context import Context, as_bytes
from facefare.mpc.streams import Scalar

Result = TypeVar("Result")
Expected = tuple[tuple[int, ...], type[Any]]
"""Shape and dtype of an array to come."""


@dataclass(frozen=True, repr=False, eq=False)
class Round:
    """One round of one protocol at one guardian."""

    to_previous: NDArray[Any] | None = None
    to_following: NDArray[Any] | None = None
    from_previous: Expected | None = None
    from_following: Expected | None = None


Rounds = Generator[Round, tuple[Any, Any], Result]
"""A protocol; each round gives it what came from the previous and from the following guardian."""


def reshare(own: NDArray[Scalar]) -> Rounds[NDArray[Scalar]]:
    """Send this guardian's own component to the previous one; return component i + 1, same shape."""
    _, got = yield Round(to_previous=own, from_following=(own.shape, own.dtype.type))
    received: NDArray[Scalar] = got
    return received


def run(context: Context, *protocols: Rounds[Any]) -> list[Any]:
    """Run protocols side by side, sharing messages, and return their results in the order given."""
    results: list[Any] = [None] * len(protocols)
    waiting: dict[int, Round] = {}

    def resume(place: int, got: tuple[Any, Any] | None) -> None:
        try:
            waiting[place] = next(protocols[place]) if got is None else protocols[place].send(got)
        except StopIteration as end:
            results[place] = end.value

    for place in range(len(protocols)):
        resume(place, None)
    while waiting:
        rounds, waiting = waiting, {}
        _send(context.previous, [r.to_previous for r in rounds.values() if r.to_previous is not None])
        _send(context.following, [r.to_following for r in rounds.values() if r.to_following is not None])
        came = {
            place: [
                context.receive(link, *expected) if expected is not None else None
                for link, expected in (
                    (context.previous, r.from_previous),
                    (context.following, r.from_following),
                )
            ]
            for place, r in rounds.items()
        }
        for place, (of_previous, of_following) in came.items():
            resume(place, (of_previous, of_following))
    return results


def _send(link: Channel, arrays: Sequence[NDArray[Any]]) -> None:
    """One message for all of them: a message costs more than its copy."""
    parts = [as_bytes(array) for array in arrays if array.size]
    if parts:
        link.send(parts[0] if len(parts) == 1 else b"".join(parts))
