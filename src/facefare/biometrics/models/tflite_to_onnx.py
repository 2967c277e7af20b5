"""Converts the two MediaPipe networks from TensorFlow Lite to ONNX.

Covers the nine operators that they use and refuses any other. Same bytes in, same bytes out: the result's
checksum is pinned. TensorFlow Lite computes in NHWC, ONNX in NCHW; the ONNX networks take and give NCHW.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facefare.biometrics.errors import ModelError

_DTYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
_TO_NCHW = (0, 3, 1, 2)


def convert(source: bytes) -> bytes:
    """Turn a .tflite file into an ONNX file with the same weights as float32."""
    return _Conversion(source).run()


def same_padding(taken: int, given: int, stride: int, size: int) -> tuple[int, int]:
    """Return the pixels before and after for TensorFlow's "same" padding: the odd one comes after."""
    total = max((given - 1) * stride + size - taken, 0)
    return total // 2, total - total // 2


class _Conversion:
    def __init__(self, source: bytes):
        self.model = tflite.Model.GetRootAs(source, 0)
        self.graph = self.model.Subgraphs(0)
        self.constants: dict[int, NDArray[np.generic]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def run(self) -> bytes:
        for index in range(self.graph.OperatorsLength()):
            self._operator(self.graph.Operators(index))
        graph = helper.make_graph(
            self.nodes,
            "graph",
            list(self._values(self.graph.InputsAsNumpy())),
            list(self._values(self.graph.OutputsAsNumpy())),
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="facefare"
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _values(self, tensors: NDArray[np.int32]) -> Iterator[onnx.ValueInfoProto]:
        for tensor in tensors:
            shape = self._shape(tensor)
            if len(shape) == 4:
                shape = [shape[axis] for axis in _TO_NCHW]
            yield helper.make_tensor_value_info(self._name(tensor), TensorProto.FLOAT, shape)

    def _operator(self, operator: tflite.Operator) -> None:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        (output,) = (int(i) for i in operator.OutputsAsNumpy())
        ops = tflite.BuiltinOperator
        if kind == ops.DEQUANTIZE:
            self.constants[output] = self._constant(inputs[0]).astype(np.float32)
        elif kind in (ops.CONV_2D, ops.DEPTHWISE_CONV_2D):
            self._convolution(operator, inputs, output, depthwise=kind == ops.DEPTHWISE_CONV_2D)
        elif kind == ops.MAX_POOL_2D:
            self._max_pool(operator, inputs[0], output)
        elif kind == ops.RELU:
            self._node("Relu", [self._name(inputs[0])], output)
        elif kind == ops.PRELU:
            slope = self._constant(inputs[1]).transpose(2, 0, 1)  # (1, 1, C) to (C, 1, 1)
            self._node("PRelu", [self._name(inputs[0]), self._weight(output, "slope", slope)], output)
        elif kind == ops.ADD:
            self._plain(operator, tflite.AddOptions)
            self._node("Add", [self._name(i) for i in inputs], output)
        elif kind == ops.PAD:
            widths = self._constant(inputs[1])[list(_TO_NCHW)].T.reshape(-1).astype(np.int64)
            self._node("Pad", [self._name(inputs[0]), self._weight(output, "pads", widths)], output)
        elif kind == ops.RESHAPE:
            nhwc = f"{self._name(output)}_nhwc"
            self.nodes.append(helper.make_node("Transpose", [self._name(inputs[0])], [nhwc], perm=[0, 2, 3, 1]))
            shape = np.array(self._shape(output), dtype=np.int64)
            self._node("Reshape", [nhwc, self._weight(output, "shape", shape)], output)
        elif kind == ops.CONCATENATION:
            axis = self._plain(operator, tflite.ConcatenationOptions).Axis()
            if len(self._shape(output)) != 3:
                raise ModelError("This TensorFlow Lite network joins tensors in a way that is not supported.")
            self._node("Concat", [self._name(i) for i in inputs], output, axis=axis)
        else:
            raise ModelError(f"This TensorFlow Lite network uses operator {kind}, which is not supported.")

    def _convolution(self, operator: tflite.Operator, inputs: list[int], output: int, *, depthwise: bool) -> None:
        kind = tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions
        options = self._plain(operator, kind)
        kernel = self._constant(inputs[1])  # (O, H, W, I), or (1, H, W, C) if depthwise
        kernel = kernel.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        self._node(
            "Conv",
            [
                self._name(inputs[0]),
                self._weight(output, "kernel", kernel),
                self._weight(output, "bias", self._constant(inputs[2])),
            ],
            output,
            kernel_shape=list(kernel.shape[2:]),
            group=kernel.shape[0] if depthwise else 1,
            **self._window(inputs[0], output, options, kernel.shape[2:]),
        )

    def _max_pool(self, operator: tflite.Operator, source: int, output: int) -> None:
        options = self._plain(operator, tflite.Pool2DOptions)
        size = (options.FilterHeight(), options.FilterWidth())
        self._node(
            "MaxPool",
            [self._name(source)],
            output,
            kernel_shape=list(size),
            **self._window(source, output, options, size),
        )

    def _window(
        self, source: int, output: int, options: tflite.Pool2DOptions, size: tuple[int, ...]
    ) -> dict[str, list[int]]:
        strides = (options.StrideH(), options.StrideW())
        if options.Padding() == tflite.Padding.SAME:
            taken, given = self._shape(source)[1:3], self._shape(output)[1:3]
            (top, bottom), (left, right) = map(same_padding, taken, given, strides, size)
        else:
            top = bottom = left = right = 0
        return {"strides": list(strides), "pads": [top, left, bottom, right]}

    def _plain(self, operator: tflite.Operator, kind: Any) -> Any:
        """Read an operator's options, refusing an activation fused into it (these networks have none)."""
        options = kind()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        if options.FusedActivationFunction() != tflite.ActivationFunctionType.NONE:
            raise ModelError("This TensorFlow Lite network fuses activations, which is not supported.")
        return options

    def _constant(self, tensor: int) -> NDArray[np.generic]:
        if tensor not in self.constants:
            description = self.graph.Tensors(tensor)
            raw = self.model.Buffers(description.Buffer()).DataAsNumpy()
            dtype = np.dtype(_DTYPES[description.Type()])
            self.constants[tensor] = np.frombuffer(raw.tobytes(), dtype).reshape(self._shape(tensor))
        return self.constants[tensor]

    def _shape(self, tensor: int) -> list[int]:
        return [int(size) for size in self.graph.Tensors(tensor).ShapeAsNumpy()]

    def _name(self, tensor: int) -> str:
        return f"t{tensor}"

    def _weight(self, output: int, role: str, value: NDArray[np.generic]) -> str:
        name = f"{self._name(output)}_{role}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [self._name(output)], **attributes))
