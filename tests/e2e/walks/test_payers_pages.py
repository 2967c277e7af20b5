"""The payer's app, page by page."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from facefare.client import PayerClient, TerminalClient
from facefare.fares.tariff import Band, Cap, LegRule, Period, Product, Tariff, TariffVersion
from facefare.payments import merchants, tariffs
from facefare.payments.merchants import Terminal
from facefare.payments.tariffs import FarePoint
from facefare.web.pages import payer as payers_pages
from facefare.web.pages.notifying import Mail, Notifier, Push

BUSES = ("trm_bus_1", "trm_bus_2", "trm_bus_3")


@pytest.fixture
def processor(card_processor: Any) -> Any:
    return card_processor


@pytest.fixture
def notifier() -> Notifier:
    sends = Push(ec.generate_private_key(ec.SECP256R1()), "push@operator.example", hosts=["localhost"])
    return Notifier("Example Transit", Mail("127.0.0.1", 9, "pay@operator.example", "none"), sends)


@pytest.fixture
def town(site: Any) -> None:
    """Buses with fares that are capped, and a shop."""
    version = TariffVersion(
        effective_from=datetime(2026, 1, 1, tzinfo=UTC).date(),
        products=(Product(id="single", amounts={"": 280}),),
        rules=(LegRule(id="any", bands=(Band(product="single"),)),),
        caps=(Cap(id="day", period=Period.DAY, amounts={"": 400}),),
    )
    public = site.requests.terminal_key.public_key().public_bytes_raw()
    with site.engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Example Buses")
        merchants.register_terminal(connection, Terminal("trm_shop", merchant, "Kiosk", public, "till"))
        tariffs.import_tariff(connection, Tariff(id="bus", currency="EUR", versions=(version,)))
        for bus in BUSES:
            merchants.register_terminal(connection, Terminal(bus, merchant, "Bus 12", public))
            tariffs.assign(connection, bus, FarePoint("bus", "Market Square", "flat"))


def sign_in(site: Any, walk: Any, label: str) -> None:
    walk.page.context.clear_cookies(name="__Host-session")
    walk.page.goto("/app/sign-in")
    walk.page.locator("summary").click()
    walk.page.locator("#token").fill(site.tokens[label])
    walk.page.locator("form.stack button").click()
    walk.page.wait_for_url("**/app/")


def visitor(walk: Any) -> None:
    page = walk.page
    page.add_init_script("navigator.credentials.get = navigator.credentials.create = () => Promise.reject(new Error())")
    walk.go("nowhere", "no such page", refused=True)
    for path in ("", "sign-up", "offline", "phone/pay", "sign-in"):
        walk.go(path, f"visitor, {path or 'welcome'}")
    page.locator("#passkey").click()
    page.locator("#problem").wait_for()
    walk("sign-in, the passkey fails")
    page.locator("summary").click()
    page.locator("#token").fill("nobody's")
    walk.press("form.stack button", "sign-in, wrong token", refused=True)


def newcomer(site: Any, walk: Any, stand_in: Any) -> None:
    """Who has just signed up: everything is empty; then consent, a card, a PIN, messages."""
    page = walk.page
    for path in ("", "receipts", "trips", "access", "access/check", "guardians", "face", "consent", "phone", "close"):
        walk.go(path, f"new, {path or 'home'}")
    for path in ("notifications", "pay", "safety"):
        walk.go(path, path)

    page.locator("#pin").fill("2580")
    walk.press("form[action$='/pin'] button", "safety, PIN set")
    page.locator("#limit").fill("50")
    walk.press("form[action$='/limit'] button", "safety, limit set")
    page.locator("form[action$='/pin']").evaluate("(form) => { form.noValidate = true; }")
    page.locator("#pin").fill("12")
    walk.press("form[action$='/pin'] button", "safety, no PIN", refused=True)

    page.goto("/app/notifications")
    page.locator("#email").fill("ada@example.org")
    walk.press("form[action$='/email'] button", "notifications, code sent")
    page.locator("[name=code]").fill("000000")
    walk.press("form[action$='/confirm'] button", "notifications, wrong code", refused=True)
    page.goto("/app/notifications")
    walk.press("form[action$='/remove'] button", "notifications, stopped")

    walk.go("top-up", "top-up, no card")
    walk.press("form[action$='/card/add'] button", "card, elsewhere")
    walk.go("card/", "card, none")
    walk.go("card/added?session=cs_test_1", "card, not added")
    stand_in.card = {"brand": "visa", "last4": "4242"}
    walk.go("card/added?session=cs_test_1", "card, added")
    page.goto("/app/card/")
    walk.press("form[action$='/card/auto'] button", "card, tops up by itself")
    walk.press("form[action$='/card/auto/off'] button", "card, never by itself")
    for bank, name in (("ask", "asked by the bank"), ("insufficient_funds", "refused"), ("yes", "done")):
        stand_in.bank = bank
        walk.go("top-up", f"top-up, {name}, before")
        walk.press(".choices button", f"top-up, {name}")
        if bank == "ask":
            back = stand_in.intent["next_action"]["redirect_to_url"]["return_url"].removeprefix(f"{site.url}/app/")
            walk.go(back, "top-up, asked, looked at again")
            stand_in.intent |= {"next_action": None}
            walk.go(back, "top-up, asked in the bank's app")
            stand_in.intent |= {"status": "processing"}
            walk.go(back, "top-up, under way")
    page.goto("/app/card/")
    walk.press("form[action$='/card/remove'] button", "card, removed")

    page.goto("/app/consent")
    page.locator("[value=hands_free] ~ label input").check()
    walk.press("form:has([value=hands_free]) button", "consent, a passkey is needed")
    walk.go("face", "face, agreed")
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE web_session SET passkey_at = now()"))
    walk.go("consent/code", "consent, the code")
    page.locator("details").evaluate("(one) => { one.open = true; }")
    walk("consent, the receipt")
    page.goto("/app/consent")
    page.locator("[value=held] ~ label input").check()
    walk.press("form:has([value=held]) button", "phone setup")
    walk.steps("phone setup")
    walk.go("phone/pay", "phone pay")
    walk.steps("phone pay")


def regular(site: Any, walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ada, who pays by face and by phone, and owes something; then she deletes her face."""
    page = walk.page
    places = ("trm_gate", *BUSES, "trm_shop")
    gate, *buses, shop = (TerminalClient(site.http, place, site.requests.terminal_key) for place in places)

    def look(place: str, amount: int | None = None) -> Any:
        search = site.requests.search("ada", terminal=place).to_bytes()
        terminal = TerminalClient(site.http, place, site.requests.terminal_key)
        return terminal.attempt(amount=amount, currency="EUR", search=search)

    paid, ride = look("trm_gate", 280).receipt, [look(bus) for bus in BUSES[:2]][1].receipt
    site.look("nobody")
    look("trm_shop", 60_00)
    with monkeypatch.context() as owing:
        owing.setattr(payers_pages.travel, "owed_by", lambda *_: 840)
        walk.go("", "home")
    for path in ("receipts", "trips", "face", "access", "guardians", "access/check", "close", f"receipts/{paid}"):
        walk.go(path, "receipt" if path.endswith(str(paid)) else path)
    walk.go(f"receipts/{ride}", "receipt of a ride")
    walk.go("access/check", "check")
    walk.steps("check")
    walk.go("phone", "phones")
    page.locator("summary").click()
    walk("phones, old ones")
    walk.press("form[action$='/pause'] button", "phones, one paused")
    walk.press("form[action$='/resume'] button", "phones, on again")
    code = gate.by_code(amount=280, currency="EUR", idempotency_key="code").id
    walk.go(f"pay/{code}", "pay by code")
    walk.press(f"form[action$='/pay/{code}'] button", "paid by code")
    capped = buses[2].by_code(amount=None, currency="EUR", idempotency_key="capped").id
    page.goto(f"/app/pay/{capped}")
    walk.press(f"form[action$='/pay/{capped}'] button", "paid by code, nothing more")
    dear = shop.by_code(amount=500_00, currency="EUR", idempotency_key="dear").id
    page.goto(f"/app/pay/{dear}")
    walk.press(f"form[action$='/pay/{dear}'] button", "pay by code, refused")
    page.goto("/app/face")
    walk.press("form[action$='/pause'] button", "face, paused")
    walk.go("", "home, paused")
    page.goto("/app/face")
    walk.press("form[action$='/resume'] button", "face, on again")
    page.goto(f"/app/receipts/{paid}")
    walk.press("form[action$='/dispute'] button", "disputed")
    walk.go("face/delete", "delete the face?")
    walk.press("form[action$='/delete'] button", "face deleted")


def alike(walk: Any) -> None:
    """Who looks like somebody else."""
    walk.go("", "home, alike")
    walk.go("face", "face, alike")
    walk.page.locator("[name=word]").fill("no word")
    walk.press("form[action$='/same-person'] button", "face, no word", refused=True)
    walk.go("close", "close, but not before the face")


def phones_of(site: Any, payer: Any) -> None:
    """Three phones in the books: one pays, one owes, one is lost."""
    insert = text(
        """INSERT INTO device (id, payer_id, consent_id, public_key, commitment, pass_through, state)
           SELECT 'dev_' || lpad(:n, 26, 'a'), payer_id, id, decode(lpad(:n, 64, '0'), 'hex'), '', 99999, :state
           FROM consent WHERE payer_id = :payer LIMIT 1"""
    )
    with site.engine.begin() as connection:
        for number, state in enumerate(("active", "owing", "lost"), start=2):
            connection.execute(insert, {"n": str(number), "state": state, "payer": payer.account().id})


def test_the_payers_app(
    site: Any,
    walk: Any,
    payer_view: Any,
    stand_in: Any,
    town: None,
    unseen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = site.payer("ada", funds=150_00)
    phones_of(site, ada)
    for _ in "12":
        site.payer("twin")
    _, site.tokens["new"] = PayerClient.register(site.http, "EUR")
    with walk(site.url, payer_view, expect_missing=True) as walked:
        visitor(walked)
        sign_in(site, walked, "new")
        newcomer(site, walked, stand_in)
        sign_in(site, walked, "ada")
        regular(site, walked, monkeypatch)
        sign_in(site, walked, "twin")
        alike(walked)
        assert unseen(walked, console=False) == []
