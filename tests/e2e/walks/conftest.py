"""Walks through every page and every state of it. At each stop axe finds nothing, nothing is wider than the screen,
targets are large enough for a finger, and nothing is left in English; with `--screenshots DIR` it is also a picture, in
every language, colour scheme and size.

The walks are the list of pages. A route of the pages at which no walk stops, and that is not among those that lead
elsewhere, fails the walk; so does a template that no page shows.
"""

import importlib
import itertools
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

import facefare.web.pages as pages
from facefare.settings import Settings
from facefare.web.pages.languages import NAMES, language
from facefare.web.pages.rendering import Rendering

AXE = Settings().cache_dir / "web" / "axe.js"
PHONE, DESK, LANDSCAPE, UPRIGHT = (390, 844), (1440, 900), (1280, 800), (1080, 1920)
ALL, CONTRAST = "{}", "{ runOnly: ['color-contrast'] }"
"""Of axe's rules. In the dark only colours differ, so each page is looked at once there."""

LEAD_ELSEWHERE = {  # no page of their own: a redirect, a file, or an answer for a script
    "/passkeys/options", "/passkeys", "/sign-in/options", "/sign-out", "/language", "/payments/{intent_id}/confirm",
    "/debt/pay", "/consent/code.svg", "/consent/withdraw", "/access/check/faces/{face_id}", "/access/check/openings",
    "/guardians/confirmations.json", "/export", "/export.html", "/notifications/push", "/phone/setting", "/phone/last",
    "/phone/devices", "/phone/devices/{device_id}/pass", "/phone/devices/{device_id}/settle",
    "/phone/devices/{device_id}/state", "/pay/number", "/sw.js", "/sign-out/everywhere", "/console/sign-out",
    "/console/join/options", "/console/sign-in/passkey/options", "/console/sign-in/passkey",
    "/console/me/passkeys/options", "/console/me/passkeys", "/console/me/sign-out-everywhere", "/console/live",
    "/console/books/export",
}  # fmt: skip
PARTS = {
    "kiosk.html",
    "till.html",
    "base.html",
    "parts.html",
    "receipt_rows.html",
    "signed_in.html",
    "console_base.html",
    "console_parts.html",
    "console_live.html",  # of console.html
}

WIDER = "document.documentElement.scrollWidth - innerWidth"
SMALL = """() => [...document.querySelectorAll("a.button, button, select, textarea, summary, nav a, .rows a, \
    input:not([type=hidden], [type=checkbox], [type=radio]), label:has(input)")]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().height < 44)
  .map((e) => e.outerHTML.slice(0, 90))"""
READ = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const [said, over] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
    if (said && over.checkVisibility() && !over.closest("code, script, [dir=ltr], [lang]:not(html)")) found.push(said);
  }
  for (const name of ["aria-label", "alt", "placeholder"])
    for (const one of document.querySelectorAll(`[${name}]`)) found.push(one.getAttribute(name));
  return found;
}"""


@dataclass(frozen=True)
class View:
    """How the pages are looked at."""

    tag: str
    scheme: str
    size: tuple[int, int]
    rules: str | None = None

    def __str__(self) -> str:
        return f"{self.tag}-{self.scheme}-{self.size[0]}x{self.size[1]}"


VIEWS = {
    "payer_view": ((PHONE, DESK), (View("en", "light", PHONE, ALL), View("ar", "dark", PHONE, CONTRAST))),
    "console_view": ((DESK, PHONE), (View("en", "light", DESK, ALL), View("de", "dark", PHONE, CONTRAST))),
    "screen_view": ((LANDSCAPE, UPRIGHT), (View("en", "light", LANDSCAPE, ALL), View("ar", "dark", UPRIGHT, CONTRAST))),
}
FIT = {"payer_view": View("de", "light", DESK)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="take a picture at every stop of the walks")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, (sizes, views) in VIEWS.items():
        if name in metafunc.fixturenames:
            chosen = [*views, *([FIT[name]] if name in FIT else [])]
            if metafunc.config.getoption("--screenshots", None):
                chosen = [View(*one) for one in itertools.product(NAMES, ("light", "dark"), sizes)]
            metafunc.parametrize(name, chosen, ids=str)


@dataclass
class Walk:
    """A walk through pages: call it with a name at each stop; `end` tells what was wrong at any of them."""

    page: Page
    view: View
    pictures: Path | None
    faults: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    def __call__(self, name: str) -> None:
        self.stops.append(name)
        path = urlsplit(self.page.url).path
        first, self.paths = path not in self.paths, self.paths | {path}
        self._find("wider than the screen", [more for more in [self.page.evaluate(WIDER)] if more > 0])
        self._find("smaller than a finger", self.page.evaluate(SMALL) if self.view.size[0] < 500 else [])
        self._find("not translated", self._english())
        if self.view.rules == ALL or (self.view.rules and first):
            if not AXE.exists():
                pytest.fail("The check needs axe-core: facefare web assets --for-tests")
            self.page.evaluate(AXE.read_text())
            found = self.page.evaluate(
                f"async () => (await axe.run({{ resultTypes: ['violations'], ...{self.view.rules} }})).violations"
            )
            self._find("axe", [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]])
        if self.pictures is not None:
            file = self.pictures / f"{len(self.stops):02}-{re.sub('[^a-z0-9]+', '-', name.lower())}.png"
            width, height = self.view.size
            whole = self.page.evaluate("document.documentElement.scrollHeight")
            self.page.set_viewport_size({"width": width, "height": max(height, whole)})  # what is fixed stays below
            self.page.screenshot(path=file)
            self.page.set_viewport_size({"width": width, "height": height})

    def _find(self, what: str, where: list[Any]) -> None:
        self.faults += [f"{self.stops[-1]}: {what}: {one}" for one in where]

    def _english(self) -> list[str]:
        if self.view.tag == "en":
            return []
        known, said = language(self.view.tag).catalogue, set(self.page.evaluate(READ))
        return sorted(one for one in said if known.get(one, one) != one)

    def go(self, path: str, name: str | None = None, *, refused: bool = False) -> None:
        """To a page of the app, and stop there."""
        answer = self.page.goto(f"/app/{path}")
        self._stop(name or path, answer, refused)

    def press(self, where: str, name: str, *, refused: bool = False) -> None:
        """Press a button or follow a link, and stop where that leads."""
        with self.page.expect_navigation() as going:
            self.page.locator(where).first.click()
        self._stop(name, going.value, refused)

    def _stop(self, name: str, answer: Any, refused: bool) -> None:
        self(name)
        self._find("another answer than was expected", [answer.status] if answer.ok == refused else [])

    def steps(self, name: str) -> None:
        """Stop at each step of a page that has steps, with the longest sentence that it may say."""
        names = (
            "[...new Set([...document.querySelectorAll('[data-steps]')].flatMap((e) => e.dataset.steps.split(' ')))]"
        )
        for step in self.page.evaluate(names):
            self.page.evaluate(STEP, step)
            self(f"{name}, {step}")

    def end(self) -> None:
        assert self.faults == [], "\n".join(self.faults)


STEP = """async (name) => {
  const [{ parts, say, step }, { draw }] = await Promise.all(
    ["steps.js", "held/qr.js"].map((one) => import(`/app/static/${one}`)));
  step(name);
  const said = [...document.querySelectorAll("#sentences li")].map((one) => one.textContent);
  say(null, said.sort((a, b) => b.length - a.length)[0]);
  for (const one of document.querySelectorAll("canvas")) if (one.checkVisibility()) draw(new Uint8Array(200), one);
  if (parts.terminal) parts.terminal.replaceChildren(new Option("Central Station, gate 4"));
  if (name === "written") parts.recovery.textContent = "ABCDE-FGHJK-MNPQR-STVWX-YZ012-3";
  for (const one of document.querySelectorAll("#counted, #lost")) one.textContent = "12";
}"""


@pytest.fixture
def walk(visit: Any, request: pytest.FixtureRequest) -> Any:
    """`with walk(url, view) as walk`: a browser before the site."""

    @contextmanager
    def begun(url: str, view: View, **options: Any) -> Iterator[Walk]:
        folder = request.config.getoption("--screenshots", None)
        pictures = Path(folder) / request.node.originalname.removeprefix("test_") / str(view) if folder else None
        width, height = view.size
        shown = {"locale": view.tag, "color_scheme": view.scheme, "viewport": {"width": width, "height": height}}
        with visit(url, **shown, **options) as page:
            walk = Walk(page, view, pictures)
            yield walk
        walk.end()

    return begun


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The templates that were shown."""
    shown: set[str] = set()
    text_of: Callable[..., str] = Rendering.text

    def noted(rendering: Rendering, template: str, **facts: object) -> str:
        shown.add(template)
        return text_of(rendering, template, **facts)

    monkeypatch.setattr(Rendering, "text", noted)
    return shown


@pytest.fixture
def unseen(rendered: set[str]) -> Any:
    """`unseen(walk, console=...)`: routes at which the walk did not stop, and templates that it did not show."""

    def missing(walk: Walk, *, console: bool) -> list[str]:
        modules = [
            importlib.import_module(one.name) for one in pkgutil.iter_modules(pages.__path__, "facefare.web.pages.")
        ]
        routes = [route for module in modules if hasattr(module, "router") for route in module.router.routes]
        seen = {path.removeprefix("/app") for path in walk.paths}
        left = {one.path for one in routes if not any(one.path_regex.match(path) for path in seen)} - LEAD_ELSEWHERE
        left = {path for path in left if path.startswith("/console") == console}
        templates = {one.name for one in (Path(pages.__file__).parent / "templates").glob("*.html")} - PARTS
        return sorted(left | ({one for one in templates if one.startswith("console") == console} - rendered))

    return missing
