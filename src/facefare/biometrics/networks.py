"""One way to run a network: ONNX Runtime, CPU, one thread, checked output."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from facefare.biometrics.errors import ModelError, ModelOutputError
from facefare.biometrics.models.install import networks, read_verified


class OnnxNetwork:
    """A network with one input; refuses to load other bytes than pinned and to return what is not finite."""

    def __init__(self, file: Path, sha256: str):
        model = read_verified(file, sha256)
        options = onnxruntime.SessionOptions()
        # One core, and no spinning threads: at a gate several processes share few cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.name = file.name
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions share no public base
            raise ModelError(f"{file} is no network that ONNX Runtime can run.") from error
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def pinned(cls, folder: Path, file: str) -> "OnnxNetwork":
        """Load one of the networks of models.toml."""
        return cls(folder / file, networks()[file].output_sha256)

    def run(self, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run on one float32 tensor. Raises ModelOutputError if an output is not finite."""
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input: tensor})
        except Exception as error:
            raise ModelOutputError(f"The network {self.name} failed on its input.") from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise ModelOutputError(f"The network {self.name} gave a value that is not a number.")
        return outputs
