"""One guardian's side of the three-party protocol: sessions and operations.

Invariants:
  - a session's keys come from fresh nonces of both holders, so a restored snapshot can't repeat a stream;
  - every operation has a number of its own, and starts by comparing number, kind and sizes with both others;
  - a session in which anything failed is dead: its streams are not continued;
  - what a guardian sends depends on the sizes alone, never on shares.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from facefare.mpc.admission import InputRule, Inputs
from facefare.mpc.answers import AnswerShare
from facefare.mpc.channels import Channel
from facefare.mpc.context import Agreement, Context, as_bytes
from facefare.mpc.errors import SessionEnded, ShareMismatch
from facefare.mpc.opening import BLOCK, MatchSums
from facefare.mpc.recheck import RecheckShare, SecretOrder
from facefare.mpc.rounds import Round, Rounds, reshare, run
from facefare.mpc.scan import Gathered, check_sizes, gather
from facefare.mpc.sharing import U16, missing_share_part, shamir_from_replicated
from facefare.mpc.streams import NONCE_BYTES, Stream, session_key

_WORKED_AT_ONCE = 65_536  # rows a message of refresh or recovery


class Party:
    """Guardian `index` in a session with the other two.

    All three run the same operations in the same order, one at a time. Any exception ends the session.
    """

    def __init__(self, index: int, previous: Channel, following: Channel) -> None:
        """Exchange nonces and derive this session's two keys.

        Args:
            index: 0, 1 or 2.
            previous: the link to guardian index - 1 (modulo 3).
            following: the link to guardian index + 1.

        Raises:
            ChannelClosed: a neighbour is gone.
        """
        self._index = index
        self._previous = previous
        self._following = following
        for_previous, for_following = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        previous.send(for_previous)
        following.send(for_following)
        of_previous, of_following = bytearray(NONCE_BYTES), bytearray(NONCE_BYTES)
        previous.receive_into(memoryview(of_previous))
        following.receive_into(memoryview(of_following))
        self._own_key = session_key(upper_nonce=for_previous, lower_nonce=bytes(of_previous))
        self._next_key = session_key(upper_nonce=bytes(of_following), lower_nonce=for_following)
        self._operations = 0
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"Party({self._index}, operations={self._operations})"

    def admit(self, components: NDArray[np.uint32], rule: InputRule) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
        """Check references jointly and make this guardian's 16-bit shares of them.

        Args:
            components: (2, B, D) uint32, components i and i + 1 of the references; the two holders of each have made
                sure that they hold the same.
            rule: what is allowed; the same at all three.

        Returns:
            (B,) bool, the same at all three: whether the reference is allowed; and (B, D + 2) uint16 shares, of use
            only where it is.
        """
        _check_inputs(components, rule)
        with self._operation("admit", (components.shape, rule)) as context:
            allowed, shares = run(context, Inputs(context, components, rule).as_references())[0]
            return allowed, shares

    def identify(
        self,
        components: NDArray[np.uint32],
        rule: InputRule,
        gallery: NDArray[np.uint16],
        live: NDArray[np.uint64],
        thresholds: NDArray[np.int32],
        accumulators: NDArray[np.uint64] | None = None,
    ) -> list[AnswerShare | None]:
        """Check probes and search for them in a gallery that lies on this machine as a whole.

        Args:
            components: (2, B, D) uint32, components i and i + 1 of the probes, as for `admit`.
            rule: what is allowed; the same at all three.
            gallery: (N, D + 2) uint16, this guardian's shares of the references.
            live: (ceil(N / 64),) uint64, public: bit n % 64 of word n // 64 says that row n may match.
            thresholds: (B,) int32, public, within -32,767 and 0: a live row matches where minus the squared
                distance is at least that.
            accumulators: (2, N) uint64, this guardian's two components of a running xor for each row: the row that
                was answered takes in the answer's tag. Nobody learns which row; only all three components open one.

        Returns:
            This guardian's part of each probe's answer; None for a forbidden probe, of which nothing is opened.
        """
        B = _check_inputs(components, rule)
        check_sizes(gallery, live, (B, rule.dimensions + 2), thresholds, accumulators)
        accumulated = accumulators is not None
        facts = (components.shape, rule, gallery.shape, _digest(live), _digest(thresholds), accumulated)
        with self._operation("identify", facts) as context:
            inputs = Inputs(context.beside(), components, rule)
            search = gather(context, gallery, live, inputs.as_probes(), thresholds)
            verdict, gathered = run(context, inputs.verdict(), search)
            allowed = np.flatnonzero(verdict)
            answers: list[AnswerShare | None] = [None] * B
            for b, answer in zip(allowed, _opened(context, gathered.of(allowed), accumulators), strict=True):
                answers[b] = answer
            return answers

    # A second search in an order that nobody knows, for some of the searches: see `recheck`.

    def reorder(self, order: SecretOrder) -> None:
        """Bring some more rows into a secret order; it is `ready` after some calls, the same number at all three."""
        with self._operation("reorder", order.place) as context:
            run(context, order.advance(context))

    def draw(self) -> int:
        """Draw 64 bits that no guardian can foresee or bias: a lie about a component is noticed by its other holder.

        Raises:
            ShareMismatch: the two others do not agree on the component that this guardian lacks.
        """
        with self._operation("draw", ()) as context:
            own, following = context.own.take((1,), np.uint64), context.next.take((1,), np.uint64)
            return int((own ^ following ^ run(context, _missing(own, following))[0])[0])

    def reveal(self, order: SecretOrder, numbers: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Let all three know where some rows of a secret order are, so that they can be left out.

        Args:
            order: one that is `ready`.
            numbers: (K,) uint64, public: the rows' numbers in the gallery.

        Returns:
            (K,) uint32, their places in the order.
        """
        _check_ready(order)
        with self._operation("reveal", (order.place, _digest(numbers))) as context:
            places: NDArray[np.uint32] = run(context, order.reveal(context, numbers))[0]
            return places

    def recheck(
        self,
        components: NDArray[np.uint32],
        rule: InputRule,
        order: SecretOrder,
        live: NDArray[np.uint64],
        thresholds: NDArray[np.int32],
    ) -> list[RecheckShare]:
        """Search once more for probes that `identify` has answered, among rows in a secret order that is `ready`.

        Args:
            components, rule, thresholds: as for `identify`, of allowed probes.
            order: of the gallery's rows.
            live: as for `identify`, public: which *places* of the order may match.
        """
        B = _check_inputs(components, rule)
        check_sizes(order.rows, live, (B, rule.dimensions + 2), thresholds)
        _check_ready(order)
        facts = (components.shape, rule, order.place, _digest(live), _digest(thresholds))
        with self._operation("recheck", facts) as context:
            probes = run(context, Inputs(context.beside(), components, rule).as_bounded_probes(thresholds))[0]
            gathered: Gathered = run(context, gather(context, order.rows, live, probes, thresholds))[0]
            shares: list[RecheckShare] = run(context, order.answer(context, gathered))[0]
            return shares

    # A gallery in shards: the parties of the first shard check the probes and draw a seed, the parties of each shard
    # gather in a session of their own, and a guardian's machines bring their sums to its first shard's to open.

    def check(self, components: NDArray[np.uint32], rule: InputRule) -> tuple[NDArray[np.bool_], bytes]:
        """Which probes of a batch over all shards are allowed, and the batch's seed that none can foresee."""
        _check_inputs(components, rule)
        with self._operation("check", (components.shape, rule)) as context:
            verdict: NDArray[np.bool_] = run(context, Inputs(context, components, rule).verdict())[0]
            return verdict, context.seed()

    def gather(
        self,
        components: NDArray[np.uint32],
        rule: InputRule,
        shard: NDArray[np.uint16],
        live: NDArray[np.uint64],
        thresholds: NDArray[np.int32],
        *,
        first_row: int,
        rows: int,
        seed: bytes,
    ) -> Gathered:
        """Search one shard and open nothing.

        Args:
            components, rule, shard, live, thresholds: as for `identify`.
            first_row: the shard's first row in the whole gallery, a multiple of 1,024.
            rows: of the whole gallery.
            seed: from `check`, after the probes were fixed.
        """
        B = _check_inputs(components, rule)
        check_sizes(shard, live, (B, rule.dimensions + 2), thresholds)
        if first_row % BLOCK or not 0 <= first_row <= rows - len(shard):
            raise ValueError(f"A shard lies inside the gallery and starts at a multiple of {BLOCK}.")
        facts = (components.shape, rule, shard.shape, first_row, rows, _digest(live), _digest(thresholds), seed)
        with self._operation("gather", facts) as context:
            probes = Inputs(context.beside(), components, rule).as_probes()
            search = gather(context, shard, live, probes, thresholds, rows=rows, first_row=first_row, seed=seed)
            found: Gathered = run(context, search)[0]
            return found

    def open(self, shards: Sequence[Gathered]) -> list[AnswerShare]:
        """Open one combined answer for each probe of a batch that was gathered shard by shard."""
        if not shards:
            raise ValueError("There is no shard to open.")
        with self._operation("open", (len(shards), shards[0].sums.tags.tobytes())) as context:
            answers: list[AnswerShare] = run(context, MatchSums.combined([s.sums for s in shards]).open(context))[0]
            return answers

    def refresh(self, gallery: NDArray[np.uint16]) -> None:
        """Add a fresh sharing of zero to (N, C) shares in place; old and new shares say nothing together."""
        with self._operation("refresh", (gallery.shape,)) as context:
            for first in range(0, len(gallery), _WORKED_AT_ONCE):
                rows = gallery[first : first + _WORKED_AT_ONCE]
                zero = context.zero(rows.shape, U16)
                rows += shamir_from_replicated(zero, run(context, reshare(zero))[0])

    def refresh_sums(self, accumulators: NDArray[np.uint64]) -> None:
        """Add a fresh xor-sharing of zero to (2, N) accumulators in place; old and new shares say nothing together."""
        with self._operation("refresh sums", (accumulators.shape,)) as context:
            for first in range(0, accumulators.shape[1], _WORKED_AT_ONCE):
                own, following = accumulators[:, first : first + _WORKED_AT_ONCE]
                zero = context.zero_bits(own.shape)
                own ^= zero
                following ^= run(context, reshare(zero))[0]

    def recover(self, gallery: NDArray[np.uint16], lost_by: int) -> NDArray[np.uint16] | None:
        """Give guardian `lost_by` its shares of these rows back; nobody sees two shares of a row.

        Args:
            gallery: (N, C) uint16, the rows' shares; at guardian `lost_by` only the shape counts.
            lost_by: who has lost them.

        Returns:
            At guardian `lost_by` its shares (N, C), elsewhere None.
        """
        with self._operation("recover", (gallery.shape, lost_by)) as context:
            out = np.empty_like(gallery) if context.index == lost_by else None
            for first in range(0, len(gallery), _WORKED_AT_ONCE):
                rows = gallery[first : first + _WORKED_AT_ONCE]
                # The two helpers r + 1 and r + 2 have k_{r+2} in common, which guardian r lacks.
                match (context.index - lost_by) % 3:
                    case 0 if out is not None:
                        out[first : first + len(rows)] = context.receive(
                            context.following, rows.shape, U16
                        ) + context.receive(context.previous, rows.shape, U16)
                    case 1:
                        part = missing_share_part(rows, 1) + context.next.take(rows.shape, U16)
                        context.previous.send(as_bytes(part))
                    case _:
                        part = missing_share_part(rows, 2) - context.own.take(rows.shape, U16)
                        context.following.send(as_bytes(part))
            return out

    @contextmanager
    def _operation(self, kind: str, facts: tuple[object, ...]) -> Iterator[Context]:
        """Begin to agree on what is run; end the session if anything fails."""
        with self._turn:
            if self._operations < 0:
                raise SessionEnded("This session failed earlier; make a new one.")
            number, self._operations = self._operations, -1
            operation = f"{kind} {number} {facts!r}".encode()
            context = Context(
                self._index,
                self._previous,
                self._following,
                own=Stream(self._own_key, number),
                next=Stream(self._next_key, number),
                agreement=Agreement(self._index, self._previous, self._following, operation),
            )
            yield context
            context.seed()
            self._operations = number + 1


def _missing(own: NDArray[np.uint64], following: NDArray[np.uint64]) -> Rounds[NDArray[np.uint64]]:
    """The component that this guardian lacks, from both of its holders."""
    expected = (own.shape, np.uint64)
    first, second = yield Round(following, own, from_previous=expected, from_following=expected)
    if (first != second).any():
        raise ShareMismatch("The two other guardians sent different values of one component.")
    missing: NDArray[np.uint64] = first
    return missing


def _digest(public: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(public.tobytes()).digest()


def _check_ready(order: SecretOrder) -> None:
    if not order.ready:
        raise ValueError("The rows are not in a secret order yet.")


def _check_inputs(components: NDArray[np.uint32], rule: InputRule) -> int:
    """How many inputs there are."""
    shape: tuple[int, ...] = components.shape
    if len(shape) != 3 or shape[0] != 2 or shape[2] != rule.dimensions or components.dtype != np.uint32:
        raise ValueError(f"Components of inputs are (2, B, {rule.dimensions}) uint32.")
    return shape[1]


def _opened(context: Context, gathered: Gathered, accumulators: NDArray[np.uint64] | None) -> list[AnswerShare]:
    """Open one answer for each probe, and let the rows answered take in the tags."""
    answers: list[AnswerShare] = run(context, gathered.sums.open(context))[0] if len(gathered.sums.tags) else []
    if accumulators is not None:
        gathered.accumulate(answers, accumulators)
    return answers
