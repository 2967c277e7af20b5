"""Converts dlib's face recognition ResNet from its own serialisation (.dat) to ONNX.

The file holds the layers from the input to the output, each as a tag (`con_4`, `affine_`, `fc_2`), its
parameters, and training state that is not needed. Every affine layer is folded into the convolution before
it. The architecture is dlib's `dnn_face_recognition_ex.cpp` (29 convolutions, 14 residual blocks), after
He et al., Deep Residual Learning for Image Recognition, 2016.

Input `image` (batch, 3, 150, 150) float32, RGB, normalised as embedder.toml says; output `template`
(batch, 128) float32, not yet of unit length.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facefare.biometrics.errors import ModelError

# (channels, halves its size) of the 14 residual blocks, from the input on.
_BLOCKS = [
    *[(32, False)] * 3,
    *[(64, True), *[(64, False)] * 3],
    *[(128, True), *[(128, False)] * 2],
    *[(256, True), *[(256, False)] * 2],
    (256, True),
]
_SIZE = 150
_DIMENSIONS = 128


def convert(source: bytes) -> bytes:
    """Turn dlib_face_recognition_resnet_model_v1.dat into an ONNX file. Deterministic."""
    network = _Network(_Reader(source))
    channels, size = 32, _SIZE
    size = (size - 7) // 2 + 1
    value = network.relu(network.convolution("image", inputs=3, outputs=32, kernel=7, stride=2))
    size = (size - 3) // 2 + 1
    value = network.node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2])
    for width, halves in _BLOCKS:
        inner = network.convolution(value, inputs=channels, outputs=width, kernel=3, stride=2 if halves else 1)
        inner = network.convolution(network.relu(inner), inputs=width, outputs=width, kernel=3, stride=1)
        if halves:
            value = network.node("AveragePool", [value], kernel_shape=[2, 2], strides=[2, 2])
            # dlib adds tensors of different sizes as if the smaller one went on with zeros.
            pooled, convolved = (size - 2) // 2 + 1, (size - 3) // 2 + 1
            size = max(pooled, convolved)
            value = network.grow(value, channels=width - channels, pixels=size - pooled)
            inner = network.grow(inner, channels=0, pixels=size - convolved)
            channels = width
        value = network.relu(network.node("Add", [inner, value]))
    network.output(value, channels)
    return network.serialise()


class _Reader:
    """Reads layers in file order, skipping the training state between them."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    def layer(self, tag: str, count: int) -> NDArray[np.float32]:
        """Return the `count` parameters of the next layer with this tag."""
        encoded = bytes([1, len(tag)]) + tag.encode()
        self._at = self._data.find(encoded, self._at) + len(encoded)
        if self._at < len(encoded):
            raise ModelError(f"The dlib file ends before a layer {tag}.")
        if tag == "fc_2":
            self._integer()  # outputs
            self._integer()  # inputs
        version, *shape = (self._integer() for _ in range(5))
        if version != 2 or np.prod(shape) != count:
            raise ModelError(f"The dlib file has a layer {tag} of another shape.")
        values = np.frombuffer(self._data, dtype="<f4", count=count, offset=self._at)
        self._at += values.nbytes
        return values

    def _integer(self) -> int:
        """One byte with the count of bytes to follow, then these, little-endian (none is negative here)."""
        length = self._data[self._at] & 0x0F
        start = self._at + 1
        self._at = start + length
        return int.from_bytes(self._data[start : self._at], "little")


class _Network:
    def __init__(self, reader: _Reader):
        self._reader = reader
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def convolution(self, source: str, *, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        """A convolution and the affine layer after it, as one: g(Wx + b) + h = (gW)x + (gb + h)."""
        count = outputs * inputs * kernel * kernel
        parameters = self._reader.layer("con_4", count + outputs).astype(np.float64)
        gamma, beta = self._reader.layer("affine_", 2 * outputs).astype(np.float64).reshape(2, outputs)
        weights = parameters[:count].reshape(outputs, inputs, kernel, kernel) * gamma[:, None, None, None]
        bias = parameters[count:] * gamma + beta
        pad = kernel // 2 if stride == 1 else 0
        return self.node(
            "Conv",
            [source, self._weight(weights.astype(np.float32)), self._weight(bias.astype(np.float32))],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
        )

    def relu(self, source: str) -> str:
        return self.node("Relu", [source])

    def grow(self, source: str, *, channels: int, pixels: int) -> str:
        """Zeros after the last channel, below and to the right."""
        if channels == pixels == 0:
            return source
        pads = np.array([0, 0, 0, 0, 0, channels, pixels, pixels], dtype=np.int64)
        return self.node("Pad", [source, self._weight(pads)])

    def output(self, source: str, channels: int) -> None:
        """The mean over the picture, then the last matrix."""
        pooled = self.node("Flatten", [self.node("GlobalAveragePool", [source])])
        matrix = self._reader.layer("fc_2", channels * _DIMENSIONS).reshape(channels, _DIMENSIONS)
        self._nodes.append(helper.make_node("MatMul", [pooled, self._weight(matrix)], ["template"]))

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def serialise(self) -> bytes:
        float_tensor = TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "graph",
            [helper.make_tensor_value_info("image", float_tensor, ["batch", 3, _SIZE, _SIZE])],
            [helper.make_tensor_value_info("template", float_tensor, ["batch", _DIMENSIONS])],
            self._weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="facefare"
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _weight(self, value: NDArray[np.generic]) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
