"""The code that a payer's device shows, and everything that may be wrong with one."""

import json
import os
import runpy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from facefare.identification.held import code, documents, errors
from facefare.identification.held.code import Claim, Holding, Pass
from facefare.identification.held.documents import Announcement, Signed

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TODAY = documents.seconds(NOW) // documents.DAY


@dataclass
class Scene:
    operator: Ed25519PrivateKey
    terminal: X25519PrivateKey
    holding: Holding
    device_pass: Pass

    def announcement(self, key: X25519PrivateKey | None = None) -> Announcement:
        return Announcement(
            v=1,
            kind="terminal-key",
            operator=documents.operator_id(self.operator.public_key()),
            terminal="trm_gate",
            model="dlib-resnet-v1",
            public_key=(key or self.terminal).public_key().public_bytes_raw(),
            not_before=documents.seconds(NOW),
            not_after=documents.seconds(NOW) + 86_400,
        )

    def show(self, counter: int = 1, now: datetime = NOW, **changes: Any) -> bytes:
        return code.make(
            changes.get("holding", self.holding),
            changes.get("device_pass", self.device_pass),
            changes.get("announcement", self.announcement()),
            counter=counter,
            now=now,
        )

    def open(self, shown: bytes, now: datetime = NOW, key: X25519PrivateKey | None = None) -> Claim:
        key = key or self.terminal
        named = documents.key_id(key.public_key().public_bytes_raw())
        return code.open_code(shown, {named: key}, operator_key=self.operator.public_key(), now=now)

    def resealed(self, **changed: Any) -> bytes:
        """A code whose sealed content was altered by someone who knows this terminal's public key."""
        names = ("operator", "reference", "salt", "device_key", "counter", "expires", "signature")
        names = (*names, "self_made", "through_day", "pass_signature")
        _, named, sealed = cbor2.loads(self.show())
        info = b"facefare/held-code/1" + named
        inner = cbor2.loads(code.SUITE.decrypt(sealed, self.terminal, info=info))
        values = {**dict(zip(names, inner, strict=True)), **changed}
        plain = cbor2.dumps([values[name] for name in names])
        return cbor2.dumps([1, named, code.SUITE.encrypt(plain, self.terminal.public_key(), info=info)])


def device(operator: Ed25519PrivateKey, *, self_made: bool = False) -> tuple[Holding, Pass]:
    reference = np.random.default_rng(3).integers(-128, 128, 128).astype(np.int8).tobytes()
    holding = Holding(Ed25519PrivateKey.generate(), reference, os.urandom(16), "dlib-resnet-v1")
    key = holding.key.public_key().public_bytes_raw()
    return holding, code.new_pass(operator, key, holding.commitment, self_made=self_made, through_day=TODAY + 30)


@pytest.fixture(scope="module")
def scene() -> Scene:
    operator = Ed25519PrivateKey.generate()
    return Scene(operator, X25519PrivateKey.generate(), *device(operator))


def test_the_terminal_gets_exactly_the_reference_that_the_device_holds(scene: Scene) -> None:
    claim = scene.open(scene.show(counter=7))
    assert claim.reference.astype(np.int8).tobytes() == scene.holding.reference
    assert (claim.counter, claim.self_made, claim.commitment) == (7, False, scene.holding.commitment)
    assert claim.device == documents.device_id(scene.holding.key.public_key().public_bytes_raw())


def test_the_largest_code_has_399_bytes_and_the_limit_is_400(scene: Scene) -> None:
    assert len(scene.show(counter=documents.MAX_COUNTER)) == 399
    assert len(scene.show(counter=1)) == 395
    bigger = replace(scene.holding, reference=bytes(130))
    with pytest.raises(errors.CodeTooLarge):
        scene.show(counter=documents.MAX_COUNTER, holding=bigger)
    with pytest.raises(errors.CodeTooLarge):
        scene.open(scene.show() + bytes(6))


def test_a_photograph_of_a_code_tells_neither_face_nor_device(scene: Scene) -> None:
    shown = scene.show()
    for secret in (scene.holding.reference, scene.holding.key.public_key().public_bytes_raw(), scene.holding.salt):
        assert not any(secret[i : i + 8] in shown for i in range(len(secret) - 7))
    first, second = cbor2.loads(scene.show(counter=2)), cbor2.loads(scene.show(counter=2))
    assert first[:2] == second[:2]  # the terminal's key id, the same for everyone
    assert first[2][:32] != second[2][:32]


def test_a_code_opens_at_no_other_terminal(scene: Scene) -> None:
    other = X25519PrivateKey.generate()
    with pytest.raises(errors.WrongTerminalKey):
        scene.open(scene.show(), key=other)
    _, _, sealed = cbor2.loads(scene.show())
    relabelled = cbor2.dumps([1, documents.key_id(other.public_key().public_bytes_raw()), sealed])
    with pytest.raises(errors.WrongTerminalKey):
        scene.open(relabelled, key=other)


def test_a_terminal_that_forwards_a_code_to_another_terminal_is_found_out(scene: Scene) -> None:
    other = X25519PrivateKey.generate()
    there = scene.announcement(other)
    named = documents.key_id(there.public_key)
    _, here, sealed = cbor2.loads(scene.show())
    plain = code.SUITE.decrypt(sealed, scene.terminal, info=b"facefare/held-code/1" + here)
    info = b"facefare/held-code/1" + named
    forwarded = cbor2.dumps([1, named, code.SUITE.encrypt(plain, other.public_key(), info=info)])
    with pytest.raises(errors.BadSignature):
        scene.open(forwarded, key=other)


def test_a_code_is_good_for_thirty_seconds(scene: Scene) -> None:
    shown = scene.show()
    scene.open(shown, NOW + timedelta(seconds=30))
    with pytest.raises(errors.CodeExpired):
        scene.open(shown, NOW + timedelta(seconds=31))


def test_a_code_made_by_a_clock_far_ahead_is_refused(scene: Scene) -> None:
    scene.open(scene.show(now=NOW + timedelta(seconds=30)))
    with pytest.raises(errors.CodeTooLongLived):
        scene.open(scene.show(now=NOW + timedelta(seconds=31)))


@pytest.mark.parametrize(
    "changed",
    [
        {"counter": 2},
        {"expires": documents.seconds(NOW) + 31},
        {"signature": bytes(64)},
        {"reference": bytes(128)},
        {"salt": bytes(16)},
        {"self_made": 1},
        {"through_day": TODAY + 31},
        {"pass_signature": bytes(64)},
        {"device_key": Ed25519PrivateKey.generate().public_key().public_bytes_raw()},
        {"device_key": bytes(31) + b"\xff"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_nothing_that_was_signed_can_be_altered(scene: Scene, changed: dict[str, Any]) -> None:
    with pytest.raises(errors.BadSignature):
        scene.open(scene.resealed(**changed))


def test_another_operators_device_is_named_so(scene: Scene) -> None:
    with pytest.raises(errors.WrongOperator):
        scene.open(scene.resealed(operator=bytes(8)))
    elsewhere = Ed25519PrivateKey.generate()
    holding, device_pass = device(elsewhere)
    with pytest.raises(errors.WrongOperator):
        scene.show(holding=holding, device_pass=device_pass)


def test_a_pass_given_by_nobody_we_know_is_refused(scene: Scene) -> None:
    holding, device_pass = device(Ed25519PrivateKey.generate())
    forged = replace(device_pass, operator=scene.device_pass.operator)
    with pytest.raises(errors.BadSignature):
        scene.open(scene.show(holding=holding, device_pass=forged))


def test_a_pass_is_good_to_the_end_of_its_last_day(scene: Scene) -> None:
    key = scene.holding.key.public_key().public_bytes_raw()
    for day, good in ((TODAY, True), (TODAY - 1, False)):
        given = code.new_pass(scene.operator, key, scene.holding.commitment, self_made=False, through_day=day)
        shown = scene.show(device_pass=given)
        if good:
            scene.open(shown)
        else:
            with pytest.raises(errors.PassExpired):
                scene.open(shown)


def test_a_device_seals_nothing_to_a_key_that_is_not_valid_or_compares_by_another_model(scene: Scene) -> None:
    with pytest.raises(errors.WrongTerminalKey):
        scene.show(now=NOW + timedelta(days=2))
    with pytest.raises(errors.WrongTerminalKey):
        scene.show(now=NOW - timedelta(days=1))
    with pytest.raises(errors.WrongModel):
        scene.show(holding=replace(scene.holding, model="other"))


@given(st.binary(max_size=410))
def test_bytes_that_are_no_code_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(errors.HeldError):
        code.open_code(data, {}, operator_key=_KEY.public_key(), now=NOW)


@given(st.integers(0, 394), st.integers(1, 255))
def test_any_altered_byte_makes_a_code_worthless(position: int, change: int) -> None:
    shown = bytearray(_SCENE.show())
    shown[position % len(shown)] ^= change
    with pytest.raises(errors.HeldError):
        _SCENE.open(bytes(shown))


_KEY = Ed25519PrivateKey.generate()
_SCENE = Scene(_KEY, X25519PrivateKey.generate(), *device(_KEY))


def test_a_document_of_one_kind_never_passes_for_another(scene: Scene) -> None:
    signed = Signed.sign(scene.announcement(), scene.operator)
    assert signed.verified(Announcement, scene.operator.public_key()) == scene.announcement()
    with pytest.raises(errors.MalformedCode):
        signed.verified(documents.DenyList, scene.operator.public_key())
    with pytest.raises(errors.BadSignature):
        signed.verified(Announcement, Ed25519PrivateKey.generate().public_key())


def test_nothing_secret_is_in_a_repr_or_an_error(scene: Scene) -> None:
    claim = scene.open(scene.show())
    for thing in (claim, scene.holding, scene.device_pass):
        assert "object at" in repr(thing)
    with pytest.raises(errors.HeldError) as raised:
        scene.open(scene.resealed(reference=b"0123456789abcdef" * 8))
    assert "0123456789" not in str(raised.value)


def test_a_claim_forgets_its_reference(scene: Scene) -> None:
    claim = scene.open(scene.show())
    claim.forget()
    assert not claim.reference.any()


def test_the_wire_format_is_the_one_of_the_vectors() -> None:
    maker = runpy.run_path(str(Path(__file__).with_name("held_vectors.py")))
    known = json.loads(Path(__file__).with_name("held_vectors.json").read_text())
    made = maker["make"]()
    assert {**made, "code": None} == {**known, "code": None}
    claim = code.open_code(
        bytes.fromhex(known["code"]),
        {bytes.fromhex(known["terminal_key_id"]): maker["TERMINAL"]},
        operator_key=maker["OPERATOR"].public_key(),
        now=maker["NOW"],
    )
    assert claim.reference.astype(np.int8).tobytes().hex() == known["reference"]
    assert (claim.counter, claim.self_made, claim.device) == (41, True, known["device_id"])
