import cv2
import numpy as np
import pytest

from demo.faces import View
from facefare.biometrics import ENROLMENT, GATE, FacePipeline, Hint, Template, fuse
from facefare.biometrics.errors import (
    BrokenImageError,
    FaceTooSmallError,
    ModelChangedError,
    ModelMissingError,
    ModelOutputError,
    NoFaceError,
    SeveralFacesError,
    TemplateMismatchError,
)
from facefare.biometrics.landmarks import FaceMesh
from facefare.biometrics.quality import measure


def template(pipeline, frame):
    return pipeline.embed(frame, pipeline.observe(frame))


def similarity(one, other):
    return float(one.vector @ other.vector)


def test_a_template_is_a_unit_vector_of_the_embedder(pipeline, astronaut):
    made = template(pipeline, astronaut)
    assert made.vector.shape == (128,)
    assert made.vector.dtype == np.float32
    assert np.linalg.norm(made.vector) == pytest.approx(1, abs=1e-6)
    assert made.model_id == pipeline.model_id == "dlib-resnet-v1"


def test_the_same_frame_gives_the_same_template(pipeline, astronaut):
    assert (template(pipeline, astronaut).vector == template(pipeline, astronaut).vector).all()


def test_a_mirrored_frame_gives_nearly_the_same_template(pipeline, astronaut):
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    assert similarity(template(pipeline, astronaut), template(pipeline, mirrored)) > 0.99


def test_one_person_seen_twice_is_nearer_than_two_persons(pipeline, collins, hopper):
    walks = {
        name: [template(pipeline, frame) for frame in sitter.walk_up(seed=3)]
        for name, sitter in (("collins", collins), ("hopper", hopper))
    }
    enrolled = {
        name: fuse([template(pipeline, frame) for frame in sitter.enrolment_views()])
        for name, sitter in (("collins", collins), ("hopper", hopper))
    }
    for name, other in (("collins", "hopper"), ("hopper", "collins")):
        genuine = min(similarity(enrolled[name], probe) for probe in walks[name])
        impostor = max(similarity(enrolled[name], probe) for probe in walks[other])
        assert genuine > 0.96
        assert impostor < 0.925


def test_a_rotated_frame_gives_nearly_the_same_template(pipeline, collins):
    upright = template(pipeline, collins.view(View()))
    assert similarity(upright, template(pipeline, collins.view(View(roll=25)))) > 0.97


def test_the_five_points_lie_where_the_alignment_wants_them(pipeline, astronaut):
    seen = pipeline.observe(astronaut)
    left_outer, left_inner, right_outer, right_inner, nose = seen.points
    assert right_outer[0] < right_inner[0] < nose[0] < left_inner[0] < left_outer[0]
    assert nose[1] > left_outer[1]
    x, y, width, height = seen.box
    assert ((seen.points > (x, y)) & (seen.points < (x + width, y + height))).all()


@pytest.mark.parametrize(
    ("name", "degrees"), [("yaw", 15), ("yaw", -15), ("pitch", 10), ("pitch", -10), ("roll", 12), ("roll", -12)]
)
def test_the_head_pose_follows_the_head(pipeline, hopper, name, degrees):
    straight = getattr(pipeline.observe(hopper.view(View())).pose, name)
    turned = getattr(pipeline.observe(hopper.view(View(**{name: degrees}))).pose, name)
    assert (turned - straight) * np.sign(degrees) > 0.5 * abs(degrees)


def test_the_inter_eye_distance_follows_the_size(pipeline, hopper):
    small, large = (pipeline.observe(hopper.view(View(face_width=w))).inter_eye_distance for w in (100, 200))
    assert large / small == pytest.approx(2, rel=0.1)


def test_an_empty_room_has_no_face(pipeline):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    for frame in (np.zeros((480, 640, 3), np.uint8), np.full((480, 640, 3), 255, np.uint8), noise):
        with pytest.raises(NoFaceError):
            pipeline.observe(frame)
        assert pipeline.observe_all(frame) == []


def test_two_faces_are_refused_and_both_observed_for_the_bystander_guard(pipeline, collins, hopper):
    near, far = collins.view(View(face_width=150)), hopper.view(View(face_width=110))
    frame = np.hstack([near[:, 120:520], far[:, 120:520]])
    with pytest.raises(SeveralFacesError):
        pipeline.observe(frame)
    faces = pipeline.observe_all(frame)
    assert len(faces) == 2
    assert faces[0].box[2] > faces[1].box[2]
    assert faces[0].box[0] < 400 < faces[1].box[0]


def test_a_crowd_costs_no_more_than_eight_faces(pipeline, hopper):
    one = cv2.resize(hopper.view(View(face_width=240, y=0.5))[60:420, 140:500], (180, 180))
    crowd = np.tile(one, (5, 6, 1))
    faces = pipeline.observe_all(crowd)
    assert 2 <= len(faces) <= 8


def test_a_face_of_few_pixels_is_too_small(pipeline, hopper):
    frame = cv2.resize(hopper.view(View(face_width=150)), (160, 120), interpolation=cv2.INTER_AREA)
    with pytest.raises(FaceTooSmallError, match="closer"):
        pipeline.observe(frame)


def test_a_frame_of_another_kind_is_refused(pipeline):
    with pytest.raises(BrokenImageError):
        pipeline.observe(np.zeros((480, 640), np.uint8))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["_detector", "_mesher", "_embedder"])
def test_a_network_that_gives_no_numbers_is_an_error_not_a_template(pipeline, astronaut, monkeypatch, name, bad):
    network = getattr(pipeline, name)._network
    honest = network._session

    class Broken:
        def run(self, *arguments):
            return [np.full_like(output, bad) for output in honest.run(*arguments)]

    monkeypatch.setattr(network, "_session", Broken())
    with pytest.raises(ModelOutputError):
        template(pipeline, astronaut)


def test_a_missing_model_says_which_command_brings_it(tmp_path):
    with pytest.raises(ModelMissingError, match="facefare models install"):
        FacePipeline.load(tmp_path)


def test_a_changed_model_is_refused(models_dir, tmp_path):
    for file in models_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    changed = tmp_path / "dlib-resnet-v1.onnx"
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    with pytest.raises(ModelChangedError):
        FacePipeline.load(tmp_path)


def test_fusing_gives_the_normalised_mean():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 128))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fused = fuse([Template(vector.astype(np.float32), "m") for vector in vectors])
    assert fused.vector == pytest.approx(vectors.mean(0) / np.linalg.norm(vectors.mean(0)), abs=1e-6)
    assert fused.model_id == "m"


def test_templates_of_different_embedders_never_mix():
    one, other = (Template(np.eye(128, dtype=np.float32)[0], name) for name in ("a", "b"))
    with pytest.raises(TemplateMismatchError):
        fuse([one, other])
    with pytest.raises(TemplateMismatchError):
        fuse([])


def test_opposite_templates_have_no_mean():
    axis = np.eye(128, dtype=np.float32)[0]
    with pytest.raises(ModelOutputError):
        fuse([Template(axis, "m"), Template(-axis, "m")])


def test_neither_template_nor_observation_prints_what_it_holds(pipeline, astronaut):
    seen = pipeline.observe(astronaut)
    made = pipeline.embed(astronaut, seen)
    assert str(made.vector[0]) not in repr(made)
    assert "[" not in repr(made)
    assert "[" not in repr(seen)


@pytest.mark.parametrize(
    ("view", "hint"),
    [
        (View(), None),
        (View(face_width=170, yaw=16), None),
        (View(face_width=72), Hint.COME_CLOSER),
        (View(pitch=24), Hint.LOOK_AT_THE_CAMERA),
        (View(light=0.12), Hint.MORE_LIGHT),
        (View(light=1.8), Hint.LESS_LIGHT),
        (View(blur=5.0), Hint.HOLD_STILL),
    ],
)
def test_the_gate_says_the_one_thing_to_change(pipeline, collins, view, hint):
    seen = pipeline.observe_all(collins.view(view))[0]
    assert GATE.hint(seen.pose, seen.quality) == hint


def test_an_enrolment_asks_for_more_than_a_gate(pipeline, hopper):
    seen = pipeline.observe(hopper.view(View(face_width=85)))
    assert GATE.hint(seen.pose, seen.quality) is None
    assert ENROLMENT.hint(seen.pose, seen.quality) is Hint.COME_CLOSER


def test_closed_eyes_are_seen(pipeline, collins):
    frame = collins.view(View(face_width=200))
    seen = pipeline.observe(frame)
    lids = seen.landmarks.copy()
    for upper, lower in [(160, 144), (159, 145), (158, 153)]:
        lids[upper] = lids[lower]
    closed = measure(FaceMesh(lids, 1.0, frame[:192, :192], lids[:, :2]), seen.pose)
    assert closed.eyes_open == 0 < seen.quality.eyes_open
    assert GATE.min_eyes_open < seen.quality.eyes_open
