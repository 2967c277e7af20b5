"""Axe finds nothing on any page, in any language's direction, in either colour scheme; targets are large enough."""

from typing import Any

import pytest

from facefare.settings import Settings
from facefare.terminal.screen import Shown, State
from facefare.terminal.till import TillTerms
from facefare.web.pages import staff
from facefare.web.pages.desk import SECTIONS
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import language
from facefare.web.pages.staff import Role
from facefare.web.pages.till_screen import TillScreen

AXE = Settings().cache_dir / "web" / "axe.js"
PHONE, DESK = (390, 844), (1280, 900)
SIGNED_IN = ["", "receipts", "face", "face/delete", "access", "access/check", "consent", "top-up", "safety", "none"]
SIGNED_IN += ["consent/code", "card/"]
SIGNED_IN += ["trips", "guardians", "close", "notifications", "pay", "phone", "phone/setup", "phone/pay"]


def violations(page: Any) -> list[str]:
    if not AXE.exists():
        pytest.fail("The check needs axe-core: facefare web assets --for-tests")
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run({ resultTypes: ['violations'] })).violations")
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize(
    ("locale", "scheme", "size"), [("en", "light", PHONE), ("ar", "dark", PHONE), ("de", "light", DESK)]
)
def test_the_payers_pages_have_no_violation_and_fit(
    site: Any, visit: Any, locale: str, scheme: str, size: tuple[int, int]
) -> None:
    ada = site.payer("ada")
    receipt = site.look("ada").receipt
    site.look("ada")
    ada.pause_face()
    code = site.gate.by_code(amount=280, currency="EUR", idempotency_key="code").id
    found, wide = {}, {}

    def look(name: str) -> None:
        found[name] = violations(page)
        wide[name] = page.evaluate("document.documentElement.scrollWidth - innerWidth")

    width, height = size
    shown = {"locale": locale, "color_scheme": scheme, "viewport": {"width": width, "height": height}}
    with visit(site.url, expect_missing=True, **shown) as page:
        for path in ("", "sign-in", "sign-up", "offline"):
            page.goto(f"/app/{path}")
            look(path)
        page.goto("/app/sign-in")
        page.locator("summary").click()
        page.locator("#token").fill(site.tokens["ada"])
        page.locator("form.stack button").click()
        page.wait_for_url("**/app/")
        for path in [*SIGNED_IN, f"receipts/{receipt}"]:
            page.goto(f"/app/{path}")
            look(f"in {path}")
        for path, form in (
            (f"pay/{code}", f"pay/{code}"),
            (f"receipts/{receipt}", "dispute"),
            ("face/delete", "face/delete"),
        ):
            page.goto(f"/app/{path}")
            look(path)
            page.locator(f"form[action$='/{form}'] button").click()
            page.locator(f"form[action$='/{form}']").wait_for(state="detached")
            look(f"after {form}")
    assert {path: problems for path, problems in found.items() if problems} == {}
    assert {path: more for path, more in wide.items() if more > 0} == {}


@pytest.mark.parametrize(
    ("locale", "scheme", "size"), [("en", "light", DESK), ("ar", "dark", DESK), ("de", "dark", PHONE)]
)
def test_the_console_has_no_violation_and_fits(
    site: Any, visit: Any, locale: str, scheme: str, size: tuple[int, int]
) -> None:
    ada = site.payer("ada", funds=100_00)
    disputed = site.gate.attempt(amount=60_00, currency="EUR", search=site.requests.search("ada").to_bytes())
    ada.dispute(disputed.payment_intent)
    site.look("somebody else")
    with site.engine.begin() as connection:
        staff.add(connection, "Sam", Role.SUPPORT)
    found, wide = {}, {}
    width, height = size
    with visit(site.url, locale=locale, color_scheme=scheme, viewport={"width": width, "height": height}) as page:
        page.goto("/app/console/sign-in")
        found["sign-in"] = violations(page)
        page.goto("/app/console/join")
        found["join"] = violations(page)
        page.goto("/app/console/sign-in")
        page.locator("#token").fill(site.staff_token)
        page.locator("form.stack button").click()
        page.wait_for_url("**/console/")
        for part in [*SECTIONS, f"payments/{disputed.payment_intent}"]:
            page.goto(f"/app/console/{part}")
            for details in page.locator("details").all():
                details.evaluate("one => one.open = true")
            found[part] = violations(page)
            wide[part] = page.evaluate(
                """() => { for (const one of document.querySelectorAll("#live bdi")) one.textContent = "99999.9 ms";
                    return document.documentElement.scrollWidth - innerWidth; }"""
            )
    assert {part: problems for part, problems in found.items() if problems} == {}
    assert {part: more for part, more in wide.items() if more > 0} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("terminal", ["gate", "till"])
def test_a_terminals_screen_has_no_violation_in_any_state(
    served: Any, visit: Any, kiosk: Any, scheme: str, terminal: str
) -> None:
    till = TillScreen(language("ar" if scheme == "dark" else "en"), TillTerms("EUR", receipts="https://pay.example"))
    screen, app = (
        (till, till.app_for(None)) if terminal == "till" else (gate := KioskScreen(language("en")), gate.app())
    )  # type: ignore[arg-type]
    found = {}
    screen.show(Shown(State.IDLE, 280, "EUR"))
    with served(app) as url, visit(url, color_scheme=scheme, **kiosk) as page:
        page.goto("/")
        for state in State:
            screen.show(Shown(state, 280, "EUR", reason="insufficient_funds", receipt=f"rcp_{'0' * 26}"))
            page.locator(f"body[data-state={state.value}]").wait_for()
            found[state] = violations(page)
        page.goto("about:blank")
    assert {state: problems for state, problems in found.items() if problems} == {}


def test_the_way_through_sign_in_works_with_the_keyboard_alone(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        page.goto("/app/sign-in")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.locator("summary").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type(site.tokens["ada"])
        page.keyboard.press("Enter")
        page.wait_for_url("**/app/")


def test_what_is_tapped_is_at_least_44_pixels_high(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        for path in ("", "face", "consent", "safety", "top-up", "phone"):
            page.goto(f"/app/{path}")
            small = page.evaluate(
                """() => [...document.querySelectorAll(
                      "a.button, button, input:not([type=hidden], [type=checkbox]), label:has(input), nav a")]
                    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 44)
                    .map((e) => e.outerHTML.slice(0, 80))"""
            )
            assert small == []
