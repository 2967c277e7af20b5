"""Stolen stores, tried as an attacker would; docs/threat-model.md says what each gives, two colluding guardians too."""

import asyncio

import numpy as np
from three_guardians import DEMO, gallery, synthetic_templates
from typer.testing import CliRunner

from facefare.guardian import backups
from facefare.guardian.ceremony import Folder
from facefare.guardian.commands import app
from facefare.guardian.store import ShareStore
from facefare.identification.quantise import quantise
from facefare.mpc.sharing import missing_share_part

D = 128


def shares_in(path):
    store = ShareStore(path)
    shares = store.load(gallery(DEMO, "demo")).shares.copy()
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
