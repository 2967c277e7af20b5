"""The operator's console: live, closed to everybody else, and without people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from facefare.web.pages.staff import StaffKey

OWN = {"Sec-Fetch-Site": "same-origin"}
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "has_touch": False, "device_scale_factor": 1}


def enter(page: Any, site: Any) -> None:
    page.goto("/app/console/")
    assert page.url.endswith("/console/sign-in")
    page.get_by_label("The operator's token").fill(site.staff_token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")


def test_payments_appear_by_themselves_and_name_nobody(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    with visit(site.url, **DESKTOP) as page:
        enter(page, site)
        attempts = page.locator(".figures dd").first
        expect(attempts).to_have_text("0")
        site.look("ada")
        site.look("a stranger")
        expect(attempts).to_have_text("2", timeout=10_000)
        expect(page.locator(".figures dd").nth(1)).to_have_text("50 %")
        expect(page.get_by_text("We did not recognise you").first).to_be_visible()
        content = page.content()
    assert "pay_" not in content
    assert ada.account().id not in content
    assert ada.account().faces[0].id not in content


def test_nobody_but_staff_gets_in(site: Any) -> None:
    site.payer("ada")
    signed_in = site.http.post("/app/sign-in/token", data={"token": site.tokens["ada"]}, headers=OWN)
    payer = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    site.http.cookies.clear()
    forged = {"Cookie": "__Host-staff=9999999999.AAAA"}
    for headers in ({}, payer, forged, {"Cookie": "__Host-staff="}, {"Cookie": "__Host-staff=x"}):
        for path in ("", "live"):
            answer = site.http.get(f"/app/console/{path}", headers=headers)
            assert (answer.status_code, answer.headers["location"]) == (303, "/app/console/sign-in")
    for _ in range(10):
        assert site.http.post("/app/console/sign-in", data={"token": "x" * 40}, headers=OWN).status_code == 401
    right = site.http.post("/app/console/sign-in", data={"token": site.staff_token}, headers=OWN)
    assert right.status_code == 429


def test_a_staff_cookie_ends_and_a_short_token_is_no_token() -> None:
    key, now = StaffKey("x" * 32), datetime.now(UTC)
    cookie = key.cookie(now)
    assert key.accepts(cookie, now)
    assert not key.accepts(cookie, now + timedelta(hours=8, seconds=1))
    assert not StaffKey("y" * 32).accepts(cookie, now)
    with pytest.raises(ValueError, match="at least 32"):
        StaffKey("x" * 31)
