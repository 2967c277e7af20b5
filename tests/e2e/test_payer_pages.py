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
