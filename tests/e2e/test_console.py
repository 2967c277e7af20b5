"""The operator's console: live, closed to everybody else and to the wrong role, and without people."""

import html
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from playwright.sync_api import expect
from sqlalchemy import text
from starlette.responses import Response
from structlog.testing import capture_logs

from facefare.audit.checkpoints import Checkpoint
from facefare.audit.notes import KeyKind, NoteSigner
from facefare.client import TerminalClient
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.guardian.identity import GuardianIdentity
from facefare.identification.none import NoGuardians
from facefare.payments import merchants, settlements
from facefare.payments.decision import SecondFactor
from facefare.payments.merchants import Terminal
from facefare.web.pages import console_words, mounting, staff, staff_sessions
from facefare.web.pages.staff import Role
from facefare.web.pages.staff_sessions import StaffKey

OWN = {"Sec-Fetch-Site": "same-origin"}
ATTACK = {"X-Attack": "yes"}  # its address is not one of ours
PARTS = [part for part in mounting.PARTS if "console" in part.__name__]
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "has_touch": False, "device_scale_factor": 1}
PI, DSP, STL, STF = ("pi_" + "0" * 26, "dsp_" + "0" * 26, "stl_" + "0" * 26, "stf_" + "0" * 26)

V, S, M, A = Role.VIEWER, Role.SUPPORT, Role.MANAGER, Role.AUDITOR
EVERYBODY = {V, S, M, A}
ROUTES: dict[tuple[str, str], set[Role]] = {
    ("GET", "/console/"): EVERYBODY,
    ("GET", "/console/live"): EVERYBODY,
    ("GET", "/console/payments"): {S, M},
    ("GET", "/console/payments/{intent_id}"): {S, M},
    ("POST", "/console/payments/{intent_id}/refund"): {S, M},
    ("GET", "/console/disputes"): {S, M},
    ("POST", "/console/disputes/{dispute_id}/details"): {S, M},
    ("POST", "/console/disputes/{dispute_id}/decision"): {S, M},
    ("GET", "/console/tariffs"): EVERYBODY,
    ("POST", "/console/tariffs"): {M},
    ("POST", "/console/tariffs/assign"): {M},
    ("GET", "/console/terminals"): EVERYBODY,
    ("POST", "/console/terminals"): {M},
    ("POST", "/console/terminals/{terminal_id}/key"): {M},
    ("POST", "/console/terminals/{terminal_id}/revoke"): {M},
    ("GET", "/console/staff"): {M},
    ("POST", "/console/staff"): {M},
    ("POST", "/console/staff/{member_id}/role"): {M},
    ("POST", "/console/staff/{member_id}/invite"): {M},
    ("POST", "/console/staff/{member_id}/passkeys/{passkey_id}/withdraw"): {M},
    ("POST", "/console/staff/{member_id}/revoke"): {M},
    ("GET", "/console/me"): EVERYBODY,
    ("POST", "/console/me/passkeys/options"): EVERYBODY,
    ("POST", "/console/me/passkeys"): EVERYBODY,
    ("POST", "/console/me/passkeys/{passkey_id}/name"): EVERYBODY,
    ("POST", "/console/me/passkeys/{passkey_id}/withdraw"): EVERYBODY,
    ("GET", "/console/books"): {M, A},
    ("GET", "/console/books/export"): {M, A},
    ("GET", "/console/books/settlements/{settlement_id}"): {M, A},
    ("POST", "/console/books/settle"): {M},
    ("POST", "/console/books/check"): {M, A},
    ("POST", "/console/books/reconciliation"): {M, A},
    ("GET", "/console/reports"): EVERYBODY,
    ("GET", "/console/audit"): EVERYBODY,
    ("POST", "/console/me/sign-out-everywhere"): EVERYBODY,  # the last one: it ends the session
}
OPEN = {
    ("GET", "/console/sign-in"),
    ("POST", "/console/sign-in"),
    ("POST", "/console/sign-in/passkey/options"),
    ("POST", "/console/sign-in/passkey"),
    ("GET", "/console/join"),
    ("POST", "/console/join/options"),
    ("POST", "/console/join"),
    ("POST", "/console/sign-out"),
}
FORM = {  # of every route, so that nothing but the role can stop it
    "amount": "1.00",
    "key": "0" * 64,
    "proof": "0" * 128,
    "why": "the payer called",
    "give_back": "no",
    "terminal": "trm_nobody",
    "tariff": "town",
    "stop": "1",
    "kind": "flat",
    "id": "trm_new",
    "merchant": "mer_" + "0" * 26,
    "place": "Somewhere",
    "name": "Somebody",
    "role": "viewer",
    "day": "2026-01-01",
    "first": "2026-01-01",
    "last": "2026-01-02",
}


def concrete(path: str) -> str:
    ids = {
        "passkey_id": "0" * 16,
        "intent_id": PI,
        "dispute_id": DSP,
        "settlement_id": STL,
        "member_id": STF,
        "terminal_id": "trm_nobody",
    }
    return "/app" + path.format(**ids)


def as_member(site: Any, role: Role, name: str = "Sam") -> dict[str, str]:
    """The headers of a member who is signed in."""
    with site.engine.begin() as connection:
        _, token = staff.add(connection, name, role)
    answer = site.http.post("/app/console/sign-in", data={"token": token}, headers=OWN)
    assert answer.status_code == 303
    site.http.cookies.clear()
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0], **OWN}


def ask(site: Any, method: str, path: str, headers: dict[str, str]) -> Any:
    files = {"file": b"{}", "report": b"x"} if path.endswith(("/tariffs", "/reconciliation")) else None
    if method == "GET":
        days = {"first": "2026-01-01", "last": "2026-01-02"} if path.endswith("/export") else None
        return site.http.get(path, params=days, headers=headers)
    return site.http.post(path, data=FORM, files=files, headers=headers)


def enter(page: Any, token: str) -> None:
    page.goto("/app/console/")
    assert page.url.endswith("/console/sign-in")
    page.get_by_label("Your token, from the operator").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")


@pytest.fixture
def disputed(site: Any) -> Any:
    """Ada disputes a payment that is too large to be given back at once: (ada, payment, dispute)."""
    ada = site.payer("ada", funds=200_00)
    gate = TerminalClient(site.http, "trm_gate", site.requests.terminal_key)
    paid = gate.attempt(amount=60_00, currency="EUR", search=site.requests.search("ada").to_bytes())
    assert ada.dispute(paid.payment_intent) == "under_review"
    with site.engine.connect() as connection:
        dispute = connection.execute(text("SELECT id FROM dispute")).scalar_one()
    return ada, paid.payment_intent, dispute


def a_day_passes(connection: Any) -> None:
    """Everything in the books happened yesterday."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(text("UPDATE ledger_transfer SET created_at = created_at - interval '1 day'"))
    connection.execute(text("SET LOCAL session_replication_role = origin"))


# --- who gets in, and how far ---


def test_every_route_has_its_roles() -> None:
    routes = set()
    for part in PARTS:
        for route in part.router.routes:
            routes |= {(method, route.path) for method in route.methods}  # type: ignore[attr-defined]
    assert routes == set(ROUTES) | OPEN


@pytest.mark.parametrize("role", Role)
def test_a_role_gets_where_it_belongs_and_nowhere_else(site: Any, role: Role) -> None:
    headers = as_member(site, role)
    went_wrong = []
    for (method, path), allowed in ROUTES.items():
        status = ask(site, method, concrete(path), headers).status_code
        if (status == 403) == (role in allowed) or (status in (303, 500) and not path.endswith("everywhere")):
            went_wrong.append((method, path, status))
    assert went_wrong == []


def test_nobody_else_gets_in(site: Any) -> None:
    site.payer("ada")
    signed_in = site.http.post("/app/sign-in/token", data={"token": site.tokens["ada"]}, headers=OWN)
    payer = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    session = payer["Cookie"].partition("=")[2]
    site.http.cookies.clear()
    forged = ["9999999999.AAAA", "", "x", session]
    for headers in ({}, payer, *({"Cookie": f"__Host-staff={cookie}"} for cookie in forged)):
        for method, path in ROUTES:
            answer = ask(site, method, concrete(path), {**headers, **OWN})
            assert (answer.status_code, answer.headers["location"]) == (303, "/app/console/sign-in")
    for _ in range(20):
        assert site.http.post("/app/console/sign-in", data={"token": "x" * 40}, headers=OWN).status_code == 401
    right = site.http.post("/app/console/sign-in", data={"token": site.staff_token}, headers=OWN)
    assert right.status_code == 429


def test_the_staffs_cookie_is_out_of_reach_and_ends_with_the_session(site: Any) -> None:
    with site.engine.begin() as connection:
        member, token = staff.add(connection, "Sam", Role.MANAGER)
    answer = site.http.post("/app/console/sign-in", data={"token": token}, headers=OWN)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-staff=")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax", "Max-Age=28800"} <= {
        one.strip() for one in cookie.split(";")
    }
    site.http.cookies.clear()
    session = {"Cookie": cookie.partition(";")[0], **OWN}
    with site.engine.connect() as connection:
        everything = str(connection.execute(text("SELECT s.*, m.* FROM staff_session s, staff_member m")).all())
    assert token not in everything
    assert session["Cookie"].partition("=")[2] not in everything
    assert site.http.get("/app/console/", headers=session).status_code == 200
    other = as_member(site, Role.MANAGER, "Max")
    site.http.post("/app/console/sign-out", headers=other)
    assert site.http.get("/app/console/", headers=other).status_code == 303
    with site.engine.begin() as connection:
        staff.revoke(connection, member.id)
    assert site.http.get("/app/console/", headers=session).status_code == 303
    assert site.http.post("/app/console/sign-in", data={"token": token}, headers=OWN).status_code == 401


def test_where_tries_cannot_be_counted_nobody_gets_in(site: Any) -> None:
    with site.engine.begin() as connection:
        _, token = staff.add(connection, "Sam", Role.MANAGER)
        connection.execute(text("DROP TABLE tries"))
    for right in (token, site.staff_token):
        answer = httpx.post(f"{site.url}/app/console/sign-in", data={"token": right}, headers=OWN)
        assert answer.status_code == 503
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["", "payments", "audit", "sign-in", "books/export?first=2026-01-01&last=2026-01-02"])
def test_pages_of_the_console_are_strict_and_kept_by_nobody(site: Any, path: str) -> None:
    headers = site.http.get(f"/app/console/{path}", headers=as_member(site, Role.MANAGER)).headers
    assert headers["cache-control"] == "no-store"
    assert "script-src 'self' 'wasm-unsafe-eval'" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


def test_a_session_ends_after_eight_hours(site: Any) -> None:
    session = as_member(site, Role.VIEWER)
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE staff_session SET expires_at = expires_at - interval '8 hours 1 second'"))
    assert site.http.get("/app/console/", headers=session).status_code == 303


def test_the_operators_sessions_end_with_its_token_and_a_short_token_is_no_token(site: Any) -> None:
    answer = site.http.post("/app/console/sign-in", data={"token": site.staff_token}, headers=OWN)
    session = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    with site.engine.begin() as connection:
        for key, known in ((StaffKey(site.staff_token), True), (StaffKey("y" * 32), False), (None, False)):
            assert bool(staff_sessions.seat_of(connection, session, key, passkeys_only=False)) == known
        assert staff_sessions.seat_of(connection, session, StaffKey(site.staff_token), passkeys_only=True) is None
    site.http.cookies.clear()
    here = {"Cookie": f"__Host-staff={session}", **OWN}
    assert site.http.get("/app/console/", headers=here).status_code == 200
    site.http.post("/app/console/sign-out", headers=here)
    assert site.http.get("/app/console/", headers=here).status_code == 303
    with pytest.raises(ValueError, match="at least 32"):
        StaffKey("x" * 31)


def test_nobody_takes_their_own_access_away(site: Any) -> None:
    headers = as_member(site, Role.MANAGER)
    with site.engine.connect() as connection:
        (member,) = staff.everybody(connection)
    for change in ("revoke", "role", "passkeys/0000000000000000/withdraw"):
        url = f"/app/console/staff/{member.id}/{change}"
        assert site.http.post(url, data={"role": "viewer"}, headers=headers).status_code == 422


def test_two_managers_who_revoke_each_other_at_once_leave_one(site: Any) -> None:
    one, other = as_member(site, Role.MANAGER, "One"), as_member(site, Role.MANAGER, "Other")
    with site.engine.connect() as connection:
        ids = [member.id for member in staff.everybody(connection)]
    with site.engine.begin() as holding, ThreadPoolExecutor(2) as pool:
        holding.execute(text("SELECT 1 FROM staff_member FOR UPDATE"))
        answers = [
            pool.submit(httpx.post, f"{site.url}/app/console/staff/{id}/revoke", headers=headers)
            for id, headers in ((ids[1], one), (ids[0], other))
        ]
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%staff%'")
        while True:
            with site.engine.connect() as watching:
                if watching.execute(waiting).scalar_one() == 2:
                    break
        holding.rollback()
        statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses == [200, 403]
    with site.engine.connect() as connection:
        assert len([member for member in staff.everybody(connection) if not member.revoked_at]) == 1


# --- no way from a person to places ---


def heights(page: Any, bars: str) -> list[float]:
    """Of the bars of a chart, oldest first."""
    return [
        float(one) for one in page.eval_on_selector_all(bars, "all => all.map((one) => one.getAttribute('height'))")
    ]


def test_payments_appear_by_themselves_and_name_nobody(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    with visit(site.url, **DESKTOP) as page:
        enter(page, site.staff_token)
        attempts = page.locator(".figures dd").first
        expect(attempts).to_have_text("0")
        chart = page.get_by_role("img", name="Attempts, oldest first: 0, of which paid: 0")
        expect(chart).to_be_visible()
        assert heights(page, ".bar-paid") == heights(page, ".bar-unpaid") == [0] * 12
        page.evaluate("window.neverReloaded = true")
        site.look("ada")
        expect(page.get_by_role("img", name="Attempts, oldest first: 1, of which paid: 1")).to_be_visible()
        assert heights(page, ".bar-paid")[-1] == 56  # the whole of it: the only attempts there are
        assert heights(page, ".bar-median")[-1] > 0
        site.look("a stranger")
        expect(page.get_by_role("img", name="Attempts, oldest first: 2, of which paid: 1")).to_be_visible()
        assert heights(page, ".bar-paid")[-1] == heights(page, ".bar-unpaid")[-1] == 28
        assert page.evaluate("window.neverReloaded")
        expect(attempts).to_have_text("2")
        expect(page.locator(".figures dd").nth(1)).to_have_text("50 %")
        expect(page.get_by_text("We did not recognise you").first).to_be_visible()
        for stage in ("Written down", "Searched by the guardians", "Decided and booked"):
            expect(page.get_by_role("row", name=stage)).to_contain_text("ms")
        page.get_by_role("link", name="The last week").click()
        expect(page.locator(".bar-paid")).to_have_count(14)
        content = page.content()
    assert "pay_" not in content
    assert ada.account().id not in content
    assert ada.account().faces[0].id not in content


def test_no_page_filter_or_export_leads_to_or_from_a_person(site: Any, disputed: Any) -> None:
    ada, paid, _ = disputed
    site.look("ada")
    with site.engine.begin() as connection:
        a_day_passes(connection)
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        (settled, *_) = settlements.settle(connection, yesterday)
        secrets = [ada.account().id, ada.account().faces[0].id]
        for table, column in (("face", "id"), ("consent", "id"), ("payer_pseudonym", "pseudonym")):
            there = connection.execute(text("SELECT to_regclass(:name)"), {"name": table}).scalar_one()
            if there:
                secrets += map(str, connection.execute(text(f"SELECT {column} FROM {table}")).scalars())
    headers = as_member(site, Role.MANAGER)
    days = {"first": str(yesterday), "last": str(yesterday)}
    pages = {
        path: site.http.get(
            concrete(path).replace(PI, paid).replace(STL, settled.id),
            params=days if path.endswith("export") else None,
            headers=headers,
        )
        for method, path in ROUTES
        if method == "GET"
    }
    assert all(page.status_code == 200 for page in pages.values()), {p: a.status_code for p, a in pages.items()}
    assert [(path, one) for path, page in pages.items() for one in secrets if one in page.text] == []
    assert "pay_" not in "".join(page.text for page in pages.values())
    # what may be asked for: time, terminal, state, number; nothing of a person
    asked = set()
    for part in PARTS:
        for route in part.router.routes:
            asked |= {parameter.name for parameter in route.dependant.query_params}  # type: ignore[attr-defined]
    assert asked == {"again", "span", "state", "terminal", "before", "first", "last"}
    plain = site.http.get("/app/console/payments", headers=headers).text
    for name in ("payer", "payer_id", "pseudonym", "face", "person", "q"):
        wanted = {name: ada.account().id}
        filtered = site.http.get("/app/console/payments", params=wanted, headers={**headers, **ATTACK}).text
        assert filtered == plain


def test_who_sees_whose_payment_it_was_is_seen_by_the_payer(site: Any, disputed: Any, visit: Any) -> None:
    ada, _, dispute = disputed
    with site.engine.begin() as connection:
        _, token = staff.add(connection, "Sam of the support", Role.SUPPORT)
    with visit(site.url, **DESKTOP) as page:
        enter(page, token)
        page.get_by_role("link", name="Disputes").click()
        assert ada.account().id not in page.content()
        page.get_by_text("See whose payment it was").click()
        page.get_by_label("Why you need to know; the payer reads this").fill("the shop sent a photo of the bill")
        page.get_by_role("button", name="Show, and tell the payer").click()
        expect(page.get_by_text(ada.account().id)).to_be_visible()
        (entry, *_) = ada.access_log()
        assert (entry["by"], entry["outcome"]) == ("staff: Sam of the support", "details_read")
        assert "photo of the bill" in entry["purpose"]
        with visit(site.url) as phone:
            site.sign_in(phone, "ada")
            phone.goto("/app/access")
            expect(phone.get_by_text("staff: Sam of the support")).to_be_visible()
            expect(phone.get_by_text("the shop sent a photo of the bill")).to_be_visible()
        page.get_by_role("button", name="Give the money back").click()
        expect(page.get_by_text("Given back").first).to_be_visible()
    assert ada.account().available == 200_00
    assert ada.access_log()[0]["outcome"] == "refunded"
    again = site.http.post(
        f"/app/console/disputes/{dispute}/details", data={"why": "curious"}, headers=as_member(site, Role.MANAGER)
    )
    assert again.status_code == 409  # it is decided, so nobody needs to know any more
    assert ada.account().id not in again.text


def test_the_second_factor_of_every_kind_of_payment_is_said(site: Any) -> None:
    assert set(console_words.FACTORS) == {*get_args(SecondFactor), ""}
    site.payer("ada")
    site.look("ada")
    session = as_member(site, Role.SUPPORT)
    for factor, word in console_words.FACTORS.items():
        with site.engine.begin() as connection:
            changed = text("UPDATE payment_intent SET second_factor = :factor RETURNING id")
            (intent,) = connection.execute(changed, {"factor": factor or None}).scalars()
        page = site.http.get(f"/app/console/payments/{intent}", headers=session)
        assert page.status_code == 200
        assert html.escape(word) in page.text.replace("&#39;", "&#x27;")


def test_money_is_given_back_once_for_a_form_and_the_payer_reads_by_whom(site: Any, visit: Any) -> None:
    ada = site.payer("ada")
    site.look("ada")
    with site.engine.begin() as connection:
        _, token = staff.add(connection, "Sam", Role.SUPPORT)
    with visit(site.url, **DESKTOP, expect_missing=True) as page:
        enter(page, token)
        page.get_by_role("link", name="Payments").click()
        page.locator("td a").first.click()
        key = page.locator("input[name=key]").input_value()
        page.get_by_label("Amount, in EUR").fill("1,30")
        page.get_by_role("button", name="Give back").click()
        expect(page.get_by_text("Given back.", exact=True)).to_be_visible()
        intent = page.url.rpartition("/")[0].rpartition("/")[2]
        session = {"Cookie": f"__Host-staff={page.context.cookies()[0]['value']}", **OWN}
        again = site.http.post(
            f"/app/console/payments/{intent}/refund", data={"amount": "1.30", "key": key}, headers=session
        )
        assert again.status_code == 200
        assert ada.account().available == 1000 - 280 + 130
        for wrong in ("1.51", "0", "-1", "1.234", "x", "１"):
            answer = site.http.post(
                f"/app/console/payments/{intent}/refund", data={"amount": wrong, "key": "k" * 16}, headers=session
            )
            assert answer.status_code == 422
    assert ada.account().available == 1000 - 280 + 130
    (entry, *_) = ada.access_log()
    assert (entry["by"], entry["purpose"], entry["outcome"]) == ("staff: Sam", "refund", "refunded")
    assert ada.payments()[0]["refunded"] == 130


# --- terminals, tariffs, books, evidence ---


def test_a_terminals_key_is_registered_with_proof_rotated_and_revoked(site: Any) -> None:
    headers = as_member(site, Role.MANAGER)
    with site.engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Example Coffee")

    def key(terminal: str) -> tuple[Ed25519PrivateKey, dict[str, str]]:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        proof = private.sign(merchants.key_statement(merchant, terminal, public))
        return private, {"key": public.hex(), "proof": proof.hex()}

    old, proved = key("trm_bar")
    form = {"id": "trm_bar", "merchant": merchant, "place": "The bar", "kind": "till", **proved}
    forged = {**form, "proof": "0" * 128}
    assert site.http.post("/app/console/terminals", data=forged, headers=headers).status_code == 422
    assert site.http.post("/app/console/terminals", data=form, headers=headers).status_code == 200
    assert TerminalClient(site.http, "trm_bar", old).deny_list()
    new, proved = key("trm_bar")
    _, elsewhere = key("trm_gate")
    url = "/app/console/terminals/trm_bar"
    assert site.http.post(f"{url}/key", data=elsewhere, headers=headers).status_code == 422
    assert site.http.post(f"{url}/key", data=proved, headers=headers).status_code == 200
    assert TerminalClient(site.http, "trm_bar", new).deny_list()
    with site.engine.connect() as connection:
        assert merchants.terminal(connection, "trm_bar") == Terminal(
            "trm_bar", merchant, "The bar", new.public_key().public_bytes_raw(), "till"
        )
    assert site.http.post(f"{url}/revoke", headers=headers).status_code == 200
    assert site.http.post(f"{url}/revoke", headers=headers).status_code == 401
    with site.engine.connect() as connection:
        done = [one.action for one in staff.actions(connection, limit=10)]
    assert done == ["revoke_terminal", "rotate_key", "register_terminal", "sign_in"]


def test_a_tariff_shows_what_is_in_force_and_what_comes(site: Any, tariff_json: str) -> None:
    headers = as_member(site, Role.MANAGER)
    answer = site.http.post("/app/console/tariffs", files={"file": tariff_json.encode()}, headers=headers)
    assert "In force" in answer.text
    assert "To come" in answer.text
    again = site.http.post("/app/console/tariffs", files={"file": tariff_json.encode()}, headers=headers)
    assert "Nothing in it was new." in again.text
    with capture_logs() as said:
        broken = site.http.post("/app/console/tariffs", files={"file": b'{"id": 1}'}, headers=headers)
        assert broken.status_code == 409
        assert site.http.get("/app/console/tariffs", headers=headers).status_code == 200
    assert [line for line in said if line["event"] == "unforeseen_error"] == []
    assert site.http.post("/app/console/tariffs", files={"file": b"x" * 2_100_000}, headers=headers).status_code == 413


@pytest.fixture
def tariff_json() -> str:
    today = datetime.now(UTC).date()
    versions = tuple(
        TariffVersion(
            effective_from=day,
            products=(Product(id="single", amounts={"": 280}),),
            rules=(LegRule(id="any", bands=(Band(product="single"),)),),
        )
        for day in (today - timedelta(days=3), today + timedelta(days=30))
    )
    return Tariff(id="town", currency="EUR", versions=versions).model_dump_json()


def test_the_books_are_settled_checked_and_compared(site: Any) -> None:
    site.payer("ada")
    site.look("ada")
    with site.engine.begin() as connection:
        a_day_passes(connection)
    headers, day = as_member(site, Role.MANAGER), datetime.now(UTC).date() - timedelta(days=1)
    settled = site.http.post("/app/console/books/settle", data={"day": str(day)}, headers=headers)
    assert "2.80" in settled.text
    assert (
        "Nothing was left" in site.http.post("/app/console/books/settle", data={"day": str(day)}, headers=headers).text
    )
    assert "Every rule holds" in site.http.post("/app/console/books/check", headers=headers).text
    report = "balance_transaction_id,reporting_category,source_id,payment_intent_id,gross,fee,currency\n" + "".join(
        f"txn_{number},charge,ch_{number},pi_theirs_{number},12.30,0.40,eur\n" for number in range(500)
    )
    assert len(report) > 20_000  # more than any other form takes
    days = {"first": str(day), "last": str(day)}
    compared = site.http.post(
        "/app/console/books/reconciliation", data=days, files={"report": report.encode()}, headers=headers
    )
    assert "0 movements are the same, 500 differ" in compared.text
    assert "Missing in our books" in compared.text
    wrong = site.http.post("/app/console/books/reconciliation", data=days, files={"report": b"\xff"}, headers=headers)
    assert wrong.status_code == 422
    exported = site.http.get("/app/console/books/export", params=days, headers=headers)
    assert exported.headers["content-disposition"].startswith("attachment")
    assert exported.text.count("\n") == 2
    far = {"first": "2020-01-01", "last": str(day)}
    assert site.http.get("/app/console/books/export", params=far, headers=headers).status_code == 422


def test_a_guardian_that_is_away_is_seen_to_be(site: Any) -> None:
    headers = as_member(site, Role.VIEWER)
    assert "Away" not in site.http.get("/app/console/audit", headers=headers).text
    site.guardians.down = True
    page = site.http.get("/app/console/audit", headers=headers).text
    assert "Away" in page
    assert not re.search("What the staff did", page)  # not for a viewer
    assert "What the staff did" in site.http.get("/app/console/audit", headers=as_member(site, Role.AUDITOR)).text


def test_where_hands_free_is_not_set_up_no_guardian_is_shown_as_dead(site: Any) -> None:
    object.__setattr__(site.app.state.services, "guardians", NoGuardians())
    headers = as_member(site, Role.VIEWER)
    for path in ("", "live", "audit"):
        page = site.http.get(f"/app/console/{path}", headers=headers).text
        assert "Hands-free is not set up" in page
        assert "Away" not in page
        assert "same history" not in page


def test_the_reports_show_what_is_in_force_and_what_was_measured(site: Any, tmp_path: Any) -> None:
    headers, file = as_member(site, Role.VIEWER), tmp_path / "report.json"
    assert "No report is named" in site.http.get("/app/console/reports", headers=headers).text
    rate = {"value": 0.0123, "low": 0.01, "high": 0.02}
    report = {
        "what": {"photos": 26, "people": 12},
        "verification": {"at": [{"fmr": 0.001, "fnmr": rate}]},
        "identification": [{"payers": 300, "enrolled": 5, "probe": 3, "at": [{"fpir": 0.001, "fnir": rate}]}],
        "attacks": [
            {"check": "motion", "species": "bent photo", "source": "simulated", "measure": "APCER", "rate": rate}
        ],
    }
    file.write_text(json.dumps(report))
    page = site.http.get("/app/console/reports", headers=headers).text
    for shown in ("26 photos of 12 people", "1.23 %", "bent photo", "APCER", "gal_town", "-2000", "50.00"):
        assert shown in page
    assert "follows the measured risk" in page
    for broken in ("{}", "[]", "x", '{"what": 1}'):
        file.write_text(broken)
        assert "No report is named" in site.http.get("/app/console/reports", headers=headers).text


def test_the_logs_are_read_where_anybody_reads_them_and_their_signatures_checked(site: Any, served: Any) -> None:
    logs = [NoteSigner(f"log-{i}.example", KeyKind.LOG, Ed25519PrivateKey.generate()) for i in range(3)]
    witnesses = [NoteSigner(f"witness-{i}.example", KeyKind.WITNESS, Ed25519PrivateKey.generate()) for i in range(3)]
    notes = []
    for index, log in enumerate(logs):
        note = Checkpoint(log.name, 40 + index, bytes([index]) * 32).sign(log)
        cosigners = [witnesses[other] for other in range(3) if other != index][: 1 if index == 1 else 2]
        more = [witness.sign(note.text, 1_790_000_000) for witness in cosigners]
        notes.append(note.with_signatures(more).to_bytes())
    notes[2] = notes[2].replace(b"\n42\n", b"\n43\n")  # rewritten, so not signed any more

    def identity(index: int, port: int) -> GuardianIdentity:
        keys = (str(logs[index].key), str(witnesses[index].key))
        return GuardianIdentity(index, f"Council {index}", "localhost", 1, 1, "", bytes(32), bytes(32), *keys, port)

    def publishing(note: bytes) -> FastAPI:
        app = FastAPI()
        app.add_api_route("/checkpoint", lambda: Response(note))
        return app

    headers = as_member(site, Role.AUDITOR)
    with ExitStack() as stack:
        urls = [stack.enter_context(served(publishing(note))) for note in notes]
        site.guardians.identities = [identity(index, int(url.rpartition(":")[2])) for index, url in enumerate(urls)]
        page = site.http.get("/app/console/audit", headers=headers).text
    assert page.count("Searches so far") == 2
    assert (">40<" in page, ">41<" in page, ">43<" in page) == (True, True, False)
    assert page.count("Not this one") == 1
    assert page.count("It is not signed as it should be.") == 1
    away = site.http.get("/app/console/audit", headers=headers).text
    assert away.count("It can&#39;t be read.") == 3
