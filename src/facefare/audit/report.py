"""The public report of a reconciliation: one HTML file, plots inside, nothing personal.

Invariant: it holds terminals, stations, days and counts only, and a number of payments only from FEWEST on.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import date
from html import escape
from io import BytesIO

from matplotlib.figure import Figure

from facefare.audit.reconciliation import (
    ALPHA,
    FEWEST,
    POWER,
    DayCount,
    Reconciliation,
    StationCount,
    TerminalCount,
    power,
    smallest_found,
)

_FEW = 50
"""Searches a day of somebody who looks for few people; what a public report has to be honest about."""
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ccc}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}.alarm{color:#a00;font-weight:600}"
)


def report_html(result: Reconciliation, stations: Sequence[StationCount] = ()) -> str:
    """Write the report; `stations`: what enrolment stations did in the same time."""
    days = sorted(day.day for one in result.terminals for day in one.by_day)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Proof of restraint</title>",
        f"<style>{_STYLE}</style><h1>Proof of restraint</h1>",
        "<p>Every search for a face is in three public logs. This report compares them with payments"
        + (f", from {days[0]} to {days[-1]} (UTC).</p>" if days else ".</p>"),
        "<h2>Identifications nobody was shown</h2>",
        _list(result.alarms, "None. Expected: none."),
        f"<p>{result.payers.checked} payers compared their own record with what they are shown; "
        f"{result.payers.incomplete} found something missing. {result.lost_answers} answers were lost on the way.</p>",
        "<h2>Searches that led to no payment</h2>",
        _list(result.excesses, "Honest strangers and refused payers explain them."),
        f"<p>False alarms in this whole section: {ALPHA:.0%} of such reports. The last column says what the test can "
        f"find: so many extra searches, every day, are noticed in {POWER:.0%} of such reports; fewer may not be. What "
        "finds those: a count of people that does not come from the terminal, the hours when the place is closed, and, "
        "where the one searched for pays here, that person's own comparison.</p>",
        "<table><tr><th>terminal<th>days<th>searches<th>without payment<th>expected<th>would be found, a day</tr>",
    ]
    for one in result.terminals:
        parts.append(
            f"<tr><td>{escape(one.terminal)}<td>{one.days}<td>{one.searches:,}<td>{one.shown_unpaid}"
            f"<td>{one.expected:,.0f} ± {one.deviation:,.0f}<td>{one.smallest_found:,.0f}</tr>"
        )
    parts.append("</table>")
    if stations:
        parts.append("<h2>Enrolments</h2><p>The operator has to have a consent for each enrolment,")
        parts.append("and an enrolment or a refusal for each comparison with those enrolled before.</p>")
        parts.append("<table><tr><th>station<th>enrolments<th>comparisons</tr>")
        parts += [f"<tr><td>{escape(one.station)}<td>{one.enrolled:,}<td>{one.compared:,}</tr>" for one in stations]
        parts.append("</table>")
    for one in result.terminals:
        parts += [f"<h3>{escape(one.terminal)}</h3>", _image(_days(one), "Searches by day"), _table(one)]
        parts.append(
            f"<p>{_FEW} extra searches a day here would be noticed in {_chance(one, _FEW, one.days):.1%} "
            "of such reports.</p>"
        )
        parts.append(_image(_power(one), "What the test can find, by extra searches a day and by days"))
    return "\n".join(parts) + "</html>\n"


def _list(items: tuple[str, ...], none: str) -> str:
    if not items:
        return f"<p>{none}</p>"
    return "<ul>" + "".join(f"<li class='alarm'>{escape(item)}</li>" for item in items) + "</ul>"


def _table(one: TerminalCount) -> str:
    rows = [
        f"<tr><td>{day.day}<td>{day.searches}<td>{day.paid if day.paid >= FEWEST else f'fewer than {FEWEST}'}"
        f"<td>{day.expected:,.0f} ± {day.deviation:,.0f}</tr>"
        for day in one.by_day
    ]
    head = "<tr><th>day<th>searches<th>paid<th>expected without payment</tr>"
    return f"<details><summary>By day</summary><table>{head}{''.join(rows)}</table></details>"


def _days(one: TerminalCount) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot()
    days = [(day.day - date(1970, 1, 1)).days for day in one.by_day]
    low = [day.expected - 2 * day.deviation for day in one.by_day]
    high = [day.expected + 2 * day.deviation for day in one.by_day]
    axes.fill_between(days, low, high, color="#9ecae1", label="expected (2 standard deviations)")
    axes.plot(days, [_drawn(day) for day in one.by_day], "k.", label="searches without payment")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("a day")
    axes.xaxis_date()
    axes.legend(frameon=False)
    figure.autofmt_xdate()
    return figure


def _drawn(day: DayCount) -> int:
    return day.unpaid if day.paid >= FEWEST else day.searches


def _power(one: TerminalCount) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot()
    most = 2 * smallest_found(one.site, days=1, paid_a_day=_paid(one), tests=one.tests)
    for days in (1, 7, 30, 90):
        extras = [most * n / 60 for n in range(61)]
        axes.plot(
            extras,
            [_chance(one, extra, days) for extra in extras],
            label=f"{days} days" if days > 1 else "1 day",
        )
    axes.set_xlabel("extra searches a day")
    axes.set_ylabel("probability to be found")
    axes.legend(frameon=False)
    return figure


def _chance(one: TerminalCount, extra: float, days: int) -> float:
    """How probably so many extra searches a day are found within so many days."""
    return power(one.site, extra=extra, days=days, paid_a_day=_paid(one), tests=one.tests)


def _paid(one: TerminalCount) -> int:
    return sum(day.paid for day in one.by_day) // one.days


def _image(figure: Figure, alt: str) -> str:
    data = BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return f"<img alt='{alt}' src='data:image/png;base64,{b64encode(data.getvalue()).decode()}'>"
