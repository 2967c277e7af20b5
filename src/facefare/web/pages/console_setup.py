"""The console's terminals and tariffs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path as File
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Path, UploadFile
from sqlalchemy import Connection, func, select
from starlette.responses import Response

from facefare.fares.tariff import load_tariff
from facefare.payments import merchants, tables, tariffs
from facefare.payments.merchants import Terminal
from facefare.payments.tariffs import FarePoint
from facefare.payments.travel_tables import fare_point
from facefare.web.api.services import Services, WithServices
from facefare.web.pages import staff
from facefare.web.pages.desk import Desk, ForFigures, ForTariffs, ForTerminals
from facefare.web.pages.errors import NotAsExpected

router = APIRouter(prefix="/console")

_TerminalId = Annotated[str, Path(pattern=r"^trm_[A-Za-z0-9_-]{1,40}$")]
_Hex = Annotated[str, Form(max_length=130)]

# --- terminals and their keys ---


@router.get("/terminals")
def terminals(desk: ForFigures, services: WithServices) -> Response:
    """Gates and tills."""
    return _terminals(desk, services)


@router.post("/terminals")
def register(
    desk: ForTerminals,
    services: WithServices,
    id: Annotated[str, Form(pattern=r"^trm_[A-Za-z0-9_-]{1,40}$")],
    merchant: Annotated[str, Form(pattern=r"^mer_[0-9a-z]{26}$")],
    place: Annotated[str, Form(min_length=1, max_length=200)],
    kind: Annotated[Literal["gate", "till"], Form()],
    key: _Hex,
    proof: _Hex,
) -> Response:
    """Let a gate or till that has shown that it has its key take payments."""
    public_key = _proved(merchant, id, key, proof)
    with services.engine.begin() as connection:
        merchants.register_terminal(connection, Terminal(id, merchant, place, public_key, kind))
        staff.note(connection, desk.member, "register_terminal", id)
    return _terminals(desk, services, done="Registered. The guardians have to register it too.")


@router.post("/terminals/{terminal_id}/key")
def rotate(terminal_id: _TerminalId, desk: ForTerminals, services: WithServices, key: _Hex, proof: _Hex) -> Response:
    """Take a terminal's next key in place of the one that it has."""
    with services.engine.begin() as connection:
        terminal = merchants.terminal(connection, terminal_id)
        merchants.rotate_key(connection, terminal, _proved(terminal.merchant_id, terminal_id, key, proof))
        staff.note(connection, desk.member, "rotate_key", terminal_id)
    return _terminals(desk, services, done="The new key is in force. The guardians have to register it too.")


@router.post("/terminals/{terminal_id}/revoke")
def revoke(terminal_id: _TerminalId, desk: ForTerminals, services: WithServices) -> Response:
    """Refuse a gate or till from now on."""
    with services.engine.begin() as connection:
        merchants.terminal(connection, terminal_id)
        merchants.revoke_terminal(connection, terminal_id)
        staff.note(connection, desk.member, "revoke_terminal", terminal_id)
    return _terminals(desk, services, done="Revoked. The guardians have to revoke it too.")


def _proved(merchant: str, terminal: str, key: str, proof: str) -> bytes:
    try:
        public_key, signature = bytes.fromhex(key), bytes.fromhex(proof)
    except ValueError as error:
        raise NotAsExpected("A key has 64 hex digits, its proof 128.") from error
    merchants.check_proof(merchant, terminal, public_key, signature)
    return public_key


def _terminals(desk: Desk, services: Services, done: str | None = None) -> Response:
    columns, nonce, points = tables.terminal.c, tables.terminal_nonce.c, fare_point.c
    seen = select(func.max(nonce.seen_at)).where(nonce.terminal_id == columns.id).scalar_subquery()
    query = (
        select(tables.terminal, seen.label("seen"), points.tariff_id, points.stop)
        .outerjoin(fare_point, points.terminal_id == columns.id)
        .order_by(columns.revoked_at.is_not(None), columns.id)
    )
    with services.engine.connect() as connection:
        found = connection.execute(query).all()
        sellers = connection.execute(select(tables.merchant).order_by(tables.merchant.c.name)).all()
    return desk.page("console_terminals.html", terminals=found, merchants=sellers, done=done)


# --- tariffs ---


@router.get("/tariffs")
def tariff_list(desk: ForFigures, services: WithServices) -> Response:
    """Tariffs, and since when or from when on each version is in force."""
    return _tariffs(desk, services)


@router.post("/tariffs")
def tariff_new(desk: ForTariffs, services: WithServices, file: UploadFile) -> Response:
    """Add a tariff's new versions; those that are known are never changed."""
    with as_file(file) as path, services.engine.begin() as connection:
        tariff = load_tariff(path)
        added = tariffs.import_tariff(connection, tariff)
        days = ", ".join(map(str, added))
        staff.note(connection, desk.member, "import_tariff", f"{tariff.id}: {days or 'nothing new'}")
    return _tariffs(desk, services, done="Added." if added else "Nothing in it was new.")


@router.post("/tariffs/assign")
def tariff_assign(
    desk: ForTariffs,
    services: WithServices,
    terminal: Annotated[str, Form(pattern=r"^trm_[A-Za-z0-9_-]{1,40}$")],
    tariff: Annotated[str, Form(max_length=100)],
    stop: Annotated[str, Form(max_length=100)],
    kind: Annotated[Literal["entry", "exit", "flat"], Form()],
    network: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Let a gate charge a tariff's fares at a stop."""
    with services.engine.begin() as connection:
        tariffs.assign(connection, terminal, FarePoint(tariff, stop, kind, network))
        staff.note(connection, desk.member, "assign_tariff", f"{terminal}: {tariff}, {stop}, {kind}")
    return _tariffs(desk, services, done="Assigned.")


def _tariffs(desk: Desk, services: Services, done: str | None = None) -> Response:
    with services.engine.connect() as connection:
        listed = tariffs.listed(connection)
        gates = _gates(connection)
    today = datetime.now(UTC).date()
    in_force: dict[str, date] = {}
    for one in listed:
        if one.effective_from <= today:
            in_force[one.tariff_id] = one.effective_from
    return desk.page(
        "console_tariffs.html",
        tariffs=listed,
        in_force=in_force,
        today=today,
        gates=gates,
        ids=sorted({one.tariff_id for one in listed}),
        done=done,
    )


def _gates(connection: Connection) -> list[str]:
    columns = tables.terminal.c
    query = select(columns.id).where(columns.kind == "gate", columns.revoked_at.is_(None)).order_by(columns.id)
    return [str(id) for id in connection.execute(query).scalars()]


@contextmanager
def as_file(upload: UploadFile) -> Iterator[File]:
    """What was uploaded, as a file, for as long as it is looked at."""
    with tempfile.TemporaryDirectory(prefix="facefare-upload-") as folder:
        path = File(folder) / "upload"
        path.write_bytes(upload.file.read())
        yield path
