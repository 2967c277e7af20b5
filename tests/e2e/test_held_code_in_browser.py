"""The browser makes codes that a terminal opens: same bytes, same keys, same QR code."""

import json
import runpy
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.identification.calibration import Calibration
from facefare.identification.held import code, documents, handover
from facefare.identification.held.documents import Announcement, Signed, decoded
from facefare.identification.quantise import quantise

VECTORS = Path(__file__).parents[1] / "identification" / "held_vectors"
KNOWN = json.loads(VECTORS.with_suffix(".json").read_text())
MAKER = runpy.run_path(str(VECTORS.with_suffix(".py")))

LOAD = """async () => {
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const held = await import("/held/code.js");
  const { modules, draw } = await import("/held/qr.js");
  Object.assign(window, { hex, bytes, held, modules, draw });
}"""


@pytest.fixture
def page(browser: Any, static: str) -> Iterator[Any]:
    page = browser.new_page()
    page.goto(f"{static}/icon.svg")
    page.evaluate(LOAD)
    yield page
    page.close()


def terminal(operator: Ed25519PrivateKey, model: str = "dlib-resnet-v1") -> bytes:
    now = int(time.time())
    public_key = MAKER["TERMINAL"].public_key().public_bytes_raw()
    operator_id = documents.operator_id(operator.public_key())
    announcement = Announcement(1, "terminal-key", operator_id, "trm_gate1", model, public_key, now, now + 3600)
    return Signed.sign(announcement, operator).to_bytes()


def test_a_terminal_opens_what_the_browser_makes(page: Any) -> None:
    operator = MAKER["OPERATOR"]
    operator_key = operator.public_key().public_bytes_raw()
    made = page.evaluate(
        """async ([operatorKey, consent, reference]) => {
          const device = await held.newDevice();
          const salt = crypto.getRandomValues(new Uint8Array(16));
          const holding = { reference: bytes(reference), salt, model: "dlib-resnet-v1" };
          Object.assign(window, { device, holding });
          const operator = await held.operatorId(bytes(operatorKey));
          const brought = await held.registration(device, holding, { operator, consentSha256: bytes(consent) });
          return { key: hex(brought.publicKey), commitment: hex(brought.commitment), proof: hex(brought.proof) };
        }""",
        [operator_key.hex(), KNOWN["consent_sha256"], KNOWN["reference"]],
    )
    device_key, committed = bytes.fromhex(made["key"]), bytes.fromhex(made["commitment"])
    payload = documents.registration(
        documents.operator_id(operator.public_key()), bytes.fromhex(KNOWN["consent_sha256"]), committed
    )
    documents.check(device_key, bytes.fromhex(made["proof"]), payload)

    through = int(time.time()) // documents.DAY + 30
    given = code.new_pass(operator, device_key, committed, self_made=True, through_day=through)
    shown, rows = page.evaluate(
        """async ([operatorKey, announcement, operator, throughDay, signature]) => {
          const terminal = await held.terminalOf(bytes(announcement), bytes(operatorKey));
          const pass = { operator: bytes(operator), selfMade: true, throughDay, signature: bytes(signature) };
          const code = await held.makeCode({ device, holding, pass, terminal, counter: 4294967295 });
          return [hex(code), modules(code)];
        }""",
        [
            operator_key.hex(),
            terminal(operator).hex(),
            given.operator.hex(),
            through,
            given.signature.hex(),
        ],
    )
    assert len(bytes.fromhex(shown)) == 399
    (read,) = zxingcpp.read_barcodes(picture(rows))
    claim = code.open_code(
        read.bytes,
        {bytes.fromhex(KNOWN["terminal_key_id"]): MAKER["TERMINAL"]},
        operator_key=operator.public_key(),
        now=datetime.now(UTC),
    )
    assert claim.reference.astype(np.int8).tobytes().hex() == KNOWN["reference"]
    assert (claim.counter, claim.self_made, claim.device_key) == (4294967295, True, device_key)


def picture(rows: list[list[bool]]) -> Any:
    modules = np.pad(np.where(np.array(rows), 20, 235).astype(np.uint8), 4, constant_values=235)
    return np.kron(modules, np.ones((2, 2), np.uint8))


@pytest.mark.parametrize("length", [1, 300, 395, 425])
def test_the_qr_code_holds_exactly_the_bytes(page: Any, length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    (read,) = zxingcpp.read_barcodes(picture(page.evaluate("(data) => modules(bytes(data))", data.hex())))
    assert (read.bytes, str(read.ec_level)) == (data, "L")


def test_the_drawn_code_is_read_from_the_screen(page: Any) -> None:
    data = np.random.default_rng(1).bytes(399)
    pixels = page.evaluate(
        """(data) => {
          const canvas = new OffscreenCanvas(320, 320);
          draw(bytes(data), canvas);
          const { width, height } = canvas;
          return [width, Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)];
        }""",
        data.hex(),
    )
    image = np.array(pixels[1], np.uint8).reshape(pixels[0], pixels[0], 4)[:, :, :3].copy()
    (read,) = zxingcpp.read_barcodes(image)
    assert (read.bytes, pixels[0]) == (data, 308)


def test_the_browser_takes_what_a_station_hands_over(page: Any) -> None:
    calibration, station = Calibration.default(), Ed25519PrivateKey.generate()
    request = page.evaluate(
        """async (consent) => {
          window.device = await held.newDevice();
          return hex(await held.handoverRequest(device, bytes(consent)));
        }""",
        KNOWN["consent_sha256"],
    )
    template = calibration.mean + 0.4 * np.random.default_rng(4).normal(size=128) / np.sqrt(128)
    sealed = handover.hand_over(
        template,
        decoded(handover.Request, bytes.fromhex(request)),
        calibration=calibration,
        operator_key=MAKER["OPERATOR"].public_key(),
        station="stn_desk",
        key=station,
        now=datetime.now(UTC),
    )
    reference, model = page.evaluate(
        """async (sealed) => {
          const { holding } = await held.takeHandover(bytes(sealed), device);
          return [hex(holding.reference), holding.model];
        }""",
        sealed.hex(),
    )
    assert (bytes.fromhex(reference), model) == (handover.reference_of(template, calibration), calibration.model)
    altered = bytearray(sealed)
    altered[-1] ^= 1
    with pytest.raises(Exception, match=r"OperationError|operation"):
        page.evaluate("(sealed) => held.takeHandover(bytes(sealed), device)", bytes(altered).hex())


def test_a_browser_rounds_plainly_and_a_station_s_reference_compares_with_it(page: Any) -> None:
    calibration = Calibration.default()
    plain = replace(calibration, directions=None)
    for seed in range(5):
        direction = np.random.default_rng(seed).normal(size=128)
        template = (calibration.mean + 0.4 * direction / np.linalg.norm(direction)).astype(np.float32)
        reference = page.evaluate(
            "([template, calibration]) => hex(held.ownHolding(Float32Array.from(template), calibration).reference)",
            [
                template.tolist(),
                {
                    "model": calibration.model,
                    "mean": calibration.mean.tolist(),
                    "scale": calibration.scale,
                    "min_squared_norm": calibration.min_squared_norm,
                    "max_squared_norm": calibration.max_squared_norm,
                },
            ],
        )
        assert bytes.fromhex(reference) == handover.reference_of(template, plain)
        apart = quantise(template, plain) - quantise(template, calibration)
        assert (apart**2).sum() < 60, "little beside 2,009, the threshold at FMR 1e-4"


def test_the_browser_seals_nothing_to_a_key_that_the_operator_did_not_announce(page: Any) -> None:
    forged = terminal(Ed25519PrivateKey.generate()).hex()
    operator_key = MAKER["OPERATOR"].public_key().public_bytes_raw().hex()
    with pytest.raises(Exception, match="The signature is wrong"):
        page.evaluate("([a, key]) => held.terminalOf(bytes(a), bytes(key))", [forged, operator_key])
    other = Signed.sign(documents.DenyList(1, "deny-list", bytes(8), 1, 1, ()), MAKER["OPERATOR"])
    with pytest.raises(Exception, match="no terminal-key"):
        page.evaluate("([a, key]) => held.terminalOf(bytes(a), bytes(key))", [other.to_bytes().hex(), operator_key])


def test_the_devices_private_keys_cannot_be_read_out(page: Any) -> None:
    for pair in ("key", "sealing"):
        with pytest.raises(Exception, match="not extractable"):
            page.evaluate(f"async () => crypto.subtle.exportKey('pkcs8', (await held.newDevice()).{pair}.privateKey)")
