"""A till as the people on both sides of the counter use it: real screen, real wallet, a camera that sees labels."""

import queue
import re
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest
import zxingcpp
from playwright.sync_api import Page, expect

from facefare.client import TerminalClient
from facefare.payments import merchants
from facefare.payments.merchants import Terminal
from facefare.terminal.charging import Charging
from facefare.terminal.lost_answers import LostAnswers
from facefare.terminal.screen import Shown, State
from facefare.terminal.till import _WITH_CODE, Sale, Till, TillTerms
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import language
from facefare.web.pages.till_screen import TillScreen

OWN = {"Sec-Fetch-Site": "same-origin"}
SIZES = {"counter": (1280, 800), "upright": (800, 1280), "handheld": (390, 844)}


class Camera:
    """Sees whoever the test puts there; nobody until then."""

    def __init__(self) -> None:
        self.there: queue.Queue[str | None] = queue.Queue()
        self.label: str | None = None

    def frames(self) -> Iterator[Any]:
        yield from iter(self.there.get, None)

    def offer(self, frame: str) -> None:
        self.label = frame

    somebody_near = wants_to_pay = ready = property(lambda self: self.label is not None)

    def probe(self) -> str | None:
        return self.label

    def forget(self) -> None:
        self.label = None


@dataclass
class Counter:
    """A till that runs, and its screen in a browser."""

    page: Page
    url: str
    camera: Camera
    answers: LostAnswers
    ended: list[Any]

    def state(self, state: State) -> None:
        expect(self.page.locator("body")).to_have_attribute("data-state", state.value)

    def ask(self, amount: str) -> None:
        """Amount and yes, with the keyboard."""
        self.state(State.AMOUNT)
        self.page.keyboard.type(amount)
        self.page.keyboard.press("Enter")
        self.state(State.APPROVE)
        expect(self.page.get_by_role("button", name="Yes, pay by looking")).to_be_focused()
        self.page.keyboard.press("Enter")
        self.state(State.LOOK_HERE)

    def pad(self, digits: str) -> None:
        """Type on the PIN pad with a finger."""
        for digit in digits:
            self.page.locator("#pin-pad button", has_text=re.compile(f"^{digit}$")).tap()

    @property
    def dots(self) -> int:
        return int(self.page.evaluate("document.getElementById('pin').value.length"))


@pytest.fixture
def counter(site: Any, served: Any, visit: Any, kiosk: Any, tmp_path: Path) -> Any:
    """`with counter() as till`."""
    with site.engine.begin() as connection:
        public = site.requests.terminal_key.public_key().public_bytes_raw()
        merchant = merchants.register_merchant(connection, "Example Coffee")
        merchants.register_terminal(connection, Terminal("trm_till", merchant, "Coffee bar", public, "till"))

    @contextmanager
    def opened(http: httpx.Client = site.http, **terms: Any) -> Iterator[Counter]:
        client = TerminalClient(http, "trm_till", site.requests.terminal_key)
        answers = LostAnswers(tmp_path / "lost", client.undo)
        purse = Charging(client, answers, lambda label: site.requests.search(label, terminal="trm_till"))
        terms_here = TillTerms("EUR", **{"receipts": site.url, **terms})
        sale = Sale("EUR")

        def search(label: Any) -> Any:
            offer = sale.offer
            return purse.attempt(label, amount=sale.amount, currency="EUR", tip=offer.tip, purchase=offer.purchase)

        screen, camera, ended = TillScreen(language("en"), terms_here), Camera(), []
        codes = purse.codes(f"{site.url}/app/pay")
        till = Till(camera, search, purse, screen, terms_here, sale, ended.append, codes)  # type: ignore[arg-type]
        stopped = threading.Event()
        looking = threading.Thread(target=till.run, args=(camera.frames(),), daemon=True)
        ticking = threading.Thread(target=lambda: [till.tick() for _ in iter(lambda: stopped.wait(0.05), True)])
        looking.start()
        ticking.start()
        try:
            with served(screen.app_for(till)) as url, visit(url, has_touch=True, **kiosk) as page:
                page.goto("/")
                yield Counter(page, url, camera, answers, ended)
                page.goto("about:blank")
        finally:
            camera.there.put(None)
            stopped.set()
            ticking.join()
            looking.join()

    return opened


def test_a_coffee_with_the_keyboard_alone_and_a_receipt_by_code(site: Any, counter: Any, tmp_path: Path) -> None:
    ada = site.payer("ada")
    with counter() as till:
        till.ask("350")
        till.camera.there.put("ada")
        till.state(State.ACCEPTED)
        expect(till.page.locator("#amount")).to_have_text("3.50\u00a0€")
        shot = tmp_path / "code.png"
        till.page.locator("#receipt svg").screenshot(path=shot)
        (code,) = zxingcpp.read_barcodes(cv2.imread(str(shot)))
        assert code.text == f"{site.url}/app/receipts/{till.ended[0].receipt}"
        said = till.page.content()
        till.page.keyboard.press("Enter")  # next payment
        till.state(State.AMOUNT)
    assert ada.account().available == 650
    assert ada.account().id not in said
    assert site.http.get(code.text).status_code == 303  # only its payer can open it


def test_a_tip_with_a_gloved_finger(site: Any, counter: Any) -> None:
    ada = site.payer("ada")
    with counter() as till:
        till.state(State.AMOUNT)
        for key in "35":
            till.page.locator(f"#amount-pad [data-digit='{key}']").tap()
        till.page.locator("#amount-pad [data-key=delete]").tap()
        for key in "50":
            till.page.locator(f"#amount-pad [data-digit='{key}']").tap()
        expect(till.page.locator("#amount")).to_have_text("3.50\u00a0€")
        till.page.locator("#amount-pad [data-key=enter]").tap()
        till.page.get_by_text("10\u00a0%").tap()
        expect(till.page.locator("#amount")).to_have_text("3.85\u00a0€")
        till.page.get_by_role("button", name="Yes, pay by looking").tap()
        till.state(State.LOOK_HERE)
        expect(till.page.locator("#amount")).to_have_text("3.85\u00a0€")
        till.camera.there.put("ada")
        till.state(State.ACCEPTED)
        expect(till.page.locator("#receipt")).to_be_visible()
    (paid,) = ada.payments()
    assert (paid["captured"], paid["tip"]) == (385, 35)


def test_without_a_face_the_code_on_the_screen_is_read_and_paid_in_the_app(
    site: Any, counter: Any, visit: Any, read_code: Any
) -> None:
    ada, ben = site.payer("ada"), site.payer("ben")
    with counter() as till:
        till.state(State.AMOUNT)
        till.page.keyboard.type("350")
        till.page.keyboard.press("Enter")
        till.page.get_by_text("10\u00a0%").tap()
        till.page.get_by_role("button", name="Yes, pay by looking").tap()
        till.state(State.LOOK_HERE)
        code = read_code(till.page)
        expect(till.page.get_by_role("img", name="Code to pay with your phone")).to_be_visible()
        expect(till.page.locator("#number")).to_have_text(code.rpartition("/")[2])
        with visit(site.url) as phone:
            site.sign_in(phone, "ada")
            phone.goto(code)
            expect(phone.get_by_text("3.85\u00a0€")).to_be_visible()
            phone.get_by_role("button", name="Yes, pay").click()
            till.state(State.ACCEPTED)
            expect(till.page.locator("#code")).to_be_hidden()
        till.camera.there.put("ben")  # too late
        till.page.keyboard.press("Enter")
        till.state(State.AMOUNT)
    (paid,) = ada.payments()
    assert (paid["captured"], paid["tip"], ben.account().available) == (385, 35, 1000)
    assert [ended.outcome for ended in till.ended] == ["accepted"]


def test_no_means_no(site: Any, counter: Any) -> None:
    site.payer("ada")
    with counter() as till:
        till.state(State.AMOUNT)
        till.page.keyboard.type("350")
        till.page.keyboard.press("Enter")
        till.page.get_by_role("button", name="No", exact=True).tap()
        till.state(State.AMOUNT)
        till.camera.there.put("ada")
        till.ask("200")
        till.page.keyboard.press("Escape")
        till.state(State.AMOUNT)
        assert site.guardians.searches == 0


def test_a_pin_on_the_pad(site: Any, counter: Any) -> None:
    ada = site.payer("ada", funds=200_00)
    ada.set_pin("2580")
    layouts = set()
    with counter() as till:
        till.ask("6000")
        till.camera.there.put("ada")
        till.state(State.PIN)
        for wrong in ("1111", "2581"):
            layouts.add(till.page.locator("#pin-pad").inner_text())
            till.pad(wrong)
            assert till.dots == 4
            till.page.locator("#pin-pad [data-key=enter]").tap()
            expect(till.page.locator("#detail")).to_have_text("The PIN was wrong")
            expect(till.page.locator("#pin-pad button").first).to_have_text(re.compile(r"\d"))
            assert till.dots == 0
        layouts.add(till.page.locator("#pin-pad").inner_text())
        till.pad("25")
        till.page.locator("#pin-pad [data-key=delete]").tap()
        till.pad("580")
        till.page.locator("#pin-pad [data-key=enter]").tap()
        till.state(State.ACCEPTED)
        assert not re.search(r"\d", till.page.locator("#pin-pad").inner_text() or "")
    assert len(layouts) == 3
    assert all(sorted(re.sub(r"\D", "", layout)) == list("0123456789") for layout in layouts)
    assert ada.account().available == 140_00


def test_three_wrong_pins_end_the_payment_and_the_next_one_says_why(site: Any, counter: Any) -> None:
    ada = site.payer("ada", funds=200_00)
    ada.set_pin("2580")
    with counter() as till:
        till.ask("6000")
        till.camera.there.put("ada")
        for number in range(3):
            till.state(State.PIN)
            expect(till.page.locator("#pin-pad button").first).to_have_text(re.compile(r"\d"))  # it is answered
            expect(till.page.locator("#detail")).to_have_text("The PIN was wrong" if number else "")
            till.page.keyboard.type("1111")
            till.page.keyboard.press("Enter")
        till.state(State.REFUSED)
        expect(till.page.locator("#detail")).to_have_text("The PIN is locked. Set a new one in your app")
    assert ada.account().available == 200_00


def test_a_key_that_is_pressed_looks_like_every_other(site: Any, counter: Any) -> None:
    site.payer("ada", funds=200_00).set_pin("2580")
    with counter() as till:
        till.ask("6000")
        till.camera.there.put("ada")
        till.state(State.PIN)
        pad = till.page.locator("#pin-pad")
        before = pad.screenshot()
        key = pad.locator("button").nth(4).bounding_box()
        till.page.mouse.move(key["x"] + key["width"] / 2, key["y"] + key["height"] / 2)
        till.page.mouse.down()
        assert till.dots == 1
        assert pad.screenshot() == before
        till.page.mouse.up()
        assert pad.screenshot() == before
        expect(till.page.locator("#pin")).to_be_focused()


def test_a_screen_reader_reads_a_field_for_the_pin_and_none_of_the_digits(site: Any, counter: Any) -> None:
    ada = site.payer("ada", funds=200_00)
    ada.set_pin("2580")
    with counter() as till:
        till.ask("6000")
        till.camera.there.put("ada")
        till.state(State.PIN)
        expect(till.page.get_by_label("PIN, 4 to 8 digits")).to_be_focused()
        till.page.keyboard.type("2x5-80")
        devtools = till.page.context.new_cdp_session(till.page)
        tree = devtools.send("Accessibility.getFullAXTree")["nodes"]
        read = {
            str(node.get(part, {}).get("value", ""))
            for node in tree
            for part in ("name", "value")
            if not node["ignored"] and node["role"]["value"] != "InlineTextBox"
        }
        assert {"Use my phone instead", "Cancel", "PIN, 4 to 8 digits", "••••"} <= read
        assert not [text for text in read if text.isdigit() or "2580" in text]
        stops = []
        for _ in range(4):
            till.page.keyboard.press("Tab")
            stops.append(till.page.evaluate("document.activeElement.textContent.trim()"))
        assert "Use my phone instead" in stops
        assert not any(stop.isdigit() for stop in stops)
        till.page.locator("#pin").focus()
        till.page.keyboard.press("Enter")
        till.state(State.ACCEPTED)


def test_the_phone_instead_of_the_pin(site: Any, counter: Any) -> None:
    ada = site.payer("ada", funds=200_00)
    with counter() as till:
        till.ask("6000")
        till.camera.there.put("ada")
        till.state(State.PIN)
        till.page.get_by_role("button", name="Use my phone instead").tap()
        till.state(State.PHONE)
        till.page.get_by_role("button", name="Type the PIN instead").tap()
        till.state(State.PIN)
        till.page.get_by_role("button", name="Use my phone instead").tap()
        ada.confirm(ada.payments()[0]["id"])
        till.state(State.ACCEPTED)
    assert ada.account().available == 140_00


def test_who_is_one_of_several_is_asked_for_the_card_and_for_no_pin(site: Any, counter: Any) -> None:
    for payer in (site.payer("twin", funds=200_00), site.payer("twin", funds=200_00)):
        payer.set_pin("2580")
    with counter() as till:
        till.ask("6000")
        till.camera.there.put("twin")
        till.state(State.SEVERAL)
        expect(till.page.locator("#title")).to_have_text("Not sure who you are. Use your card")
        expect(till.page.locator("#pin-pad")).to_be_hidden()
        assert httpx.post(f"{till.url}/till/pin", json={"pin": "2580"}, headers=OWN).status_code == 409


def test_without_a_network_the_till_says_so(site: Any, counter: Any) -> None:
    with httpx.Client(base_url="http://127.0.0.1:9") as nobody, counter(nobody) as till:
        till.state(State.NO_NETWORK)
        expect(till.page.locator("#title")).to_have_text("No connection. Use your card")


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {**OWN, "Host": "till.evil.example"}]
)
def test_no_other_page_presses_a_button(counter: Any, headers: dict[str, str]) -> None:
    with counter() as till:
        for button in ("amount", "yes", "pin", "by-phone", "by-pin", "cancel"):
            answer = httpx.post(f"{till.url}/till/{button}", json={"amount": 100}, headers=headers)
            assert answer.status_code in (400, 403)
        till.state(State.AMOUNT)


def test_the_tills_page_is_strict_and_kept_by_nobody(counter: Any) -> None:
    with counter() as till:
        for path in ("", "events"):
            with httpx.stream("GET", f"{till.url}/{path}") as answer:
                policy = answer.headers["content-security-policy"]
                assert "script-src 'self'" in policy
                assert "unsafe-inline" not in policy
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["cache-control"] == "no-store"
        big = httpx.post(f"{till.url}/till/pin", content=b"x" * 20_000, headers=OWN)
        assert big.status_code == 403


def test_the_pin_is_in_no_output_and_in_no_error(site: Any, counter: Any, capfd: Any, caplog: Any) -> None:
    site.payer("ada", funds=200_00).set_pin("739164")
    with counter() as till:
        for wrong in ("739164x", "7391640000", 739164, None):
            answer = httpx.post(f"{till.url}/till/pin", json={"pin": wrong}, headers=OWN)
            assert (answer.status_code, answer.content) == (422, b"")
        till.ask("6000")
        till.camera.there.put("ada")
        till.state(State.PIN)
        till.page.keyboard.type("739164")
        till.page.keyboard.press("Enter")
        till.state(State.ACCEPTED)
        assert "739164" not in till.page.content()
        assert till.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        ended = repr(till.ended)
    out, err = capfd.readouterr()
    assert not [text for text in (out, err, caplog.text, ended) if "739164" in text]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tag", ["en", "de", "ar"])
def test_everything_fits_on_every_screen(served: Any, visit: Any, tag: str, size: str) -> None:
    screen = TillScreen(language(tag), TillTerms("EUR", receipts="https://pay.example"), codes_only=True)
    width, height = SIZES[size]
    with served(screen.app_for(None)) as url, visit(url, viewport={"width": width, "height": height}) as page:  # type: ignore[arg-type]
        screen.show(Shown(State.AMOUNT, 0, "EUR"))
        page.goto("/")
        page.locator("body[data-state=amount]").wait_for()
        page.keyboard.type("1250")
        typed = page.locator("#amount").inner_text()
        assert typed == f"12{',' if tag == 'de' else '.'}50\u00a0€"
        for state in State:
            code = "https://pay.example/app/pay/pi_0123456789abcdefghjkmnpqrs" if state in _WITH_CODE else None
            screen.show(Shown(state, 1000_00, "EUR", "pin_locked", receipt="rcp_0123456789abcdefghjkmnpqrs", code=code))
            page.locator(f"body[data-state={state.value}]").wait_for()
            if state is State.APPROVE:
                point = "," if tag == "de" else "."
                expect(page.locator("#amount")).to_have_text(f"1000{point}00\u00a0€")
                expect(page.locator("#tips label").nth(1)).to_contain_text(f"50{point}00\u00a0€")
            outside = page.evaluate(
                """() => [...document.querySelectorAll("h1, p, button, label, input, figure, .symbol svg")]
                    .filter((e) => e.checkVisibility() && e.textContent + e.tagName !== "P")
                    .filter((e) => { const b = e.getBoundingClientRect();
                        return b.left < 0 || b.top < 0 || b.right > innerWidth || b.bottom > innerHeight; })
                    .map((e) => e.outerHTML.slice(0, 80))"""
            )
            assert (state, outside) == (state, [])
            over_the_frame = page.evaluate(
                """() => { const m = document.querySelector("main"), s = getComputedStyle(m);
                    if (s.outlineStyle === "none") return [];
                    const inside = -parseFloat(s.outlineOffset), air = 0.02 * Math.min(innerWidth, innerHeight);
                    return [...document.querySelectorAll("h1, p:not(:empty), button, figure")]
                        .filter((e) => e.checkVisibility())
                        .filter((e) => { const b = e.getBoundingClientRect();
                            return b.top < inside || b.bottom > innerHeight - inside
                                || b.left < inside + air || b.right > innerWidth - inside - air; })
                        .map((e) => e.outerHTML.slice(0, 80)); }"""
            )
            assert (state, over_the_frame) == (state, [])
            small = page.evaluate(
                """() => [...document.querySelectorAll("button, .choices label")].filter((e) => e.checkVisibility())
                    .filter((e) => e.getBoundingClientRect().height < 0.099 * Math.min(innerWidth, innerHeight))
                    .map((e) => e.outerHTML.slice(0, 80))"""
            )
            assert (state, small) == (state, [])
        page.goto("about:blank")


def test_how_long_from_the_answer_to_green(served: Any, visit: Any, kiosk: Any, capfd: Any) -> None:
    """Measured from `show` in the terminal's process to the frame that the browser paints green; printed."""
    screen = KioskScreen(language("en"))
    took = []
    with served(screen.app()) as url, visit(url, **kiosk) as page:
        screen.show(Shown(State.IDLE, 280, "EUR"))
        page.goto("/")
        page.locator("body[data-state=idle]").wait_for()
        for _ in range(20):
            page.evaluate(
                """() => { window.green = new Promise((seen) => new MutationObserver((_, observer) => {
                    if (document.body.dataset.state !== "accepted") return;
                    observer.disconnect();
                    requestAnimationFrame(() => setTimeout(() => seen(performance.timeOrigin + performance.now())));
                }).observe(document.body, { attributes: true })); }"""
            )
            began = time.time()
            screen.show(Shown(State.ACCEPTED, 280, "EUR"))
            took.append(page.evaluate("window.green") - began * 1000)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(10, 107, 60)"
            screen.show(Shown(State.IDLE, 280, "EUR"))
            page.locator("body[data-state=idle]").wait_for()
        page.goto("about:blank")
    with capfd.disabled():
        print(f"\naccept to green: median {statistics.median(took):.1f} ms, slowest of 20 {max(took):.1f} ms")
