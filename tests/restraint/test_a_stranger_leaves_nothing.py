"""Of a stranger at the gate nothing derived from the face stays behind, anywhere."""

import asyncio
import base64
import contextlib
import logging
import sqlite3
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from sqlalchemy import text
from three_guardians import DEMO, LIVE, TERMINAL, Templates, synthetic_templates

from facefare.audit.entries import Entry
from facefare.audit.log import read_frames
from facefare.client import TerminalClient, Unreachable
from facefare.guardian.ceremony import Folder
from facefare.guardian.sealing import SealedFor, open_sealed
from facefare.identification.quantise import quantise
from facefare.mpc.answers import NoMatch
from facefare.terminal.charging import Charging
from facefare.terminal.commands import JsonScreen, say
from facefare.terminal.fares import FixedFare
from facefare.terminal.gate import Gate
from facefare.terminal.lost_answers import LostAnswers

_PIECE = 12  # bytes: long enough that chance finds none


def pieces(data):
    return {data[start : start + _PIECE] for start in range(0, len(data) - _PIECE + 1, _PIECE)}


def everything(folder):
    """What is in each file; of long rows of zeros a few."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file: file.read_bytes().replace(bytes(4096), bytes(_PIECE)) for file in files}


def traces_of(trio, request, face):
    """Everything that could remain: the template in each form, its shares opened and sealed, the signature."""
    secret = quantise(face, trio.calibration)
    found = {"the template": face.tobytes(), "the signature": request.signature}
    for kind in (np.int32, np.int16, np.int8, np.float32):
        found[f"the template as {kind.__name__}"] = secret.astype(kind).tobytes()
    for index, sealed in enumerate(request.sealed):
        found[f"sealed part {index}"] = sealed
        key = Folder(trio.folder(index)).sealing_key()
        fields = request.fields()
        found[f"share {index}"] = open_sealed(sealed, key, index, SealedFor.SEARCH, fields.gallery, fields.query_id)
    return found


def written(piece):
    """The piece as it is, in hexadecimal, in base64, and as numbers with commas."""
    numbers = [str(number).encode() for number in np.frombuffer(piece, np.int8)]
    return {piece, piece.hex().encode(), base64.b64encode(piece), b",".join(numbers), b", ".join(numbers)}


def test_three_guardians_keep_of_a_stranger_only_terminal_time_purpose_and_hashes(trio):
    (face,) = synthetic_templates(1, seed=4711)
    request = trio.search_request(face)
    before = [rows(trio.folder(index)) for index in range(3)]

    async def look():
        async with trio.relay() as guardians:
            assert await guardians.search(request, trio.version[DEMO], -2000) == NoMatch()
        await trio.checkpointed()

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


class Passers:
    """Who walks up to the gate, one face a frame; None: nobody."""

    somebody_near = wants_to_pay = ready = False

    def offer(self, face):
        self.face = face
        self.somebody_near = self.wants_to_pay = self.ready = face is not None

    def probe(self):
        return Templates(self.face)

    def forget(self):
        pass


@pytest.fixture
def gate(trio, wallet, tmp_path):
    """A hands-free gate in a folder of its own, before a real wallet and real guardians; what it sealed, what came."""
    with wallet("Gate 1") as http:
        client = TerminalClient(http, TERMINAL, trio.keys[TERMINAL])
        sealed, attempts = [], []

        def seal(probe):
            sealed.append(trio.search_request(probe.vector, gallery=LIVE))
            return sealed[-1]

        def done(attempt):
            attempts.append(attempt)
            say("attempt", asdict(attempt))

        purse = Charging(client, LostAnswers(tmp_path / "gate.lost", client.undo), seal)
        fare = FixedFare(280, "EUR")
        ask = lambda probe: purse.once(probe, amount=280, currency="EUR")  # noqa: E731
        run = Gate(Passers(), ask, JsonScreen(), fare, done).run
        yield SimpleNamespace(run=run, client=client, sealed=sealed, attempts=attempts, folder=tmp_path)


def test_the_wallet_keeps_of_a_stranger_an_attempt_without_a_person_and_nothing_of_the_search(trio, gate, engine):
    (face,) = synthetic_templates(1, seed=4713)
    before, since = tables(engine), log_position(engine)
    gate.run([face, None])
    assert [(one.outcome, one.reason) for one in gate.attempts] == [("use_card", "not_recognised")]
    after = tables(engine)
    changed = {table for table in after if len(after[table]) != len(before[table])}
    assert changed <= {"payment_intent", "terminal_nonce", "tries"}  # of the terminal: how often it asked
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*), count(payer_id) FROM payment_intent")).one() == (1, 0)
    kept = "\n".join(row for rows in after.values() for row in rows).encode()
    log = log_since(engine, since)  # also what was deleted again is in it
    (request,) = gate.sealed
    query = request.fields().query_id
    assert query.hex().encode() in kept, "what is kept is found"
    assert query in log
    for name, data in traces_of(trio, request, face).items():
        for form in {form for piece in pieces(data) for form in written(piece)}:
            assert form not in kept, f"{name} in the wallet's tables"
            assert form not in log, f"{name} in the database's own log"


def test_a_gate_keeps_and_prints_nothing_of_a_stranger_but_the_id_of_a_search_whose_answer_was_lost(
    trio, gate, monkeypatch, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    answered, lost = synthetic_templates(2, seed=4714)
    attempt = gate.client.attempt

    def silent(**asked):
        attempt(**asked)
        raise Unreachable(httpx.ReadError("gone"))

    gate.run([answered, None])
    monkeypatch.setattr(gate.client, "attempt", silent)
    gate.run([lost, None])
    assert [one.reason for one in gate.attempts] == ["not_recognised", "no_network"]
    files = everything(gate.folder)
    assert {str(file.relative_to(gate.folder)): data for file, data in files.items()} == {
        f"gate.lost/{gate.sealed[1].fields().query_id.hex()}": b""
    }
    said = "\n".join([*capfd.readouterr(), *(record.getMessage() for record in caplog.records)]).encode()
    assert b"not_recognised" in said
    for request, face in zip(gate.sealed, (answered, lost), strict=True):
        assert str(float(face[0])).encode()[:8] not in said
        for name, data in traces_of(trio, request, face).items():
            assert not [form for piece in pieces(data) for form in written(piece) if form in said], name


def rows(folder):
    counts = {}
    for file in folder.glob("*.db"):
        with contextlib.closing(sqlite3.connect(file)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                counts[table] = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    return counts


def tables(engine):
    """All rows of each table, as the database writes them."""
    with engine.connect() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        return {name: connection.execute(text(f'SELECT t::text FROM "{name}" t')).scalars().all() for name in names}


def log_position(engine):
    """(File, offset) up to which the database's own log of changes (WAL) was written."""
    with engine.connect() as connection:
        return tuple(connection.execute(text("SELECT * FROM pg_walfile_name_offset(pg_current_wal_lsn())")).one())


def log_since(engine, position):
    (first, begin), (last, end) = position, log_position(engine)
    with engine.connect() as connection:
        folder = Path(connection.execute(text("SHOW data_directory")).scalar_one()) / "pg_wal"
    files = sorted(file for file in folder.iterdir() if first <= file.name <= last)
    whole = b"".join(file.read_bytes() for file in files)
    return whole[begin : len(whole) - files[-1].stat().st_size + end]
