"""A till as a process of its own, with real guardians, real wallet and real networks: from the keys to the receipt."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from demo.faces import View
from demo.machine import Machine, free_ports, running
from demo.scenario import Scenario
from facefare.biometrics import FacePipeline
from facefare.biometrics.models.install import install
from facefare.identification.calibration import Calibration
from facefare.settings import Settings


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # PostgreSQL runs as another user, who has to be able to reach its folder
    with running(Calibration.default(), lambda _: None) as started:
        yield started


def come(scenario: Scenario, who: str, camera: Path) -> None:
    """Walk up to the till's camera and stand there."""
    sitter = scenario._sitters[who]
    frames = sitter.walk_up(700)
    frames += [sitter.view(View(yaw=yaw, pitch=2, face_width=185), 800 + yaw) for yaw in (-7, -1, 5, 8, 2, -4)]
    for number, frame in enumerate([np.full_like(frames[0], 90), *frames]):
        partial = camera / f"{time.time_ns():020}-{number:03}.part"
        partial.write_bytes(cv2.imencode(".png", frame)[1].tobytes())
        partial.rename(partial.with_suffix(".png"))
        time.sleep(0.05)


def test_a_till_takes_a_payment_from_whoever_looks(machine: Machine, visit: Any, kiosk: Any) -> None:
    install(Settings().cache_dir / "models")
    pipeline = FacePipeline.load(Settings().cache_dir / "models")
    (port,) = free_ports(1)
    camera = machine.folder / "counter"
    camera.mkdir()
    gate = (machine.folder / "gate.toml").read_text()
    till_file = machine.folder / "till.toml"
    till_file.write_text(
        f'codes = "{machine.wallet_url}/app/pay"\n{gate}\n[till]\ncurrency = "EUR"\nreceipts = "{machine.wallet_url}"\n'
    )
    with httpx.Client(base_url=machine.wallet_url, timeout=30) as http:
        scenario = Scenario(machine, pipeline, http, lambda _: None)
        scenario.enrol("A", 20_00)
        till = machine.start("till", "till", "serve", till_file, "--source", camera, "--follow", "--port", port)
        till.event("ready", 60)
        with visit(f"http://localhost:{port}", **kiosk) as page:
            page.goto("/")
            expect(page.locator("body")).to_have_attribute("data-state", "amount")
            page.keyboard.type("500")
            page.keyboard.press("Enter")
            page.get_by_text("10\u00a0%").click()
            page.get_by_role("button", name="Yes, pay by looking").click()
            expect(page.locator("body")).to_have_attribute("data-state", "look_here")
            expect(page.locator("#code")).to_be_visible()
            come(scenario, "A", camera)
            expect(page.locator("body")).to_have_attribute("data-state", "accepted")
            expect(page.locator("#amount")).to_have_text("5.50\u00a0€")
            expect(page.locator("#receipt")).to_be_visible()
            expect(page.locator("#code")).to_be_hidden()
            page.goto("about:blank")
        ended = till.event("attempt", 5)
        (paid,) = scenario.payers["A"].payments()
        with visit(machine.wallet_url, **kiosk) as page:
            page.goto("/app/console/sign-in")
            page.get_by_label("Your token, from the operator").fill(machine.staff_token)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("link", name="Audit").click()
            expect(page.get_by_text("Searches so far")).to_have_count(3)
            expect(page.get_by_role("cell", name="Connected to both others")).to_have_count(3)
            for _ in range(20):  # witnesses sign every few seconds
                if page.locator("dd", has_text="✓").count() == 6:
                    break
                page.wait_for_timeout(1000)
                page.reload()
            expect(page.locator("dd", has_text="✓")).to_have_count(6)  # each log, by both other guardians
    assert (ended["outcome"], paid["captured"], paid["tip"]) == ("accepted", 550, 50)
    assert ended["receipt"]
