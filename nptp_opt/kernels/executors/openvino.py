"""OpenVINO, where it is installed: the same ONNX graphs, read by it and compiled for the CPU.

The graphs name the weights where they lie in memory, and are read without a copy. Each compiled
program has them once more, in the engine's own layout. Values are computed in float32, also where
the processor has instructions for shorter types, and no thread is bound to a core: other devices'
programs may run on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from nptp_opt.errors import ExecutionError, last_lines
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.onnx_bytes import tensor_at_address
from nptp_opt.kernels.executors.onnx_program import Loaded, OpenedOnnx
from nptp_opt.kernels.executors.program import Shape
from nptp_opt.kernels.executors.registry import Capabilities, Executor, Opened

if TYPE_CHECKING:
    import openvino as ov

    from nptp_opt.kernels.executors.onnx_graph import Graph, SharedWeights


class OpenVino(Executor):
    """The CPU plug-in of OpenVINO."""

    name, package, module = "openvino", "openvino", "openvino"
    install = "pip install openvino"
    capabilities = Capabilities(dtypes=("float32",), tolerance=1e-3, threads=True)

    def _open(self, weights: Mapping[str, Array], threads: int) -> Opened:
        return _Opened(weights, threads)


class _Opened(OpenedOnnx):
    """OpenVINO with one device's weights."""

    lacks = frozenset({"cast"})
    """In float32 it leaves out casts to a shorter type and back, which are there to round."""

    def __init__(self, weights: Mapping[str, Array], threads: int) -> None:
        super().__init__(weights)
        self.threads = threads

    def load(
        self, graph: Graph, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
    ) -> Loaded:
        model, _ = graph.model(inputs, outputs, tensor_at_address)
        compiled = self.compiled(model)
        return _Request(compiled, list(inputs), list(outputs.values()), self.shared)

    def compiled(self, model: bytes) -> ov.CompiledModel:
        """The model, whose weights lie in ``shared``, ready to compute."""
        core = _core()
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            return core.compile_model(core.read_model(model), "CPU", settings)
        except Exception as error:  # noqa: BLE001 - the engine's kinds of errors share no base
            raise ExecutionError(f"executor 'openvino': {last_lines(error)}") from None


@cache
def _core() -> ov.Core:
    """One for this process: it loads the plug-ins."""
    import openvino as ov

    return ov.Core()


class _Request:
    """A graph, loaded. Inputs are read where they lie, outputs are written to fresh memory.

    The engine drops an input from which no output is made. It may read ``weights`` where they lie.
    """

    def __init__(
        self,
        compiled: ov.CompiledModel,
        inputs: Sequence[str],
        shapes: Sequence[Shape],
        weights: SharedWeights,
    ) -> None:
        self.request, self.shapes, self.weights = compiled.create_infer_request(), shapes, weights
        self.reads = [
            next(i for i, name in enumerate(inputs) if name in port.names)
            for port in compiled.inputs
        ]

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        import openvino as ov

        found = [np.empty(shape, dtype=np.float32) for shape in self.shapes]
        for place, read in enumerate(self.reads):
            self.request.set_input_tensor(place, ov.Tensor(inputs[read], shared_memory=True))
        for place, values in enumerate(found):
            self.request.set_output_tensor(place, ov.Tensor(values, shared_memory=True))
        self.request.infer()
        return found
