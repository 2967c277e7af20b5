"""The screens of gates and tills, state by state."""

from typing import Any

from facefare.terminal.gate import _WITH_CODE as GATE_WITH_CODE
from facefare.terminal.screen import Shown, State
from facefare.terminal.till import _WITH_CODE as TILL_WITH_CODE
from facefare.terminal.till import TillTerms
from facefare.web.pages.kiosk import KioskScreen
from facefare.web.pages.languages import language
from facefare.web.pages.till_screen import TillScreen

CODE = "https://pay.example/app/pay/pi_0123456789abcdefghjkmnpqrs"
TILL_ONLY = (State.AMOUNT, State.APPROVE, State.PIN, State.PHONE)
WHY = {
    State.LOOK_HERE: {"hint": "more light from the front"},
    State.USE_CARD: {"reason": "not_recognised"},
    State.REFUSED: {"reason": "insufficient_funds"},
    State.PIN: {"reason": "pin_wrong"},
}
RECEIPT = {state: {"receipt": f"rcp_{'0' * 26}"} for state in (State.ACCEPTED, State.ALREADY_PAID)}


def test_a_gates_screen(served: Any, walk: Any, screen_view: Any) -> None:
    screen = KioskScreen(language(screen_view.tag))
    screen.show(Shown(State.IDLE, 280, "EUR"))
    with served(screen.app()) as url, walk(url, screen_view) as walked:
        walked.page.goto("/")
        for state in State:
            if state in TILL_ONLY:
                continue
            for code in (None, CODE) if state in GATE_WITH_CODE else (None,):
                screen.show(Shown(state, 280, "EUR", at_most=420 if code else None, code=code, **WHY.get(state, {})))
                walked.page.locator(f"body[data-state={state.value}]:has(#code{'' if code else '[hidden]'})").wait_for()
                walked(f"gate, {state.value}{', code' if code else ''}")
        walked.page.goto("about:blank")


def test_a_tills_screen(served: Any, walk: Any, screen_view: Any) -> None:
    terms = TillTerms("EUR", receipts="https://pay.example")
    screen = TillScreen(language(screen_view.tag), terms, codes_only=False)
    screen.show(Shown(State.AMOUNT, 0, "EUR"))
    with served(screen.app_for(None)) as url, walk(url, screen_view) as walked:  # type: ignore[arg-type]
        walked.page.goto("/")
        walked.page.locator("body[data-state=amount]").wait_for()
        walked("till, no amount")
        for state in State:
            for code in (None, CODE) if state in TILL_WITH_CODE else (None,):
                more = {**WHY, **RECEIPT}.get(state, {})
                screen.show(Shown(state, 1250, "EUR", code=code, **more))
                walked.page.locator(f"body[data-state={state.value}]:has(#code{'' if code else '[hidden]'})").wait_for()
                if state in (State.AMOUNT, State.PIN):
                    walked.page.keyboard.type("2580")
                walked(f"till, {state.value}{', code' if code else ''}")
        walked.page.goto("about:blank")
