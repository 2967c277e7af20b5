"""Staff sign in with passkeys of their own: invited once, never mixed up with payers', each written down."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from facefare.web.pages import staff
from facefare.web.pages.staff import Role

OWN = {"Sec-Fetch-Site": "same-origin"}
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "has_touch": False, "device_scale_factor": 1}
ADD, USE = "Add a passkey", "Use my passkey"


def member(site: Any, role: Role = Role.MANAGER, name: str = "Sam") -> tuple[str, str]:
    """A new member's id and token."""
    with site.engine.begin() as connection:
        added, token = staff.add(connection, name, role)
    return added.id, token


def link_for(site: Any, id: str) -> str:
    with site.engine.begin() as connection:
        return f"{site.url}/app/console/join#{staff.invite(connection, id)}"


def enter(page: Any, token: str) -> None:
    page.goto("/app/console/sign-in")
    page.get_by_label("Your token, from the operator").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")


def join(page: Any, link: str, name: str = "") -> None:
    page.goto(link)
    page.get_by_label("A name for this passkey").fill(name)
    page.get_by_role("button", name="Make my passkey").click()


def sign_in(page: Any) -> None:
    page.goto("/app/console/sign-in")
    page.get_by_role("button", name=USE).click()
    page.wait_for_url("**/console/")


def by_token(site: Any, token: str) -> int:
    status = httpx.post(f"{site.url}/app/console/sign-in", data={"token": token}, headers=OWN).status_code
    return int(status)


def done(site: Any) -> list[tuple[str, str]]:
    with site.engine.connect() as connection:
        return [(one.staff, one.action) for one in staff.actions(connection, limit=50)][::-1]


def test_a_colleague_is_invited_once_and_signs_in_with_a_passkey_from_then_on(
    site: Any, visit: Any, authenticator: Any
) -> None:
    with visit(site.url, **DESKTOP) as page:
        enter(page, site.staff_token)
        page.get_by_role("link", name="Staff").click()
        page.get_by_label("Name, as payers and auditors read it").fill("Ana")
        page.locator("#role").select_option("auditor")
        page.get_by_role("button", name="Invite", exact=True).click()
        link = page.locator("#link").inner_text()
    with visit(site.url, **DESKTOP) as page:
        authenticator(page)
        join(page, link, "Ana's laptop")
        page.wait_for_url("**/console/")
        expect(page.get_by_text("Ana · Auditor")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        sign_in(page)
        page.get_by_role("link", name="Audit").click()
        for what in ("Added somebody", "Took an invitation", "Signed in"):
            expect(page.get_by_role("cell", name=what).first).to_be_visible()
        assert link.partition("#")[2] not in page.content()
    with visit(site.url, expect_missing=True) as page:
        authenticator(page)
        join(page, link)
        expect(page.get_by_role("alert")).to_contain_text("was used")
    assert done(site) == [
        ("operator", "sign_in"),
        ("operator", "add_staff"),
        ("Ana", "join"),
        ("Ana", "sign_in"),
    ]


def test_an_invitation_runs_out_and_a_newer_one_replaces_it(site: Any) -> None:
    id, _ = member(site)
    first, second = (link_for(site, id).partition("#")[2] for _ in range(2))

    def taken(invitation: str) -> int:
        answer = site.http.post("/app/console/join/options", json={"invitation": invitation}, headers=OWN)
        return int(answer.status_code)

    assert (taken(first), taken(second), taken(""), taken("x")) == (403, 200, 403, 403)
    with site.engine.begin() as connection:
        assert second not in str(connection.execute(text("SELECT * FROM staff_invitation")).all())
        connection.execute(text("UPDATE staff_invitation SET expires_at = expires_at - interval '1 day 1 second'"))
    assert taken(second) == 403
    third = link_for(site, id).partition("#")[2]
    with site.engine.begin() as connection:
        staff.revoke(connection, id)
    assert taken(third) == 403


def test_a_first_passkey_ends_the_token_and_the_last_one_stays(site: Any, visit: Any, authenticator: Any) -> None:
    _, token = member(site)
    with visit(site.url, **DESKTOP) as elsewhere, visit(site.url, **DESKTOP) as page:
        enter(elsewhere, token)
        authenticator(page)
        enter(page, token)
        page.goto("/app/console/me")
        page.get_by_label("A name for this passkey").fill("The phone")
        page.get_by_role("button", name=ADD).click()
        expect(page.get_by_role("heading", name="The phone")).to_be_visible()
        assert by_token(site, token) == 401
        elsewhere.goto("/app/console/")
        assert elsewhere.url.endswith("/console/sign-in")
        assert page.get_by_role("button", name="Withdraw").count() == 0
        page.get_by_label("Name", exact=True).fill("The laptop")
        page.get_by_role("button", name="Change").click()
        expect(page.get_by_role("heading", name="The laptop")).to_be_visible()
        (key,) = page.locator("form[action$='/name']").all()
        url = key.get_attribute("action").replace("/name", "/withdraw")
        session = {"Cookie": f"__Host-staff={staff_cookie(page)}", **OWN}
        assert site.http.post(url, headers=session).status_code == 422
        assert site.http.get("/app/console/me", headers=session).status_code == 200


def staff_cookie(page: Any) -> str:
    (value,) = [one["value"] for one in page.context.cookies() if one["name"] == "__Host-staff"]
    return str(value)


def test_a_withdrawn_passkey_is_out_at_once_and_signs_in_no_more(site: Any, visit: Any, authenticator: Any) -> None:
    id, _ = member(site, Role.SUPPORT)
    with (
        visit(site.url, **DESKTOP) as manager,
        visit(site.url, **DESKTOP, expect_missing=True) as lost,
        visit(site.url, **DESKTOP) as kept,
    ):
        for page, name in ((lost, "Lost"), (kept, "Kept")):
            authenticator(page)
            join(page, link_for(site, id), name)
            page.wait_for_url("**/console/")
        enter(manager, site.staff_token)
        manager.goto("/app/console/staff")
        manager.get_by_role("button", name="Withdraw Lost").click()
        expect(manager.get_by_text("Nobody can sign in with it")).to_be_visible()
        lost.goto("/app/console/")
        assert lost.url.endswith("/console/sign-in")
        lost.get_by_role("button", name=USE).click()
        expect(lost.get_by_role("alert")).to_contain_text("not known here")
        kept.reload()
        expect(kept.get_by_role("heading", name="Live")).to_be_visible()
        manager.get_by_role("button", name="Revoke").click()
        kept.reload()
        assert kept.url.endswith("/console/sign-in")
    assert ("operator", "withdraw_passkey") in done(site)


def test_payers_and_staffs_passkeys_never_open_each_others_doors(site: Any, visit: Any, authenticator: Any) -> None:
    id, _ = member(site)
    with visit(site.url, expect_missing=True) as page:
        authenticator(page)
        page.goto("/app/sign-up")
        page.get_by_role("button", name="Make my passkey").click()
        page.wait_for_url("**/app/")
        page.goto("/app/console/sign-in")
        page.get_by_role("button", name=USE).click()
        expect(page.get_by_role("alert")).to_contain_text("not known here")
    with visit(site.url, expect_missing=True) as page:
        authenticator(page)
        join(page, link_for(site, id))
        page.wait_for_url("**/console/")
        page.goto("/app/sign-in")
        page.get_by_role("button", name=USE).click()
        expect(page.get_by_role("alert")).to_contain_text("not known here")
        page.goto("/app/face")  # nor does the console's session
        assert page.url.endswith("/app/sign-in")


@pytest.mark.parametrize(
    ("options", "answer"), [("sign-in", "console/sign-in/passkey"), ("console/sign-in/passkey", "sign-in")]
)
def test_a_challenge_made_for_one_door_is_no_challenge_at_the_other(
    site: Any, visit: Any, authenticator: Any, options: str, answer: str
) -> None:
    asked = site.http.post(f"/app/{options}/options", headers=OWN)
    cookie = {"Cookie": asked.headers["set-cookie"].partition(";")[0]}
    refused = site.http.post(f"/app/{answer}", json={"rawId": "AAAA"}, headers={**OWN, **cookie})
    assert refused.status_code == 400
    assert "took too long" in refused.json()["problem"]


def test_a_device_that_does_not_verify_its_owner_lets_nobody_join(site: Any, visit: Any, authenticator: Any) -> None:
    id, _ = member(site)
    with visit(site.url) as page:
        authenticator(page, verified=False)
        join(page, link_for(site, id))
        expect(page.get_by_role("alert")).to_be_visible(timeout=70_000)
    with site.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM staff_passkey")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM staff_invitation")).scalar_one() == 1


def test_who_signed_in_long_ago_makes_no_lasting_way_in(site: Any) -> None:
    _, token = member(site)
    answer = site.http.post("/app/console/sign-in", data={"token": token}, headers=OWN)
    session = {"Cookie": answer.headers["set-cookie"].partition(";")[0], **OWN}
    site.http.cookies.clear()
    other, _ = member(site, Role.SUPPORT, "Max")
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE staff_session SET created_at = created_at - interval '11 minutes'"))
    form = {"name": "Eve", "role": "manager"}
    for path in ("me/passkeys/options", "staff", f"staff/{other}/invite"):
        answer = site.http.post(f"/app/console/{path}", data=form, headers=session)
        assert answer.headers["location"] == "/app/console/sign-in?again=true"
    assert "please sign in again" in site.http.get("/app/console/sign-in?again=true").text
    assert site.http.post(f"/app/console/staff/{other}/revoke", headers=session).status_code == 200
    assert done(site) == [("Sam", "sign_in"), ("Sam", "revoke_staff")]


def test_signing_out_everywhere_ends_every_session_of_that_member_only(site: Any) -> None:
    _, token = member(site)
    _, others = member(site, Role.VIEWER, "Max")
    sessions = []
    for secret in (token, token, others, site.staff_token):
        answer = site.http.post("/app/console/sign-in", data={"token": secret}, headers=OWN)
        sessions.append({"Cookie": answer.headers["set-cookie"].partition(";")[0], **OWN})
        site.http.cookies.clear()
    site.http.post("/app/console/me/sign-out-everywhere", headers=sessions[0])
    found = [site.http.get("/app/console/", headers=session).status_code for session in sessions]
    assert found == [303, 303, 200, 200]
    site.http.post("/app/console/me/sign-out-everywhere", headers=sessions[3])
    assert site.http.get("/app/console/", headers=sessions[3]).status_code == 303


def test_where_passkeys_only_are_taken_no_token_opens_the_console(
    site: Any, visit: Any, authenticator: Any, passkeys_only: Any
) -> None:
    id, token = member(site)
    with visit(site.url, **DESKTOP) as page:
        authenticator(page)
        enter(page, token)  # before it was switched off
        passkeys_only(site)
        page.reload()
        assert page.url.endswith("/console/sign-in")
        assert page.locator("#token").count() == 0
        assert [by_token(site, one) for one in (token, site.staff_token)] == [401, 401]
        join(page, link_for(site, id))  # of the command line
        page.wait_for_url("**/console/")
        expect(page.get_by_text("Sam · Manager")).to_be_visible()
    with site.engine.connect() as connection:
        (member_row,) = connection.execute(text("SELECT token_sha256 FROM staff_member")).all()
    assert member_row == (None,)


@pytest.fixture
def passkeys_only() -> Any:
    """`passkeys_only(site)`: the operator sets it, and starts again."""

    def switched(site: Any) -> None:
        import dataclasses

        pages = next(route.app for route in site.app.routes if getattr(route, "path", "") == "/app")
        state = pages._app.state
        state.site = dataclasses.replace(state.site, staff=None, passkeys_only=True)

    return switched
