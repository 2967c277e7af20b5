"""The screen of a gate, as somebody in front of it sees it."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import expect

from facefare.terminal.codes import Codes
from facefare.terminal.commands import ticking
from facefare.terminal.fares import FixedFare
from facefare.terminal.gate import _WITH_CODE, Gate
from facefare.terminal.lost_answers import LostAnswers
from facefare.terminal.screen import Shown, State
from facefare.terminal.till import TillTerms
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import language
from facefare.web.pages.till_screen import TillScreen


@pytest.fixture
def screen() -> KioskScreen:
    return KioskScreen(language("en"))


def test_every_state_has_its_own_symbol_and_says_it_in_words(screen: Any, served: Any, visit: Any, kiosk: Any) -> None:
    seen = set()
    with served(screen.app()) as url, visit(url, **kiosk) as page:
        screen.show(Shown(State.IDLE, 280, "EUR"))
        page.goto("/")
        for state in State:
            screen.show(Shown(state, 280, "EUR", reason="insufficient_funds", hint=None))
            expect(page.locator("body")).to_have_attribute("data-state", state.value)
            expect(page.locator(".symbol svg:visible")).to_have_count(1)
            seen.add(
                (page.locator(".symbol svg:visible use").get_attribute("href"), page.locator("#title").inner_text())
            )
        page.goto("about:blank")
    assert len({symbol for symbol, _ in seen}) == len(State)
    assert all(title for _, title in seen)


EARS = """() => {
  window.heard = [];
  const connects = { connect: (to) => to };
  window.AudioContext = class {
    state = "running";
    currentTime = 5;
    createGain = () => ({ ...connects, gain: { setValueAtTime() {}, exponentialRampToValueAtTime() {} } });
    createOscillator = () => {
      const tone = { ...connects, frequency: {}, start: (at) => heard.push([tone.frequency.value, at - 5]), stop() {} };
      return tone;
    };
  };
}"""
"""Keeps each tone (Hz) and when it starts."""

GO, LOW, ASKS = "rising", "low", "asks"
SOUNDS = {
    State.ACCEPTED: GO,
    State.ALREADY_PAID: GO,
    State.USE_CARD: LOW,
    State.SEVERAL: LOW,
    State.REFUSED: LOW,
    State.NO_NETWORK: LOW,
    State.PIN: ASKS,
    State.PHONE: ASKS,
}


def melody(heard: list[list[float]]) -> str | None:
    """What somebody hears who can't see the screen."""
    tones = [tone for tone, _ in heard]
    assert [at for _, at in heard] == sorted({at for _, at in heard}), "one after the other"
    if len(tones) == 2:
        return GO if tones[0] < tones[1] else ASKS if tones[0] == tones[1] else "?"
    return LOW if tones and len(tones) == 1 and tones[0] < 400 else "?" if tones else None


@pytest.mark.parametrize(
    ("muted", "ears"),
    [(False, EARS), (True, EARS), (False, "() => { window.AudioContext = class { state = nowhere; }; }")],
    ids=["sounds", "muted", "no sound in this machine"],
)
def test_each_outcome_has_its_sound_and_none_where_it_is_muted_and_the_screen_says_it_all_the_same(
    served: Any, visit: Any, kiosk: Any, muted: bool, ears: str
) -> None:
    screen = KioskScreen(language("en"), muted=muted)
    screen.show(Shown(State.IDLE, 280, "EUR"))
    with served(screen.app()) as url, visit(url, **kiosk) as page:
        page.add_init_script(f"({ears})()")
        page.goto("/")
        page.locator("body[data-state=idle]").wait_for()
        for state in State:
            page.evaluate("window.heard = []")
            for _ in range(2):  # said again, with another hint say: not heard again
                screen.show(Shown(state, 280, "EUR", "insufficient_funds", None))
            page.locator(f"body[data-state={state.value}]").wait_for()
            expect(page.locator("#title")).not_to_be_empty()
            expect(page.locator(".symbol svg:visible")).to_have_count(1)
            expected = SOUNDS.get(state) if ears == EARS and not muted else None
            assert (state, melody(page.evaluate("heard"))) == (state, expected)
            screen.show(Shown(State.IDLE, 280, "EUR"))
            page.locator("body[data-state=idle]").wait_for()
        page.goto("about:blank")


def test_a_tone_that_waited_for_a_touch_is_not_heard_later_and_the_keys_of_a_pin_sound_alike(
    served: Any, visit: Any, kiosk: Any
) -> None:
    screen = TillScreen(language("en"), TillTerms("EUR"))
    till = SimpleNamespace(cancel=lambda: None)
    with served(screen.app_for(till)) as url, visit(url, **kiosk) as page:
        page.add_init_script(f"""({EARS})();
            const Running = AudioContext;
            let touched;
            const touch = new Promise((resolve) => (touched = resolve));
            addEventListener("pointerdown", () => setTimeout(touched), true);
            window.AudioContext = class extends Running {{
              state = "suspended";
              resume = () => touch.then(() => (this.state = "running"));
            }};""")
        screen.show(Shown(State.USE_CARD, 280, "EUR"))
        page.goto("/")
        page.locator("body[data-state=use_card]").wait_for()
        screen.show(Shown(State.PIN, 280, "EUR"))
        page.locator("body[data-state=pin]").wait_for()
        page.wait_for_timeout(600)
        page.locator("#pin-pad [data-key=delete]").click()
        for key in page.locator("#pin-pad button:not([data-key])").all():
            key.click()
        tones = [tone for tone, _ in page.evaluate("heard")]
        assert len(tones) >= 10
        assert len(set(tones)) == 1
        assert tones[0] > 1000, "a key's, and not the low one or the question that nobody heard"
        page.goto("about:blank")


def test_accepted_shows_the_fare_large_and_no_reason(screen: Any, served: Any, visit: Any, kiosk: Any) -> None:
    screen.show(Shown(State.ACCEPTED, 280, "EUR"))
    with served(screen.app()) as url, visit(url, **kiosk) as page:
        page.goto("/")
        expect(page.locator("#amount")).to_have_text("2.80\u00a0€")
        expect(page.locator("#detail")).to_be_empty()
        # A capital letter of 25 mm is read from three metres; on a 22 cm high screen that is 9 % of its height.
        height = page.evaluate("parseFloat(getComputedStyle(document.querySelector('h1')).fontSize) * 0.72")
        assert height / 800 >= 0.075
        page.goto("about:blank")


def test_a_page_that_lost_its_terminal_is_out_of_service(screen: Any, served: Any, browser: Any) -> None:
    screen.show(Shown(State.ACCEPTED, 280, "EUR"))
    page = browser.new_page()
    with served(screen.app()) as url:
        page.goto(url)
        expect(page.locator("body")).to_have_attribute("data-state", "accepted")
    expect(page.locator("body")).to_have_attribute("data-state", "out_of_service")
    expect(page.locator("#title")).to_contain_text("Out of service")
    page.close()


class Nobody:
    """An approach that sees no face."""

    somebody_near = wants_to_pay = ready = False

    def offer(self, frame: Any) -> None: ...

    def forget(self) -> None: ...


def test_who_has_no_face_here_reads_the_gates_code_pays_in_the_app_and_passes_once(
    screen: Any, site: Any, served: Any, visit: Any, kiosk: Any, read_code: Any, tmp_path: Path
) -> None:
    ada, attempts, stopped = site.payer("ada"), [], threading.Event()
    answers = LostAnswers(tmp_path / "lost", site.gate.undo)
    codes = Codes(site.gate, answers, f"{site.url}/app/pay")
    gate = Gate(Nobody(), lambda _: None, screen, FixedFare(280, "EUR"), attempts.append, codes)  # type: ignore[arg-type]
    lane = threading.Thread(target=gate.run, args=(iter(lambda: stopped.wait(0.05), True),))
    with served(screen.app()) as url, visit(url, **kiosk) as page, ticking(gate.tick):
        lane.start()
        page.goto("/")
        code = read_code(page)
        with visit(site.url) as phone:
            site.sign_in(phone, "ada")
            phone.goto(code)
            expect(phone.get_by_text("2.80\u00a0€")).to_be_visible()
            phone.get_by_role("button", name="Yes, pay").click()
            expect(page.locator("body")).to_have_attribute("data-state", "accepted")
            expect(page.locator("#code")).to_be_hidden()
        expect(page.locator("body")).to_have_attribute("data-state", "idle", timeout=8000)
        assert read_code(page) != code
        stopped.set()
        lane.join()
        page.goto("about:blank")
    assert [attempt.outcome for attempt in attempts] == ["accepted"]
    assert ada.account().available == 720
    codes.offer(None)
    assert answers.settle() == 0
    assert ada.account().available == 720


@pytest.mark.parametrize(("tag", "scheme"), [("en", "light"), ("de", "dark"), ("ar", "light")])
def test_the_code_beside_the_words_leaves_both_readable(
    served: Any, visit: Any, read_code: Any, tag: str, scheme: str
) -> None:
    screen = KioskScreen(language(tag))
    code = "https://pay.example.org/app/pay/pi_0123456789abcdefghjkmnpqrs"
    with served(screen.app()) as url, visit(url, color_scheme=scheme, device_scale_factor=1) as page:
        page.goto("/")
        for width, height in ((1280, 800), (800, 1280)):
            page.set_viewport_size({"width": width, "height": height})
            for state in _WITH_CODE:
                hint = "come closer" if state is State.LOOK_HERE else None
                reason = "insufficient_funds" if state in (State.USE_CARD, State.REFUSED) else None
                screen.show(Shown(state, 280, "EUR", reason, hint, at_most=24_00, code=code))
                page.locator(f"body[data-state={state.value}]").wait_for()
                outside = page.evaluate(
                    """() => [...document.querySelectorAll("h1, p, figure, figcaption, .symbol svg")]
                        .filter((e) => e.checkVisibility())
                        .filter((e) => { const b = e.getBoundingClientRect();
                            return b.left < 0 || b.top < 0 || b.right > innerWidth || b.bottom > innerHeight; })
                        .map((e) => e.outerHTML.slice(0, 80))"""
                )
                assert (state, width, outside) == (state, width, [])
                capital = page.evaluate("parseFloat(getComputedStyle(document.querySelector('h1')).fontSize) * 0.72")
                assert capital / 800 >= 0.075  # from three metres, as without the code
            assert read_code(page) == code
        page.goto("about:blank")
