"""Templates: autoescaped, in the visitor's language, with the files of `static/` named by their content.

Each page of the app brings its style and its icons along, which saves a slow phone a round trip; the policy names that
one style by its hash. A page is compressed only where nothing in it came with the request: what somebody else put there
could be used to guess, by the page's size, what stands beside it (the BREACH attack).
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from importlib import resources

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.responses import HTMLResponse

from facefare.web.pages import packing, static_files, words
from facefare.web.pages.languages import NAMES, Language, language, preferred

PREFIX = "/app"
LANGUAGE_COOKIE = "language"
_AT_ONCE = 5
"""Of brotli's and gzip's quality: pages are compressed while somebody waits, in a fraction of a millisecond."""

_environment = Environment(
    loader=PackageLoader("facefare.web.pages"),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Rendering:
    """Renders pages for one visitor."""

    language: Language
    path: str
    coding: str | None = None

    def page(self, template: str, *, status: int = 200, **facts: object) -> HTMLResponse:
        """The template as a response; `facts` are its variables."""
        text = self.text(template, **facts)
        if self.coding is None or status != HTTPStatus.OK:
            return HTMLResponse(text, status_code=status)
        answer = HTMLResponse(packing.compressed(text.encode(), self.coding, quality=_AT_ONCE))
        answer.headers["Content-Encoding"] = self.coding
        return answer

    def text(self, template: str, **facts: object) -> str:
        """The template as text."""
        return _environment.get_template(template).render(
            _=self.language,
            language=self.language,
            languages=NAMES,
            path=self.path,
            prefix=PREFIX,
            style=_style(),
            money=self.money,
            plain_money=self.plain_money,
            moment=_moment,
            words=words,
            **facts,
        )

    def plain_money(self, amount: int, currency: str) -> str:
        """Minor units as this language writes them."""
        return words.money(amount, currency, self.language.decimal_point)

    def money(self, amount: int, currency: str) -> Markup:
        """The same as markup: money reads left to right in every script."""
        return Markup('<bdi class="money" dir="ltr">{}</bdi>').format(self.plain_money(amount, currency))


def of(request: Request) -> Rendering:
    """In the language that the visitor chose, else in the browser's."""
    chosen = request.cookies.get(LANGUAGE_COOKIE) or preferred(request.headers.get("accept-language", ""))
    bare = request.method == "GET" and not request.url.query
    coding = packing.best(request.headers.get("accept-encoding", "")) if bare else None
    return Rendering(language(chosen), request.url.path, coding)


@cache
def static(name: str) -> str:
    """The URL of a file in `static/`, with the start of its hash: it may be cached for ever."""
    data = (resources.files(__package__) / "static" / name).read_bytes()
    return f"{PREFIX}/static/{name}?v={hashlib.sha256(data).hexdigest()[:12]}"


def style_source() -> str:
    """The style that pages bring along, as a content security policy names it (CSP 3, hash-source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()}'"


@cache
def _style() -> Markup:
    return Markup((static_files.FOLDER / "app.css").read_text("utf-8"))  # noqa: S704 - our own file


def _drawings() -> dict[str, Markup]:
    """The icons by name, each for the inside of an svg of 24 by 24."""
    file = (resources.files(__package__) / "templates" / "icons.svg").read_text("utf-8")
    found = re.findall('<symbol id="([a-z]+)" viewBox="0 0 24 24">(.*?)</symbol>', file)
    return {name: Markup(lines) for name, lines in found}  # noqa: S704 - our own file


_environment.globals["static"] = static
_environment.globals["drawing"] = _drawings().__getitem__


def _moment(at: datetime) -> Markup:
    """A time that a module of ours rewrites in the visitor's own zone."""
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M} UTC"
    )
