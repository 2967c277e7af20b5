"""The pages with a keyboard alone, and what a screen reader is told: names, roles, and what came of a form."""

from typing import Any

from playwright.sync_api import Page, expect

from facefare.client import PayerClient
from facefare.terminal.screen import Shown, State
from facefare.terminal.till import TillTerms
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import language
from facefare.web.pages.till_screen import TillScreen

HERE = """() => {
  const one = document.activeElement;
  const { left, right, top, bottom } = one.getBoundingClientRect();
  const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  const marked = [one, one.closest("label")].some((it) => it && getComputedStyle(it).outlineStyle !== "none");
  const name = one.labels?.[0]?.innerText ?? (one.getAttribute("aria-label") || one.innerText || one.name || "");
  return [name.trim().split("\\n")[0], marked, one === over || one.contains(over) || Boolean(over?.closest("label"))];
}"""


def tab_to(page: Page, name: str) -> list[str]:
    """Press Tab until the element with this name has the focus; each stop is marked and nothing covers it."""
    passed: list[str] = []
    while not passed or passed[-1] != name:
        page.keyboard.press("Tab")
        here, marked, seen = page.evaluate(HERE)
        assert (here, marked, seen) == (here, True, True)
        assert len(passed) < 40, f"{name} is not among {passed}"
        passed.append(here)
    return passed


def enter(page: Page, name: str) -> None:
    """Go to it with Tab and press Enter; a page follows."""
    tab_to(page, name)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def told(page: Page, role: str, sentence: str) -> None:
    """The focus is on what came of the form, so that it is read out and the way goes on from there."""
    message = page.get_by_role(role).filter(has_text=sentence)  # type: ignore[arg-type]
    expect(message).to_be_focused()


def test_the_way_through_sign_in_and_a_wrong_token(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url, expect_missing=True) as page:
        page.goto("/app/sign-in")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert "Use my passkey" in tab_to(page, "No passkey on this device?")[:1]
        page.keyboard.press("Enter")
        tab_to(page, "Your wallet's token")
        page.keyboard.type("wrong")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        field = page.get_by_label("Your wallet's token")
        expect(field).to_be_focused()
        expect(field).to_have_accessible_description("This token is not known. Please check it.")
        page.keyboard.type(site.tokens["ada"])
        page.keyboard.press("Enter")
        page.wait_for_url("**/app/")


def test_no_is_as_near_as_yes(site: Any, visit: Any) -> None:
    _, site.tokens["ada"] = PayerClient.register(site.http, "EUR")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.goto("/app/consent")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # past the navigation
        stops = tab_to(page, "No, I pay another way")
        assert stops == [
            "I am 16 years old or more.",
            "Yes, on my phone",
            "I am 16 years old or more.",
            "Yes, hands-free",
            "No, I pay another way",
        ]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")  # without the age
        expect(page.get_by_label("I am 16 years old or more.").last).to_be_focused()
        page.keyboard.press("Space")
        enter(page, "Yes, hands-free")
        expect(page.get_by_role("heading", name="Agreed. Is it you?")).to_be_visible()
        enter(page, "Take my consent back")
        page.goto("/app/consent")
        enter(page, "No, I pay another way")
        expect(page.get_by_text("Nothing about your face is kept")).to_be_visible()


def test_money_pin_pause_dispute_and_deletion(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    site.look("ada")
    with visit(site.url, expect_missing=True) as page:
        site.sign_in(page, "ada")
        enter(page, "Top up")
        enter(page, "20.00\u00a0€")
        expect(page.get_by_role("heading", name="Top-up")).to_be_visible()

        page.goto("/app/safety")
        tab_to(page, "New PIN")
        page.keyboard.type("1111")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        told(page, "alert", "A PIN has 4 to 8 digits that are not all the same.")
        enter(page, "Go back")
        tab_to(page, "New PIN")
        page.keyboard.type("2580")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        told(page, "status", "Your new PIN is set.")

        page.goto("/app/")
        enter(page, "Pause my face")
        told(page, "status", "Paused.")
        enter(page, "Switch on again")
        told(page, "status", "On again.")

        page.goto("/app/")
        enter(page, "Central Station, gate 4")
        enter(page, "That was not me")
        told(page, "status", "The money is back in your wallet.")
        enter(page, "My face")
        enter(page, "Delete my face")
        stops = tab_to(page, "Keep it")
        assert stops[-2] == "Delete it"
        page.keyboard.press("Shift+Tab")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        told(page, "status", "All three guardians erased their pieces.")
    assert ada.account().available == 3000


def test_a_refund_of_the_console(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    site.look("ada")
    with visit(site.url, expect_missing=True, viewport={"width": 1280, "height": 900}) as page:
        page.goto("/app/console/sign-in")
        tab_to(page, "Your token, from the operator")
        page.keyboard.type(site.staff_token)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/")
        enter(page, "Payments")
        page.locator("td a").focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        for amount, role, sentence in (
            ("x", "alert", "This is no amount of money."),
            ("1.30", "status", "Given back."),
        ):
            tab_to(page, "Amount, in EUR")
            page.keyboard.press("Control+a")
            page.keyboard.type(amount)
            with page.expect_navigation():
                page.keyboard.press("Enter")
            told(page, role, sentence)
            if role == "alert":
                enter(page, "Go back")
    assert ada.account().available == 1000 - 280 + 130


def test_after_every_end_a_till_goes_on_with_enter_and_escape_begins_anew(served: Any, visit: Any, kiosk: Any) -> None:
    pressed: list[str] = []

    class Buttons:
        def cancel(self) -> None:
            pressed.append("cancel")

    screen = TillScreen(language("en"), TillTerms("EUR"))
    screen.show(Shown(State.AMOUNT, 0, "EUR"))
    with served(screen.app_for(Buttons())) as url, visit(url, **kiosk) as page:  # type: ignore[arg-type]
        page.goto("/")
        for state in (State.ACCEPTED, State.ALREADY_PAID, State.USE_CARD, State.SEVERAL, State.REFUSED):
            screen.show(Shown(state, 350, "EUR"))
            expect(page.get_by_role("button", name="Next payment")).to_be_focused()
            with page.expect_response("**/till/cancel"):
                page.keyboard.press("Enter")
            screen.show(Shown(State.LOOK_HERE, 350, "EUR"))
            page.locator("body[data-state=look_here]").wait_for()
            with page.expect_response("**/till/cancel"):
                page.keyboard.press("Escape")
        page.goto("about:blank")
    assert pressed == ["cancel"] * 10


def test_what_a_screen_reader_says_of_a_gate(served: Any, visit: Any, kiosk: Any) -> None:
    screen = KioskScreen(language("en"))
    with served(screen.app()) as url, visit(url, **kiosk) as page:
        screen.show(Shown(State.IDLE, 280, "EUR", code="https://pay.example/app/pay/pi_0123456789abcdefghjkmnpqrs"))
        page.goto("/")
        page.locator("body[data-state=idle]").wait_for()
        expect(page.locator("main")).to_match_aria_snapshot(
            """
            - main:
              - status:
                - heading "Pay by face or card" [level=1]
                - paragraph: 2.80 €
              - figure:
                - img "Code to pay with your phone"
            """
        )
        screen.show(Shown(State.REFUSED, 280, "EUR", reason="insufficient_funds"))
        expect(page.locator("main")).to_match_aria_snapshot(
            """
            - main:
              - status:
                - heading "Not paid. Use your card" [level=1]
                - paragraph: 2.80 €
                - paragraph: Not enough money in the wallet
            """
        )
        page.goto("about:blank")


def test_what_a_screen_reader_says_of_the_payers_pages(site: Any, visit: Any) -> None:
    site.payer("ada")
    site.look("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        expect(page.get_by_role("navigation")).to_match_aria_snapshot(
            """
            - navigation "Main":
              - link "Home"
              - link "Receipts"
              - link "My face"
              - link "Who looked"
            """
        )
        expect(page.get_by_role("region", name="Balance")).to_match_aria_snapshot(
            """
            - region "Balance":
              - heading "Balance" [level=1]
              - paragraph: 7.20 €
              - link "Top up"
            """
        )
        page.goto("/app/top-up")
        expect(page.get_by_role("group")).to_match_aria_snapshot(
            """
            - group "Amount":
              - button "5.00 €"
              - button "10.00 €"
              - button "20.00 €"
              - button "50.00 €"
            """
        )
        page.goto("/app/safety")
        expect(page.get_by_role("region", name="PIN")).to_match_aria_snapshot(
            """
            - region "PIN":
              - heading "PIN" [level=2]
              - paragraph
              - text: New PIN
              - textbox "New PIN"
              - button "Set the PIN"
            """
        )
