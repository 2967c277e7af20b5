"""The operator's console, page by page."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from facefare.audit.notes import KeyKind, NoteSigner
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.guardian.identity import GuardianIdentity
from facefare.web.pages import staff
from facefare.web.pages.staff import Role

RATE = {"value": 0.0123, "low": 0.01, "high": 0.02}
REPORT = {
    "what": {"photos": 26, "people": 12},
    "verification": {"at": [{"fmr": 0.001, "fnmr": RATE}]},
    "identification": [{"payers": 300, "enrolled": 5, "probe": 3, "at": [{"fpir": 0.001, "fnir": RATE}]}],
    "attacks": [{"check": "motion", "species": "bent photo", "source": "simulated", "measure": "APCER", "rate": RATE}],
}
KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
COMPARED = """balance_transaction_id,reporting_category,source_id,payment_intent_id,gross,fee,currency
txn_1,charge,ch_1,pi_theirs_1,12.30,0.40,eur
"""


@pytest.fixture
def tariff() -> bytes:
    """In force, and one version to come."""
    today = datetime.now(UTC).date()
    versions = tuple(
        TariffVersion(
            effective_from=today + timedelta(days=days),
            products=(Product(id="single", amounts={"": 280}),),
            rules=(LegRule(id="any", bands=(Band(product="single"),)),),
        )
        for days in (-3, 30)
    )
    return Tariff(id="town", currency="EUR", versions=versions).model_dump_json().encode()


def key(kind: KeyKind) -> str:
    return str(NoteSigner("log.example", kind, Ed25519PrivateKey.generate()).key)


@pytest.fixture
def payments(site: Any, tmp_path: Path) -> tuple[str, str]:
    """Some payments and refusals of yesterday and today; one that is disputed, and one that can be given back."""
    site.guardians.identities = [
        GuardianIdentity(n, f"Council {n}", "localhost", 1, 1, "", bytes(32), bytes(32), key(KeyKind.LOG), "", n and 9)
        for n in range(3)
    ]
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    ada, ben = site.payer("ada", funds=100_00), site.payer("ben")
    search = site.requests.search("ada").to_bytes()
    disputed = site.gate.attempt(amount=60_00, currency="EUR", search=search).payment_intent
    ada.dispute(disputed)
    with site.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE ledger_transfer SET created_at = created_at - interval '1 day'"))
        connection.execute(text("SET LOCAL session_replication_role = origin"))
        for name, role in (("Sam", Role.SUPPORT), ("Alex", Role.AUDITOR)):
            staff.add(connection, name, role)
    site.look("ben")
    site.look("somebody else")
    return disputed, ben.payments()[0]["id"]


def sections(walk: Any, disputed: str, paid: str, tariff: bytes) -> None:
    page = walk.page

    def opened(name: str) -> None:
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        walk(name)

    for part in ("", "?span=week", "payments", "payments?state=refused", f"payments/{disputed}", "audit", "reports"):
        walk.go(f"console/{part}", part.replace(disputed, "disputed") or "live")
    page.goto("/app/console/")
    page.locator("#live bdi").evaluate_all("(all) => all.forEach((one) => { one.textContent = '99999.9 ms'; })")
    walk("live, slow")

    walk.go(f"console/payments/{paid}", "payment")
    walk.press("form[action$='/refund'] button", "payment, given back")
    page.goto(f"/app/console/payments/{disputed}")
    page.locator("#amount").fill("x")
    walk.press("form[action$='/refund'] button", "payment, no amount", refused=True)

    page.goto("/app/console/disputes")
    opened("disputes")
    page.locator("[name=why]").first.fill("the shop sent the bill")
    walk.press("form[action$='/details'] button", "dispute, details")
    walk.press("form[action$='/decision'] button", "dispute, decided")

    walk.go("console/tariffs", "no tariffs")
    page.locator("#file").set_input_files({"name": "town.json", "mimeType": "application/json", "buffer": tariff})
    walk.press("form[enctype] button", "tariffs, added")
    page.locator("#stop").fill("Market Square")
    page.locator("#kind").select_option("flat")
    walk.press("form[action$='/assign'] button", "tariffs, assigned")

    page.goto("/app/console/terminals")
    opened("terminals")
    for field, value in (("id", "trm_new"), ("place", "The bar"), ("key", KEY), ("proof", "0" * 128)):
        page.locator(f"#{field}").fill(value)
    walk.press("form[action$='/terminals'] button", "terminals, no proof", refused=True)
    page.goto("/app/console/terminals")
    page.locator("details").first.evaluate("one => one.open = true")
    for field, value in (("key", KEY), ("proof", "0" * 128)):
        page.locator(f"#{field}-trm_gate").fill(value)
    walk.press("form[action$='/trm_gate/key'] button", "terminals, no proof of a new key", refused=True)
    page.goto("/app/console/terminals")
    page.locator("details").nth(1).evaluate("one => one.open = true")
    walk.press("form[action$='/revoke'] button", "terminals, revoked")


def books(walk: Any) -> None:
    page = walk.page
    walk.go("console/books", "books, nothing settled")
    walk.press("form[action$='/settle'] button", "books, settled")
    walk.press("form[action$='/check'] button", "books, checked")
    report = {"name": "report.csv", "mimeType": "text/csv", "buffer": COMPARED.encode()}
    page.locator("#report").set_input_files(report)
    walk.press("form[action$='/reconciliation'] button", "books, compared")
    walk.press("td a", "settlement")


def colleagues(site: Any, walk: Any) -> None:
    """Staff, invited and with passkeys; then a member's own."""
    page = walk.page
    walk.go("console/me", "own passkeys, of the operator's token")
    page.goto("/app/console/staff")
    page.locator("#name").fill("Ana")
    walk.press("form[action$='/staff'] button", "staff, invited")
    with site.engine.begin() as connection:
        member, token = staff.add(connection, "Mia", Role.VIEWER)
        made = """INSERT INTO staff_passkey SELECT decode(lpad(n::text, 32, '0'), 'hex'), :id, 'Laptop ' || n, '', '', 0
                  FROM generate_series(1, 3) AS n"""
        connection.execute(text(made), {"id": member.id})
    walk.go("console/staff", "staff")
    walk.press("form[action*='/passkeys/'] button", "staff, a passkey withdrawn")
    walk.press("form[action$='/invite'] button", "staff, invited again")
    walk.press("form[action$='/role'] button", "staff, changed")
    walk.press("form[action$='/revoke'] button", "staff, revoked")
    walk.go("console/audit", "audit, all that was done")
    page.goto("/app/console/sign-in")
    page.locator("#token").fill(token)
    page.locator("form.stack button").click()
    page.wait_for_url("**/console/")
    walk.go("console/me", "own passkeys")
    walk.press("form[action$='/name'] button", "own passkeys, one named")
    walk.press("form[action$='/withdraw'] button", "own passkeys, one withdrawn")


def test_the_console(
    site: Any, walk: Any, console_view: Any, payments: tuple[str, str], tariff: bytes, unseen: Any
) -> None:
    with walk(site.url, console_view, expect_missing=True) as walked:
        walked.go("console/join")
        walked.go("console/sign-in")
        walked.page.locator("#token").fill("nobody's")
        walked.press("form.stack button", "sign-in, wrong token", refused=True)
        walked.page.locator("#token").fill(site.staff_token)
        walked.press("form.stack button", "signed in")
        sections(walked, *payments, tariff)
        books(walked)
        colleagues(site, walked)
        assert unseen(walked, console=True) == []
