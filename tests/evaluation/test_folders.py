import json
import os
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from demo.faces import Person, Sitter, View
from facefare.biometrics.errors import SourceError
from facefare.biometrics.frames import open_source
from facefare.cli import command_line
from facefare.evaluation import calibrating
from facefare.evaluation.attacks import Species, present
from facefare.evaluation.dataset import read_dataset
from facefare.evaluation.errors import DatasetError, ResumeError, TooFewPeopleError
from facefare.evaluation.extraction import FAILURES, extract
from facefare.evaluation.heads import walk
from facefare.evaluation.presentation import BONA_FIDE, RECORDING, Judged, Verdict, rates, recorded
from facefare.evaluation.sealed import SealedPieces
from facefare.terminal.approach import Approach


@pytest.fixture(scope="module")
def sitters(pipeline):
    return [Sitter(person, pipeline) for person in Person]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sitters):
    """Two portraits that play twelve people."""
    root = tmp_path_factory.mktemp("people")
    for person in range(12):
        own = root / f"person {person:02}"
        own.mkdir()
        for photo in range(2):
            view = View(yaw=2.0 * person - 10, pitch=6.0 * photo, face_width=180)
            cv2.imwrite(str(own / f"{photo}.jpg"), sitters[person % 2].view(view, person))
    (root / "person 00" / "broken.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(root / "person 01" / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    (root / "person 01" / "notes.txt").write_text("no picture either")
    return root


def labels(folder, *lines):
    file = folder.parent / "labels.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_csv_says_group_session_and_attack(folder):
    csv = labels(folder, "file,group,attack,presentation", "person 00/0.jpg,a,print,p1", "person 03/1.jpg,b,,")
    photos = read_dataset(folder, csv)
    assert len(photos) == 26
    assert (photos[0].group, photos[0].attack, photos[0].presentation) == ("a", "print", "p1")
    assert [photo.group for photo in photos].count("b") == 1


@pytest.mark.parametrize(
    "lines",
    [
        ["name,group", "person 00/0.jpg,a"],
        ["file,emotion", "person 00/0.jpg,a"],
        ["file,group", "person 99/0.jpg,a"],
        ["file,group", "../secret.jpg,a"],
    ],
)
def test_a_csv_that_does_not_fit_is_an_error_that_says_so(folder, lines):
    with pytest.raises(DatasetError, match=r"labels\.csv"):
        read_dataset(folder, labels(folder, *lines))


def test_a_folder_without_people_is_an_error(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatasetError):
            read_dataset(place)


def test_photos_become_templates_and_failures_are_told_apart(folder, models_dir, tmp_path):
    photos = read_dataset(folder)
    extracted, pieces = extract(photos, models_dir, None, tmp_path, lambda *_: None)
    failed = {photos[row].file.name: FAILURES[extracted.failures[row]] for row in np.flatnonzero(extracted.failures)}
    assert failed == {"broken.jpg": "not a picture", "wall.png": "no face"}
    assert np.linalg.norm(extracted.vectors[extracted.failures == 0], axis=1) == pytest.approx(1, abs=1e-5)
    again, same = extract(photos, models_dir, None, tmp_path, lambda *_: None)
    assert (again.vectors == extracted.vectors).all()
    if pieces:
        kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert extracted.vectors[0].tobytes() not in kept
        assert b"PK" not in kept[:40]
        same.destroy()
        assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_pieces_are_sealed_and_gone_with_their_key(tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    first = SealedPieces.open(tmp_path / "run", b"work", keys)
    first.put(3, b"a template")
    assert SealedPieces.open(tmp_path / "run", b"work", keys).get(3) == b"a template"
    assert SealedPieces.open(tmp_path / "run", b"other work", keys).get(3) is None
    (file,) = (tmp_path / "run").rglob("000003")
    assert b"a template" not in file.read_bytes()
    file.rename(file.with_name("000004"))
    with pytest.raises(ResumeError):
        first.get(4)
    for key in keys.iterdir():
        key.unlink()  # the machine was switched off
    assert SealedPieces.open(tmp_path / "run", b"work", keys).get(4) is None
    assert not file.with_name("000004").exists()


def test_a_run_that_was_killed_and_not_taken_up_again_loses_its_key(tmp_path):
    keys, runs = tmp_path / "keys", tmp_path / "runs"
    keys.mkdir()
    SealedPieces.open(runs, b"killed", keys).put(0, b"a template")
    (killed,) = keys.iterdir()
    assert SealedPieces.open(runs, b"another", keys).get(0) is None
    assert killed.exists()  # it may still be taken up
    long_ago = time.time() - 25 * 3600
    os.utime(killed, (long_ago, long_ago))
    SealedPieces.open(runs, b"another", keys)
    assert not killed.exists()
    assert not list(runs.rglob("000000"))
    assert SealedPieces.open(runs, b"killed", keys).get(0) is None


def test_the_command_writes_a_page_and_figures_and_leaves_nothing_else(folder, models_dir, tmp_path):
    out, figures = tmp_path / "report.html", tmp_path / "report.json"
    arguments = ["evaluate", str(folder), "--out", str(out), "--json", str(figures), "--simulate-attacks", "1"]
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(models_dir)
    result = CliRunner().invoke(command_line(), [*arguments, "--cache-dir", str(cache)])
    assert result.exit_code == 0, result.output
    assert "<svg" in out.read_text()
    report = json.loads(figures.read_text())
    assert report["what"]["failure_to_acquire"] == {"not a picture": 1, "no face": 1, "network failed": 0}
    species = {row["species"] for row in report["attacks"]}
    assert species == {BONA_FIDE, RECORDING, *(one.value for one in Species)}
    assert [entry for entry in (cache / "evaluation").rglob("*") if entry.is_file()] == []


def test_the_command_says_in_a_sentence_what_is_wrong(tmp_path):
    result = CliRunner().invoke(command_line(), ["evaluate", str(tmp_path)])
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_attack_rates_are_stated_for_each_species_by_itself():
    def judged(species, verdict, subject):
        return Judged("gate", species, "simulated", subject, verdict)

    said = [("print", Verdict.LIVE, 0), ("print", Verdict.UNDECIDED, 1), ("mask", Verdict.LIVE, 0)]
    said += [(BONA_FIDE, Verdict.LIVE, 0), (BONA_FIDE, Verdict.UNDECIDED, 1)]
    rows = rates(judged(*one) for one in said)
    assert {row["species"]: (row["measure"], row["rate"]["value"], row["undecided"]) for row in rows} == {
        "bona fide": ("BPCER", 0.5, 0.5),
        "mask": ("APCER", 1.0, 0.0),
        "print": ("APCER", 0.5, 0.5),
    }


def test_presentations_that_a_csv_labels_are_judged_by_their_frames(tmp_path, sitters, models_dir):
    own = tmp_path / "people" / "collins"
    own.mkdir(parents=True)
    lines = ["file,attack,presentation"]
    shown = {"live": ("", sitters[0].walk_up(4)), "held up": ("print", present(sitters[0], Species.PRINT, walk(4), 4))}
    for name, (attack, frames) in shown.items():
        for number, frame in enumerate(frames):
            cv2.imwrite(str(own / f"{name} {number}.png"), frame)
            lines.append(f"collins/{name} {number}.png,{attack},{name}")
    photos = read_dataset(tmp_path / "people", labels(tmp_path / "people", *lines))
    judged = {one.species: one for one in recorded(photos, models_dir, lambda *_: None)}
    assert judged[BONA_FIDE].verdict is Verdict.LIVE
    assert judged["print"].verdict is not Verdict.LIVE
    assert {one.source for one in judged.values()} == {"recorded"}


@pytest.fixture
def recordings(tmp_path, sitters):
    for person in range(4):
        for name, seed in (("enrol", 7), ("walk", 8)):
            own = tmp_path / f"volunteer {person}" / name
            own.mkdir(parents=True)
            for number, frame in enumerate(sitters[person % 2].walk_up(seed + person)):
                cv2.imwrite(str(own / f"{number}.png"), frame)
    return tmp_path


def test_a_sites_recordings_are_measured_without_writing_anything(recordings, pipeline, monkeypatch):
    monkeypatch.setattr(calibrating, "MIN_VOLUNTEERS", 4)
    before = sorted(recordings.rglob("*"))
    site = calibrating.measure_site(recordings, pipeline, lambda *_: None)
    assert site.distances.shape == (4, 4, 1)
    assert site.genuine().max() < 0.05 < 0.12 < np.delete(site.distances[0, 1::2], []).min()
    assert sorted(recordings.rglob("*")) == before


def test_volunteers_before_a_camera_are_measured_without_writing_anything(sitters, pipeline, monkeypatch, tmp_path):
    monkeypatch.setattr(calibrating, "MIN_VOLUNTEERS", 2)
    monkeypatch.chdir(tmp_path)
    log, passing = [], []

    def ready(volunteer, number):
        passing[:] = [(volunteer, number)]
        log.append((volunteer, number))
        return volunteer < 2

    @contextmanager
    def camera():
        (volunteer, number), *_ = passing or [(0, 0)]
        yield iter(sitters[volunteer].walk_up(7 + number))

    site = calibrating.measure_live(camera, pipeline, ready)
    assert log == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert site.distances.shape == (2, 2, 2)
    assert site.genuine().max() < 0.05 < 0.12 < site.distances[0, 1].min()
    assert list(tmp_path.iterdir()) == []


def test_a_walk_is_measured_by_the_frames_that_a_gate_takes_and_one_that_it_refuses_counts(
    sitters, pipeline, monkeypatch
):
    monkeypatch.setattr(calibrating, "MIN_VOLUNTEERS", 2)
    walks = [sitters[0].walk_up(7), sitters[1].walk_up(7), [sitters[0].walk_up(8)[-1]] * 30, sitters[1].walk_up(8)]
    taken = []
    honest = Approach.probe

    def probe(approach):
        taken.append(honest(approach))
        return taken[-1]

    monkeypatch.setattr(Approach, "probe", probe)
    passes = [[walks[0], walks[2], walks[0]], [walks[1], walks[3]]]
    volunteers = [
        calibrating._Volunteer.of(pipeline, [partial(nullcontext, iter(one)) for one in own]) for own in passes
    ]
    site = calibrating._compared(volunteers)
    assert site.missed == 1, "who stands still like a picture gets no attempt"
    assert [len(one.probes) for one in volunteers] == [1, 1]
    np.testing.assert_array_equal([one.probes[0] for one in volunteers], [one.vector for one in taken])
    assert site.refused(10.0) == pytest.approx(1 / 3)
    assert site.refused(0.0) == 1


def test_a_camera_that_cannot_be_opened_is_an_error_before_anybody_is_asked(pipeline):
    with pytest.raises(SourceError):
        calibrating.measure_live(partial(open_source, 99), pipeline, lambda *_: pytest.fail("asked"))


def test_too_few_volunteers_are_an_error(folder, pipeline):
    with pytest.raises(TooFewPeopleError, match="20"):
        calibrating.measure_site(folder, pipeline, lambda *_: None)
    with pytest.raises(DatasetError):
        calibrating.measure_site(Path("/nowhere"), pipeline, lambda *_: None)
