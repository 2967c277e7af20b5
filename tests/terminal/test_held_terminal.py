"""A terminal that takes codes: what it accepts, with and without a wallet, and what it keeps (nothing of a face)."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.faces import Sitter
from demo.phone import drawn, held_up
from facefare.biometrics import FacePipeline, Template, fuse
from facefare.client import ApiError, AttemptReply
from facefare.identification.calibration import Calibration
from facefare.identification.held import code, documents
from facefare.identification.held.code import Holding, Pass
from facefare.identification.held.documents import Announcement, DenyList, PaymentRecord, Signed, decoded
from facefare.identification.held.errors import DenyListUnusable
from facefare.identification.held.handover import reference_of
from facefare.terminal.approach import Lane
from facefare.terminal.codes import Offer
from facefare.terminal.fares import Fare, FixedFare, Price
from facefare.terminal.gate import Gate
from facefare.terminal.held import HeldApproach, HeldProfile, HeldTerms, code_or_search
from facefare.terminal.held_store import HeldStore
from facefare.terminal.lost_answers import LostAnswers
from facefare.terminal.till import Sale

CALIBRATION = Calibration.default()
TODAY = int(time.time()) // documents.DAY
FARE = FixedFare(280, "EUR")
EMPTY = np.full((480, 640, 3), 90, np.uint8)


@dataclass
class FakeWallet:
    """The wallet as a terminal sees it; `away` takes the network down."""

    operator: Ed25519PrivateKey
    terminal: str = "trm_gate"
    model: str = CALIBRATION.model
    away: bool = False
    answer: str = "accepted"
    refuse: ApiError | None = None
    denied: list[bytes] = field(default_factory=list)
    sequence: int = 1
    list_age: int = 0
    records: list[PaymentRecord] = field(default_factory=list)
    undone: list[bytes] = field(default_factory=list)

    def undo(self, query_id: bytes) -> None:
        self._check()
        self.undone.append(query_id)

    def _check(self) -> None:
        if self.away:
            raise ApiError(0, "unreachable", "away")

    def announce(self, public_key: bytes, valid_for: int) -> bytes:
        self._check()
        now = int(time.time())
        announcement = Announcement(
            1,
            "terminal-key",
            documents.operator_id(self.operator.public_key()),
            self.terminal,
            self.model,
            public_key,
            now - 3600,
            now + valid_for,
        )
        return Signed.sign(announcement, self.operator).to_bytes()

    def deny_list(self) -> bytes:
        self._check()
        listed = DenyList(
            1,
            "deny-list",
            documents.operator_id(self.operator.public_key()),
            self.sequence,
            int(time.time()) - self.list_age,
            tuple(sorted(self.denied)),
        )
        return Signed.sign(listed, self.operator).to_bytes()

    def held_payment(self, record: bytes) -> AttemptReply:
        self._check()
        if self.refuse is not None:
            raise self.refuse
        self.records.append(decoded(PaymentRecord, decoded(Signed, record).payload))
        return AttemptReply(self.answer, None, 280, "EUR", "pi_1", "rcp_1")


@dataclass
class Device:
    holding: Holding
    given: Pass
    counter: int = 0

    def show(self, terminal: "Terminal", at: datetime | None = None) -> bytes:
        self.counter += 1
        announced = terminal.held.announcement
        assert announced is not None
        said = decoded(Announcement, decoded(Signed, announced).payload)
        return code.make(self.holding, self.given, said, counter=self.counter, now=at or datetime.now(UTC))

    @property
    def tag(self) -> bytes:
        return documents.device_tag(self.holding.key.public_key().public_bytes_raw())


@dataclass
class Terminal:
    held: HeldProfile
    wallet: FakeWallet
    store: HeldStore
    path: Path
    answers: LostAnswers

    def taken_back(self, phone: Device) -> bool:
        """Whether the payment by this phone's last code is taken back, and nothing else is left to be."""
        self.wallet.undone.clear()
        assert self.answers.settle() == 0
        device = documents.device_id(phone.holding.key.public_key().public_bytes_raw())
        payment = documents.query_id(documents.PAYMENT, device, phone.counter)
        assert self.wallet.undone in ([], [payment])
        return bool(self.wallet.undone)

    def pay(self, shown: bytes, face: Template) -> AttemptReply:
        self.held.look(picture(shown))
        return self.held.pay(face)


def picture(*codes: bytes) -> Any:
    frame = EMPTY.copy()
    for number, shown in enumerate(codes):
        screen = drawn(shown)
        x = 10 + number * 200
        frame[300 : 300 + len(screen), x : x + len(screen)] = screen
    return frame


@pytest.fixture(scope="module")
def sitters(collins: Sitter, hopper: Sitter) -> dict[str, Sitter]:
    return {"collins": collins, "hopper": hopper}


def seen(pipeline: FacePipeline, frames: list[Any]) -> Template:
    return fuse([pipeline.embed(frame, pipeline.observe(frame)) for frame in frames])


@pytest.fixture(scope="module")
def references(pipeline: FacePipeline, sitters: dict[str, Sitter]) -> dict[str, bytes]:
    return {
        name: reference_of(seen(pipeline, sitter.enrolment_views(seed=7)).vector, CALIBRATION)
        for name, sitter in sitters.items()
    }


@pytest.fixture(scope="module")
def faces(pipeline: FacePipeline, sitters: dict[str, Sitter]) -> dict[str, list[Template]]:
    """Four probes of each, from four walks up to the camera."""
    return {
        name: [seen(pipeline, sitter.walk_up(seed)[-3:]) for seed in (1, 2, 3, 4)] for name, sitter in sitters.items()
    }


OPERATOR = Ed25519PrivateKey.generate()


def made_device(reference: bytes, *, self_made: bool = False, operator: Ed25519PrivateKey = OPERATOR) -> Device:
    holding = Holding(Ed25519PrivateKey.generate(), reference, os.urandom(16), CALIBRATION.model)
    key = holding.key.public_key().public_bytes_raw()
    given = code.new_pass(operator, key, holding.commitment, self_made=self_made, through_day=TODAY + 30)
    return Device(holding, given)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    stores = []

    def make(name: str = "trm_gate", terms: HeldTerms | None = None, fare: Fare = FARE) -> Terminal:
        path = tmp_path / f"{name}.sqlite"
        wallet = FakeWallet(OPERATOR, name)
        store = HeldStore(path)
        stores.append(store)
        answers = LostAnswers(tmp_path / f"{name}.lost", wallet.undo)
        held = HeldProfile(
            terminal=name,
            key=Ed25519PrivateKey.generate(),
            operator_key=OPERATOR.public_key(),
            calibration=CALIBRATION,
            store=store,
            wallet=wallet,  # type: ignore[arg-type]
            answers=answers,
            fare=fare,
            terms=terms or HeldTerms(),
        )
        held.refresh()
        return Terminal(held, wallet, store, path, answers)

    yield make
    for store in stores:
        store.close()


# --- accepting ---


def test_the_owner_of_a_phone_pays_with_its_code(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    for probe in faces["collins"]:
        reply = terminal.pay(phone.show(terminal), probe)
        assert (reply.outcome, reply.receipt) == ("accepted", "rcp_1")
    assert [record.counter for record in terminal.wallet.records] == [1, 2, 3, 4]
    sequences = [record.sequence for record in terminal.wallet.records]
    assert sequences == sorted(set(sequences))


def test_a_payment_that_would_wait_for_a_second_factor_is_let_go_at_once(
    make: Any, references: Any, faces: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.answer = "confirmation_required"
    reply = terminal.pay(phone.show(terminal), faces["collins"][0])
    assert (reply.outcome, reply.reason) == ("use_card", "second_factor")
    assert terminal.taken_back(phone), "though the payer may say yes in the app meanwhile"


def test_what_a_lost_answer_may_have_charged_is_taken_back_unless_somebody_passes(
    make: Any, references: Any, faces: Any
) -> None:
    terminal = make(terms=HeldTerms(passback=timedelta(0), offline_limit=300))
    phone, face = made_device(references["collins"]), faces["collins"][0]
    assert terminal.pay(phone.show(terminal), face).outcome == "accepted"
    assert not terminal.taken_back(phone)
    terminal.wallet.refuse = ApiError(503, "database-unavailable", "It may have been charged.")
    assert terminal.pay(phone.show(terminal), face).reason == "offline"
    terminal.wallet.refuse = None
    assert not terminal.taken_back(phone), "the record that is handed in later names the same payment"
    terminal.wallet.refuse = ApiError(429, "too-many-tries", "Nothing was decided.")
    assert terminal.pay(phone.show(terminal), face).reason == "offline_limit_reached"
    terminal.wallet.refuse = None
    assert terminal.taken_back(phone)
    terminal.wallet.refuse = ApiError(402, "insufficient-funds", "No.")
    assert terminal.pay(phone.show(terminal), face).reason == "insufficient_funds"
    terminal.wallet.refuse = None
    assert not terminal.taken_back(phone), "an answer"


def test_a_crash_between_the_question_and_the_answer_takes_the_payment_back(
    make: Any, references: Any, faces: Any, monkeypatch: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    monkeypatch.setattr(terminal.wallet, "held_payment", lambda record: os._exit(1))
    child = os.fork()
    if child == 0:
        terminal.pay(phone.show(terminal), faces["collins"][0])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    phone.counter += 1
    assert terminal.taken_back(phone)


def test_no_stranger_pays_with_it_whoever_else_has_a_phone(make: Any, references: Any, faces: Any) -> None:
    terminal = make()
    phones = {name: made_device(reference) for name, reference in references.items()}
    for name, phone in phones.items():
        for other in faces:
            for probe in faces[other] if other != name else ():
                assert terminal.pay(phone.show(terminal), probe).reason == "not_recognised"
    assert terminal.wallet.records == []


def test_the_gate_opens_for_somebody_who_walks_up_and_holds_up_the_phone(
    make: Any, references: Any, pipeline: FacePipeline, sitters: Any
) -> None:
    terminal, attempts = make(), []
    approach = HeldApproach(pipeline, Lane(), terminal.held, codes_only=True)
    gate = Gate(approach, terminal.held.pay, _Screen(), FARE, attempts.append)
    phone = made_device(references["collins"])
    for seed in (11, 12):
        walk = held_up(sitters["collins"].walk_up(seed, frames=12), phone.show(terminal))
        gate.run([EMPTY, *walk, EMPTY])
    thief = held_up(sitters["hopper"].walk_up(13, frames=12), phone.show(terminal))
    gate.run([EMPTY, *thief, EMPTY])
    assert [(one.outcome, one.reason) for one in attempts] == [
        ("accepted", None),
        ("accepted", None),
        ("use_card", "not_recognised"),
    ]


def test_in_a_lane_for_codes_nothing_is_embedded_of_somebody_without_one(
    make: Any, pipeline: FacePipeline, sitters: Any, monkeypatch: Any
) -> None:
    terminal, attempts = make(), []

    def embed(*_: Any) -> None:
        raise AssertionError("A stranger's face was embedded.")

    monkeypatch.setattr(pipeline, "embed", embed)
    approach = HeldApproach(pipeline, Lane(), terminal.held, codes_only=True)
    Gate(approach, terminal.held.pay, _Screen(), FARE, attempts.append).run([*sitters["hopper"].walk_up(5), EMPTY])
    assert [one for one in attempts if one.outcome == "accepted"] == []


def test_in_a_lane_of_both_profiles_a_code_decides_and_without_one_the_face_is_searched(
    make: Any, references: Any, faces: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    searched: list[Template] = []

    def search(probe: Template) -> AttemptReply:
        searched.append(probe)
        return AttemptReply("use_card", "not_recognised", 280, "EUR", "pi_2", None)

    ask = code_or_search(terminal.held, search)
    terminal.held.look(picture(phone.show(terminal)))
    assert ask(faces["collins"][0]).outcome == "accepted"
    assert searched == []
    assert ask(faces["collins"][0]).reason == "not_recognised"
    terminal.held.look(picture(phone.show(terminal, datetime.now(UTC) - timedelta(minutes=2))))
    assert ask(faces["collins"][0]).reason == "code_expired"
    assert len(searched) == 2


class _Screen:
    def show(self, shown: Any) -> None:
        pass


# --- refusing ---


def test_a_photographed_code_is_worth_nothing_at_another_terminal(make: Any, references: Any, faces: Any) -> None:
    here, there, phone = make("trm_gate"), make("trm_till"), made_device(references["collins"])
    assert there.pay(phone.show(here), faces["collins"][0]).reason == "code_for_another_terminal"


def test_a_photographed_code_is_worth_nothing_later(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    old = phone.show(terminal, datetime.now(UTC) - timedelta(seconds=32))
    assert terminal.pay(old, faces["collins"][0]).reason == "code_expired"


def test_a_code_read_in_time_is_not_compared_after_it_ran_out(
    make: Any, references: Any, faces: Any, monkeypatch: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.held.look(picture(phone.show(terminal)))
    later = time.time() + 31
    monkeypatch.setattr("facefare.terminal.held.time.time", lambda: later)
    assert terminal.held.pay(faces["collins"][0]).reason == "code_expired"
    assert terminal.wallet.records == []


def test_a_code_pays_once_and_older_ones_not_at_all(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    first, second = phone.show(terminal), phone.show(terminal)
    assert terminal.pay(second, faces["collins"][0]).outcome == "accepted"
    for replayed in (second, first):
        assert terminal.pay(replayed, faces["collins"][1]).reason == "code_used_before"


def test_a_code_pays_once_even_if_the_terminal_starts_again(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    shown = phone.show(terminal)
    assert terminal.pay(shown, faces["collins"][0]).outcome == "accepted"
    terminal.store.close()
    again = make()
    assert again.pay(shown, faces["collins"][0]).reason == "code_used_before"


def test_a_code_buys_one_comparison_so_faces_cannot_be_tried(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    shown = phone.show(terminal)
    assert terminal.pay(shown, faces["hopper"][0]).reason == "not_recognised"
    assert terminal.pay(shown, faces["collins"][0]).reason == "code_used_before"


def test_a_stolen_phone_is_refused_after_five_wrong_faces(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    reasons = [terminal.pay(phone.show(terminal), faces["hopper"][n % 4]).reason for n in range(6)]
    assert reasons == ["not_recognised"] * 5 + ["too_many_tries"]
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).reason == "too_many_tries"
    assert terminal.pay(made_device(references["collins"]).show(terminal), faces["collins"][0]).outcome == "accepted"


def test_a_device_on_the_deny_list_is_refused_at_once(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.denied, terminal.wallet.sequence = [phone.tag], 2
    terminal.held.refresh()
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).reason == "device_denied"
    assert terminal.wallet.records == []


def test_what_the_wallet_refuses_is_said_and_the_gate_stays_shut(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.refuse = ApiError(422, "device-denied", "lost")
    reply = terminal.pay(phone.show(terminal), faces["collins"][0])
    assert (reply.opens, reply.reason) == (False, "device_denied")
    assert terminal.store.kept() == []


def test_a_self_made_reference_pays_small_amounts_only(make: Any, references: Any, faces: Any) -> None:
    phone = made_device(references["collins"], self_made=True)
    cheap, dear = make("trm_cheap"), make("trm_dear", fare=FixedFare(10_01, "EUR"))
    assert cheap.pay(phone.show(cheap), faces["collins"][0]).outcome == "accepted"
    assert dear.pay(phone.show(dear), faces["collins"][0]).reason == "over_self_made_limit"


def test_a_pass_of_another_operator_is_refused(make: Any, references: Any, faces: Any) -> None:
    terminal = make()
    phone = made_device(references["collins"], operator=Ed25519PrivateKey.generate())
    phone.given = Pass(
        documents.operator_id(OPERATOR.public_key()), False, phone.given.through_day, phone.given.signature
    )
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).reason == "code_signature_wrong"


def test_other_peoples_qr_codes_are_passed_over(make: Any) -> None:
    terminal = make()
    terminal.held.look(picture(b"https://example.org/a-poster", b"\x83\x02" + bytes(100)))
    assert not terminal.held.claimed
    assert terminal.held.refused is None


def test_a_stale_code_on_the_wall_does_not_displace_a_good_one(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    stale = phone.show(terminal, datetime.now(UTC) - timedelta(minutes=5))
    good = phone.show(terminal)
    for _ in range(3):
        terminal.held.look(picture(good, stale))
    assert terminal.held.pay(faces["collins"][0]).outcome == "accepted"


# --- without a network ---


def test_offline_it_accepts_and_hands_in_once_the_wallet_is_back(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.away = True
    reply = terminal.pay(phone.show(terminal), faces["collins"][0])
    assert (reply.outcome, reply.reason) == ("accepted", "offline")
    with pytest.raises(ApiError):
        terminal.held.refresh()
    assert len(terminal.store.kept()) == 1
    terminal.wallet.away = False
    terminal.held.refresh()
    terminal.held.refresh()
    assert [(one.counter, one.offline, one.amount) for one in terminal.wallet.records] == [(1, True, 280)]
    assert terminal.store.kept() == []


def test_records_kept_offline_survive_a_restart_and_are_signed_in_order(make: Any, references: Any, faces: Any) -> None:
    terminal = make(terms=HeldTerms(passback=timedelta(0)))
    phones = [made_device(references["collins"]) for _ in range(3)]
    terminal.wallet.away = True
    for phone in phones:
        assert terminal.pay(phone.show(terminal), faces["collins"][0]).opens
    terminal.store.close()
    again = make()
    numbers = [record.sequence for record in again.wallet.records]
    assert numbers == sorted(numbers)
    assert len(numbers) == 3
    for record in again.wallet.records:
        record.check_device()


def test_with_a_broken_disk_nothing_is_taken_and_nothing_crashes(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.held.look(picture(phone.show(terminal)))
    terminal.store._database.execute("PRAGMA query_only = ON")  # as a full disk: reads work, writes don't
    reply = terminal.held.pay(faces["collins"][0])
    assert (reply.outcome, reply.reason) == ("use_card", "terminal_store_unusable")
    assert terminal.wallet.records == []
    terminal.store._database.execute("PRAGMA query_only = OFF")
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).outcome == "accepted"


def test_a_second_passage_offline_is_covered_and_not_charged(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.away = True
    replies = [terminal.pay(phone.show(terminal), faces["collins"][n]) for n in (0, 1)]
    assert [reply.outcome for reply in replies] == ["accepted", "already_paid"]
    assert len(terminal.store.kept()) == 1


def test_offline_a_device_spends_no_more_than_the_limit(make: Any, references: Any, faces: Any) -> None:
    terminal = make(terms=HeldTerms(passback=timedelta(0), offline_limit=600))
    phone = made_device(references["collins"])
    terminal.wallet.away = True
    outcomes = [terminal.pay(phone.show(terminal), faces["collins"][0]).reason for _ in range(3)]
    assert outcomes == ["offline", "offline", "offline_limit_reached"]


def test_a_till_offline_charges_each_purchase_with_its_tip_and_up_to_the_limit_of_a_phone(
    make: Any, references: Any, faces: Any
) -> None:
    sale = Sale("EUR")
    till = make("trm_till", terms=HeldTerms(passback=timedelta(0), offline_limit=900), fare=sale)
    phone, face = made_device(references["collins"]), faces["collins"][0]

    def sells(amount: int, tip: int = 0) -> tuple[str, str | None, int]:
        sale.offer = Offer(amount + tip, Price(amount + tip, amount + tip, "EUR"), tip)
        reply = till.pay(phone.show(till), face)
        return reply.outcome, reply.reason, reply.amount

    till.wallet.away = True
    assert sells(350, tip=35) == ("accepted", "offline", 385)
    assert sells(350) == ("accepted", "offline", 350), "two coffees are two"
    assert sells(166) == ("use_card", "offline_limit_reached", 166)
    assert sells(165) == ("accepted", "offline", 165)
    till.store.close()
    again = make("trm_till", fare=sale)  # the power went, and came back with the network
    assert [(one.amount, one.currency, one.offline) for one in again.wallet.records] == [
        (385, "EUR", True),
        (350, "EUR", True),
        (165, "EUR", True),
    ]
    assert [one.counter for one in again.wallet.records] == [1, 2, 4]
    assert again.store.kept() == []


def test_a_till_offline_takes_nothing_of_a_denied_phone_and_nothing_without_a_sale(
    make: Any, references: Any, faces: Any
) -> None:
    sale = Sale("EUR")
    till, phone, another = make("trm_till", fare=sale), *(made_device(references["collins"]) for _ in range(2))
    till.wallet.denied, till.wallet.sequence = [phone.tag], 2
    till.held.refresh()
    till.wallet.away = True
    assert till.pay(another.show(till), faces["collins"][0]).reason == "fare_unknown", "nothing was typed in"
    sale.offer = Offer(350, Price(350, 350, "EUR"))
    assert till.pay(phone.show(till), faces["collins"][0]).reason == "device_denied"
    assert till.store.kept() == []


def test_offline_a_denied_device_is_refused(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.denied, terminal.wallet.sequence = [phone.tag], 2
    terminal.held.refresh()
    terminal.wallet.away = True
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).reason == "device_denied"


def test_offline_nothing_is_accepted_on_a_deny_list_that_is_too_old(make: Any, references: Any, faces: Any) -> None:
    terminal = make(terms=HeldTerms(deny_list_max_age=timedelta(0)))
    phone = made_device(references["collins"])
    terminal.wallet.away = True
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).reason == "deny_list_unusable"
    assert terminal.store.kept() == []


def test_offline_a_self_made_reference_pays_only_where_the_operator_says_so(
    make: Any, references: Any, faces: Any
) -> None:
    strict, lenient = make("trm_a"), make("trm_b", terms=HeldTerms(offline_self_made=True))
    phone = made_device(references["collins"], self_made=True)
    for terminal, reason in ((strict, "over_self_made_limit"), (lenient, "offline")):
        terminal.wallet.away = True
        assert terminal.pay(phone.show(terminal), faces["collins"][0]).reason == reason


def test_a_deny_list_that_goes_back_is_not_taken(make: Any) -> None:
    terminal = make()
    terminal.wallet.sequence = 5
    terminal.held.refresh()
    terminal.wallet.sequence = 4
    with pytest.raises(DenyListUnusable):
        terminal.held.refresh()


def test_a_deny_list_signed_by_somebody_else_is_not_taken(make: Any) -> None:
    terminal = make()
    terminal.wallet.operator = Ed25519PrivateKey.generate()
    with pytest.raises(Exception, match="signature"):
        terminal.held.refresh()


def test_a_record_the_wallet_will_never_take_does_not_hold_up_the_others(
    make: Any, references: Any, faces: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.wallet.away = True
    terminal.pay(phone.show(terminal), faces["collins"][0])
    terminal.wallet.away, terminal.wallet.refuse = False, ApiError(503, "database-unavailable", "away")
    with pytest.raises(ApiError):
        terminal.held.refresh()
    assert len(terminal.store.kept()) == 1
    terminal.wallet.refuse = ApiError(422, "device-denied", "lost")
    assert terminal.held.refresh() == ["device-denied"]
    assert terminal.store.kept() == []
    assert terminal.held.refresh() == []


# --- keys ---


def test_a_new_key_each_day_and_codes_for_the_old_one_still_open(
    make: Any, references: Any, faces: Any, monkeypatch: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    shown, before = phone.show(terminal), terminal.held.announcement
    terminal.held.refresh()
    assert terminal.held.announcement == before
    monkeypatch.setattr("facefare.terminal.held.ROTATE_KEY_AFTER", timedelta(0))
    time.sleep(1.1)  # announced_at has whole seconds
    terminal.held.refresh()
    assert terminal.held.announcement != before
    assert terminal.pay(shown, faces["collins"][0]).outcome == "accepted"
    assert terminal.pay(phone.show(terminal), faces["collins"][0]).outcome == "accepted"


def test_a_key_past_its_time_is_erased_from_the_disk(make: Any) -> None:
    terminal = make()
    (key,) = terminal.store.keys(int(time.time())).values()
    private = key.private.private_bytes_raw()
    assert private in terminal.path.read_bytes()
    assert terminal.store.keys(int(time.time()) + 4 * documents.DAY) == {}
    assert private not in terminal.path.read_bytes()


def test_without_an_announced_key_no_code_is_taken(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    shown = phone.show(terminal)
    terminal.store.keys(int(time.time()) + 4 * documents.DAY)
    assert terminal.pay(shown, faces["collins"][0]).reason == "no_opening_key"


def test_an_announcement_of_another_key_or_terminal_is_not_used(make: Any) -> None:
    terminal = make()
    terminal.store.keys(int(time.time()) + 4 * documents.DAY)
    terminal.wallet.terminal = "trm_other"
    with pytest.raises(Exception, match="announced another key"):
        terminal.held.refresh()
    assert terminal.held.announcement is None


# --- what stays ---


def test_nothing_of_reference_or_probe_stays_on_the_terminal(
    make: Any, references: Any, faces: Any, capfd: Any, caplog: Any
) -> None:
    terminal, phone = make(), made_device(references["collins"])
    secrets = {"reference": phone.holding.reference, "salt": phone.holding.salt}
    probes = [faces["collins"][0], faces["hopper"][0]]
    for probe in probes:
        secrets[f"probe {id(probe)}"] = probe.vector.tobytes()
        secrets[f"quantised {id(probe)}"] = reference_of(probe.vector, CALIBRATION)
    terminal.pay(phone.show(terminal), probes[0])
    terminal.pay(phone.show(terminal), probes[1])
    terminal.wallet.away = True
    terminal.pay(phone.show(terminal), probes[0])
    assert terminal.store.kept() != []

    files = b"".join(file.read_bytes() for file in terminal.path.parent.rglob("*") if file.is_file())
    said = "".join(capfd.readouterr()) + caplog.text
    remembered = _bytes_reachable_from(terminal.held)
    for name, secret in secrets.items():
        for start in range(0, len(secret) - 15, 8):
            piece = secret[start : start + 16]
            assert piece not in files, name
            assert piece not in remembered, name
            assert piece.hex() not in said, name


def _bytes_reachable_from(thing: object) -> bytes:
    """All bytes, texts and arrays that an object still refers to, through anything but modules and classes."""
    found, seen, todo = [], set(), [thing]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | type(gc)) or callable(one):
            continue
        seen.add(id(one))
        if isinstance(one, bytes):
            found.append(one)
        elif isinstance(one, np.ndarray):
            found.extend([one.tobytes(), np.clip(one, -128, 127).astype(np.int8).tobytes()])
        else:
            todo.extend(gc.get_referents(one))
    return b"|".join(found)


def test_the_search_of_memory_would_find_a_reference_that_stayed(make: Any, references: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.held.look(picture(phone.show(terminal)))
    assert phone.holding.reference in _bytes_reachable_from(terminal.held)
    terminal.held.forget()
    assert phone.holding.reference not in _bytes_reachable_from(terminal.held)


def test_who_was_here_is_forgotten_with_the_codes(make: Any, references: Any, faces: Any) -> None:
    terminal, phone = make(), made_device(references["collins"])
    terminal.pay(phone.show(terminal), faces["collins"][0])
    assert phone.tag in terminal.path.read_bytes()
    assert terminal.store.highest(phone.tag, int(time.time()) + 120) == 0
    assert phone.tag not in terminal.path.read_bytes()
