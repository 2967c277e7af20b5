"""Counts of a whole installation, for whoever has to assess it: of no payer, no place and no day."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from facefare.payments import tables
from facefare.wallet import consents, device_tables
from facefare.wallet import tables as wallet


@dataclass(frozen=True)
class Figures:
    """Numbers now, and of what happened since a moment.

    Attributes:
        payers: accounts that are not closed.
        consents: in force, by profile.
        faces: at the guardians, by gallery.
        devices: that may pay, self-made or attested.
        terminals: gates and tills that are not revoked; stations: enrolment stations.
        outcomes: attempts by face and by code since then, by what came of them.
        disputes: "this wasn't me", by what became of them.
        lookups: looks of staff at a payer's data.
        lost_answers: of the guardians, that did not come whole.
        last_retention: when data was last forgotten on time.
    """

    payers: int
    consents: dict[str, int]
    faces: dict[str, int]
    devices: dict[str, int]
    terminals: dict[str, int]
    stations: int
    outcomes: dict[str, int]
    disputes: dict[str, int]
    lookups: int
    lost_answers: int
    last_retention: datetime | None


def figures(connection: Connection, since: datetime) -> Figures:
    """Count everything; `since`: for what happened."""
    payer, consent, face, station = wallet.payer, wallet.consent, wallet.face, wallet.station
    device, terminal, intent, dispute = device_tables.device, tables.terminal, tables.intent, tables.dispute
    log, lost = wallet.access_log, wallet.lost_answer

    def number(table: Table, *conditions: ColumnElement[bool]) -> int:
        return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())

    def by(column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> dict[str, int]:
        rows = connection.execute(select(column, func.count()).where(*conditions).group_by(column).order_by(column))
        return {str(name): count for name, count in rows}

    given = connection.execute(select(consent).where(consent.c.withdrawn_at.is_(None)))
    return Figures(
        payers=number(payer, payer.c.closed_at.is_(None)),
        consents=Counter(
            consents.Consent(row.id, row.payer_id, row.receipt, row.receipt_sha256).profile.value for row in given
        ),
        faces=by(face.c.gallery_id, face.c.state != "deleted"),
        devices={
            "attested": number(device, device.c.state == "active", device.c.station_id.is_not(None)),
            "self-made": number(device, device.c.state == "active", device.c.station_id.is_(None)),
        },
        terminals=by(terminal.c.kind, terminal.c.revoked_at.is_(None)),
        stations=number(station, station.c.revoked_at.is_(None)),
        outcomes=by(
            func.coalesce(intent.c.reason, intent.c.outcome),
            intent.c.created_at >= since,
            intent.c.outcome.is_not(None),
        ),
        disputes=by(dispute.c.state, dispute.c.created_at >= since),
        lookups=number(log, log.c.at >= since, log.c.outcome == "details_read"),
        lost_answers=number(lost, lost.c.at >= since),
        last_retention=connection.execute(select(func.max(wallet.retention_run.c.ran_at))).scalar_one(),
    )
