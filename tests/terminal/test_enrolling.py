"""An enrolment station from the code to the reference, for both profiles; and nothing without a code."""

import base64
import os
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from typer.testing import CliRunner

from demo.phone import held_up
from facefare.biometrics import Template
from facefare.guardian.ceremony import perform_on_one_machine, write_key
from facefare.guardian.messages import verify
from facefare.identification.calibration import Calibration
from facefare.identification.held import handover
from facefare.identification.held.documents import Attestation, Signed, decoded
from facefare.terminal import station_commands
from facefare.terminal.enrolling import HandsFree, Station, attend, read_wish
from facefare.terminal.errors import ConfigurationError, NobodyEnrolled
from facefare.terminal.station import Ask

CONSENT, CHECK_KEY = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    folder = tmp_path_factory.mktemp("station")
    key, operator_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    write_key(folder / "station.pem", key)
    identities = perform_on_one_machine(folder, ports=range(1, 7), galleries=(), terminals=(), stations=())
    for one in identities:
        (folder / f"{one.index}.json").write_text(one.to_json())
    (folder / "station.toml").write_text(
        'id = "stn_desk"\nkey = "station.pem"\nwallet = "http://localhost:1"\ngallery = "gal_a"\n'
        f'operator_key = "{operator_key.public_key().public_bytes_raw().hex()}"\n'
        'guardians = ["0.json", "1.json", "2.json"]\n'
    )
    return Station.load(folder / "station.toml")


class Person:
    """Somebody who holds up a code, if any, and then does what is asked."""

    def __init__(self, sitter, shown=None):
        self.sitter, self.shown = sitter, shown
        self.events, self.asked = [], None

    def tell(self, event, word):
        self.events.append((event, word))
        if event == "asked":
            self.asked = Ask(word)

    def frames(self, most=14):
        (ahead,) = self.sitter.obey(Ask.LOOK_AHEAD)
        yield ahead if self.shown is None else held_up([ahead], self.shown)[0]
        for _ in range(most):
            yield from self.sitter.obey(self.asked or Ask.LOOK_AHEAD)


def test_a_phone_gets_the_reference_and_it_alone_can_open_it(station, pipeline, collins):
    device_key, sealing_key = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = device_key.public_key().public_bytes_raw(), sealing_key.public_key().public_bytes_raw()
    request = handover.Request(1, "handover-request", *public, CONSENT)
    person = Person(collins, request.to_bytes())
    wish, reference = attend(person.frames(), pipeline, person.tell)
    assert wish == request
    assert person.events[0] == ("code", "phone")
    holding, attestation = handover.take(station.hand_over(reference, wish), key=device_key, sealing_key=sealing_key)
    assert holding.reference == handover.reference_of(reference.vector, Calibration.default())
    said = decoded(Signed, attestation).verified(Attestation, station.key.public_key())
    assert (said.station, said.device_key, said.consent_sha256) == ("stn_desk", public[0], CONSENT)


def test_who_agreed_to_hands_free_is_enrolled_under_that_consent_and_with_the_own_key(station, pipeline, collins):
    person = Person(collins)
    wish = read_wish(f"{CONSENT.hex()}.{CHECK_KEY.hex()}".encode())
    _, reference = attend(person.frames(), pipeline, person.tell, wish)
    request = station.enrolment(reference, wish)
    verify(station.key.public_key().public_bytes_raw(), request.signature, request.payload)
    fields = request.fields()
    assert (fields.consent_sha256, fields.payer_key, fields.gallery) == (CONSENT, CHECK_KEY, "gal_a")


def test_without_a_code_nothing_is_captured(pipeline, collins):
    person = Person(collins)
    with pytest.raises(NobodyEnrolled):
        attend(person.frames(most=2), pipeline, person.tell)
    assert person.events == []


def test_a_code_is_one_of_two_kinds_or_passed_over():
    assert read_wish(CONSENT.hex().upper().encode()) == HandsFree(CONSENT, None)
    assert read_wish(f"{CONSENT.hex()}:{CHECK_KEY.hex()}".encode()) == HandsFree(CONSENT, CHECK_KEY)
    for other in (b"", b"https://example.org", os.urandom(100), CONSENT.hex()[:-1].encode(), b"a" * 65):
        assert read_wish(other) is None


def test_a_station_for_phones_only_enrols_nobody_elsewhere_and_a_broken_file_is_named(station, tmp_path):
    with pytest.raises(ConfigurationError, match="phones only"):
        replace(station, guardians=()).enrolment(None, HandsFree(CONSENT, None))
    (tmp_path / "a.toml").write_text('id = "stn_a"\n')
    with pytest.raises(ConfigurationError, match="key is missing"):
        Station.load(tmp_path / "a.toml")


def test_a_station_whose_calibration_is_of_another_embedder_sees_nobody(station, tmp_path, monkeypatch):
    write_key(tmp_path / "station.pem", station.key)
    default = resources.files("facefare.identification").joinpath("default_calibration.json").read_text()
    (tmp_path / "calibration.json").write_text(default.replace(Calibration.default().model, "another-model"))
    (tmp_path / "station.toml").write_text(
        'id = "stn_desk"\nkey = "station.pem"\nwallet = "http://localhost:1"\ncalibration = "calibration.json"\n'
        f'operator_key = "{"00" * 32}"\n'
    )
    monkeypatch.setattr(station_commands, "open_source", lambda source: pytest.fail("The camera was opened."))
    said = CliRunner().invoke(station_commands.app, ["enrol", str(tmp_path / "station.toml"), "--camera", "0"])
    assert (said.exit_code, "another-model" in said.output) == (1, True)


def test_the_code_that_is_handed_over_fits_into_a_qr_code(station):
    request = handover.Request(
        1, "handover-request", bytes(32), X25519PrivateKey.generate().public_key().public_bytes_raw(), CONSENT
    )
    vector = Calibration.default().mean + 0.42 * np.eye(128, dtype=np.float32)[0]
    handed = station.hand_over(Template(vector.astype(np.float32), Calibration.default().model), request)
    assert segno.make(base64.b64encode(handed).decode(), error="l").version <= 20
