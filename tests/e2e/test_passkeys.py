"""Sign-up and sign-in with passkeys, in a browser with a virtual authenticator, and what must not work."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import text


def sign_up(page: Any) -> None:
    page.goto("/app/sign-up")
    page.get_by_role("button", name="Make my passkey").click()
    page.wait_for_url("**/app/")


def sign_out(page: Any) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Make a wallet")).to_be_visible()


def test_sign_up_sign_out_and_in_again_is_the_same_wallet(site: Any, visit: Any, authenticator: Any) -> None:
    with visit(site.url) as page:
        authenticator(page)
        sign_up(page)
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
