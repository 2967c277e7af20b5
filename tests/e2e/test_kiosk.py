"""The screen of a gate, as somebody in front of it sees it."""

from typing import Any

import pytest
from playwright.sync_api import expect

from facefare.terminal.screen import Shown, State
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import language


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
