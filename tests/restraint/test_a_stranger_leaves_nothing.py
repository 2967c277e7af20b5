"""Of a stranger at the gate nothing derived from the face stays behind, anywhere."""

import asyncio
import contextlib
import sqlite3

import numpy as np
from sqlalchemy import MetaData, func, select
from three_guardians import DEMO, TERMINAL, synthetic_templates

from facefare.audit.entries import Entry
from facefare.audit.log import read_frames
from facefare.guardian.ceremony import Folder
from facefare.guardian.sealing import SealedFor, open_sealed
from facefare.identification.quantise import quantise
from facefare.mpc.answers import NoMatch

_PIECE = 12  # bytes: long enough that chance finds none


def pieces(data):
    return {data[start : start + _PIECE] for start in range(0, len(data) - _PIECE + 1, _PIECE)}


def everything(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def traces_of(trio, request, face):
    """Everything that could remain: the template in each form, its shares opened and sealed, the signature."""
    secret = quantise(face, trio.calibration)
    found = {"the template": face.tobytes(), "the signature": request.signature}
    for kind in (np.int32, np.int16, np.int8, np.float32):
        found[f"the template as {kind.__name__}"] = secret.astype(kind).tobytes()
    for index, sealed in enumerate(request.sealed):
        found[f"sealed part {index}"] = sealed
        key = Folder(trio.folder(index)).sealing_key()
        query = request.fields().query_id
        found[f"share {index}"] = open_sealed(sealed, key, index, SealedFor.SEARCH, DEMO, query)
    return found


def test_three_guardians_keep_of_a_stranger_only_terminal_time_purpose_and_hashes(trio):
    (face,) = synthetic_templates(1, seed=4711)
    request = trio.search_request(face)
    before = [rows(trio.folder(index)) for index in range(3)]

    async def look():
        async with trio.relay() as guardians:
            assert await guardians.search(request, trio.version[DEMO], -2000) == NoMatch()
        await asyncio.sleep(5)  # a checkpoint or two

    asyncio.run(look())
    kept = {file: data for index in range(3) for file, data in everything(trio.folder(index)).items()}
    kept |= {file: file.read_bytes() for file in trio.base.glob("*.log")}
    for name, data in traces_of(trio, request, face).items():
        for piece in pieces(data):
            where = [file.name for file, content in kept.items() if piece in content]
            assert not where, f"{name} in {where}"
    for index in range(3):
        after = rows(trio.folder(index))
        changed = {table for table in after if after[table] != before[index].get(table)}
        assert changed <= {"requests", "seen", "days"}
        with (trio.folder(index) / "log" / "entries").open("rb") as file:
            entry = Entry.from_bytes(list(read_frames(file))[-1])
        assert (entry.terminal, entry.purpose) == (TERMINAL, "payment")
        assert set(entry.commitments) == {"gallery", "query", "request"}


def test_a_payers_search_and_a_strangers_leave_the_same_amount_behind(trio):
    payer, stranger = synthetic_templates(1000, seed=7)[3], synthetic_templates(1, seed=4712)[0]

    async def growth(face):
        async with trio.relay() as guardians:
            before = [(trio.folder(index) / "log" / "entries").stat().st_size for index in range(3)]
            await trio.search(guardians, face)
            return [(trio.folder(n) / "log" / "entries").stat().st_size - before[n] for n in range(3)]

    assert asyncio.run(growth(payer)) == asyncio.run(growth(stranger))


def test_the_wallet_keeps_of_a_stranger_an_attempt_without_a_person(world):
    world.payer("ada")
    before = wallet_rows(world.engine)
    search = world.requests.search("a stranger's face")
    reply = world.gate.attempt(amount=280, currency="EUR", search=search.to_bytes())
    assert reply.outcome == "use_card"
    after = wallet_rows(world.engine)
    assert {table for table in after if after[table] != before[table]} <= {"payment_intent", "terminal_nonce"}
    metadata = MetaData()
    metadata.reflect(world.engine)
    with world.engine.connect() as connection:
        stored = "".join(str(connection.execute(select(table)).all()) for table in metadata.sorted_tables)
        intent = connection.execute(
            select(metadata.tables["payment_intent"]).order_by(metadata.tables["payment_intent"].c.created_at.desc())
        ).first()
    assert "stranger" not in stored
    assert intent is not None
    assert intent.payer_id is None


def rows(folder):
    counts = {}
    for file in folder.glob("*.db"):
        with contextlib.closing(sqlite3.connect(file)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                counts[table] = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    return counts


def wallet_rows(engine):
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
