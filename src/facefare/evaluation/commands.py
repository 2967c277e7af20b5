"""`facefare evaluate` and `facefare calibrate`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from facefare.biometrics import FacePipeline
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.frames import open_source
from facefare.evaluation.amounts import Attacks, Costs, describe, with_amounts
from facefare.evaluation.calibrating import PASSES, measure_live, measure_site
from facefare.evaluation.dataset import read_dataset
from facefare.evaluation.errors import EvaluationError
from facefare.evaluation.extraction import extract
from facefare.evaluation.metrics import Report
from facefare.evaluation.presentation import rates, recorded, simulate
from facefare.evaluation.report import render
from facefare.evaluation.study import SYSTEM, Study
from facefare.evaluation.thresholds import (
    VERIFICATION_FMR,
    ImpostorCurve,
    calibration_document,
    moved_rows,
    new_calibration,
    squared_distance,
)
from facefare.files import read_text
from facefare.identification.calibration import Calibration
from facefare.identification.errors import IdentificationError

_console = Console(stderr=True)
_DEFAULT_CACHE = Path.home() / ".cache" / "facefare"

CacheDir = Annotated[
    Path,
    typer.Option("--cache-dir", envvar="FACEFARE_CACHE_DIR", help="Models; sealed pieces while a run goes on."),
]
EmbedderFile = Annotated[
    Path | None, typer.Option("--embedder", help="embedder.toml of your own embedder; the default one if none.")
]
Base = Annotated[
    Path | None, typer.Option("--calibration", help="Calibration file to build upon; the default one if none.")
]
CostsFile = Annotated[
    Path | None,
    typer.Option("--costs", help="TOML: what a fraud costs you (see `facefare.evaluation.amounts`); defaults if none."),
]


def evaluate(
    folder: Annotated[Path, typer.Argument(help="One folder a person, pictures inside.")],
    labels: Annotated[Path | None, typer.Option("--csv", help="file, group, session, attack, presentation.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report (HTML, self-contained).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure.")] = None,
    heads: Annotated[int, typer.Option("--simulate-attacks", min=0, help="People to render attacks of.")] = 40,
    thresholds: Annotated[
        Path | None, typer.Option("--write-calibration", help="Write a calibration file with this run's thresholds.")
    ] = None,
    source: Annotated[str, typer.Option(help="What was measured, for the calibration file.")] = "",
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Thresholds over all people, though the CSV states groups.")
    ] = False,
    costs_file: CostsFile = None,
    embedder: EmbedderFile = None,
    base: Base = None,
    cache_dir: CacheDir = _DEFAULT_CACHE,
) -> None:
    """Measure error rates on a public set or consenting volunteers; never on traffic."""
    with _reporting() as progress:
        calibration = Calibration.from_file(base) if base else Calibration.default()
        costs = Costs.read(costs_file) if costs_file else Costs()
        photos = read_dataset(folder, labels)
        models = cache_dir / "models"
        model_id = FacePipeline.load(models, embedder).model_id
        centre_anew = embedder is not None and base is None
        if not centre_anew:
            calibration.require_model(model_id)
        extracted, pieces = extract(photos, models, embedder, cache_dir / "evaluation", _advancing(progress, "Photos"))
        if centre_anew:
            usable = np.flatnonzero(extracted.failures == 0)
            people = np.array([photos[row].person for row in usable.tolist()], dtype=np.int64)
            calibration = new_calibration(model_id, extracted.vectors[usable], people)
        task = progress.add_task("Comparisons", total=None)
        report = Study(photos, extracted, calibration).run(lambda step: progress.update(task, description=step))
        progress.update(task, total=1, completed=1)
        judged = []
        if any(photo.presentation for photo in photos):
            judged += recorded(photos, models, _advancing(progress, "Recorded presentations"))
        if heads:
            judged += simulate(photos, extracted, heads, models, _advancing(progress, "Simulated attacks"))
        report["attacks"] = rates(judged)
        attacks = Attacks.of(report["attacks"])
        if "recommended" in report:
            report["face_alone"] = describe(_rows(report, pooled), attacks, costs)
        if pieces:
            pieces.destroy()
        if json_file:
            json_file.write_text(json.dumps(report, indent=1) + "\n")
        if out:
            out.write_text(render(report))
        if thresholds:
            if "recommended" not in report:
                raise EvaluationError(f"Thresholds need people with {sum(SYSTEM)} photos. Nothing was written.")
            thresholds.write_text(_document(report, calibration, attacks, costs, source, pooled=pooled))
    _summary(report)


def _rows(report: Report, pooled: bool) -> list[Report]:
    """The thresholds to be written: where groups were stated, those that hold in the worst of them."""
    groups = report.get("recommended_for_groups")
    rows: list[Report] = report["recommended"] if pooled or groups is None else groups["rows"]
    return rows


def _document(
    report: Report, calibration: Calibration, attacks: Attacks, costs: Costs, source: str, *, pooled: bool
) -> str:
    curve = ImpostorCurve.from_description(report["impostor_curve"])
    rows, groups = _rows(report, pooled), None if pooled else report.get("recommended_for_groups")
    if not rows:
        raise EvaluationError("No group is large enough to hold a threshold to. Nothing was written; see --pooled.")
    what = report["what"]
    notes = [
        source or f"{what['photos']:,} photos of {what['people']:,} people.",
        f"{SYSTEM[0]} views enrolled, {SYSTEM[1]} in the probe; FPIR = payers x FMR, FMR never above 1e-3.",
        f"Measured down to FMR {curve.measured_fmr:.1e}; below, ln(squared distance) is carried on as a line"
        " in log10 FMR. Calibrate for your own cameras.",
    ]
    if groups is not None:
        notes.append("Thresholds at which the upper end of the interval inside the worst stated group meets the FPIR.")
        if groups["too_small"]:
            notes.append(f"Too small to be held to: {', '.join(groups['too_small'])}.")
    verification = curve.distance(VERIFICATION_FMR) if groups is None else groups["verification"]
    return calibration_document(
        calibration,
        curve,
        with_amounts(rows, attacks, costs),
        notes,
        verification=verification,
        currency=costs.currency,
        attacks=asdict(attacks),
    )


def calibrate(
    recordings: Annotated[
        Path | None, typer.Argument(help="One folder a volunteer, two or more recordings in each.")
    ] = None,
    *,
    camera: Annotated[int | None, typer.Option(help="Volunteers walk up to this camera instead.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The calibration file to write.")],
    costs_file: CostsFile = None,
    embedder: EmbedderFile = None,
    base: Base = None,
    cache_dir: CacheDir = _DEFAULT_CACHE,
) -> None:
    """Write the thresholds for a site's cameras, from consenting volunteers; nothing else of them is written."""
    if (recordings is None) == (camera is None):
        raise typer.BadParameter("Name a folder of recordings or a camera.")
    with _reporting() as progress:
        text = read_text(base) if base else Calibration.default_text()
        calibration = Calibration.from_json(text)
        curve = ImpostorCurve.read(text)
        pipeline = FacePipeline.load(cache_dir / "models", embedder)
        calibration.require_model(pipeline.model_id)
        if recordings is not None:
            site = measure_site(recordings, pipeline, _advancing(progress, "Volunteers"))
        else:
            site = measure_live(partial(open_source, camera or 0), pipeline, _ready)
        rate, factor, cautious = site.factor(curve)
        rows = moved_rows(calibration, cautious, site.refused)
        costs = Costs.read(costs_file) if costs_file else Costs()
        attacks = Attacks.read(json.loads(text).get("measured", {}))
        verification = None
        if calibration.verification is not None:
            verification = cautious * squared_distance(calibration.verification.threshold, calibration)
        priced = with_amounts(rows, attacks, costs)
        notes = [
            f"{site.volunteers} volunteers on this site's cameras ({site.missed} walks gave no probe): strangers'"
            f" squared distances at a rate of {rate:g} are"
            f" {factor:.3f} times those of the public set, {cautious:.3f} at the cautious end; the tail is the"
            " public set's, moved by the latter.",
        ]
        out.write_text(
            calibration_document(
                calibration,
                curve.moved(cautious),
                priced,
                notes,
                verification=verification,
                currency=costs.currency,
                attacks=asdict(attacks),
                volunteers=site.volunteers,
            )
        )
    for row in rows:
        if row["fpir"] == 0.001 and row["payers"] in (10, 100, 1000, 10_000):
            typer.echo(
                f"{row['payers']:>6,} payers, FPIR 0.1 %: threshold {row['threshold']},"
                f" {100 * row['genuine_refused']:.1f} % of walks refused"
            )
    largest = max((row["payers"] for row in priced if row["face_alone"]), default=0)
    typer.echo(f"A face alone may pay something up to {largest:,} payers; above it the PIN or the phone is asked for.")
    typer.echo(f"Written: {out}")


def _ready(volunteer: int, number: int) -> bool:
    """Wait for a volunteer in front of the camera; no to end, or to leave a pass out."""
    what = "stand before the camera and turn the head about" if number == 0 else "walk up to the camera"
    return typer.confirm(f"Volunteer {volunteer + 1}, pass {number + 1} of {PASSES}: {what}. Go on?", default=True)


def _summary(report: dict[str, object]) -> None:
    study = report["what"], report["verification"]
    what, verification = (dict(part) for part in study if isinstance(part, dict))
    typer.echo(f"{what['photos']:,} photos, {what['people']:,} people, {verification['impostor']:,} impostor pairs")
    for row in verification["at"]:
        typer.echo(f"single photos: FNMR {100 * row['fnmr']['value']:.2f} % at FMR {row['fmr']:.0e}")


@contextmanager
def _reporting() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=_console) as progress:
            yield progress
    except (EvaluationError, BiometricsError, IdentificationError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _advancing(progress: Progress, what: str) -> Callable[[int, int], None]:
    task = progress.add_task(what, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)
