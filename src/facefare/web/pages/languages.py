"""The pages' languages: English sentences are the keys, JSON catalogues for each other language: `de.json` for the
payer's app, `kiosk.de.json` and `console.de.json` for screens and console.

A sentence without a translation stays English; a test sees that none is missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

RIGHT_TO_LEFT = {"ar"}
NAMES = {"en": "English", "de": "Deutsch", "ar": "العربية"}
"""Language tag (BCP 47) -> its own name."""


@dataclass(frozen=True)
class Language:
    """One language; call it with an English sentence and what to fill in."""

    tag: str
    catalogue: Mapping[str, str]

    @property
    def direction(self) -> str:
        """`rtl` or `ltr`, as HTML's dir attribute takes it."""
        return "rtl" if self.tag in RIGHT_TO_LEFT else "ltr"

    @property
    def decimal_point(self) -> str:
        """What stands between whole units and hundredths."""
        return "," if self.tag == "de" else "."

    def knows(self, sentence: str) -> bool:
        """Whether it is a sentence of this language, or has one."""
        return self.tag == "en" or sentence in self.catalogue

    def __call__(self, sentence: str, **values: object) -> str:
        """The sentence in this language, its {names} filled in."""
        found = self.catalogue.get(sentence, sentence)
        return found.format(**values) if values else found


@cache
def language(tag: str) -> Language:
    """The language with this tag, English where there is none."""
    if tag not in NAMES or tag == "en":
        return Language("en", {})
    catalogue: dict[str, str] = {}
    for name in (f"{tag}.json", f"kiosk.{tag}.json", f"console.{tag}.json"):
        catalogue |= json.loads((resources.files(__package__) / "locale" / name).read_text("utf-8"))
    return Language(tag, catalogue)


def preferred(header: str) -> str:
    """The first of a browser's languages (Accept-Language, RFC 9110) that the pages speak, else English."""
    ranked = []
    for position, part in enumerate(header[:512].split(",")):
        tag, _, quality = part.partition(";q=")
        try:
            ranked.append((-float(quality or 1), position, tag.strip().partition("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for _, _, tag in sorted(ranked) if tag in NAMES), "en")
