"""The payer's app, as a person with a phone uses it."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from facefare.client import PayerClient, TerminalClient
from facefare.fares.explain import Line
from facefare.payments.receipts import stored
from facefare.payments.tables import receipt as receipt_table
from facefare.wallet.consents import Profile


def test_home_shows_balance_payments_and_who_looked(site: Any, visit: Any) -> None:
    site.payer("ada")
    assert site.look("ada").opens
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        expect(page.locator(".balance .amount")).to_have_text("7.20\u00a0€")
        expect(page.get_by_text("Central Station, gate 4")).to_be_visible()
        page.get_by_role("link", name="Central Station, gate 4").click()
        expect(page.locator(".receipt .amount")).to_have_text("2.80\u00a0€")
        page.get_by_role("link", name="Who looked").click()
        expect(page.locator(".rows li").first).to_contain_text("Central Station, gate 4")


def test_pausing_and_deleting_reach_the_gate_and_show_three_signatures(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.get_by_role("button", name="Pause my face").click()
        expect(page.get_by_role("status")).to_contain_text("Paused")
        assert site.look("ada").outcome == "use_card"
        page.get_by_role("button", name="Switch on again").click()
        expect(page.get_by_role("status")).to_contain_text("On again")
        assert site.look("ada").outcome == "accepted"
        page.get_by_role("link", name="Delete my face").click()
        page.get_by_role("button", name="Delete it").click()
        expect(page.locator(".guardians li")).to_have_count(3)
        assert site.look("ada").outcome == "use_card"
        page.get_by_role("link", name="Home").first.click()
        expect(page.get_by_text("Nothing about your face is kept")).to_be_visible()
        expect(page.locator(".balance .amount")).to_have_text("7.20\u00a0€")


def test_nobody_sees_anything_without_signing_in(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    receipt = site.look("ada").receipt
    site.payer("ben")
    with visit(site.url) as page:
        for path in ("receipts", f"receipts/{receipt}", "access", "face", "export", "consent", "top-up"):
            page.goto(f"/app/{path}")
            assert page.url.endswith("/app/sign-in")
        site.sign_in(page, "ben")
        assert page.request.get(f"/app/receipts/{receipt}").status == 404
    assert ada.receipt(receipt)["amount"] == 280


def test_that_was_not_me_gives_the_money_back_and_pauses_the_face(site: Any, visit: Any) -> None:
    site.payer("ada")
    site.look("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.get_by_role("link", name="Central Station, gate 4").click()
        page.get_by_role("button", name="That was not me").click()
        expect(page.get_by_role("status")).to_contain_text("The money is back")
        page.get_by_role("link", name="Home").first.click()
        expect(page.locator(".balance .amount")).to_have_text("10.00\u00a0€")
        expect(page.get_by_text("Paused: nobody can charge you")).to_be_visible()
    assert site.look("ada").outcome == "use_card"


def test_a_limit_and_a_pin_are_set_and_hold(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.get_by_role("link", name="PIN, limit, devices").click()
        page.get_by_label("Limit, in EUR").fill("2")
        page.get_by_role("button", name="Set the limit").click()
        expect(page.get_by_role("status")).to_contain_text("Your limit is set")
        assert site.look("ada").reason == "daily_limit"
        page.get_by_label("New PIN").fill("4821")
        page.get_by_role("button", name="Set the PIN").click()
        expect(page.get_by_role("status")).to_contain_text("Your new PIN is set")
        page.get_by_label("Limit, in EUR").fill("")
        page.get_by_role("button", name="Set the limit").click()
        assert site.look("ada").outcome == "accepted"
        page.goto("/app/access")
        expect(page.get_by_text("Your limit for today is reached")).to_be_visible()
    assert ada.account().available == 720


@pytest.mark.parametrize("profiles", [(Profile.HELD,)])
def test_where_hands_free_is_not_offered_the_page_knows_one_way_and_no(site: Any, visit: Any) -> None:
    _, site.tokens["ada"] = PayerClient.register(site.http, "EUR")
    with visit(site.url, expect_missing=True) as page:
        site.sign_in(page, "ada")
        page.get_by_role("link", name="How it would work").click()
        expect(page.get_by_role("heading", level=2)).to_have_text(["Kept on your phone", "What you should know"])
        said = page.locator("main").inner_text()
        assert not any(word in said for word in ("Hands-free", "pieces", "guardians"))
        form = {"notice_version": "2026-11", "profile": "hands_free", "of_age": "true"}
        forged = page.request.post("/app/consent", form=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert 400 <= forged.status < 500
        assert page.request.get("/app/export").json()["tables"]["consent"] == []
        page.get_by_role("link", name="No, I pay another way").click()
        expect(page.get_by_text("Nothing about your face is kept")).to_be_visible()


def test_saying_yes_to_hands_free_gives_a_code_for_the_station_and_no_takes_nothing(
    site: Any, visit: Any, authenticator: Any
) -> None:
    ada = site.payer("ada")
    ada.delete_face()
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.get_by_role("link", name="How it would work").click()
        yes, no = (
            page.locator(f"text={label}").bounding_box() for label in ("Yes, hands-free", "No, I pay another way")
        )
        assert no["height"] >= yes["height"]
        assert no["width"] >= yes["width"]
        page.get_by_role("link", name="No, I pay another way").click()
        expect(page.get_by_text("Nothing about your face is kept")).to_be_visible()
        page.goto("/app/consent")
        card = page.locator("section", has=page.get_by_role("heading", name="Hands-free"))
        card.get_by_label("I am 16 years old or more.").check()
        authenticator(page)
        page.get_by_role("button", name="Yes, hands-free").click()
        page.get_by_role("button", name="Add a passkey").click()
        expect(page.get_by_text("A check key for you alone")).to_be_visible()  # the code is loaded anew, with the key
        expect(page.locator("img.qr")).to_be_visible()
        assert page.locator("img.qr").evaluate("async (code) => (await code.decode(), code.naturalWidth)") > 100
        page.get_by_role("button", name="Take my consent back").click()
        consents = page.request.get("/app/export").json()["tables"]["consent"]
        assert all(consent["withdrawn_at"] for consent in consents)


def test_the_export_holds_what_the_wallet_knows_and_no_one_elses(site: Any, visit: Any) -> None:
    site.payer("ada")
    site.payer("ben")
    receipt = site.look("ada").receipt
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        data = page.request.get("/app/export").json()["tables"]
        assert {one["id"] for one in data["receipt"]} >= {receipt}
        assert len(data["change_confirmation"]) == 3
        assert data["access_log"][0]["by"] == "trm_gate"
        readable = page.request.get("/app/export.html")
        assert receipt in readable.text()
        assert "attachment" in readable.headers["content-disposition"]
    with visit(site.url) as page:
        site.sign_in(page, "ben")
        assert receipt not in page.request.get("/app/export").text()


def test_what_the_guardians_signed_is_shown_and_can_be_kept(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.get_by_role("link", name="My face", exact=True).click()
        page.get_by_role("link", name="all that they signed").click()
        expect(page.locator(".rows li")).to_have_count(3)
        expect(page.get_by_text("Took its piece of your face").first).to_be_visible()
        ada.delete_face()
        page.reload()
        expect(page.get_by_text("They hold no piece of your face")).to_be_visible()
        expect(page.locator(".rows li").first).to_contain_text("Erased its piece")
        proofs = page.request.get("/app/guardians/confirmations.json").json()
        assert [(proof["guardian"], proof["operation"]) for proof in proofs][3:] == [(g, "delete") for g in range(3)]


FARE = (
    Line("fare.leg", {"amount": 560}),
    Line("fare.capped.day", {"saved": 280, "cap": 1000}),
)


@pytest.mark.parametrize(
    ("locale", "capped"),
    [
        ("en", "capped: 2.80\u00a0€ saved (no more than 10.00\u00a0€ a day)"),
        ("de", "gedeckelt: 2,80\u00a0€ gespart (höchstens 10,00\u00a0€ am Tag)"),
        ("ar", "بلغت السقف: وُفِّر 2.80\u00a0€ (10.00\u00a0€ في اليوم على الأكثر)"),
    ],
)
def test_a_receipt_says_how_the_fare_came_about_in_the_payers_language(
    site: Any, visit: Any, locale: str, capped: str
) -> None:
    site.payer("ada")
    receipt = site.look("ada").receipt
    with site.engine.begin() as connection:
        columns = receipt_table.c
        connection.execute(receipt_table.update().where(columns.id == receipt).values(lines=stored(FARE)))
    with visit(site.url, locale=locale) as page:
        page.goto("/app/sign-in")
        page.locator("summary").click()
        page.locator("#token").fill(site.tokens["ada"])
        page.locator("form.stack button").click()
        page.wait_for_url("**/app/")
        expect(page.locator(".rows .saved")).to_have_text(capped)
        page.goto(f"/app/receipts/{receipt}")
        expect(page.locator(".receipt .plain li").last).to_have_text(capped)


def test_closing_the_wallet_asks_for_the_face_first_and_ends_the_session(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.goto("/app/close")
        expect(page.get_by_text("Delete your face first")).to_be_visible()
        ada.delete_face()
        page.reload()
        expect(page.get_by_text("10.00\u00a0€")).to_be_visible()
        page.get_by_role("button", name="Close it").click()
        expect(page.get_by_role("link", name="Make a wallet")).to_be_visible()


def test_a_code_on_a_gates_screen_is_paid_without_a_face_after_signing_in(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    ada.delete_face()
    gate = TerminalClient(site.http, "trm_gate", site.requests.terminal_key)
    waiting = gate.by_code(amount=280, currency="EUR", idempotency_key="one")
    with visit(site.url, expect_missing=True) as page:
        page.goto(f"/app/pay/{waiting.id}")  # as a phone's camera opens it
        page.locator("summary").click()
        page.locator("#token").fill(site.tokens["ada"])
        page.get_by_role("button", name="Sign in with the token").click()
        page.get_by_role("heading", name="Pay this?").wait_for()
        dear = gate.by_code(amount=50_000, currency="EUR", idempotency_key="two")
        page.goto(f"/app/pay/{dear.id}")
        page.get_by_role("button", name="Yes, pay").click()
        expect(page.get_by_role("alert")).to_contain_text("Not enough money")
        page.goto(f"/app/pay/{waiting.id}")
        expect(page.get_by_text("Central Station, gate 4")).to_be_visible()
        expect(page.locator(".amount")).to_have_text("2.80\u00a0€")
        page.get_by_role("button", name="Yes, pay").click()
        expect(page.locator(".receipt .amount")).to_have_text("2.80\u00a0€")
        assert gate.payment(waiting.id).state == "succeeded"
        page.goto("/app/pay")
        page.get_by_label("Or type the number").fill(waiting.id)
        page.get_by_role("button", name="Look it up").click()
        expect(page.get_by_role("alert")).to_contain_text("not waiting for anybody any more")
    assert ada.account().available == 720


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/app/pay/../sign-out", "/app/receipts"])
def test_signing_in_leads_nowhere_else(site: Any, to: str) -> None:
    assert site.http.get("/app/sign-in", params={"to": to}).status_code == 422


def test_the_app_can_be_installed(site: Any, profile: Any) -> None:
    page = profile.new_page()
    page.goto(f"{site.url}/app/")
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    devtools = profile.new_cdp_session(page)
    manifest = devtools.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert devtools.send("Page.getInstallabilityErrors")["installabilityErrors"] == []
    for icon in json.loads(manifest["data"])["icons"]:
        assert page.request.get(f"{site.url}/app/static/{icon['src']}").status == 200


def test_without_a_network_the_installed_app_says_so(site: Any, visit: Any) -> None:
    with visit(site.url, expect_missing=True) as page:
        page.goto("/app/")
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        page.context.set_offline(True)
        page.goto("/app/")
        expect(page.get_by_role("heading", name="No network")).to_be_visible()


def test_one_person_with_two_accounts_ends_the_mark_of_a_lookalike_from_both(site: Any, visit: Any) -> None:
    site.payer("ada")
    site.tokens["older account"] = site.tokens["ada"]
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "older account")
        page.goto("/app/face/delete")
        page.get_by_role("button", name="Delete it").click()
        word = page.locator(".word").inner_text()
    assert site.look("ada").reason == "second_factor"
    with visit(site.url, expect_missing=True) as page:
        site.sign_in(page, "ada")
        page.goto("/app/face")
        page.get_by_label("The other account's word").fill(word[:-4])
        page.get_by_role("button", name="Both accounts are mine").click()
        expect(page.get_by_text("This is no word of the wallet")).to_be_visible()
        page.goto("/app/face")
        expect(page.get_by_text("Somebody who looks like you is enrolled here too")).to_be_visible()
        page.get_by_label("The other account's word").fill(word)
        page.get_by_role("button", name="Both accounts are mine").click()
        expect(page.get_by_role("status")).to_contain_text("both accounts are yours")
        expect(page.get_by_text("Somebody who looks like you is enrolled here too")).to_have_count(0)
    assert site.look("ada").outcome == "accepted"
