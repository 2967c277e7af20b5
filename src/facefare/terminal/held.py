"""The payer-held key profile at a terminal: a code in the camera's picture, a face in front of it, one answer.

    frame -> code -> opened, verified -> claim --+
    frames -> approach -> probe ----------------+-> one comparison -> wallet, or offline rules -> reply

Invariants:
  - reference and probe are in memory only, until the comparison, at most until the code runs out; what is
    stored, sent or told of them is yes or no;
  - a code buys one comparison: its counter is taken before the faces are compared;
  - offline it accepts nothing without a deny list younger than the limit, and nothing over the limits;
  - what it accepts offline is signed, numbered and stored before the gate opens.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.biometrics import FacePipeline, Hint, Template
from facefare.biometrics.backdrop import Backdrop
from facefare.client import ApiError, AttemptReply, TerminalClient
from facefare.identification.calibration import Calibration
from facefare.identification.errors import IdentificationError
from facefare.identification.held import documents
from facefare.identification.held.code import CLOCK_SKEW, LIFETIME, Claim, looks_like_one, open_code
from facefare.identification.held.comparison import matches
from facefare.identification.held.documents import (
    Announcement,
    DenyList,
    PaymentRecord,
    Signed,
    decoded,
    operator_id,
)
from facefare.identification.held.errors import (
    BadSignature,
    CodeExpired,
    ComparisonsUsedUp,
    CounterUsed,
    DenyListUnusable,
    DeviceDenied,
    HeldError,
    NoOpeningKey,
    OfflineLimitReached,
    OverSelfMadeLimit,
)
from facefare.terminal.approach import Approach, Frame, Lane
from facefare.terminal.fares import Fare
from facefare.terminal.held_store import HeldStore, OpeningKey
from facefare.terminal.lost_answers import LostAnswers

ROTATE_KEY_AFTER = timedelta(days=1)
KEY_VALID_FOR = timedelta(days=3)
_QR = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
_MAX_MISMATCHES, _MISMATCHES_COUNT_FOR = 5, 600.0  # seconds
_FINAL = {404, 409, 422}
"""Answers about a record that won't change: the wallet has heard of it and will not take it."""


class NotTheSame(HeldError):
    """The face is not the one of the reference; said in the words of the other profile, which tell no more."""

    reason = "not_recognised"


class PriceUnknown(HeldError):
    """A terminal that doesn't know what a passage costs takes nobody's money for it."""

    reason = "fare_unknown"


@dataclass(frozen=True)
class HeldTerms:
    """What the operator sets at a terminal; amounts in minor units.

    Attributes:
        self_made_limit: up to how much a reference pays that no station attested; 0: nothing.
        offline_limit: up to how much one device pays in all until the wallet has heard of it; 0: nothing.
        offline_self_made: whether such a reference pays offline at all.
        deny_list_max_age: older than this, nothing is accepted offline.
        passback: how long a payment accepted offline covers the same device.
    """

    self_made_limit: int = 10_00
    offline_limit: int = 10_00
    offline_self_made: bool = False
    deny_list_max_age: timedelta = timedelta(hours=24)
    passback: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        limits, times = (self.self_made_limit, self.offline_limit), (self.deny_list_max_age, self.passback)
        if min(limits) < 0 or min(times) < timedelta(0):
            raise ValueError("Limits and times are not negative.")


class HeldProfile:
    """Codes in, replies out; `look` at every frame, `pay` when the approach has a probe."""

    def __init__(
        self,
        *,
        terminal: str,
        key: Ed25519PrivateKey,
        operator_key: Ed25519PublicKey,
        calibration: Calibration,
        store: HeldStore,
        wallet: TerminalClient,
        answers: LostAnswers,
        fare: Fare,
        terms: HeldTerms,
    ) -> None:
        self._terminal = terminal
        self._key = key
        self._operator_key = operator_key
        self._calibration = calibration
        self._store = store
        self._wallet = wallet
        self._answers = answers
        self._fare = fare
        self._terms = terms
        self._claim: Claim | None = None
        self._refusal: str | None = None
        self._mismatches: dict[bytes, list[float]] = {}
        stored = store.deny_list()
        self._listed = None if stored is None else self._verified(stored)

    # --- codes ---

    def look(self, frame: Frame) -> None:
        """Look for a code in a frame (H, W, 3) uint8 BGR; other people's QR codes are passed over."""
        if self._claim is not None and time.time() > self._claim.expires:
            self.forget()
        for barcode in zxingcpp.read_barcodes(frame, formats=_QR, try_invert=False):
            if looks_like_one(barcode.bytes):
                self._show(barcode.bytes)

    @property
    def claimed(self) -> bool:
        """Whether somebody showed a good code that has not been answered."""
        return self._claim is not None

    @property
    def refused(self) -> str | None:
        """Why the last code was not taken, where no good one was shown since."""
        return self._refusal

    def forget(self) -> None:
        """Drop the code that was shown."""
        if self._claim is not None:
            self._claim.forget()
        self._claim = self._refusal = None

    def _show(self, code: bytes) -> None:
        try:
            claim = self._opened(code, datetime.now(UTC))
        except HeldError as error:
            if self._claim is None:  # a stale code on the wall must not displace a good one
                self._refusal = error.reason
            return
        self.forget()
        self._claim = claim

    def _opened(self, code: bytes, now: datetime) -> Claim:
        keys = {named: key.private for named, key in self._store.keys(documents.seconds(now)).items()}
        if not keys:
            raise NoOpeningKey("This terminal has no announced key.")
        claim = open_code(code, keys, operator_key=self._operator_key, now=now)
        if claim.counter <= self._store.highest(claim.tag, documents.seconds(now)):
            raise CounterUsed("This code was shown before; show a new one.")
        if claim.self_made and self._most() > self._terms.self_made_limit:
            raise OverSelfMadeLimit("A reference that no station attested pays small amounts only.")
        if len(self._recent_mismatches(claim.tag)) >= _MAX_MISMATCHES:
            raise ComparisonsUsedUp("Too many faces did not fit this device's reference.")
        if self._listed is not None and claim.tag in self._listed.devices:
            raise DeviceDenied("The device was reported lost, was revoked, or something is owed.")
        return claim

    def _most(self) -> int:
        """The most that this payment can come to, in minor units; raises PriceUnknown."""
        price = self._fare.price()
        if price is None:
            raise PriceUnknown("What a passage costs here is not known right now.")
        return price.most

    def _recent_mismatches(self, device: bytes) -> list[float]:
        since = time.monotonic() - _MISMATCHES_COUNT_FOR
        return [at for at in self._mismatches.get(device, ()) if at > since]

    # --- payments ---

    def pay(self, probe: Template) -> AttemptReply:
        """Compare the probe with the reference that was shown, and charge its device's payer.

        Every failure is a reply: use your card, and why. Neither probe nor reference is kept.
        """
        claim, refusal = self._claim, self._refusal
        self._claim = self._refusal = None
        if claim is None:
            return self._use_card(refusal or CodeExpired.reason)
        try:
            self._compare(probe, claim)
            claim.forget()
            return self._charge(claim)
        except HeldError as error:
            return self._use_card(error.reason)
        except IdentificationError:
            return self._use_card(NotTheSame.reason)
        finally:
            claim.forget()

    def _compare(self, probe: Template, claim: Claim) -> None:
        if time.time() > claim.expires:
            raise CodeExpired("The code has run out; show a new one.")
        until = claim.expires + CLOCK_SKEW.seconds
        self._store.use(claim.tag, claim.counter, until=until)
        if not matches(probe.vector, claim, self._calibration):
            recent = {device: self._recent_mismatches(device) for device in self._mismatches}
            recent[claim.tag] = [*recent.get(claim.tag, ()), time.monotonic()]
            self._mismatches = {device: times for device, times in recent.items() if times}
            raise NotTheSame("The face is not the one of the reference.")
        self._mismatches.pop(claim.tag, None)

    def _charge(self, claim: Claim) -> AttemptReply:
        """Ask the wallet, or without it decide here. What nobody got anything for is taken back for certain."""
        taken_at = datetime.now(UTC)
        payment = documents.query_id(documents.PAYMENT, documents.device_id(claim.device_key), claim.counter)
        self._answers.begin(payment)
        try:
            reply = self._wallet.held_payment(self._record(claim, taken_at, offline=False)[1])
            if reply.outcome == "confirmation_required":  # not attested by a station; the payer has other ways to pay
                return self._use_card(reply.reason or "second_factor")
            self._answers.answered(payment)
            return reply
        except ApiError as error:
            if error.is_answer:
                self._answers.answered(payment)
                return self._use_card(error.code.replace("-", "_"))
            reply = self._accept_offline(claim, taken_at)
            if reply.outcome == "accepted":  # its record names the same payment: charged now or then, once
                self._answers.answered(payment)
            return reply
        finally:
            self._answers.take_back(payment)

    def _accept_offline(self, claim: Claim, taken_at: datetime) -> AttemptReply:
        listed = self._listed
        if listed is None or time.time() - listed.issued_at > self._terms.deny_list_max_age.total_seconds():
            raise DenyListUnusable("The deny list is too old to accept anything without the wallet.")
        if claim.tag in listed.devices:
            raise DeviceDenied("The device was reported lost, was revoked, or something is owed.")
        if claim.self_made and not self._terms.offline_self_made:
            raise OverSelfMadeLimit("A reference that no station attested can't pay without the wallet.")
        before = [
            record
            for record in (decoded(PaymentRecord, decoded(Signed, kept).payload) for _, kept in self._store.kept())
            if record.device_key == claim.device_key
        ]
        if any(taken_at.timestamp() - one.taken_at / 1000 < self._terms.passback.total_seconds() for one in before):
            return self._reply("already_paid", "paid_moments_ago")
        # Of a fare the most that it costs here counts, until the wallet has worked it out.
        most = self._most()
        if sum(most if one.amount is None else one.amount for one in before) + most > self._terms.offline_limit:
            raise OfflineLimitReached("The device has spent what it may while there is no network.")
        self._store.keep(*self._record(claim, taken_at, offline=True))
        return self._reply("accepted", "offline")

    def _record(self, claim: Claim, taken_at: datetime, *, offline: bool) -> tuple[int, bytes]:
        sequence = self._store.next_sequence()
        record = PaymentRecord(
            v=1,
            kind="held-payment",
            operator=operator_id(self._operator_key),
            terminal=self._terminal,
            sequence=sequence,
            device_key=claim.device_key,
            key_id=claim.key_id,
            commitment=claim.commitment,
            counter=claim.counter,
            expires=claim.expires,
            device_signature=claim.signature,
            amount=self._fare.amount,
            currency=self._fare.currency,
            taken_at=int(taken_at.timestamp() * 1000),
            offline=offline,
        )
        return sequence, Signed.sign(record, self._key).to_bytes()

    # --- what is done between payments, wherever there is a network ---

    @property
    def announcement(self) -> bytes | None:
        """The operator's signed announcement of the newest key, for the screen; none before the first `refresh`."""
        keys = self._store.keys(int(time.time()))
        return next((key.announcement for key in keys.values()), None)

    @property
    def keeps_records(self) -> bool:
        """Whether payments accepted offline wait to be handed in."""
        return bool(self._store.kept())

    def refresh(self) -> list[str]:
        """Make a new key where it is time, fetch the deny list, hand in what was accepted offline.

        May run beside `look` and `pay`, in another thread.

        Returns:
            Why the wallet will never take some of what was accepted offline: losses of the operator.

        Raises:
            ApiError: the wallet is away or refuses.
            HeldError: it gives what it can't have signed, or the store failed.
        """
        self._rotate(datetime.now(UTC))
        self._fetch_deny_list()
        return self._forward()

    def _rotate(self, now: datetime) -> None:
        newest = next(iter(self._store.keys(documents.seconds(now)).values()), None)
        if newest is not None and documents.seconds(now) - newest.announced_at < ROTATE_KEY_AFTER.total_seconds():
            return
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        announced = self._wallet.announce(public, int(KEY_VALID_FOR.total_seconds()))
        said = decoded(Signed, announced).verified(Announcement, self._operator_key)
        if (said.terminal, said.public_key, said.model) != (self._terminal, public, self._calibration.model):
            raise BadSignature("The operator announced another key, terminal or model than this one's.")
        last_use = said.not_after + LIFETIME.seconds + CLOCK_SKEW.seconds
        self._store.add_key(OpeningKey(private, announced, documents.seconds(now)), last_use=last_use)

    def _fetch_deny_list(self) -> None:
        signed = self._wallet.deny_list()
        new, old = self._verified(signed), self._listed
        if old is not None and (new.sequence < old.sequence or new.issued_at < old.issued_at):
            raise DenyListUnusable("The wallet gave an older deny list than before.")
        self._store.replace_deny_list(signed)
        self._listed = new

    def _forward(self) -> list[str]:
        refused = []
        for sequence, record in self._store.kept():
            try:
                self._wallet.held_payment(record)
            except ApiError as error:
                if error.status not in _FINAL:
                    raise
                refused.append(error.code)
            self._store.drop(sequence)
        return refused

    def _verified(self, signed: bytes) -> "_Listed":
        listed = decoded(Signed, signed).verified(DenyList, self._operator_key)
        if listed.operator != operator_id(self._operator_key):
            raise BadSignature("This deny list is another operator's.")
        return _Listed(listed.sequence, listed.issued_at, frozenset(listed.devices))

    def _use_card(self, reason: str) -> AttemptReply:
        return self._reply("use_card", reason)

    def _reply(self, outcome: str, reason: str) -> AttemptReply:
        price = self._fare.price()
        amount = 0 if price is None else price.least
        return AttemptReply(outcome, reason, amount, self._fare.currency, payment_intent="", receipt=None)


@dataclass(frozen=True)
class _Listed:
    sequence: int
    issued_at: int
    devices: frozenset[bytes]


class HeldApproach(Approach):
    """An approach that also looks for codes; in lanes for codes only, nothing is embedded without one."""

    def __init__(
        self,
        pipeline: FacePipeline,
        lane: Lane,
        held: HeldProfile,
        *,
        codes_only: bool,
        backdrop: Backdrop | None = None,
    ) -> None:
        super().__init__(pipeline, lane, backdrop=backdrop)
        self._held = held
        self._codes_only = codes_only

    def offer(self, frame: Frame) -> Hint | None:
        """Look at one frame, as `Approach.offer`; a code goes with the person who is followed when it is shown."""
        if not self.somebody_near:
            self._held.forget()  # shown to nobody: it has to be in the picture when somebody comes near
        self._held.look(frame)
        return super().offer(frame)

    @property
    def wants_to_pay(self) -> bool:
        """The sign of will; in a lane for codes, to show one is part of it."""
        shown = self._held.claimed or self._held.refused is not None
        return super().wants_to_pay and (shown or not self._codes_only)


def code_or_search(held: HeldProfile, search: Callable[[Template], AttemptReply]) -> Callable[[Template], AttemptReply]:
    """For lanes of both profiles: a good code decides; without one, the face is searched.

    `search` raises ApiError. Who shows a bad code and isn't recognised is told what was wrong with the code.
    """

    def ask(probe: Template) -> AttemptReply:
        if held.claimed:
            return held.pay(probe)
        wrong = held.refused
        reply = search(probe)
        held.forget()
        return reply if reply.opens or wrong is None else replace(reply, reason=wrong)

    return ask
