"""A payer's phone, set up and used as a person does it: keys and reference in the browser, the code on its screen."""

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from playwright.sync_api import expect

from demo.faces import Sitter
from demo.phone import drawn
from facefare.biometrics import FacePipeline, Template
from facefare.client import AttemptReply, TerminalClient
from facefare.identification.calibration import Calibration
from facefare.identification.held import code, documents, handover
from facefare.identification.held.documents import PaymentRecord, Signed, decoded
from facefare.payments import merchants
from facefare.payments.merchants import Terminal
from facefare.terminal.charging import Charging
from facefare.terminal.held import HeldApproach, HeldProfile, HeldTerms
from facefare.terminal.held_store import HeldStore
from facefare.terminal.lost_answers import LostAnswers
from facefare.terminal.screen import Shown, State
from facefare.terminal.station import Ask
from facefare.terminal.till import Sale, Till, TillTerms


@pytest.fixture
def calibration() -> Calibration:
    return Calibration.default()


@dataclass
class Gate:
    """A gate that opens codes; it compares no faces, which is tried elsewhere."""

    site: Any
    client: TerminalClient
    key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    sequence: int = 0

    def announce(self) -> bytes:
        return self.client.announce(self.key.public_key().public_bytes_raw(), 86_400)

    def claim(self, shown: bytes) -> code.Claim:
        named = documents.key_id(self.key.public_key().public_bytes_raw())
        return code.open_code(shown, {named: self.key}, operator_key=operator_key(self.site), now=datetime.now(UTC))

    def pay(self, shown: bytes, amount: int = 280) -> AttemptReply:
        claim = self.claim(shown)
        self.sequence += 1
        record = PaymentRecord(
            v=1,
            kind="held-payment",
            operator=documents.operator_id(operator_key(self.site)),
            terminal="trm_gate",
            sequence=self.sequence,
            device_key=claim.device_key,
            key_id=claim.key_id,
            commitment=claim.commitment,
            counter=claim.counter,
            expires=claim.expires,
            device_signature=claim.signature,
            amount=amount,
            currency="EUR",
            taken_at=int(time.time() * 1000),
            offline=False,
        )
        return self.client.held_payment(Signed.sign(record, self.site.requests.terminal_key).to_bytes())


def operator_key(site: Any) -> Ed25519PublicKey:
    (key,) = site.http.get("/v1/consent_keys").json()["keys"]
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))


@pytest.fixture
def gate(site: Any) -> Gate:
    gate = Gate(site, TerminalClient(site.http, "trm_gate", site.requests.terminal_key))
    gate.announce()
    return gate


def read(page: Any) -> bytes:
    """What a camera reads from the phone's screen."""
    canvas = page.locator("canvas:visible")
    expect(canvas).to_be_visible()
    picture = cv2.imdecode(np.frombuffer(canvas.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    (found,) = zxingcpp.read_barcodes(picture)
    return found.bytes


def face(seed: int) -> Any:
    """A template as far from the mean as a face's."""
    return Calibration.default().mean + np.random.default_rng(seed).normal(size=128) * 0.04


def agree(page: Any) -> None:
    page.goto("/app/consent")
    card = page.locator("section", has=page.get_by_role("heading", name="Kept on your phone"))
    card.get_by_label("I am 16 years old or more.").check()
    card.get_by_role("button", name="Yes, on my phone").click()
    page.wait_for_url("**/app/phone/setup")


def attest(site: Any, page: Any, template: Any = None) -> None:
    """At a station: it reads the phone's code, and gives back the reference of a live person."""
    page.get_by_role("button", name="I am at a station").click()
    sealed = handover.hand_over(
        face(1) if template is None else template,
        decoded(handover.Request, read(page)),
        calibration=Calibration.default(),
        operator_key=operator_key(site),
        station="stn_desk",
        key=site.requests.station_key,
        now=datetime.now(UTC),
    )
    page.get_by_label("The station's code").fill(base64.b64encode(sealed).decode())
    page.get_by_role("button", name="Take it").click()


ASKS_FOR_EVER = "StorageManager.prototype.persist = () => new Promise(() => {})"
"""Firefox asks the person whether a site may keep things, who may leave that open."""


def set_up(site: Any, page: Any) -> None:
    """Ada's phone, attested, its reference kept in the browser."""
    page.add_init_script(ASKS_FOR_EVER)
    site.sign_in(page, "ada")
    agree(page)
    attest(site, page)
    page.get_by_role("button", name="Keep it in this browser").click()
    page.get_by_text("kept on this phone").wait_for()


def show_code(page: Any) -> bytes:
    page.goto("/app/phone/pay")
    page.get_by_role("button", name="Show my code").click()
    page.locator("canvas[data-drawn]").wait_for()
    return read(page)


@pytest.fixture
def ada(site: Any) -> Any:
    payer = site.payer("ada")
    payer.delete_face()
    return payer


def test_a_phone_set_up_at_a_station_shows_codes_that_a_gate_takes(site: Any, visit: Any, gate: Gate, ada: Any) -> None:
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        agree(page)
        attest(site, page)
        page.get_by_role("button", name="Keep it in this browser").click()
        expect(page.get_by_text("kept on this phone, and nowhere else")).to_be_visible()
        page.get_by_role("link", name="Show my code").click()
        expect(page.get_by_label("Where are you?")).to_have_value("trm_gate")
        page.get_by_role("button", name="Show my code").click()
        page.locator("canvas[data-drawn]").wait_for()
        assert gate.pay(read(page), amount=60_00 - 55_00).outcome == "accepted"
        expect(page.get_by_role("status")).to_contain_text("Paid: 5.00")
        page.get_by_role("link", name="Receipt").click()
        expect(page.locator(".receipt .amount")).to_have_text("5.00\u00a0€")
        receipt = page.url
        page.goto("/app/phone")
        expect(page.get_by_text("This phone", exact=True)).to_be_visible()
        expect(page.get_by_text("pays any amount")).to_be_visible()
        assert ada.account().available == 500
        page.goto(receipt)
        page.get_by_role("button", name="That was not me").click()
        expect(page.get_by_text("The phone that paid is paused")).to_be_visible()
        expect(page.get_by_text("Your face is paused")).to_be_hidden()
        page.get_by_role("main").get_by_role("link", name="My phones").click()
        page.get_by_role("button", name="Switch on again").click()
        assert gate.pay(show_code(page)).outcome == "accepted"


def test_a_face_read_by_the_phone_itself_never_leaves_it_and_pays_small_amounts(
    site: Any, visit: Any, gate: Gate, ada: Any, head: Sitter, pipeline: FacePipeline, sits: Any
) -> None:
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        agree(page)
        sits(page, {ask.value: head.obey(ask) for ask in Ask})
        site.received.clear()
        page.get_by_role("button", name="Start the camera").click()
        page.get_by_role("button", name="Keep it in this browser").click(timeout=90_000)
        expect(page.get_by_text("kept on this phone, and nowhere else")).to_be_visible()
        sent = {(method, path): size for method, path, size in site.received if size}
        assert list(sent) == [("POST", "/app/phone/devices")]
        assert sent["POST", "/app/phone/devices"] < 512
        shown = show_code(page)
        assert page.locator("canvas").evaluate("(canvas) => canvas.width") == 616
        claim = gate.claim(shown)
        assert claim.self_made
        at_station = handover.reference_of(head_template(head, pipeline), Calibration.default())
        there, here = (
            np.frombuffer(one, np.int8).astype(float) for one in (at_station, claim.reference.astype("int8"))
        )
        assert np.linalg.norm(there - here) / 160 < 0.35  # other views, one person
        assert gate.pay(shown).outcome == "accepted"


def head_template(head: Sitter, pipeline: FacePipeline) -> Any:
    frame = head.obey(Ask.LOOK_AHEAD)[0]
    return pipeline.embed(frame, pipeline.observe(frame)).vector


def test_the_code_changes_by_itself_and_each_counts_once(site: Any, visit: Any, gate: Gate, ada: Any) -> None:
    with visit(site.url) as page:
        set_up(site, page)
        page.clock.install()
        assert gate.claim(show_code(page)).counter == 1
        begun = page.evaluate("Date.now()")
        page.clock.run_for(21_000)
        page.locator("canvas[data-drawn='2']").wait_for()
        assert gate.claim(read(page)).counter == 2
        for _ in range(60):  # making a code takes its time, in which the page's clock may run on without it
            page.clock.run_for(7_000)
            if page.locator("canvas").is_hidden():
                break
        expect(page.get_by_role("status")).to_contain_text("Hidden")
        assert page.evaluate("Date.now()") - begun >= 110_000
        show_code(page)  # also after the page was loaded again
        assert page.evaluate("import('/app/static/held/keeping.js').then((m) => m.phone()).then((p) => p.counter)") > 2


def sign_up(page: Any) -> None:
    page.goto("/app/sign-up")
    page.get_by_role("button", name="Make my passkey").click()
    page.wait_for_url("**/app/")


def test_with_a_passkey_only_its_owner_opens_it_and_the_recovery_code_opens_it_for_a_new_one(
    site: Any, visit: Any, gate: Gate, authenticator: Any
) -> None:
    with visit(site.url) as page:
        devtools, first = authenticator(page, prf=True)
        sign_up(page)
        agree(page)
        attest(site, page)
        page.get_by_role("button", name="Lock it with my passkey").click()
        page.get_by_role("heading", name="Your recovery code").wait_for()
        recovery = page.locator("#recovery").text_content()
        assert len(recovery.replace("-", "")) == 26
        page.get_by_role("button", name="I wrote it down").click()
        before = gate.claim(show_code(page)).reference

        devtools.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": first})
        authenticator(page, prf=True)
        page.goto("/app/safety")
        page.get_by_role("button", name="Add a passkey").click()
        page.wait_for_url("**/app/")
        page.goto("/app/phone/pay")
        page.get_by_role("button", name="Show my code").click()
        expect(page.get_by_role("status")).to_contain_text("does not open it")
        page.get_by_text("My passkey is gone").click()
        page.get_by_label("Your recovery code").fill("00000-" * 5 + "0")
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("status")).to_contain_text("Please check each letter")
        page.get_by_label("Your recovery code").fill(recovery.lower().replace("-", " "))
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("status")).to_contain_text("Your new recovery code: ")
        assert (gate.claim(show_code(page)).reference == before).all()
    posted = [size for method, _, size in site.received if method == "POST"]
    assert sum(posted) < 8192  # public answers of passkeys, keys and hashes


@pytest.mark.parametrize("prf", [True, False], ids=["passkey", "passkey without a secret of its own"])
def test_what_the_browser_keeps_shows_no_reference_and_gives_no_key(
    site: Any, visit: Any, authenticator: Any, prf: bool
) -> None:
    template = face(7)
    reference = handover.reference_of(template, Calibration.default())
    with visit(site.url) as page:
        authenticator(page, prf=prf)
        sign_up(page)
        agree(page)
        attest(site, page, template)
        page.get_by_role("button", name="Lock it with my passkey").click()
        if prf:
            page.get_by_role("button", name="I wrote it down").click()
        page.get_by_text("kept on this phone").wait_for()
        kept = page.evaluate(
            """async () => {
              const { phone } = await import("/app/static/held/keeping.js");
              const record = await phone();
              const seen = [];
              const look = (value) => {
                const isBytes = ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
                if (value instanceof CryptoKey) seen.push(["key", value.type, value.extractable]);
                else if (isBytes) seen.push(["bytes", Array.from(new Uint8Array(value))]);
                else if (value && typeof value === "object") Object.values(value).forEach(look);
              };
              look(record);
              look(record.device.key);
              look([record.device.key.privateKey, record.device.sealing.privateKey]);
              return seen;
            }"""
        )
    secret = [item for item in kept if item[0] == "key" and item[1] != "public"]
    assert {kind for _, kind, _ in secret} == ({"private"} if prf else {"private", "secret"})
    assert not any(extractable for *_, extractable in secret)
    everything = [bytes(item[1]) for item in kept if item[0] == "bytes"]
    assert everything
    assert not any(reference in data for data in everything)


def test_a_lost_phone_stops_and_the_other_one_goes_on_paying(site: Any, visit: Any, gate: Gate, ada: Any) -> None:
    with visit(site.url) as lost, visit(site.url) as other:
        for page in (lost, other):
            site.sign_in(page, "ada")
            agree(page)
            attest(site, page)
            page.get_by_role("button", name="Keep it in this browser").click()
            page.get_by_text("kept on this phone").wait_for()
        shown = show_code(lost)
        other.goto("/app/phone")
        expect(other.locator("section[data-device]")).to_have_count(2)
        stranger = other.locator("section[data-device]", has_not=other.locator(".mine:visible"))
        stranger.get_by_role("button", name="I lost it").click()
        expect(other.locator("section[data-device]")).to_have_count(1)
        with pytest.raises(Exception, match="lost or revoked"):
            gate.pay(shown)
        assert gate.pay(show_code(other)).outcome == "accepted"
        lost.goto("/app/phone")  # found again: it forgets what it kept
        lost.goto("/app/phone/pay")
        expect(lost.get_by_text("not set up to pay")).to_be_visible()
    assert [device.state for device in ada.devices()] == ["lost", "active"]


def test_a_paused_phone_says_so_and_is_refused_until_it_is_switched_on_again(
    site: Any, visit: Any, gate: Gate, ada: Any
) -> None:
    with visit(site.url) as page:
        set_up(site, page)
        before = show_code(page)
        page.goto("/app/phone")
        expect(page.get_by_text("Who may use it: Example Transit")).to_be_visible()
        page.get_by_role("button", name="Pause it").click()
        expect(page.get_by_role("status")).to_have_text("Paused. Nobody can pay with that phone now.")
        with pytest.raises(Exception, match="is paused"):
            gate.pay(before)
        denied = decoded(Signed, gate.client.deny_list())
        assert len(decoded(documents.DenyList, denied.payload).devices) == 1, "gates without a network refuse it too"
        page.goto("/app/phone/pay")
        expect(page.get_by_role("status")).to_contain_text("This phone is paused")
        expect(page.get_by_role("button", name="Show my code")).to_be_hidden()
        page.get_by_role("main").get_by_role("link", name="My phones").click()
        page.get_by_role("button", name="Switch on again").click()
        expect(page.get_by_role("status")).to_have_text("On again. That phone pays.")
        assert gate.pay(show_code(page)).outcome == "accepted"

        page.goto("/app/")
        expect(page.get_by_text("Who may use it: Example Transit")).to_be_visible()
        page.get_by_role("button", name="Pause phone 1").click()
        expect(page.get_by_role("status")).to_have_text("Paused. Nobody can pay with that phone now.")
        page.goto("/app/")
        expect(page.get_by_text("On phone 1: Paused")).to_be_visible()
        page.get_by_role("button", name="Switch phone 1 on again").click()
        expect(page.get_by_role("status")).to_have_text("On again. That phone pays.")
    assert [device.state for device in ada.devices()] == ["active"]


def test_deleting_it_forgets_the_face_on_the_phone_and_ends_the_device(site: Any, visit: Any, ada: Any) -> None:
    with visit(site.url) as page:
        set_up(site, page)
        page.goto("/app/phone")
        expect(page.get_by_text("This phone", exact=True)).to_be_visible()
        page.get_by_role("button", name="Delete it").click()
        expect(page.get_by_role("status")).to_have_text("Deleted. Nobody can pay with that phone any more.")
        expect(page.get_by_text("None yet.")).to_be_visible()
        assert page.evaluate("import('/app/static/held/keeping.js').then((m) => m.phone())") is None
    assert [device.state for device in ada.devices()] == ["revoked"]


def test_the_code_is_shown_without_a_network(site: Any, visit: Any, gate: Gate, ada: Any) -> None:
    with visit(site.url, expect_missing=True) as page:
        set_up(site, page)
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        show_code(page)
        page.context.set_offline(True)
        assert gate.claim(show_code(page)).counter == 2


@dataclass
class Counter:
    """A till that takes codes, its camera's pictures the phone's screen."""

    till: Till
    shown: list[Shown]

    def sell(self, amount: int, shows: bytes | None) -> Shown:
        self.till.enter(amount)
        self.till.approve(amount, 0)
        frame = np.full((480, 640, 3), 90, np.uint8)
        if shows is not None:
            screen = drawn(shows)
            frame[20 : 20 + len(screen), 20 : 20 + len(screen)] = screen
        self.till.run([frame] * 3)
        ended = self.shown[-1]
        self.till.cancel()
        return ended


class Stands(HeldApproach):
    """Somebody live who looks at the camera; faces are compared, and not looked for."""

    somebody_near = wants_to_pay = True
    seed = 1

    def __init__(self, held: HeldProfile) -> None:
        self._held = held

    def offer(self, frame: Any) -> None:
        self._held.look(frame)

    @property
    def ready(self) -> bool:
        return self._held.claimed or self._held.refused is not None

    def probe(self) -> Template:
        vector = face(self.seed)
        return Template(vector.astype(np.float32), Calibration.default().model)

    def forget(self) -> None:
        self._held.forget()


@pytest.fixture
def counter(site: Any, tmp_path: Path) -> Iterator[Counter]:
    with site.engine.begin() as connection:
        public = site.requests.terminal_key.public_key().public_bytes_raw()
        merchant = merchants.register_merchant(connection, "Example Coffee")
        merchants.register_terminal(connection, Terminal("trm_till", merchant, "Coffee bar", public, "till"))
    client = TerminalClient(site.http, "trm_till", site.requests.terminal_key)
    sale, shown, store = Sale("EUR"), [], HeldStore(tmp_path / "held.sqlite")
    answers = LostAnswers(tmp_path / "lost", client.undo)
    held = HeldProfile(
        terminal="trm_till",
        key=site.requests.terminal_key,
        operator_key=operator_key(site),
        calibration=Calibration.default(),
        store=store,
        wallet=client,
        answers=answers,
        fare=sale,
        terms=HeldTerms(),
    )
    held.refresh()
    screen = SimpleNamespace(show=shown.append)
    purse = Charging(client, answers, site.requests.search)
    terms = TillTerms("EUR", tips=())
    yield Counter(Till(Stands(held), held.pay, purse, screen, terms, sale, lambda _: None), shown)
    store.close()


def test_a_till_takes_the_phones_code_for_the_amount_it_shows_and_each_code_once(
    site: Any, visit: Any, counter: Counter, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with visit(site.url) as page:
        set_up(site, page)
        page.goto("/app/phone/pay")
        page.get_by_label("Where are you?").select_option(label="Coffee bar")
        page.get_by_role("button", name="Show my code").click()
        page.locator("canvas[data-drawn]").wait_for()
        first = read(page)
        paid = counter.sell(350, first)
        assert (paid.state, paid.amount, paid.receipt is not None) == (State.ACCEPTED, 350, True)
        expect(page.get_by_role("status")).to_contain_text("Paid: 3.50", timeout=10_000)
        again = counter.sell(350, first)
        assert (again.state, again.reason) == (State.USE_CARD, "code_used_before")
        page.goto("/app/phone/pay")
        page.get_by_label("Where are you?").select_option(label="Coffee bar")
        page.get_by_role("button", name="Show my code").click()
        page.locator("canvas[data-drawn]").wait_for()
        monkeypatch.setattr(Stands, "seed", 2)
        thief = counter.sell(120, read(page))
        assert (thief.state, thief.reason) == (State.USE_CARD, "not_recognised")
    assert ada.account().available == 1000 - 350


def test_the_link_on_a_gates_screen_chooses_the_gate(site: Any, visit: Any, gate: Gate, ada: Any) -> None:
    with visit(site.url) as page:
        set_up(site, page)
        gate.key = X25519PrivateKey.generate()
        link = base64.urlsafe_b64encode(gate.announce()).decode().rstrip("=")
        page.goto(f"/app/phone/pay#terminal={link}")
        page.get_by_role("button", name="Show my code").click()
        page.locator("canvas[data-drawn]").wait_for()
        assert gate.claim(read(page)).counter == 1
        page.goto("/app/")
        page.goto("/app/phone/pay#terminal=AAAA")
        expect(page.get_by_role("status")).to_contain_text("not a gate or till of your operator")


def test_no_phone_is_set_up_without_consent_or_below_the_age(site: Any, visit: Any, ada: Any) -> None:
    with visit(site.url, expect_missing=True) as page:
        site.sign_in(page, "ada")
        page.goto("/app/phone/setup")
        assert page.url.endswith("/app/consent")
        form = {"notice_version": "2026-11", "profile": "held"}
        own = {"Sec-Fetch-Site": "same-origin"}
        answer = page.request.post("/app/consent", form=form, headers=own)
        assert answer.status == 422
        assert page.request.get("/app/phone/setting").json()["consent_sha256"] is None
    assert ada.devices() == ()
