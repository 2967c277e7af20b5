from pathlib import Path

import numpy as np
import pytest

from demo.faces import HEIGHT, WIDTH, Person, Sitter, View, portrait, save
from facefare.biometrics import ENROLMENT, GATE, FacePipeline, decode, fuse
from facefare.biometrics.models.install import install
from facefare.terminal.station import Ask


@pytest.fixture(scope="module")
def pipeline():
    folder = Path.home() / ".cache" / "facefare" / "models"
    install(folder)
    return FacePipeline.load(folder)


@pytest.fixture(scope="module")
def sitters(pipeline):
    return {person: Sitter(person, pipeline) for person in Person}


@pytest.mark.parametrize("person", list(Person))
def test_the_portraits_are_in_the_installed_packages(person):
    assert portrait(person).ndim == 3


@pytest.mark.parametrize("person", list(Person))
def test_every_frame_of_a_walk_can_be_used(pipeline, sitters, person):
    frames = sitters[person].walk_up(seed=5, frames=6)
    seen = [pipeline.observe(frame) for frame in frames]
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 6
    assert [GATE.hint(one.pose, one.quality) for one in seen] == [None] * 6
    assert seen[-1].inter_eye_distance > 1.4 * seen[0].inter_eye_distance


def test_enrolment_views_are_good_and_different(pipeline, sitters):
    seen = [pipeline.observe(frame) for frame in sitters[Person.GRACE_HOPPER].enrolment_views()]
    assert len(seen) == 5
    assert all(ENROLMENT.hint(one.pose, one.quality) is None for one in seen)
    yaws, pitches = [one.pose.yaw for one in seen], [one.pose.pitch for one in seen]
    assert max(yaws) - min(yaws) > 20
    assert max(pitches) - min(pitches) > 8


@pytest.mark.parametrize("seed", range(3))
def test_fused_walks_match_their_own_enrolment_and_no_other(pipeline, sitters, seed):
    def fused(frames):
        return fuse([pipeline.embed(frame, pipeline.observe(frame)) for frame in frames]).vector

    enrolled = {person: fused(sitter.enrolment_views()) for person, sitter in sitters.items()}
    for person, sitter in sitters.items():
        probe = fused(sitter.walk_up(seed)[-3:])
        distance = {who: float(((vector - probe) ** 2).sum()) for who, vector in enrolled.items()}
        assert distance.pop(person) < 0.03
        assert min(distance.values()) > 0.15


def test_a_walk_is_the_same_for_the_same_seed_and_another_for_another(sitters):
    walk = sitters[Person.EILEEN_COLLINS].walk_up
    assert (np.array(walk(1, 2)) == np.array(walk(1, 2))).all()
    assert (np.array(walk(1, 2)) != np.array(walk(2, 2))).any()


def test_saved_frames_come_back_unchanged(sitters, tmp_path):
    frames = sitters[Person.EILEEN_COLLINS].walk_up(seed=1, frames=2)
    save(frames, tmp_path / "walk")
    back = [decode(file.read_bytes()) for file in sorted((tmp_path / "walk").iterdir())]
    assert (np.array(back) == np.array(frames)).all()


def test_a_view_keeps_the_face_where_it_was_asked_for(pipeline, sitters):
    x, _, width, _ = pipeline.observe(sitters[Person.EILEEN_COLLINS].view(View(x=0.35))).box
    assert x + width / 2 == pytest.approx(0.35 * WIDTH, abs=25)


@pytest.mark.parametrize("person", list(Person))
def test_a_sitter_does_what_is_asked(pipeline, sitters, person):
    ahead, left, right, up, down = (
        pipeline.observe(sitters[person].obey(asked)[0]).pose
        for asked in (Ask.LOOK_AHEAD, Ask.TURN_LEFT, Ask.TURN_RIGHT, Ask.TILT_UP, Ask.TILT_DOWN)
    )
    assert left.yaw - ahead.yaw > 10 < ahead.yaw - right.yaw
    assert down.pitch - ahead.pitch > 4 < ahead.pitch - up.pitch
    eyes = [pipeline.observe(frame).quality.eyes_open for frame in sitters[person].obey(Ask.BLINK)]
    assert min(eyes) < 0.8 * max(eyes)
