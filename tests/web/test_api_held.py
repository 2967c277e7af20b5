"""Payers who hold their own reference, through the API: devices, codes, offline payments, moving between profiles."""

import base64
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import text, update

from demo.phone import Phone
from facefare.client import ApiError, AttemptReply, PayerClient, TerminalClient
from facefare.fares.tariff import (
    Band,
    Cap,
    LegRule,
    Network,
    Period,
    Product,
    Selector,
    Stop,
    Tariff,
    TariffVersion,
)
from facefare.identification.calibration import Calibration
from facefare.identification.held import code, documents, handover
from facefare.identification.held.code import Claim
from facefare.identification.held.documents import Announcement, DenyList, PaymentRecord, Signed, decoded
from facefare.ledger import verify
from facefare.ledger.tables import metadata
from facefare.payments import held, merchants, tariffs
from facefare.payments.held import HeldRules
from facefare.payments.tariffs import FarePoint
from facefare.payments.verify import INVARIANTS
from facefare.settings import Settings
from facefare.wallet.consents import Profile
from facefare.wallet.device_tables import device as device_table

CALIBRATION = Calibration(
    model="labels",
    mean=np.zeros(128, np.float32),
    scale=60.0,
    min_squared_norm=1,
    max_squared_norm=8191,
    thresholds=(),
)


@dataclass
class Till:
    """A terminal that opens codes, as the wallet sees it; faces are compared elsewhere."""

    world: Any
    client: Any
    id: str
    key: X25519PrivateKey
    announced: bytes
    sequence: int = 0

    def take(
        self, shown: bytes, *, amount: int | None = 280, offline: bool = False, ago: timedelta = timedelta(0)
    ) -> bytes:
        """The record of a payment with this code."""
        now = datetime.now(UTC) - ago
        claim = self.open(shown, now)
        self.sequence += 1
        record = PaymentRecord(
            v=1,
            kind="held-payment",
            operator=documents.operator_id(self.world.app.state.services.receipt_key.public_key()),
            terminal=self.id,
            sequence=self.sequence,
            device_key=claim.device_key,
            key_id=claim.key_id,
            commitment=claim.commitment,
            counter=claim.counter,
            expires=claim.expires,
            device_signature=claim.signature,
            amount=amount,
            currency="EUR",
            taken_at=int(now.timestamp() * 1000),
            offline=offline,
        )
        return self.signed(record)

    def open(self, shown: bytes, now: datetime) -> Claim:
        named = documents.key_id(self.key.public_key().public_bytes_raw())
        operator_key = self.world.app.state.services.receipt_key.public_key()
        return code.open_code(shown, {named: self.key}, operator_key=operator_key, now=now)

    def signed(self, record: PaymentRecord) -> bytes:
        return Signed.sign(record, self.world.requests.terminal_key).to_bytes()

    def pay(self, shown: bytes, **more: Any) -> AttemptReply:
        return self.client.held_payment(self.take(shown, **more))


@pytest.fixture
def till_of(world: Any) -> Callable[[str], Till]:
    def make(id: str) -> Till:
        client = {"trm_gate": world.gate, "trm_till": world.till}[id]
        key = X25519PrivateKey.generate()
        return Till(world, client, id, key, client.announce(key.public_key().public_bytes_raw(), 86_400))

    return make


@pytest.fixture
def gate(till_of: Callable[[str], Till]) -> Till:
    return till_of("trm_gate")


def template(seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=128)


@pytest.fixture
def phone_of(world: Any) -> Callable[..., Phone]:
    """A phone of this payer, with a reference that a station made, or one of its own."""

    def make(payer: PayerClient, *, self_made: bool = False, seed: int = 1) -> Phone:
        operator_key = world.app.state.services.receipt_key.public_key()
        phone = Phone(payer, operator_key)
        _, consent = payer.consent("2026-11", profile="held")
        if self_made:
            phone.make_own(template(seed), CALIBRATION, consent)
        else:
            sealed = handover.hand_over(
                template(seed),
                decoded(handover.Request, phone.request(consent)),
                calibration=CALIBRATION,
                operator_key=operator_key,
                station="stn_desk",
                key=world.requests.station_key,
                now=datetime.now(UTC),
            )
            phone.take(sealed, consent)
        return phone

    return make


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ApiError) as raised:
        call()
    return raised.value.code


def has_paid(payer: PayerClient) -> int:
    return 1000 - payer.account().available


# --- paying ---


def test_a_code_pays_once_with_receipt_and_entry_in_the_access_log(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    record = gate.take(phone_of(ada).code(gate.announced))
    first, again = gate.client.held_payment(record), gate.client.held_payment(record)
    assert first == again
    assert first.outcome == "accepted"
    assert has_paid(ada) == 280
    assert ada.receipt(first.receipt)["place"] == "place of trm_gate"
    assert [entry["by"] for entry in ada.access_log()] == ["trm_gate"]
    assert verify(world.engine) == []


def test_a_phone_pays_at_a_till_without_another_factor(world: Any, till_of: Any, phone_of: Any) -> None:
    till, ada = till_of("trm_till"), world.payer(funds=20_000)
    assert till.pay(phone_of(ada).code(till.announced), amount=60_00).outcome == "accepted"


def test_passage_is_covered_for_a_while_whichever_phone_is_shown(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    first, second = phone_of(ada), phone_of(ada, seed=2)
    assert gate.pay(first.code(gate.announced)).outcome == "accepted"
    assert gate.pay(second.code(gate.announced)).outcome == "already_paid"
    assert has_paid(ada) == 280


def test_too_little_money_is_refused_and_not_owed(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer(funds=100)
    phone = phone_of(ada)
    reply = gate.pay(phone.code(gate.announced))
    assert (reply.outcome, reply.reason) == ("refused", "insufficient_funds")
    assert [device.state for device in ada.devices()] == ["active"]


def test_one_code_reported_eight_times_at_once_is_charged_once(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    signed = decoded(Signed, gate.take(phone_of(ada).code(gate.announced)))
    services = world.app.state.services

    def report(_: int) -> str:
        with world.engine.begin() as connection:
            terminal = merchants.terminal(connection, "trm_gate")
            return held.pay(
                connection,
                terminal,
                signed,
                operator_key=services.receipt_key.public_key(),
                rules=services.rules,
                held=services.held,
            ).payment_intent

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(report, range(8)))) == 1
    assert has_paid(ada) == 280


# --- what is refused ---


def test_a_counter_that_was_seen_or_passed_pays_nothing(world: Any, gate: Till, till_of: Any, phone_of: Any) -> None:
    ada, till = world.payer(), till_of("trm_till")
    phone = phone_of(ada)
    older, newer = phone.code(gate.announced), phone.code(till.announced)
    assert till.pay(newer).outcome == "accepted"
    assert refused(lambda: gate.pay(older)) == "code-used-before"
    assert refused(lambda: till.pay(newer, amount=300)) == "code-used-before"
    assert has_paid(ada) == 280


def test_a_code_for_one_terminal_is_not_charged_by_another(world: Any, gate: Till, till_of: Any, phone_of: Any) -> None:
    till, ada = till_of("trm_till"), world.payer()
    record = decoded(PaymentRecord, decoded(Signed, gate.take(phone_of(ada).code(gate.announced))).payload)
    assert refused(lambda: till.client.held_payment(till.signed(record))) == "code-for-another-terminal"
    stolen = replace(record, terminal="trm_till")
    assert refused(lambda: till.client.held_payment(till.signed(stolen))) == "code-for-another-terminal"
    assert has_paid(ada) == 0


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"counter": 9}, "code-signature-wrong"),
        ({"device_signature": bytes(64)}, "code-signature-wrong"),
        ({"commitment": bytes(32)}, "code-signature-wrong"),
        ({"operator": bytes(8)}, "code-for-another-operator"),
        ({"device_key": Ed25519PrivateKey.generate().public_key().public_bytes_raw()}, "code-signature-wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_altered_record_pays_nothing(
    world: Any, gate: Till, phone_of: Any, changed: dict[str, Any], problem: str
) -> None:
    ada = world.payer()
    record = decoded(PaymentRecord, decoded(Signed, gate.take(phone_of(ada).code(gate.announced))).payload)
    assert refused(lambda: gate.client.held_payment(gate.signed(replace(record, **changed)))) == problem
    assert has_paid(ada) == 0


def test_a_record_that_the_terminal_did_not_sign_is_refused(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    signed = decoded(Signed, gate.take(phone_of(ada).code(gate.announced)))
    forged = Signed(signed.payload, Ed25519PrivateKey.generate().sign(signed.payload)).to_bytes()
    assert refused(lambda: gate.client.held_payment(forged)) == "code-signature-wrong"
    assert refused(lambda: gate.client.held_payment(b"\x00" * 40)) == "code-malformed"


def test_a_payment_taken_after_the_code_ran_out_is_refused(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    record = decoded(PaymentRecord, decoded(Signed, gate.take(phone_of(ada).code(gate.announced))).payload)
    late = replace(record, taken_at=(record.expires + 1) * 1000)
    assert refused(lambda: gate.client.held_payment(gate.signed(late))) == "code-expired"


def test_a_code_that_lives_longer_than_any_code_may_pays_nothing(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    record = decoded(PaymentRecord, decoded(Signed, gate.take(phone_of(ada).code(gate.announced))).payload)
    early = replace(record, taken_at=(record.expires - 62) * 1000)
    assert refused(lambda: gate.client.held_payment(gate.signed(early))) == "code-lives-too-long"
    assert has_paid(ada) == 0


def test_an_online_payment_reported_late_is_refused(world: Any, gate: Till, phone_of: Any) -> None:
    ada, ago = world.payer(), timedelta(minutes=2)
    shown = phone_of(ada).code(announced_long_ago(gate), now=datetime.now(UTC) - ago)
    assert refused(lambda: gate.pay(shown, ago=ago)) == "taken-too-long-ago"


def announced_long_ago(till: Till) -> bytes:
    said = decoded(Announcement, decoded(Signed, till.announced).payload)
    return Signed.sign(replace(said, not_before=0), till.world.app.state.services.receipt_key).to_bytes()


def test_a_key_that_no_one_registered_pays_nothing(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    record = gate.take(phone.code(gate.announced))
    with world.engine.begin() as connection:
        connection.execute(update(device_table).values(public_key=os.urandom(32)))
    assert refused(lambda: gate.client.held_payment(record)) == "unknown-device"


def test_a_stolen_device_key_cannot_be_used_with_another_face(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    thief = replace(phone.holding, reference=handover.reference_of(template(99), CALIBRATION))
    phone._holding = thief
    with pytest.raises(Exception, match="signature"):
        gate.open(phone.code(gate.announced), datetime.now(UTC))


def test_a_self_made_reference_pays_up_to_the_operators_limit(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer(funds=5000)
    phone = phone_of(ada, self_made=True)
    assert refused(lambda: gate.pay(phone.code(gate.announced), amount=10_01)) == "over-self-made-limit"
    assert ada.account().available == 5000
    assert ada.payments() == []
    assert gate.pay(phone.code(gate.announced), amount=10_00).outcome == "accepted"


def test_an_operator_may_take_attested_references_only(world: Any, phone_of: Any) -> None:
    services = world.app.state.services
    world.app.state.services = replace(services, held=HeldRules(self_made_limit=0))
    ada = world.payer()
    assert refused(lambda: phone_of(ada, self_made=True)) == "over-self-made-limit"
    phone_of(ada)


def test_a_fare_is_taken_only_where_the_wallet_knows_the_gates_stop(world: Any, gate: Till, phone_of: Any) -> None:
    phone = phone_of(world.payer())
    assert refused(lambda: gate.pay(phone.code(gate.announced), amount=None)) == "no-fare-point"
    assert refused(lambda: gate.pay(phone.code(gate.announced), amount=None, offline=True)) == "no-fare-point"


# --- registering ---


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"proof": bytes(64)}, "code-signature-wrong"),
        ({"public_key": bytes(32)}, "code-signature-wrong"),
        ({"consent_sha256": bytes(32)}, "code-signature-wrong"),
        ({"attestation": b"\xa0"}, "code-malformed"),
    ],
    ids=["proof", "key", "consent", "attestation"],
)
def test_a_device_that_cannot_prove_its_key_is_not_registered(
    world: Any, changed: dict[str, Any], problem: str
) -> None:
    ada = world.payer()
    assert refused(lambda: ada.register_device(**{**honest(world, ada), **changed})) == problem
    assert ada.devices() == ()


def honest(world: Any, payer: PayerClient) -> dict[str, Any]:
    key, operator_key = Ed25519PrivateKey.generate(), world.app.state.services.receipt_key.public_key()
    _, consent = payer.consent("2026-11", profile="held")
    committed = hashlib.sha256(os.urandom(8)).digest()
    return {
        "public_key": key.public_key().public_bytes_raw(),
        "commitment": committed,
        "consent_sha256": consent,
        "proof": key.sign(documents.registration(documents.operator_id(operator_key), consent, committed)),
        "attestation": None,
    }


def test_a_device_belongs_to_the_payer_of_its_consent_and_is_registered_once(world: Any) -> None:
    ada, bob = world.payer(), world.payer()
    brought = honest(world, ada)
    assert refused(lambda: bob.register_device(**brought)) == "consent-missing"
    ada.register_device(**brought)
    assert refused(lambda: ada.register_device(**brought)) == "device-exists"


def test_a_payer_cannot_flood_the_deny_lists_with_devices(world: Any) -> None:
    ada = world.payer()
    for _ in range(10):
        device, _ = ada.register_device(**honest(world, ada))
        ada.revoke_device(device.id)
    assert refused(lambda: ada.register_device(**honest(world, ada))) == "too-many-devices"


def test_an_attestation_counts_for_the_device_reference_and_consent_it_names(world: Any, phone_of: Any) -> None:
    ada = world.payer()
    operator_key = world.app.state.services.receipt_key.public_key()
    first, second = Phone(ada, operator_key), Phone(ada, operator_key)
    _, consent = ada.consent("2026-11", profile="held")

    def attest(phone: Phone, key: Ed25519PrivateKey, station: str = "stn_desk") -> bytes:
        return handover.hand_over(
            template(),
            decoded(handover.Request, phone.request(consent)),
            calibration=CALIBRATION,
            operator_key=operator_key,
            station=station,
            key=key,
            now=datetime.now(UTC),
        )

    impostor = Ed25519PrivateKey.generate()
    assert refused(lambda: first.take(attest(first, impostor), consent)) == "code-signature-wrong"
    unknown = attest(first, impostor, "stn_nobody")
    assert refused(lambda: first.take(unknown, consent)) == "unknown-station"
    device = first.take(attest(first, world.requests.station_key), consent)
    assert not device.self_made
    _, attestation = handover.take(
        attest(second, world.requests.station_key), key=second._key, sealing_key=second._sealing_key
    )
    brought = honest(world, ada)
    assert refused(lambda: ada.register_device(**{**brought, "attestation": attestation})) == "code-signature-wrong"


# --- lost, revoked, two phones ---


@pytest.mark.parametrize("end", ["lose_device", "revoke_device"])
def test_a_lost_or_revoked_phone_pays_nothing_and_the_other_one_does(
    world: Any, gate: Till, phone_of: Any, end: str
) -> None:
    ada = world.payer()
    lost, kept = phone_of(ada), phone_of(ada, seed=2)
    getattr(ada, end)(lost.device.id)
    assert refused(lambda: gate.pay(lost.code(gate.announced))) == "device-denied"
    assert refused(lost.renew) == "device-denied"
    assert gate.pay(kept.code(gate.announced)).outcome == "accepted"
    kept.renew()
    assert has_paid(ada) == 280


def test_a_paused_phone_pays_again_once_it_is_resumed(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    assert ada.pause_device(phone.device.id).state == "paused"
    assert refused(lambda: gate.pay(phone.code(gate.announced))) == "device-denied"
    assert decoded(DenyList, decoded(Signed, gate.client.deny_list()).payload).devices == (
        documents.device_tag(phone.key),
    )
    assert ada.resume_device(phone.device.id).state == "active"
    assert gate.pay(phone.code(gate.announced)).outcome == "accepted"
    assert decoded(DenyList, decoded(Signed, gate.client.deny_list()).payload).devices == ()
    ada.lose_device(phone.device.id)
    assert (ada.pause_device(phone.device.id).state, ada.resume_device(phone.device.id).state) == ("lost", "lost")


def test_this_was_not_me_stops_the_phone_that_paid_until_it_is_resumed(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    paying, other = phone_of(ada), phone_of(ada, seed=2)
    paid = gate.pay(paying.code(gate.announced))
    for _ in range(2):
        assert ada.dispute(paid.payment_intent) == "refunded"
    assert refused(lambda: gate.pay(paying.code(gate.announced))) == "device-denied"
    assert refused(paying.renew) == "device-denied"
    assert denied(gate) == (documents.device_tag(paying.key),)
    assert other.renew() is None  # it did not pay that, and goes on
    assert ada.resume_device(paying.device.id).state == "active"
    assert denied(gate) == ()
    assert gate.pay(paying.code(gate.announced)).outcome == "accepted"
    assert has_paid(ada) == 280
    assert verify(world.engine, INVARIANTS) == []


def test_somebody_else_cannot_report_or_settle_a_device(world: Any, phone_of: Any) -> None:
    ada, eve = world.payer(), world.payer()
    id = phone_of(ada).device.id
    for call in (eve.lose_device, eve.revoke_device, eve.pause_device, eve.resume_device, eve.settle, eve.renew_pass):
        assert refused(lambda call=call: call(id)) == "unknown-device"
    assert [device.state for device in ada.devices()] == ["active"]


def test_the_deny_list_holds_who_must_not_pay_offline_and_only_grows_newer(
    world: Any, gate: Till, phone_of: Any
) -> None:
    operator_key = world.app.state.services.receipt_key.public_key()

    def listed() -> DenyList:
        return decoded(Signed, gate.client.deny_list()).verified(DenyList, operator_key)

    ada = world.payer()
    first, second, third = (phone_of(ada, seed=seed) for seed in (1, 2, 3))
    before = listed()
    assert before.devices == ()
    ada.lose_device(first.device.id)
    ada.revoke_device(second.device.id)
    after = listed()
    assert after.sequence > before.sequence
    tags = {documents.device_tag(phone.key) for phone in (first, second)}
    assert set(after.devices) == tags
    with world.engine.begin() as connection:
        connection.execute(
            update(device_table).where(device_table.c.public_key == first.key).values(pass_through=20_000)
        )
    assert set(listed().devices) == {documents.device_tag(second.key)}
    assert third.device.state == "active"


def test_withdrawn_consent_stops_every_device_of_the_payer(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer("ada")
    phone = phone_of(ada)
    ada.withdraw()
    assert refused(lambda: gate.pay(phone.code(gate.announced))) == "device-denied"
    assert world.look("ada").outcome == "use_card"
    listed = decoded(Signed, gate.client.deny_list())
    assert documents.device_tag(phone.key) in decoded(DenyList, listed.payload).devices


# --- without a network ---


def test_what_was_accepted_offline_is_charged_once_late_and_in_any_order(
    world: Any, gate: Till, till_of: Any, phone_of: Any
) -> None:
    ada, till = world.payer(), till_of("trm_till")
    phone = phone_of(ada)
    early = till.take(phone.code(till.announced), offline=True)
    assert gate.pay(phone.code(gate.announced)).outcome == "accepted"
    assert till.client.held_payment(early).outcome == "accepted"
    assert till.client.held_payment(early).outcome == "accepted"
    assert has_paid(ada) == 560
    assert verify(world.engine) == []


def test_two_passages_offline_are_both_charged_though_they_arrive_together(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    records = [gate.take(phone.code(gate.announced), offline=True) for _ in range(2)]
    assert [gate.client.held_payment(record).outcome for record in records] == ["accepted", "accepted"]
    assert has_paid(ada) == 560


def test_a_payment_whose_answer_was_lost_and_that_was_then_accepted_offline_is_charged_once(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer()
    shown = phone_of(ada).code(gate.announced)
    assert gate.pay(shown).outcome == "accepted"
    assert gate.pay(shown, offline=True).outcome == "accepted"
    assert has_paid(ada) == 280


def test_a_number_that_the_terminal_used_before_is_refused(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    gate.pay(phone.code(gate.announced), offline=True)
    gate.sequence = 0
    assert refused(lambda: gate.pay(phone.code(gate.announced), offline=True)) == "sequence-used"
    assert has_paid(ada) == 280


def test_what_is_forwarded_after_three_days_is_not_charged(world: Any, gate: Till, phone_of: Any) -> None:
    ada, ago = world.payer(), timedelta(hours=73)
    shown = phone_of(ada).code(announced_long_ago(gate), now=datetime.now(UTC) - ago)
    assert refused(lambda: gate.pay(shown, offline=True, ago=ago)) == "taken-too-long-ago"


def test_a_loss_reported_before_the_passage_is_the_operators_and_after_it_the_payers(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    before = gate.take(phone.code(gate.announced), offline=True)
    time.sleep(0.01)
    ada.lose_device(phone.device.id)
    after = gate.take(phone.code(gate.announced), offline=True)
    assert gate.client.held_payment(before).outcome == "accepted"
    assert refused(lambda: gate.client.held_payment(after)) == "device-denied"
    assert has_paid(ada) == 280


def test_who_had_no_money_offline_owes_it_is_denied_and_is_cleared_by_paying(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer(funds=100)
    phone = phone_of(ada)
    record = gate.take(phone.code(gate.announced), offline=True)
    assert gate.client.held_payment(record).reason == "insufficient_funds"
    assert [(device.state, device.owed) for device in ada.devices()] == [("owing", 280)]
    assert refused(lambda: gate.pay(phone.code(gate.announced))) == "device-denied"
    assert (
        documents.device_tag(phone.key) in decoded(DenyList, decoded(Signed, gate.client.deny_list()).payload).devices
    )
    assert [device.state for device in ada.settle(phone.device.id)] == ["owing"]
    ada.top_up(500, "second")
    assert [(device.state, device.owed) for device in ada.settle(phone.device.id)] == [("active", 0)]
    assert ada.account().available == 320
    ada.settle(phone.device.id)
    assert ada.account().available == 320
    assert verify(world.engine) == []


@pytest.mark.parametrize("stopped", ["by its payer before", "by a dispute before", "by a dispute meanwhile"])
def test_a_phone_that_was_stopped_and_comes_to_owe_stays_stopped_when_that_is_paid(
    world: Any, gate: Till, phone_of: Any, stopped: str
) -> None:
    ada = world.payer(funds=300)
    phone = phone_of(ada)
    paid = gate.pay(phone.code(gate.announced))
    record = gate.take(phone.code(gate.announced), offline=True)
    time.sleep(0.01)
    if stopped == "by its payer before":
        ada.pause_device(phone.device.id)
    elif stopped == "by a dispute before":
        assert ada.dispute(paid.payment_intent) == "refunded"
        gate.pay(phone_of(ada).code(gate.announced))  # another phone spends what came back
    assert gate.client.held_payment(record).reason == "insufficient_funds"
    if stopped == "by a dispute meanwhile":
        assert ada.dispute(paid.payment_intent) == "refunded"
    ada.top_up(500, "second")

    def state() -> str:
        return {device.id: device.state for device in ada.devices()}[phone.device.id]

    assert state() == "owing"
    ada.settle(phone.device.id)
    assert state() == "paused"
    assert refused(lambda: gate.pay(phone.code(gate.announced))) == "device-denied"
    ada.resume_device(phone.device.id)
    assert state() == "active"
    assert gate.pay(phone.code(gate.announced)).outcome in ("accepted", "already_paid")


def test_who_resumes_a_phone_that_owes_has_it_back_once_that_is_paid(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer(funds=100)
    phone = phone_of(ada)
    assert gate.client.held_payment(gate.take(phone.code(gate.announced), offline=True)).reason == "insufficient_funds"
    assert ada.pause_device(phone.device.id).state == "owing"
    assert ada.resume_device(phone.device.id).state == "owing"
    ada.top_up(500, "second")
    assert [device.state for device in ada.settle(phone.device.id)] == ["active"]


# --- fares without a network ---


@pytest.fixture
def ways_in_and_out(world: Any, till_of: Any) -> tuple[Till, Till]:
    """A metro with one zone for 2.00 and two for 3.00, 5.00 a day; the gates are at its two ends."""

    def rule(product: str, begin: str, end: str) -> LegRule:
        ends = {"origin": Selector(only=frozenset({begin})), "destination": Selector(only=frozenset({end}))}
        return LegRule(id=begin + end, bands=(Band(product=product),), **ends)

    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="short", amounts={"": 200}), Product(id="long", amounts={"": 300})),
        rules=(rule("short", "a", "a"), rule("long", "a", "b"), rule("long", "b", "a"), rule("short", "b", "b")),
        caps=(Cap(id="day", period=Period.DAY, amounts={"": 500}),),
        networks={"": Network(tap_out=True)},
        stops={"Arena": Stop(areas=frozenset({"a"})), "Beach": Stop(areas=frozenset({"b"}))},
    )
    public = world.requests.terminal_key.public_key().public_bytes_raw()
    with world.engine.begin() as connection:
        merchant = connection.execute(text("SELECT id FROM merchant")).scalar_one()
        merchants.register_terminal(connection, merchants.Terminal("trm_out", merchant, "Beach", public))
        starts = 12 if datetime.now(UTC).hour < 8 else 4  # not within the last hour: no test's taps are in two days
        metro = Tariff(id="metro", currency="EUR", day_starts_at=starts, versions=(version,))
        tariffs.import_tariff(connection, metro)
        tariffs.assign(connection, "trm_gate", FarePoint("metro", "Arena", "entry"))
        tariffs.assign(connection, "trm_out", FarePoint("metro", "Beach", "exit"))
    client = TerminalClient(world.http, "trm_out", world.requests.terminal_key)
    key = X25519PrivateKey.generate()
    announced = client.announce(key.public_key().public_bytes_raw(), 86_400)
    return till_of("trm_gate"), Till(world, client, "trm_out", key, announced)


def taps(phone: Phone, ways: tuple[Till, Till], *minutes_ago: int) -> list[tuple[Till, bytes]]:
    """In, out, in, … without a network, each so many minutes ago."""
    records = []
    for number, minutes in enumerate(minutes_ago):
        ago, till = timedelta(minutes=minutes), ways[number % 2]
        shown = phone.code(announced_long_ago(till), now=datetime.now(UTC) - ago)
        records.append((till, till.take(shown, amount=None, offline=True, ago=ago)))
    return records


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_a_day_of_rides_without_a_network_costs_the_same_in_whatever_order_it_comes_in(
    world: Any, ways_in_and_out: tuple[Till, Till], phone_of: Any, order: tuple[int, ...]
) -> None:
    ada = world.payer()
    records = taps(phone_of(ada), ways_in_and_out, 50, 40, 30, 20)
    for number in order:
        till, record = records[number]
        first = till.client.held_payment(record)
        assert (first.outcome, till.client.held_payment(record)) == ("accepted", first)
    assert (has_paid(ada), ada.account().on_hold) == (500, 0)  # 3.00 and 3.00, capped
    assert verify(world.engine, INVARIANTS) == []


def denied(till: Till) -> tuple[bytes, ...]:
    return decoded(DenyList, decoded(Signed, till.client.deny_list()).payload).devices


def test_a_ride_made_without_a_network_and_without_money_is_owed_and_cleared_by_paying(
    world: Any, ways_in_and_out: tuple[Till, Till], phone_of: Any
) -> None:
    ada = world.payer(funds=100)
    for till, record in taps(phone_of(ada), ways_in_and_out, 20, 10):
        assert till.client.held_payment(record).outcome == "accepted"
    assert (ada.account().available, ada.account().on_hold) == (0, 0)
    gate, phone = ways_in_and_out[0], phone_of(ada, seed=2)
    assert gate.pay(phone.code(gate.announced), amount=None).reason == "owing"
    # A gate without a network turns her away too, until it is paid.
    assert documents.device_tag(phone.key) in denied(gate)
    ada.top_up(500, "second")
    world.http.post("/v1/payers/me/debt/pay", auth=ada._auth).raise_for_status()
    assert denied(gate) == ()
    assert gate.pay(phone.code(gate.announced), amount=None).outcome == "accepted"
    assert verify(world.engine, INVARIANTS) == []


def test_an_account_is_closed_only_when_what_was_taken_offline_is_paid_and_the_rest_is_paid_out(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer(funds=100)
    phone = phone_of(ada)
    gate.pay(phone.code(gate.announced), offline=True)
    assert refused(ada.close) == "wrong-state"
    assert ada.account().available == 100
    ada.top_up(500, "second")
    ada.settle(phone.device.id)
    assert ada.close().amount == 320
    assert [(one.amount, one.paid_at) for one in ada.pay_outs()] == [(320, None)]
    assert [device.state for device in ada.devices()] == ["revoked"]
    assert verify(world.engine, INVARIANTS) == []


def test_settling_does_not_revive_a_lost_phone(world: Any, gate: Till, phone_of: Any) -> None:
    ada = world.payer(funds=100)
    phone = phone_of(ada)
    gate.pay(phone.code(gate.announced), offline=True)
    ada.lose_device(phone.device.id)
    ada.top_up(500, "second")
    assert [(device.state, device.owed) for device in ada.settle(phone.device.id)] == [("lost", 0)]


# --- the profiles ---


def test_each_profile_has_a_consent_of_its_own_and_ending_one_leaves_the_other(
    world: Any, till_of: Any, phone_of: Any
) -> None:
    ada, till = world.payer("ada", funds=2000), till_of("trm_till")
    phone, second = phone_of(ada), phone_of(ada, seed=2)
    assert world.look("ada").outcome == "accepted"
    ada.delete_face()
    assert world.look("ada").outcome == "use_card"
    assert till.pay(phone.code(till.announced)).outcome == "accepted"
    world.enrol(ada, "ada anew")
    assert [device.state for device in ada.revoke_devices()] == ["revoked", "revoked"]
    for one in (phone, second):
        assert refused(lambda one=one: till.pay(one.code(till.announced))) == "device-denied"
    look = world.requests.search("ada anew", terminal="trm_till").to_bytes()
    assert world.till.attempt(amount=290, currency="EUR", search=look).outcome == "accepted"
    assert ada.account().available == 2000 - 280 - 280 - 290


def test_an_operator_offers_the_payers_own_phone_and_hands_free_only_if_set_so(world: Any, phone_of: Any) -> None:
    both = world.http.get("/v1/payers/notice").json()
    assert (both["profiles"], both["version"]) == (["held", "hands_free"], "2026-11")
    world.app.state.services = replace(world.app.state.services, profiles=frozenset({Profile.HELD}))
    assert world.http.get("/v1/payers/notice").json()["profiles"] == ["held"]
    ada = world.payer()
    assert refused(lambda: ada.consent("2026-11")) == "profile-not-offered"
    assert phone_of(ada).device.state == "active"
    assert Settings(_env_file=None).hands_free is False, "the default of a new installation"


def test_moving_from_the_guardians_to_an_own_key_and_back_keeps_the_account(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer("ada")
    assert world.look("ada").outcome == "accepted"
    id = ada.account().id

    ada.delete_face()
    phone = phone_of(ada)
    assert world.look("ada").outcome == "use_card"
    till = Till(world, world.till, "trm_till", X25519PrivateKey.generate(), b"")
    till.announced = world.till.announce(till.key.public_key().public_bytes_raw(), 600)
    assert till.pay(phone.code(till.announced)).outcome == "accepted"

    ada.revoke_device(phone.device.id)
    world.enrol(ada, "ada again")
    assert refused(lambda: till.pay(phone.code(till.announced))) == "device-denied"
    reply = world.till.attempt(
        amount=281, currency="EUR", search=world.requests.search("ada again", terminal="trm_till").to_bytes()
    )
    assert reply.outcome == "accepted"
    account = ada.account()
    assert (account.id, account.available) == (id, 1000 - 280 - 280 - 281)
    assert len(ada.payments()) == 3


def test_guardians_and_wallet_together_hold_nothing_of_the_face_of_such_a_payer(
    world: Any, gate: Till, phone_of: Any
) -> None:
    ada = world.payer()
    phone = phone_of(ada)
    assert gate.pay(phone.code(gate.announced)).outcome == "accepted"
    assert gate.pay(phone.code(gate.announced), offline=True).outcome == "accepted"
    assert (world.guardians.rows, world.guardians.searches, world.guardians.versions) == ({}, 0, {})
    dump = b""
    with world.engine.connect() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(text(f'SELECT * FROM "{table.name}"')):
                dump += b"|".join(bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row)
    assert phone.holding.commitment in dump
    for secret in (phone.holding.reference, phone.holding.salt):
        for start in range(len(secret) - 7):
            piece = secret[start : start + 8]
            assert piece not in dump
            assert piece.hex().encode() not in dump


# --- terminals' keys ---


def test_each_terminals_newest_key_is_there_for_apps_signed_by_the_operator(world: Any, till_of: Any) -> None:
    old, till, new = till_of("trm_gate"), till_of("trm_till"), till_of("trm_gate")
    found = world.payer().announcements()
    assert found == {"trm_gate": new.announced, "trm_till": till.announced}
    assert old.announced != new.announced
    said = decoded(Signed, new.announced).verified(Announcement, world.app.state.services.receipt_key.public_key())
    assert (said.terminal, said.model) == ("trm_gate", "labels")


def test_an_app_keeps_the_keys_of_more_terminals_than_one_page_holds() -> None:
    terminals = [f"trm_{number:03}" for number in range(101)]

    def answer(request: httpx.Request) -> httpx.Response:
        left = [one for one in terminals if one > request.url.params.get("starting_after", "")]
        page = [{"terminal": one, "announcement": base64.b64encode(one.encode()).decode()} for one in left[:100]]
        return httpx.Response(200, json={"data": page, "has_more": len(left) > 100})

    with httpx.Client(base_url="http://wallet", transport=httpx.MockTransport(answer)) as http:
        assert PayerClient(http, "token").announcements() == {one: one.encode() for one in terminals}


def test_a_key_is_announced_once_and_no_longer_than_the_operator_allows(world: Any) -> None:
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    said = decoded(Announcement, decoded(Signed, world.gate.announce(public, 31 * 86_400)).payload)
    assert said.not_after - said.not_before <= 7 * 86_400
    assert refused(lambda: world.till.announce(public, 600)) == "code-for-another-terminal"
