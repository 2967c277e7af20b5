"""What the pages refuse, and what they tell every browser; spoken to directly, as an attacker would."""

import base64
import gzip
import hashlib
import re
from typing import Any

import brotli
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import expect
from sqlalchemy import text

from facefare.settings import Limits
from facefare.web.api.tries import Tries
from facefare.web.pages import staff
from facefare.web.pages.notifying import Notifier
from facefare.web.pages.staff import Role

OWN = {"Sec-Fetch-Site": "same-origin"}
HTML = {"Accept": "text/html"}


def cookies(answer: Any) -> list[str]:
    return [value for name, value in answer.headers.multi_items() if name == "set-cookie"]


def signed_in(site: Any, label: str) -> dict[str, str]:
    answer = site.http.post("/app/sign-in/token", data={"token": site.tokens[label]}, headers=OWN)
    assert answer.status_code == 303
    site.http.cookies.clear()
    return {"Cookie": cookies(answer)[0].partition(";")[0]}


@pytest.mark.parametrize("path", ["", "sign-in", "receipts", "no-such-page", "static/app.css", "static/none", "sw.js"])
def test_every_answer_carries_the_strict_policy(site: Any, path: str) -> None:
    headers = site.http.get(f"/app/{path}", headers=HTML).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "https:", "*"} & set(headers["content-security-policy"].split())
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "camera=(self)" in headers["permissions-policy"]


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_hosts(site: Any) -> None:
    site.payer("ada")
    answer = site.http.post("/app/sign-in/token", data={"token": site.tokens["ada"]}, headers=OWN)
    (cookie,) = cookies(answer)
    assert cookie.startswith("__Host-session=")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    value = cookie.partition("=")[2].partition(";")[0]
    with site.engine.connect() as connection:
        everything = str(connection.execute(text("SELECT * FROM web_session")).all())
    assert value not in everything


def test_signing_in_begins_a_new_session_and_ends_the_one_before(site: Any) -> None:
    site.payer("ada")
    with site.engine.begin() as connection:
        _, token = staff.add(connection, "Sam", Role.MANAGER)
    for name, sign_in, secret, inside in (
        ("__Host-session", "/app/sign-in/token", site.tokens["ada"], "/app/face"),
        ("__Host-staff", "/app/console/sign-in", token, "/app/console/"),
    ):
        planted = "planted-by-somebody-else-" + "x" * 18

        def asked(session: str, name: str = name) -> dict[str, str]:
            return {"Cookie": f"{name}={session}", **OWN}

        seen = [planted]
        for _ in range(2):
            answer = httpx.post(site.url + sign_in, data={"token": secret}, headers=asked(seen[-1]))
            seen.append(cookies(answer)[0].partition("=")[2].partition(";")[0])
        assert len(set(seen)) == 3
        statuses = [httpx.get(site.url + inside, headers=asked(session)).status_code for session in seen]
        assert statuses == [303, 303, 200]


def test_signing_out_everywhere_ends_every_session_of_that_payer_only(site: Any) -> None:
    site.payer("ada")
    site.payer("bob")
    here, elsewhere, bobs = (signed_in(site, label) for label in ("ada", "ada", "bob"))
    assert site.http.post("/app/sign-out/everywhere", headers={**here, **OWN}).status_code == 303
    found = [site.http.get("/app/face", headers=session).status_code for session in (here, elsewhere, bobs)]
    assert found == [303, 303, 200]


def test_signing_out_ends_the_session_on_the_server_too(site: Any) -> None:
    site.payer("ada")
    session = signed_in(site, "ada")
    assert site.http.get("/app/face", headers=session).status_code == 200
    site.http.post("/app/sign-out", headers={**session, **OWN})
    assert site.http.get("/app/face", headers=session).status_code == 303


def test_an_expired_or_invented_session_is_nobodys(site: Any) -> None:
    site.payer("ada")
    session = signed_in(site, "ada")
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE web_session SET expires_at = now() - interval '1 second'"))
    assert site.http.get("/app/face", headers=session).status_code == 303
    assert site.http.get("/app/face", headers={"Cookie": "__Host-session=" + "x" * 43}).status_code == 303


LIMITED = {
    "sign-in/options": ("sign_ins", {}),
    "passkeys/options": ("sign_ins", {}),
    "console/sign-in/passkey/options": ("sign_ins", {}),
    "sign-in/token": ("tokens", {"data": {"token": "ptk_wrong"}}),
    "console/sign-in": ("tokens", {"data": {"token": "wrong"}}),
    "console/join/options": ("tokens", {"json": {"invitation": "wrong"}}),
    "notifications/email": ("emails", {"data": {"email": "ada@example.org"}}),
}
"""By path, which limit counts there, and what is sent."""


@pytest.mark.parametrize("path", LIMITED)
def test_who_tries_too_often_is_told_to_wait_and_where_it_cannot_be_counted_it_is_refused(site: Any, path: str) -> None:
    site.payer("ada")
    session = signed_in(site, "ada") if path.startswith("notifications") else {}
    name, sent = LIMITED[path]
    services = site.app.state.services
    object.__setattr__(services, "limits", Limits(**{name: 2}))
    object.__setattr__(services, "notifier", Notifier("Example Transit", None, None))

    def tried() -> Any:
        answer = httpx.post(f"{site.url}/app/{path}", headers={**OWN, **HTML, **session}, **sent)
        return answer, answer.status_code not in (429, 503)

    for _ in range(2):  # ten minutes may end within one of them
        object.__setattr__(services, "tries", Tries(site.engine, Ed25519PrivateKey.generate()))
        let_in = [tried()[1] for _ in range(3)]
        refused, _ = tried()
        if not let_in[2]:
            break
    assert let_in == [True, True, False]
    assert refused.status_code == 429
    assert "Too many tries. Please wait" in refused.text
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert cookies(refused) == []
    with site.engine.begin() as connection:
        connection.execute(text("DROP TABLE tries"))
    object.__setattr__(services, "tries", Tries(site.engine, Ed25519PrivateKey.generate()))
    refused, _ = tried()
    assert refused.status_code == 503
    assert cookies(refused) == []


def test_accounts_opened_by_pages_and_by_the_api_count_together(site: Any, visit: Any, authenticator: Any) -> None:
    object.__setattr__(site.app.state.services, "limits", Limits(accounts=1))
    with visit(site.url, expect_missing=True) as page:
        authenticator(page)
        page.goto("/app/sign-up")
        page.get_by_role("button", name="Make my passkey").click()
        page.wait_for_url("**/app/")
        page.get_by_role("button", name="Sign out").click()
        page.goto("/app/sign-up")
        page.get_by_role("button", name="Make my passkey").click()
        expect(page.get_by_role("alert")).to_have_text("Too many tries. Please wait a few minutes, then try again.")
    assert site.http.post("/v1/payers", json={"currency": "EUR"}).status_code == 429
    with site.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM payer")).scalar_one() == 1


def test_the_table_of_tries_holds_no_address(site: Any) -> None:
    site.http.post("/app/sign-in/token", data={"token": "ptk_wrong"}, headers=OWN)
    with site.engine.connect() as connection:
        (bucket,) = connection.execute(text("SELECT bucket FROM tries")).scalars()
    assert len(bucket) == 32
    assert b"127.0.0.1" not in bucket


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/app//evil.example", "/app/\\evil", "x"])
def test_choosing_a_language_leads_nowhere_else(site: Any, back: str) -> None:
    answer = site.http.post("/app/language", data={"tag": "de", "back": back}, headers=OWN)
    assert answer.headers["location"] == "/app/"


def test_pages_are_not_kept_by_caches_and_named_files_are(site: Any) -> None:
    page = site.http.get("/app/", headers=HTML)
    assert page.headers["cache-control"] == "no-store"
    script = next(part for part in page.text.split('"') if part.startswith("/app/static/app.js?v="))
    assert "immutable" in site.http.get(script).headers["cache-control"]


def test_a_page_is_drawn_after_one_round_trip_and_no_other_style_is_let_in(site: Any) -> None:
    page = site.http.get("/app/", headers=HTML)
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    named = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'self' 'sha256-{named}'; " in page.headers["content-security-policy"]
    assert "stylesheet" not in page.text
    assert re.findall(r"<script (?!type=.module. async )", page.text) == []
    assert 'style="' not in page.text


def test_a_page_that_shows_what_was_sent_to_it_is_not_compressed(site: Any) -> None:
    site.payer("ada")
    session = {**signed_in(site, "ada"), **HTML, "Accept-Encoding": "br"}
    assert site.http.get("/app/", headers=session).headers["content-encoding"] == "br"
    before = site.http.get("/app/receipts?starting_after=rcp_" + "0" * 26, headers=session)
    assert before.status_code == 200
    after_a_form = site.http.post("/app/safety/pin", data={"pin": "2468"}, headers={**session, **OWN})
    missing = site.http.get("/app/no-such-page", headers=session)
    assert not any("content-encoding" in answer.headers for answer in (before, after_a_form, missing))


@pytest.mark.parametrize(("accepted", "coding"), [("br, gzip", "br"), ("gzip, deflate", "gzip"), ("identity", None)])
def test_scripts_styles_and_networks_come_compressed_as_the_browser_can(
    site: Any, accepted: str, coding: str | None
) -> None:
    face = site.http.get("/app/assets/face.json").json()["files"]
    for path in ("/app/static/app.css", "/app/static/held/code.js", face["embedder"]["url"], face["wasm"]["url"]):
        with site.http.stream("GET", path, headers={"Accept-Encoding": accepted}) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == coding
        assert "Accept-Encoding" in answer.headers["vary"]
        whole = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}[coding](raw)
        if path == face["embedder"]["url"]:
            assert len(whole) == face["embedder"]["bytes"]
        assert whole == site.http.get(path).content
    policy = site.http.get("/app/static/face/worker.js", headers={"Accept-Encoding": accepted}).headers
    assert policy["content-security-policy"].startswith("default-src 'none'; script-src")


def test_home_loads_less_than_100_kilobytes_and_nothing_of_the_networks(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        loaded = page.evaluate(
            """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
                .map(({ name, decodedBodySize }) => [name, decodedBodySize])"""
        )
    assert sum(size for _, size in loaded) < 100_000
    assert not [name for name, _ in loaded if "/assets/" in name]


def test_the_first_page_is_under_100_kilobytes(site: Any) -> None:
    page = site.http.get("/app/", headers=HTML)
    links = {part for part in page.text.split('"') if part.startswith("/app/static/")}
    total = len(page.content) + sum(len(site.http.get(link.partition("#")[0]).content) for link in links)
    assert total < 100_000


def test_an_error_says_nothing_of_its_insides(site: Any) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("DROP TABLE passkey_ceremony"))
    answer = site.http.post("/app/sign-in/options", headers={**OWN, "Accept": "application/json"})
    assert answer.json() == {"problem": "Something went wrong here. Nothing was charged by this request."}
