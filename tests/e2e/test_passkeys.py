"""Sign-up and sign-in with passkeys, in a browser with a virtual authenticator, and what must not work."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from facefare.client import ApiError, PayerClient, StationClient


def sign_up(page: Any) -> None:
    page.goto("/app/sign-up")
    page.get_by_role("button", name="Make my passkey").click()
    page.wait_for_url("**/app/")


def sign_out(page: Any) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Make a wallet")).to_be_visible()


def session_of(page: Any) -> str:
    (value,) = [one["value"] for one in page.context.cookies() if one["name"] == "__Host-session"]
    return str(value)


def test_sign_up_sign_out_and_in_again_is_the_same_wallet(site: Any, visit: Any, authenticator: Any) -> None:
    with visit(site.url) as page:
        authenticator(page)
        sign_up(page)
        first = session_of(page)
        page.get_by_role("link", name="Top up").click()
        page.get_by_role("button", name="10.00").click()
        expect(page.locator(".receipt .amount")).to_have_text("10.00\u00a0€")
        page.goto("/app/")
        sign_out(page)
        page.goto("/app/face")
        assert page.url.endswith("/app/sign-in")
        page.get_by_role("button", name="Use my passkey").click()
        page.wait_for_url("**/app/")
        expect(page.locator(".balance .amount")).to_have_text("10.00\u00a0€")
        assert session_of(page) != first


def test_nothing_that_is_posted_holds_the_secret_of_the_passkey(site: Any, visit: Any, authenticator: Any) -> None:
    posted: list[str] = []
    with visit(site.url) as page:
        authenticator(page, prf=True)
        page.on("request", lambda request: posted.append(request.post_data or "") if request.method == "POST" else None)
        sign_up(page)
        sign_out(page)
        page.goto("/app/sign-in")
        page.get_by_role("button", name="Use my passkey").click()
        page.wait_for_url("**/app/")
    answers = [json.loads(body) for body in posted if body.startswith("{")]
    assert len(answers) == 4
    assert "prf" not in "".join(posted)
    assert all("clientExtensionResults" not in answer for answer in answers)


def test_a_device_that_does_not_verify_its_owner_is_refused(site: Any, visit: Any, authenticator: Any) -> None:
    with visit(site.url) as page:
        authenticator(page, verified=False)
        page.goto("/app/sign-up")
        page.get_by_role("button", name="Make my passkey").click()
        expect(page.get_by_role("alert")).to_be_visible(timeout=70_000)
    with site.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM passkey")).scalar_one() == 0


def test_a_challenge_is_good_for_one_answer(site: Any, visit: Any, authenticator: Any) -> None:
    with visit(site.url) as page:
        authenticator(page)
        sign_up(page)
        sign_out(page)
        page.goto("/app/sign-in")
        caught: list[Any] = []
        page.on("request", lambda request: caught.append(request) if request.url.endswith("/app/sign-in") else None)
        page.get_by_role("button", name="Use my passkey").click()
        page.wait_for_url("**/app/")
        (answer,) = [request for request in caught if request.method == "POST"]
        again = page.context.request.post(
            "/app/sign-in", data=answer.post_data, headers={**answer.all_headers(), "sec-fetch-site": "same-origin"}
        )
        assert again.status == 400
        assert "answered before" in again.json()["problem"]


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"rawId": "AAAA"}', '{"rawId": 5}', "nonsense"])
def test_a_malformed_answer_is_refused_and_not_a_crash(site: Any, body: str) -> None:
    own = {"Sec-Fetch-Site": "same-origin"}
    for path, options in (("sign-in", "sign-in/options"), ("passkeys", "passkeys/options")):
        asked = site.http.post(f"/app/{options}", headers=own)
        cookie = {"Cookie": asked.headers["set-cookie"].partition(";")[0]}
        answer = site.http.post(f"/app/{path}", content=body, headers={**own, **cookie})
        assert answer.status_code == 400
        assert "problem" in answer.json()


# --- the code for a station ---


def agree(page: Any) -> None:
    page.goto("/app/consent")
    card = page.locator("section", has=page.get_by_role("heading", name="Hands-free"))
    card.get_by_label("I am 16 years old or more.").check()
    card.get_by_role("button", name="Yes, hands-free").click()
    page.wait_for_url("**/app/consent/code")


def shows_code(page: Any) -> bool:
    """Whether the page, and the picture by itself, give the code."""
    shown = page.locator("img.qr").count() > 0
    if shown:  # with the check key in it, which the browser adds
        expect(page.locator("img.qr[src*='key=']")).to_have_js_property("complete", True)
    assert page.request.get("/app/consent/code.svg").status == (200 if shown else 409)
    return shown


def minutes_pass(site: Any, minutes: int) -> None:
    back = f"interval '{minutes} minutes'"
    with site.engine.begin() as connection:
        connection.execute(text(f"UPDATE web_session SET passkey_at = passkey_at - {back}"))
        connection.execute(text(f"UPDATE consent SET present_until = present_until - {back}"))


def brought(site: Any, label: str) -> str | None:
    """What the wallet says to a station that brings the newest consent; None: it enrols."""
    with site.engine.connect() as connection:
        sha256 = connection.execute(text("SELECT receipt_sha256 FROM consent ORDER BY id DESC LIMIT 1")).scalar_one()
    try:
        StationClient(site.http).enrol(site.requests.enrolment(label, bytes(sha256)).to_bytes())
    except ApiError as refused:
        return str(refused.code)
    return None


def test_a_token_shows_no_code_and_a_passkey_that_it_adds_vouches_for_nobody(
    site: Any, visit: Any, authenticator: Any
) -> None:
    payer, site.tokens["ada"] = PayerClient.register(site.http, "EUR")
    with visit(site.url) as page:
        authenticator(page)
        site.sign_in(page, "ada")
        agree(page)
        assert not shows_code(page)
        page.get_by_role("button", name="Add a passkey").click()  # her first, which binds the account to it
        page.locator("img.qr").wait_for()
        assert shows_code(page)
        payer.withdraw_consents()
    with visit(site.url) as page:
        authenticator(page)  # somebody else's device; they found the token
        site.sign_in(page, "ada")
        agree(page)
        assert not shows_code(page)
        assert brought(site, "mallory") == "payer-not-present"
        page.goto("/app/safety")
        page.get_by_role("button", name="Add a passkey").click()
        page.wait_for_url("**/app/")
        for _ in range(2):
            page.goto("/app/consent/code")
            assert not shows_code(page)
            with page.expect_navigation():
                page.get_by_role("button", name="Use my passkey").click()
        assert not shows_code(page)
        payer.consent("2026-11")  # nor does agreeing over the API lead around it
        assert brought(site, "mallory") == "payer-not-present"


def test_the_code_asks_for_the_passkey_again_and_is_good_for_a_quarter_of_an_hour(
    site: Any, visit: Any, authenticator: Any
) -> None:
    with visit(site.url) as page:
        authenticator(page)
        sign_up(page)
        agree(page)
        assert shows_code(page)
        minutes_pass(site, 9)
        page.reload()
        assert shows_code(page)
        minutes_pass(site, 2)
        page.reload()
        assert not shows_code(page)
        minutes_pass(site, 14)
        assert brought(site, "ada") == "payer-not-present"
        page.get_by_role("button", name="Use my passkey").click()
        page.locator("img.qr").wait_for()
        assert shows_code(page)
        minutes_pass(site, 14)
        assert brought(site, "ada") is None
