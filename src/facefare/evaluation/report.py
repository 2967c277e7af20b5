"""One self-contained HTML page from the figures: no script, nothing loaded from elsewhere, aggregates only."""

import io
from datetime import UTC, datetime
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from facefare.evaluation.metrics import Report
from facefare.evaluation.study import SYSTEM

_STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (6.4, 4.2),
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "facefare",
}


def render(report: Report) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facefare.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "interval": _interval, "loss": _loss, "number": "{:,}".format}
    with matplotlib.rc_context(_STYLE):
        plots = {
            "det": _det(report),
            "roc": _roc(report),
            "identification": _fnir(report),
            "discard": _discard(report),
        }
    page = environment.get_template("report.html")
    return page.render(report=report, plots=plots, system=SYSTEM, made=datetime.now(UTC).strftime("%Y-%m-%d"))


def _det(report: Report) -> Markup:
    figure = Figure()
    axes = figure.add_subplot()
    for label, curve in _curves(report):
        axes.loglog(curve["fmr"], [max(value, 1e-5) for value in curve["fnmr"]], label=label)
    axes.set(xlabel="FMR", ylabel="FNMR", title="DET: one to one", xlim=(1e-6, 1), ylim=(1e-4, 1))
    axes.legend()
    return _svg(figure)


def _roc(report: Report) -> Markup:
    figure = Figure()
    axes = figure.add_subplot()
    for label, curve in _curves(report):
        axes.semilogx(curve["fmr"], [1 - value for value in curve["fnmr"]], label=label)
    axes.set(xlabel="FMR", ylabel="1 - FNMR", title="ROC: one to one", xlim=(1e-6, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right")
    return _svg(figure)


def _curves(report: Report) -> list[tuple[str, Any]]:
    views = [(f"{row['enrolled']} enrolled, {row['probe']} in the probe", row["curve"]) for row in report["views"]]
    return [("single photos, all pairs", report["verification"]["curve"]), *views]


def _fnir(report: Report) -> Markup:
    figure = Figure()
    axes = figure.add_subplot()
    rows = [row for row in report["identification"] if (row["enrolled"], row["probe"]) == SYSTEM]
    for row in rows:
        curve = row["curve"]
        axes.loglog(curve["fpir"], [max(v, 1e-4) for v in curve["fnir"]], label=f"N = {row['payers']:,}")
    views = f"{SYSTEM[0]} views enrolled, {SYSTEM[1]} in the probe"
    axes.set(xlabel="FPIR", ylabel="FNIR", title=f"One to many: {views}", ylim=(1e-4, 1))
    if rows:
        axes.legend()
    return _svg(figure)


def _discard(report: Report) -> Markup:
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=[matplotlib.colormaps["tab20"](place) for place in range(20)])
    for row in report["quality"]:
        kept = row["fnmr_after_discarding"]
        axes.plot([100 * float(share) for share in kept], list(kept.values()), label=row["measure"])
    axes.set(xlabel="worst comparisons discarded, %", ylabel="FNMR at FMR 1e-3", title="Quality against error")
    axes.legend(fontsize=6, ncols=2)
    return _svg(figure)


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 (matplotlib's own drawing, of numbers only)


def _percent(value: float) -> str:
    """Three significant digits, so that small rates stay readable."""
    return f"{100 * value:.3g} %"


def _interval(rate: dict[str, Any]) -> str:
    mark = " *" if rate["fewer_than_30_errors"] else ""
    return f"{_percent(rate['value'])} ({100 * rate['low']:.3g} to {100 * rate['high']:.3g}){mark}"


def _loss(row: dict[str, Any]) -> str:
    """A relative loss, where there are errors enough to tell one."""
    if row["fewer_than_30_errors"]:
        return "too few errors to tell"
    return f"{_percent(row['relative_loss'])} ({100 * row['low']:.2g} to {100 * row['high']:.2g})"
