"""Stolen stores, tried as an attacker would; docs/threat-model.md says what each gives, two colluding guardians too."""

import asyncio
import contextlib
import shutil
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import text
from three_guardians import DEMO, LIVE, STATION, TERMINAL, gallery, synthetic_templates
from typer.testing import CliRunner

from facefare.client import PayerClient, StationClient, TerminalClient
from facefare.guardian import backups
from facefare.guardian.accumulators import Accumulators
from facefare.guardian.ceremony import Folder
from facefare.guardian.commands import app
from facefare.guardian.store import ShareStore
from facefare.identification.quantise import quantise
from facefare.mpc.sharing import missing_share_part

D = 128
PAYERS = 12


def shares_in(path, name=DEMO, kind="demo"):
    store = ShareStore(path)
    shares = store.load(gallery(name, kind)).shares.copy()
    store.close()
    return shares


def templates(trio):
    """What rows 0 to 999 hold."""
    return quantise(synthetic_templates(1000, seed=7), trio.calibration)


def rank_of_own_row(shares, probes):
    """As a template store: at which rank of all rows the own row comes, for each probe, from 0 to 1."""
    rows = shares[:, :D].view(np.int16).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    table = (probes / np.linalg.norm(probes, axis=1, keepdims=True)) @ rows.T
    own = table[np.arange(len(probes)), np.arange(len(probes))]
    return (table > own[:, None]).mean(axis=1)


def rebuilt(first, second):
    """What guardians 0 and 1 make of their shares together: the line's value at 0."""
    third = missing_share_part(first, 1) + missing_share_part(second, 2)
    return ((first + second + third) * np.uint16(43691)).view(np.int16)


def test_one_guardians_whole_folder_finds_nobody(trio):
    known = templates(trio)
    for index in range(3):
        ranks = rank_of_own_row(shares_in(Folder(trio.folder(index)).shares), known.astype(np.float64))
        assert 0.45 < ranks.mean() < 0.55, "the own row comes anywhere"


def test_the_wallets_word_on_whose_row_is_whose_adds_nothing_to_one_guardians_shares(trio):
    """The wallet knows rows and payers: with every face known but one, the last one's share still says nothing."""
    known = templates(trio).astype(np.float64)
    for index in range(3):
        shares = shares_in(Folder(trio.folder(index)).shares)[:1000, :D].view(np.int16).astype(np.float64)
        correlation = np.corrcoef(known.ravel(), shares.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(known.size)
        learnt, *_ = np.linalg.lstsq(shares[:999], known[:999], rcond=None)
        guess = shares[999] @ learnt
        mean_guess = known[:999].mean(axis=0)
        assert np.linalg.norm(guess - known[999]) > 0.8 * np.linalg.norm(mean_guess - known[999])


@pytest.fixture
def loot(trio, wallet, engine, tmp_path):
    """The wallet's whole database, and guardian 1's whole folder, its sums after each of 24 looks and a stranger's.

    More than a thief has who comes once.
    """
    faces = synthetic_templates(PAYERS, seed=9)
    with wallet("Gate 1") as http:
        for face in faces:
            payer, _ = PayerClient.register(http, "EUR")
            payer.top_up(1000, "first")
            _, consent = payer.consent("1")
            desk = {"gallery": LIVE, "station": STATION, "key": trio.keys[STATION], "consent_sha256": consent}
            StationClient(http).enrol(trio.enrol_request(face, **desk).to_bytes())
        gate = TerminalClient(http, TERMINAL, trio.keys[TERMINAL])
        sums = [sums_in(trio.folder(1), LIVE, PAYERS, tmp_path)]
        for probe in (*(faces[look % 3] for look in range(24)), *synthetic_templates(1, seed=10)):
            search = trio.search_request(probe, gallery=LIVE).to_bytes()
            gate.attempt(amount=280, currency="EUR", search=search)
            sums.append(sums_in(trio.folder(1), LIVE, PAYERS, tmp_path))
    folder = tmp_path / "guardian"
    shutil.copytree(trio.folder(1), folder)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        tables = {name: connection.execute(text(f'SELECT * FROM "{name}"')).mappings().all() for name in names}
    seen = sorted((entry for entry in tables["access_log"] if entry["tag"]), key=lambda one: one["issued_at"])
    whole = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    return SimpleNamespace(
        tables=tables, seen=seen, folder=folder, whole=whole, sums=np.array(sums), faces=faces, aside=tmp_path
    )


def sums_in(folder, name, rows, aside):
    """This guardian's two components of each row's running xor, (2, rows)."""
    shutil.copyfile(Folder(folder).sums / f"{name}.sums", aside / "copied.sums")
    sums = Accumulators(aside / "copied.sums")
    components = [sums.components(row) for row in range(rows)]
    sums.close()
    return np.array(components, np.uint64).T


def test_the_wallets_database_and_a_guardians_folder_give_together_what_each_gives(loot, trio):
    they_rebuild_no_template(loot, trio)
    row_payer_and_time_are_the_wallets_alone(loot)
    sums_and_tags_do_not_tell_the_recognised_row(loot)


def they_rebuild_no_template(loot, trio):
    """Who knows 1,000 other faces, their shares and all numbers that belong to their rows, learns to guess no face."""

    def numbers(name, kind, sums):
        shares = shares_in(loot.folder / "shares.db", name, kind)[: sums.shape[1]]
        own = np.ascontiguousarray(sums.T).view(np.int16)
        return np.hstack([shares.view(np.int16), own, np.arange(len(shares))[:, None], np.ones((len(shares), 1))])

    known, sought = templates(trio).astype(float), quantise(loot.faces, trio.calibration)
    learnt, *_ = np.linalg.lstsq(
        numbers(DEMO, "demo", sums_in(loot.folder, DEMO, 1000, loot.aside)) / 2**15, known, rcond=None
    )
    guesses = numbers(LIVE, "live", loot.sums[-1]) / 2**15 @ learnt
    blind = np.linalg.norm(known.mean(axis=0) - sought, axis=1)
    assert np.linalg.norm(guesses - sought, axis=1).mean() > 0.95 * blind.mean(), "no better than the mean face"
    for template in sought:
        assert not [
            kind for kind in (np.int8, np.int16, np.int32) if template.astype(kind).tobytes()[:24] in loot.whole
        ]
    assert {change["sealed_request"] for change in loot.tables["gallery_change"]} == {None}, "no seal left to open"


def row_payer_and_time_are_the_wallets_alone(loot):
    """The wallet's database says which row is whose and when it was recognised; the guardian's folder names nobody."""
    row_of = {face["id"]: face["row"] for face in loot.tables["face"]}
    assert [row_of[entry["face_id"]] for entry in loot.seen] == [0, 1, 2] * 8
    names = [one["id"] for table in ("payer", "face", "consent", "payment_intent") for one in loot.tables[table]]
    assert len(names) == 3 * PAYERS + 25
    assert [name for name in names if name.encode() in loot.whole] == []
    with contextlib.closing(sqlite3.connect(loot.folder / "requests.db")) as database:
        asked = {id for (id,) in database.execute("SELECT id FROM seen")}
    assert {one["query_id"] for one in loot.tables["payment_intent"]} <= asked, "searches can be joined, by their ids"


def sums_and_tags_do_not_tell_the_recognised_row(loot):
    """Each search changes a random half of both components, of every row, by its tag: also a stranger's search."""
    changes = loot.sums[1:] ^ loot.sums[:-1]  # (25, 2, rows): what each search did to each row
    took = changes != 0
    for entry, change in zip(loot.seen, changes[:24], strict=True):
        assert set(change.ravel().tolist()) <= {0, int.from_bytes(entry["tag"], "big")}, "search and tag can be joined"
    assert took[24].any(), "a stranger's search leaves the same"
    recognised = np.array([took[look, :, look % 3] for look in range(24)])  # (24, 2)
    assert len(np.unique(recognised, axis=0)) >= 3, "the recognised row changes now so, now so"
    others = took[:24, :, 3:].transpose(0, 2, 1).reshape(-1, 2)
    for own, following in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert 0.1 < (others == (own, following)).all(axis=1).mean() < 0.4, "and so do those of whom nobody was there"


def opened_backup(trio, index, path):
    """The thief has the backup *and* its key."""
    to = path.with_suffix(".db")
    backups._unseal(Folder(trio.folder(index)), path, to)
    return shares_in(to)


def test_backups_of_two_guardians_fit_only_within_one_refresh_and_then_give_everything(trio, tmp_path):
    def back_up(index, name):
        assert CliRunner().invoke(app, ["backup", str(trio.folder(index)), str(tmp_path / name)]).exit_code == 0
        return tmp_path / name

    old_0, old_1 = back_up(0, "old-0"), back_up(1, "old-1")
    assert CliRunner().invoke(app, ["refresh", str(trio.folder(0))]).exit_code == 0
    new_1 = back_up(1, "new-1")
    known = templates(trio)
    one, other, later = (opened_backup(trio, n, path) for n, path in ((0, old_0), (1, old_1), (1, new_1)))
    mixed = rebuilt(one, later)[:1000, :D]
    assert (mixed == known).mean() < 0.001, "of different epochs: noise"
    assert 0.45 < rank_of_own_row(rebuilt(one, later).view(np.uint16), known.astype(np.float64)).mean() < 0.55
    assert np.array_equal(rebuilt(one, other)[:1000, :D], known), "of one epoch: every template. Two must not collude"


def test_a_deletion_reaches_backups_when_their_keys_are_destroyed(trio, tmp_path):
    path = tmp_path / "before"
    folder = trio.folder(2)
    assert CliRunner().invoke(app, ["backup", str(folder), str(path)]).exit_code == 0

    async def delete():
        async with trio.relay() as guardians:
            trio.follow(await guardians.delete(DEMO, 1100, trio.version[DEMO]))

    kept = opened_backup(trio, 2, path)[1100]
    asyncio.run(delete())
    now = shares_in(Folder(folder).shares)[1100]
    assert (now == kept).mean() < 0.05, "the share is overwritten in the store"
    assert kept.tobytes() not in Folder(folder).shares.read_bytes()
    assert CliRunner().invoke(app, ["prune-backups", str(folder), "--keep", "0"]).exit_code == 0
    whole = path.read_bytes()
    assert kept.tobytes()[:16] not in whole
    assert list((folder / "keys" / "backups").glob("*")) == []
