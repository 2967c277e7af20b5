"""`facefare wallet searches | assessment`: what auditors and data protection officers need of a wallet, in counts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from facefare.guardian.identity import GuardianIdentity
from facefare.identification.calibration import Calibration
from facefare.identification.errors import CalibrationError
from facefare.payments.disputes import WINDOW
from facefare.payments.figures import Figures, figures
from facefare.payments.searches import between
from facefare.settings import Settings
from facefare.web.commands import database, plain_errors


def searches(
    file: Annotated[Path, typer.Argument(help="Where to write it (JSON), for `facefare audit reconcile`.")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC).")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC).")],
) -> None:
    """Write which searches of some days led to a payment and which ones payers see: hashes and counts only."""
    since, until = first.replace(tzinfo=UTC), last.replace(tzinfo=UTC) + timedelta(days=1)
    with plain_errors(), database(Settings.read()) as engine, engine.connect() as connection:
        found = between(connection, since, until)
        period = {"since": int(since.timestamp() * 1000), "until": int(until.timestamp() * 1000)}
        file.write_text(json.dumps(asdict(found) | period, indent=1) + "\n")
    typer.echo(
        f"{len(found.paid)} paid, {len(found.visible)} visible to their payers, {found.lost_answers} answers lost."
    )


_DAYS = 30


def assessment(
    file: Annotated[Path, typer.Argument(help="Where to write it (Markdown).")],
) -> None:
    """Write this installation's figures, for a data protection impact assessment to start from."""
    settings = Settings.read()
    with plain_errors():
        calibration = Calibration.from_file(settings.calibration) if settings.calibration else Calibration.default()
        guardians = [GuardianIdentity.from_file(path) for path in settings.guardians]
        now = datetime.now(UTC)
        with database(settings) as engine, engine.connect() as connection:
            found = figures(connection, now - timedelta(days=_DAYS))
        rows = [*_set(settings, guardians), *_counted(found), *_measured(settings, calibration, found)]
        lines = [
            f"# Figures of {settings.operator}, {now:%Y-%m-%d}",
            "",
            "Written by `facefare wallet assessment`. What to make of them: docs/privacy.md, the table by rule.",
            "",
            "| what | figure |",
            "|---|---|",
            *(f"| {what} | {figure} |" for what, figure in rows),
            "",
            "Not known here, and yours to add: why this is necessary at your site, and what you offer instead;",
            "error rates by group with your own cameras (`facefare evaluate`); what guardians keep of backups;",
            "who was consulted.",
        ]
        file.write_text("\n".join(lines) + "\n")
    typer.echo(f"{len(rows)} figures.")


def _set(settings: Settings, guardians: Sequence[GuardianIdentity]) -> list[tuple[str, str]]:
    offered = "the payer's own phone" + (", or three guardians (hands-free)" if settings.hands_free else " only")
    return [
        ("Controller, contact", f"{settings.operator}, {settings.operator_contact}"),
        ("Notice in force", f"version {settings.notice_version}, {settings.notice_url}"),
        ("Ways of paying by face that are offered", offered),
        ("Guardians", ", ".join(f"{one.name} ({one.host})" for one in guardians) or "none set"),
        ("A face is kept unused for", f"{settings.retention_days} days"),
        ("Places are kept for", f"{WINDOW.days} days"),
        ("A reference that no station attested pays up to", f"{settings.self_made_limit} minor units"),
    ]


def _counted(found: Figures) -> list[tuple[str, str]]:
    ago = f"in the last {_DAYS} days"
    last = "never" if found.last_retention is None else found.last_retention.astimezone(UTC).isoformat("T", "minutes")
    return [
        ("Accounts", str(found.payers)),
        ("Consents in force", _listed(found.consents)),
        ("Faces at the guardians", _listed(found.faces)),
        ("Phones that may pay", _listed(found.devices)),
        ("Terminals", _listed(found.terminals)),
        ("Enrolment stations", str(found.stations)),
        (f"Attempts {ago}, by what came of them", _listed(found.outcomes)),
        (f'"This wasn\'t me" {ago}', _listed(found.disputes)),
        (f"Looks of staff at a payer's data {ago}", str(found.lookups)),
        (f"Answers of the guardians that did not come whole {ago}", str(found.lost_answers)),
        ("Data was last forgotten on time", last),
    ]


def _measured(settings: Settings, calibration: Calibration, found: Figures) -> list[tuple[str, str]]:
    """What the calibration says of errors, for the largest gallery now."""
    payers = max(found.faces.values(), default=1)
    try:
        threshold = str(calibration.threshold(payers, settings.fpir))
    except CalibrationError:
        threshold = "none: payments there ask for a card"
    fmr = "not measured" if calibration.verification is None else f"{calibration.verification.fmr:g}"
    whose = " (a placeholder, not for service)" if calibration.placeholder else ""
    return [
        ("Embedder, calibration", f"{calibration.model}{whose}"),
        (f"Strangers taken for one of {payers} payers, at most (FPIR)", f"{settings.fpir:g}"),
        ("Threshold for that", threshold),
        ("Strangers taken for the owner of a shown code (FMR)", fmr),
        ("Payers not recognised (FNMR, FNIR), by group", "from `facefare evaluate` on your own cameras"),
    ]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items()) or "0"
