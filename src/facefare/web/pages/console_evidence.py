"""The console's evidence: how good the recognition is, what the guardians' logs say, what the staff did.

The logs are read where anybody can read them, and their signatures are checked here; a log that can't be read or
checked is shown as such.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import httpx
from fastapi import APIRouter
from sqlalchemy import select
from starlette.responses import Response

from facefare.audit.checkpoints import Checkpoint, open_checkpoint
from facefare.audit.errors import AuditError
from facefare.audit.notes import MAX_NOTE_BYTES, NoteKey, SignedNote
from facefare.guardian.identity import GuardianIdentity
from facefare.identification.errors import CalibrationError
from facefare.wallet import tables as wallet
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import staff
from facefare.web.pages.console import statuses
from facefare.web.pages.desk import ForFigures
from facefare.web.pages.staff import May
from facefare.web.pages.visitor import WithSite

router = APIRouter(prefix="/console")

_TIMEOUT = 3.0


@dataclass(frozen=True)
class Log:
    """A guardian's transparency log as it is published; `problem`: "elsewhere", "unreadable" or "unsigned"."""

    name: str
    checkpoint: Checkpoint | None
    cosigned: tuple[tuple[str, datetime | None], ...]
    problem: str | None


@dataclass(frozen=True)
class Accuracy:
    """What of a report of `facefare evaluate` the console shows; rates are parts of one.

    Attributes:
        one_to_one: FMR, then FNMR with its interval.
        one_to_many: payers, views enrolled, views in the probe, and (FPIR, FNIR) pairs.
        attacks: the check, the species, where it is from, APCER or BPCER, and that with its interval.
    """

    photos: int
    people: int
    one_to_one: list[tuple[float, tuple[float, float, float]]]
    one_to_many: list[tuple[int, int, int, list[tuple[float, float]]]]
    attacks: list[tuple[str, str, str, str, tuple[float, float, float]]]

    @classmethod
    def read(cls, path: Path) -> "Accuracy | None":
        """From the report's JSON; None where it can't be read as one."""
        try:
            body: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return cls(
                photos=int(body["what"]["photos"]),
                people=int(body["what"]["people"]),
                one_to_one=[(float(at["fmr"]), _rate(at["fnmr"])) for at in body["verification"]["at"]],
                one_to_many=[
                    (
                        int(row["payers"]),
                        int(row["enrolled"]),
                        int(row["probe"]),
                        [(float(at["fpir"]), float(at["fnir"]["value"])) for at in row["at"]],
                    )
                    for row in body["identification"]
                ],
                attacks=[
                    (
                        str(row["check"]),
                        str(row["species"]),
                        str(row["source"]),
                        str(row["measure"]),
                        _rate(row["rate"]),
                    )
                    for row in body["attacks"]
                ],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _rate(described: dict[str, float]) -> tuple[float, float, float]:
    return float(described["value"]), float(described["low"]), float(described["high"])


@runtime_checkable
class Known(Protocol):
    """Guardians whose public identities are known."""

    @property
    def identities(self) -> Sequence[GuardianIdentity]:
        """Of guardians 0, 1, 2."""


@dataclass(frozen=True)
class Rule:
    """The threshold that is in force for a gallery; none where the table doesn't reach, and a card is asked for.

    face_alone: (minor units, currency) that a till takes without a second factor.
    """

    gallery: str
    kind: str
    payers: int
    threshold: int | None
    face_alone: tuple[tuple[int, str], ...]


@router.get("/reports")
def reports(desk: ForFigures, services: WithServices, site: WithSite) -> Response:
    """The calibration in force, and the last measured error rates."""
    table = sorted(services.calibration.thresholds, key=lambda row: (row.fpir, row.payers))
    return desk.page(
        "console_reports.html",
        calibration=services.calibration,
        fpir=services.fpir,
        stated=services.stated,
        table=[row for row in table if row.fpir == services.fpir] or table,
        rules=_rules(services),
        accuracy=None if site.accuracy is None else Accuracy.read(site.accuracy),
    )


def _rules(services: Services) -> list[Rule]:
    with services.engine.connect() as connection:
        galleries = connection.execute(select(wallet.gallery).order_by(wallet.gallery.c.id)).all()
    rules = []
    for gallery in galleries:
        try:
            threshold = services.calibration.threshold(max(gallery.live, 1), services.fpir)
        except CalibrationError:
            threshold = None
        limits = services.rules_for(gallery.live).face_alone
        amounts = tuple((limit.single, currency) for currency, limit in sorted(limits.items()))
        rules.append(Rule(gallery.id, gallery.kind, gallery.live, threshold, amounts))
    return rules


@router.get("/audit")
async def audit(desk: ForFigures, services: WithServices) -> Response:
    """Guardians, their galleries and logs; for who may see it, what the staff did."""
    said = await statuses(services)
    logs: list[Log] | None = None
    if isinstance(services.guardians, Known):
        logs = await _logs(services.guardians.identities)
    done = await asyncio.to_thread(_actions, services) if desk.member.may(May.SEE_ACTIONS) else None
    heads = {(g.gallery, g.head) for status in said or () if status for g in status.galleries}
    return desk.page(
        "console_audit.html",
        statuses=said,
        agree=len(heads) == len({gallery for gallery, _ in heads}),
        logs=logs,
        actions=done,
        at=datetime.now(UTC),
    )


def _actions(services: Services) -> list[staff.Action]:
    with services.engine.connect() as connection:
        return staff.actions(connection, limit=100)


async def _logs(identities: Sequence[GuardianIdentity]) -> list[Log]:
    witnesses = [NoteKey.parse(one.witness_key) if one.witness_key else None for one in identities]
    async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
        return list(await asyncio.gather(*(_log(client, one, witnesses) for one in identities)))


async def _log(client: httpx.AsyncClient, identity: GuardianIdentity, witnesses: list[NoteKey | None]) -> Log:
    if not identity.public_port or not identity.log_key:
        return Log(identity.name, None, (), "elsewhere")
    try:
        answer = await client.get(f"http://{identity.host}:{identity.public_port}/checkpoint")
        answer.raise_for_status()
        note = SignedNote.parse(answer.content[: MAX_NOTE_BYTES + 1])
        checkpoint = open_checkpoint(note, NoteKey.parse(identity.log_key))
        signed = [
            (key.name, note.time_signed_by(key))
            for index, key in enumerate(witnesses)
            if key is not None and index != identity.index
        ]
    except httpx.HTTPError:
        return Log(identity.name, None, (), "unreadable")
    except AuditError:
        return Log(identity.name, None, (), "unsigned")
    times = tuple((name, None if at is None else datetime.fromtimestamp(at, UTC)) for name, at in signed)
    return Log(identity.name, checkpoint, times, None)
