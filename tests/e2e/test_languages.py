"""Nothing that a person reads is missing from a catalogue, and every code of the wallet has its words."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment
from jinja2.ext import extract_from_ast
from playwright.sync_api import expect

import facefare.web.pages as pages
from facefare.biometrics.quality import Hint
from facefare.payments.decision import Outcome, Reason
from facefare.terminal.screen import State
from facefare.wallet.devices import State as DeviceState
from facefare.web.pages import console_words, errors, kiosk, till_screen, words
from facefare.web.pages.languages import NAMES, language, preferred

FOLDER = Path(pages.__file__).parent
SHOWN_BY_KEYWORD = {"done", "problem"}


def sentences() -> set[str]:
    """Every sentence that the pages may show: in templates, in tables of words, in errors and messages of routes."""
    found = {*kiosk._TITLES.values(), *till_screen.TITLES.values(), "No tip", "{percent} tip: {tip}"}
    for name, table in [*vars(words).items(), *vars(console_words).items()]:
        if name.isupper() and not name.startswith("_") and name != "MINOR_UNITS":
            found |= set(table.values())
    for template in FOLDER.glob("templates/*.html"):
        for _, _, message in extract_from_ast(Environment().parse(template.read_text()), ["_"]):
            sentence = message[0] if isinstance(message, tuple) else message  # the rest are its gaps
            if sentence is not None:  # else it is looked up in a table of words
                found.add(sentence)
    page_errors = {name for name, kind in vars(errors).items() if isinstance(kind, type)} - {"AssetError"}
    page_errors -= {name for name in page_errors if name.startswith("Asset")}
    for module in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call):
                continue
            shown = [keyword.value for keyword in node.keywords if keyword.arg in SHOWN_BY_KEYWORD]
            shown += [part for one in shown if isinstance(one, ast.IfExp) for part in (one.body, one.orelse)]
            if isinstance(node.func, ast.Name) and node.func.id in page_errors:
                shown += node.args
            found |= {value.value for value in shown if isinstance(value, ast.Constant) and value.value}
    return found


@pytest.mark.parametrize("tag", sorted(set(NAMES) - {"en"}))
def test_every_sentence_is_in_the_catalogue_with_the_same_gaps(tag: str) -> None:
    catalogue = language(tag).catalogue
    assert sentences() - set(catalogue) == set()
    for english, translated in catalogue.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", translated)), english
        assert translated.strip()


NO_LANGUAGE = {"facefare", "UTC", "ms", "FMR", "FNMR", "FPIR", "FNIR", "ISO", "IEC"}


@pytest.mark.parametrize("template", sorted(FOLDER.glob("templates/*.html")), ids=lambda path: path.stem)
def test_no_words_stand_in_a_template_past_the_catalogues(template: Path) -> None:
    marks = r"""{%.*?%}|{{.*?}}|<code>.*?</code>|<[^>]*>|[a-z-]+="[^"]*"|&\w+;"""
    written = re.sub(marks, " ", template.read_text(), flags=re.DOTALL)
    assert set(re.findall("[A-Za-z]{2,}", written)) <= NO_LANGUAGE


def test_every_code_has_words() -> None:
    assert {reason.value for reason in Reason} <= set(words.REASONS)
    assert {hint.value for hint in Hint} <= set(words.HINTS)
    assert {outcome.value for outcome in Outcome} <= set(words.OUTCOMES)
    assert {state.value for state in DeviceState} == set(words.DEVICES)
    assert set(State) == set(kiosk._TITLES)


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-CH, en;q=0.9", "de"),
        ("fr, ar;q=0.5, en;q=0.4", "ar"),
        ("en;q=0.1, de;q=0.9", "de"),
        (";q=x,,", "en"),
        ("x" * 10_000, "en"),
    ],
)
def test_the_browsers_wish_is_followed_where_it_can_be(header: str, tag: str) -> None:
    assert preferred(header) == tag


def test_arabic_runs_from_right_to_left_and_money_does_not(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.get_by_role("button", name="العربية").click()
        expect(page.locator("html")).to_have_attribute("dir", "rtl")
        expect(page.locator(".balance .amount")).to_have_text("10.00\u00a0€")
        brand, width = page.locator(".brand").bounding_box(), page.viewport_size["width"]
        assert brand["x"] + brand["width"] > width * 0.8
        assert page.evaluate("document.documentElement.scrollWidth") <= width
