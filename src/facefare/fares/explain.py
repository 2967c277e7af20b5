"""Why a leg costs what it costs, as codes a receipt can say in any language.

A `Line` carries a code and its parameters; amounts are minor units. `ENGLISH` has the sentence for each
code; a translation is another mapping with the same keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from facefare.fares.tariff import currency_exponent

ENGLISH: Mapping[str, str] = {
    "fare.leg": "fare: {amount}",
    "fare.concession": "{category}: {saved} saved",
    "fare.transfer": "transfer: {saved} saved",
    "fare.capped.day": "capped: {saved} saved (no more than {cap} a day)",
    "fare.capped.week": "capped: {saved} saved (no more than {cap} a week)",
    "fare.completed.exit": "no tap on leaving: we took it that you left at {stop}, where you boarded next",
    "fare.completed.entry": "no tap on entering: we took it that you entered at {stop}, where you left last",
    "fare.incomplete.exit": "no tap on leaving: the maximum fare applies; tell us where you left",
    "fare.incomplete.entry": "no tap on entering: the maximum fare applies; tell us where you entered",
    "fare.open": "under way: at most {reserve}",
    "fare.refund": "{amount} back: a tap that came in late made your trips cheaper",
}
_AMOUNTS = frozenset({"amount", "saved", "cap", "reserve"})


@dataclass(frozen=True)
class Line:
    """One reason. `params` values are minor units (amount, saved, cap, reserve) or names (stop, category)."""

    code: str
    params: Mapping[str, int | str]


def money(amount: int, currency: str) -> str:
    """Write minor units as a plain decimal: 280, EUR -> "2.80"."""
    exponent = currency_exponent(currency)
    sign, digits = "-" if amount < 0 else "", str(abs(amount)).zfill(exponent + 1)
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else sign + digits


def render(line: Line, currency: str, catalogue: Mapping[str, str] = ENGLISH) -> str:
    """Say a line in the catalogue's language."""
    said = {
        name: money(value, currency) if name in _AMOUNTS and isinstance(value, int) else value
        for name, value in line.params.items()
    }
    return catalogue[line.code].format(**said)
