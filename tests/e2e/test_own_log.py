"""A payer checks on the phone that the list of who looked leaves nothing out; what a wallet can try is tried."""

import json
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import Page, expect
from sqlalchemy import text
from typer.testing import CliRunner

from facefare.audit.notes import KeyKind, NoteSigner
from facefare.audit.openings import Components
from facefare.cli import command_line
from facefare.client import PayerClient, StationClient
from facefare.guardian.messages import OpenAnswer
from facefare.terminal.enrolling import HandsFree, read_wish


def confirm_with_passkey(page: Page) -> None:
    """The code is shown to who is there with a passkey: the first time one is added."""
    add = page.get_by_role("button", name="Add a passkey")
    add.or_(page.locator("img.qr")).wait_for()
    if add.is_visible():
        add.click()


def say_yes(page: Page) -> None:
    """Agree to hands-free, and show the code with the passkey."""
    page.goto("/app/consent")
    card = page.locator("section", has=page.get_by_role("heading", name="Hands-free"))
    card.get_by_label("I am 16 years old or more.").check()
    card.get_by_role("button", name="Yes, hands-free").click()
    confirm_with_passkey(page)


def agree(page: Page) -> bytes:
    """The same; the code that the phone shows then."""
    say_yes(page)
    expect(page.get_by_text("A check key for you alone")).to_be_visible()
    code = page.get_by_role("img", name="The code of your consent")
    expect(code).to_have_js_property("complete", True)
    (found,) = zxingcpp.read_barcodes(cv2.imdecode(np.frombuffer(code.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE))
    return found.bytes


def enrol(site: Any, code: bytes, label: str) -> None:
    """What a station does with the code."""
    wish = read_wish(code)
    assert isinstance(wish, HandsFree)
    request = site.requests.enrolment(label, wish.consent_sha256, payer_key=wish.payer_key)
    StationClient(site.http).enrol(request.to_bytes())


@pytest.fixture
def ada(site: Any, visit: Any, authenticator: Any) -> Any:
    """Ada, enrolled by the code that her phone showed, before her phone."""
    payer, site.tokens["ada"] = PayerClient.register(site.http, "EUR")
    payer.top_up(1000, "first")
    with visit(site.url, expect_missing=True) as page:
        page.add_init_script("StorageManager.prototype.persist = () => new Promise(() => {})")  # as Firefox asks
        authenticator(page)
        site.sign_in(page, "ada")
        enrol(site, agree(page), "ada")
        yield page


READ_OUT = """async () => {
  const opened = await new Promise((resolve) => {
    const opening = indexedDB.open("facefare-own-log", 1);
    opening.onsuccess = () => resolve(opening.result);
  });
  const all = opened.transaction("keys").objectStore("keys").getAll();
  const [{ pair }] = await new Promise((resolve) => (all.onsuccess = () => resolve(all.result)));
  return crypto.subtle.exportKey("pkcs8", pair.privateKey).then(() => "read out", (error) => error.name);
}"""


def check(page: Page, says: str) -> None:
    page.goto("/app/access")
    page.get_by_role("link", name="Is anything missing?").click()
    page.get_by_role("button", name="Check my list").click()
    expect(page.get_by_role("status")).to_contain_text(says)


def forget_one(site: Any, which: str) -> None:
    with site.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM access_log WHERE id = (SELECT {which}(id) FROM access_log)"))


def test_an_honest_list_is_complete_again_and_again_and_a_program_says_the_same(
    site: Any, ada: Page, tmp_path: Path
) -> None:
    check(ada, "Nothing is missing")
    expect(ada.get_by_role("link", name="Delete my face")).to_be_hidden()
    for _ in range(3):
        site.look("ada")
    sent: list[str] = []
    ada.on("request", lambda request: sent.append(request.post_data or ""))
    check(ada, "Nothing is missing")
    expect(ada.locator("#counted")).to_have_text("3")
    expect(ada.locator("#entries li")).to_have_count(3)
    expect(ada.locator("#entries li").first).to_contain_text("Central Station, gate 4")
    assert [list(json.loads(body)) for body in sent if body] == [["request"]], "no key leaves the browser"
    assert ada.evaluate(READ_OUT) == "InvalidAccessError", "nor can it be read out there"
    with ada.expect_download() as saved:
        ada.get_by_role("link", name="Save the check as a file").click()
    saved.value.save_as(tmp_path / "own-log.json")
    assert "3 identifications since the last comparison, all shown." in compared(site, tmp_path)
    site.look("ada")
    check(ada, "Nothing is missing")
    expect(ada.locator("#counted")).to_have_text("1")


def run(*words: Any) -> str:
    """What a command of ours says that succeeds."""
    done = CliRunner().invoke(command_line(), [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def compared(site: Any, folder: Path) -> str:
    """What the program says of the file in this folder."""
    trust = [f"{log.key} {witness(n).key}" for n, log in enumerate(site.guardians.logs)]
    (folder / "trust").write_text("\n".join(trust))
    return run("audit", "my-log", folder, "--trust", folder / "trust")


def witness(number: int) -> NoteSigner:
    return NoteSigner(f"witness-{number}.example", KeyKind.WITNESS, Ed25519PrivateKey.generate())


def test_a_wallet_that_keeps_silent_is_shown_in_plain_words_whatever_it_tries(
    site: Any, ada: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.guardians.lose_search = True
    site.look("ada")
    site.guardians.lose_search = False
    site.look("ada")
    check(ada, "Nothing is missing")
    expect(ada.locator("#lost")).to_have_text("1")
    site.look("ada")
    forget_one(site, "max")
    check(ada, "Something is missing: you were recognised, and your list does not show it")
    expect(ada.get_by_text("tell one of the guardians")).to_be_visible()
    expect(ada.get_by_role("link", name="Save the check as a file")).to_be_visible()

    liar = NoteSigner("guardian-0.example", KeyKind.LOG, Ed25519PrivateKey.generate())

    async def fitting(request: Any) -> Any:
        fields = request.fields()
        with site.engine.connect() as connection:
            tags = connection.execute(text("SELECT tag FROM access_log UNION SELECT tag FROM lost_answer")).scalars()
            value = reduce(xor, (int.from_bytes(tag, "big") for tag in tags))
        words = (1, 2, value ^ 1 ^ 2)
        parts = [Components(n, 1, 0, 9, words[n], words[(n + 1) % 3]) for n in range(3)]
        given = [part.give(fields.recipient, fields.gallery, fields.opening_id, liar) for part in parts]
        return tuple(OpenAnswer(part.sealed, part.signature) for part in given)

    with monkeypatch.context() as lying:
        lying.setattr(site.guardians, "open_row", fitting)
        check(ada, "Somebody made it up on the way")
        lying.setattr(site.guardians, "logs", [liar] * 3)  # and says that these are the guardians' keys now
        check(ada, "The guardians' keys are not those that your browser noted")
    forget_one(site, "min")
    check(ada, "Something is gone")


def test_who_has_no_check_key_here_is_told_and_each_consent_has_its_own(
    site: Any, visit: Any, authenticator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben = site.payer("ben")
    with visit(site.url, expect_missing=True) as page:
        authenticator(page)
        site.sign_in(page, "ben")
        check(page, "No check key was given when your face was enrolled")
        expect(page.get_by_text("Nobody can add a key later")).to_be_visible()
        expect(page.get_by_role("link", name="Delete my face")).to_have_attribute("href", "/app/face/delete")
        ben.delete_face()
        page.goto("/app/access")
        expect(page.get_by_role("link", name="Is anything missing?")).to_have_count(0)
        first = agree(page)
        key = run("payer", "new-key", tmp_path / "key.pem").strip().encode()
        enrol(site, first.split(b".")[0] + b"." + key, "ben")  # the command's key, or one that a station made up
        check(page, "Your check key is not in this browser")
        expect(page.get_by_role("link", name="Delete my face")).to_be_visible()
        site.look("ben")
        monkeypatch.setenv("FACEFARE_PAYER_TOKEN", site.tokens["ben"])
        run("payer", "open-log", site.url, "--key", tmp_path / "key.pem", "--to", tmp_path)
        assert "1 identifications since the last comparison, all shown." in compared(site, tmp_path)
        ben.delete_face()
        second = agree(page)
        assert second.split(b".")[1] != first.split(b".")[1]
        enrol(site, second, "ben")
        site.look("ben")
        check(page, "Nothing is missing")


def test_where_the_browser_can_not_make_a_key_the_code_works_without_and_says_so(
    site: Any, visit: Any, authenticator: Any
) -> None:
    _, site.tokens["ada"] = PayerClient.register(site.http, "EUR")
    with visit(site.url) as page:
        page.add_init_script("SubtleCrypto.prototype.generateKey = () => Promise.reject(new Error('no Ed25519'))")
        authenticator(page)
        site.sign_in(page, "ada")
        say_yes(page)
        expect(page.get_by_text("This browser can't make a check key")).to_be_visible()
        expect(page.get_by_role("img", name="The code of your consent")).to_have_attribute(
            "src", "/app/consent/code.svg"
        )
