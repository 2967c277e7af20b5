"""The payer's app, as a person with a phone uses it."""

from typing import Any

from playwright.sync_api import expect


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
        expect(page.get_by_text("trm_gate")).to_be_visible()


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


def test_saying_yes_to_hands_free_gives_a_code_for_the_station_and_no_takes_nothing(site: Any, visit: Any) -> None:
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
        page.get_by_role("button", name="Yes, hands-free").click()
        expect(page.locator("img.qr")).to_be_visible()
        assert page.locator("img.qr").evaluate("async (code) => (await code.decode(), code.naturalWidth)") > 100
        page.get_by_role("button", name="Take my consent back").click()
        assert page.request.get("/app/export").json()["consents"] == []


def test_the_export_holds_what_the_wallet_knows_and_no_one_elses(site: Any, visit: Any) -> None:
    site.payer("ada")
    site.payer("ben")
    receipt = site.look("ada").receipt
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        data = page.request.get("/app/export").json()
        assert data["receipts"][0]["id"] == receipt
        assert len(data["receipts"]) == 2
        assert len(data["faces"][0]["confirmations"]) == 3
        assert data["access_log"][0]["by"] == "trm_gate"
    with visit(site.url) as page:
        site.sign_in(page, "ben")
        assert receipt not in page.request.get("/app/export").text()


def test_without_a_network_the_installed_app_says_so(site: Any, visit: Any) -> None:
    with visit(site.url, expect_missing=True) as page:
        page.goto("/app/")
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        page.wait_for_timeout(300)
        page.context.set_offline(True)
        page.goto("/app/")
        expect(page.get_by_role("heading", name="No network")).to_be_visible()
