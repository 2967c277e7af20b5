import hashlib
import json
import subprocess

import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from facefare.biometrics.commands import app
from facefare.biometrics.embedder import Embedder
from facefare.biometrics.errors import EmbedderError, ModelChangedError, ModelDownloadError, ModelError
from facefare.biometrics.models import dlib_to_onnx, install, tflite_to_onnx


def test_every_hash_of_every_network_is_pinned():
    for network in install.networks().values():
        for value in (network.output_sha256, network.wheel_sha256, network.member_sha256):
            assert len(bytes.fromhex(value)) == 32
        assert "68" not in network.member


def test_installed_files_have_the_pinned_checksums(models_dir):
    assert install.missing(models_dir) == []
    for name, network in install.networks().items():
        assert hashlib.sha256((models_dir / name).read_bytes()).hexdigest() == network.output_sha256


def test_installing_again_touches_no_network(models_dir, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran a program"))
    assert install.install(models_dir) == []


def test_a_download_that_cannot_be_had_is_a_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    result = CliRunner().invoke(app, ["install", "--cache-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "could not download" in result.output.replace("\n", " ")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_wheel_with_another_hash_is_refused(tmp_path, monkeypatch):
    entries = install.networks()
    forged = {name: install.Network(**{**vars(network), "wheel_sha256": "0" * 64}) for name, network in entries.items()}
    monkeypatch.setattr(install, "networks", lambda: {"facemesh.onnx": forged["facemesh.onnx"]})
    with pytest.raises(ModelDownloadError):
        install.install(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_counts_as_missing(models_dir, tmp_path):
    for name in install.networks():
        (tmp_path / name).write_bytes((models_dir / name).read_bytes())
    (tmp_path / "blazeface.onnx").write_bytes(b"damaged")
    assert [network.output for network in install.missing(tmp_path)] == ["blazeface.onnx"]


def test_a_file_of_other_bytes_is_refused_when_read(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"other")
    with pytest.raises(ModelChangedError):
        install.read_verified(tmp_path / "m.onnx", "0" * 64)


@pytest.mark.parametrize("data", [b"", bytes(100), b"\x01\x05con_4\x01\x02\x01\x07\x01\x01\x01\x01\x01\x01"])
def test_a_file_that_is_no_dlib_network_is_refused(data):
    with pytest.raises(ModelError):
        dlib_to_onnx.convert(data)


def test_padding_of_strided_windows_puts_the_odd_pixel_after():
    assert tflite_to_onnx.same_padding(taken=128, given=64, stride=2, size=5) == (1, 2)
    assert tflite_to_onnx.same_padding(taken=64, given=32, stride=2, size=2) == (0, 0)
    assert tflite_to_onnx.same_padding(taken=16, given=16, stride=1, size=3) == (1, 1)


def embedder_text(models_dir):
    return (models_dir / "embedder.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('model_id = "dlib-resnet-v1"', ""),
        ('channels = "RGB"', 'channels = "HSV"'),
        ("[[263], [362], [33], [133], [2]]", "[[263], [362]]"),
        ("[[263], [362], [33], [133], [2]]", "[[263], [362], [33], [133], [468]]"),
        ("scale = 0.00390625", "scale = nan"),
        ('file = "dlib-resnet-v1.onnx"', 'file = "../dlib-resnet-v1.onnx"'),
        ("mirror = true", "mirror = true\nunknown = 1"),
        ("dimensions = 128", "dimensions = 127"),
        ("[input]", 'calibration = "../calibration.json"\n[input]'),
        ("[output]", "[output"),
    ],
)
def test_an_embedder_description_that_is_incomplete_is_refused(models_dir, tmp_path, old, new):
    text = embedder_text(models_dir)
    assert old in text
    (tmp_path / "embedder.toml").write_text(text.replace(old, new))
    with pytest.raises(EmbedderError):
        Embedder(tmp_path / "embedder.toml")


def test_an_embedder_whose_network_gives_another_length_is_refused(models_dir, tmp_path, astronaut, pipeline):
    (tmp_path / "dlib-resnet-v1.onnx").write_bytes((models_dir / "dlib-resnet-v1.onnx").read_bytes())
    text = embedder_text(models_dir).replace("dimensions = 128", "dimensions = 512")
    (tmp_path / "embedder.toml").write_text(text)
    embedder = Embedder(tmp_path / "embedder.toml")
    with pytest.raises(EmbedderError):
        embedder.embed(astronaut, pipeline.observe(astronaut).landmarks)


def test_the_default_embedder_conforms(models_dir):
    result = CliRunner().invoke(app, ["check", str(models_dir / "embedder.toml")])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("calibration", "problem"),
    [
        (json.dumps({"model": "dlib-resnet-v1", "mean": [0] * 128}), None),
        (json.dumps({"model": "another", "mean": [0] * 128}), "is for another"),
        ('{"model": "dlib-resnet-v1", "mean": [0, 0]}', "2 dimensions"),
        ("{}", "no calibration file"),
        (None, "no calibration file"),
    ],
)
def test_the_calibration_of_an_embedder_has_to_be_its_own(models_dir, tmp_path, calibration, problem):
    (tmp_path / "dlib-resnet-v1.onnx").write_bytes((models_dir / "dlib-resnet-v1.onnx").read_bytes())
    file = tmp_path / "embedder.toml"
    file.write_text(embedder_text(models_dir).replace("[input]", 'calibration = "own.json"\n[input]'))
    if calibration is not None:
        (tmp_path / "own.json").write_text(calibration)
    result = CliRunner().invoke(app, ["check", str(file)])
    assert (result.exit_code == 0) is (problem is None), result.output
    assert problem is None or problem in " ".join(result.output.split())


def write_embedder(models_dir, folder, nodes, weights=()):
    """An embedder whose network is these nodes, from `image` to `template`."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 150, 150])],
        [helper.make_tensor_value_info("template", TensorProto.FLOAT, ["batch", 128])],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data = model.SerializeToString()
    (folder / "dlib-resnet-v1.onnx").write_bytes(data)
    pinned = install.networks()["dlib-resnet-v1.onnx"].output_sha256
    text = embedder_text(models_dir).replace(pinned, hashlib.sha256(data).hexdigest())
    (folder / "embedder.toml").write_text(text)
    return folder / "embedder.toml"


def test_an_embedder_that_sees_no_difference_does_not_conform(models_dir, tmp_path):
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["nothing"]),
        helper.make_node("Slice", ["nothing", "start", "end", "axis"], ["some"]),
        helper.make_node("Add", ["some", "one"], ["template"]),
    ]
    weights = [
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("start", TensorProto.INT64, [1], [0]),
        helper.make_tensor("end", TensorProto.INT64, [1], [128]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    result = CliRunner().invoke(app, ["check", str(write_embedder(models_dir, tmp_path, nodes, weights))])
    assert result.exit_code == 1
    assert "Different pictures give the same template" in result.output


def test_an_embedder_whose_vectors_have_no_direction_does_not_conform(models_dir, tmp_path):
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Slice", ["flat", "start", "end", "axis"], ["some"]),
        helper.make_node("Sub", ["some", "some"], ["template"]),
    ]
    weights = [
        helper.make_tensor("start", TensorProto.INT64, [1], [0]),
        helper.make_tensor("end", TensorProto.INT64, [1], [128]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    result = CliRunner().invoke(app, ["check", str(write_embedder(models_dir, tmp_path, nodes, weights))])
    assert result.exit_code == 1
    assert "without direction" in result.output
