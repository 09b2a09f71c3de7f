"""ONNX Runtime: a program is one graph or several, with torch between them where it is installed.

Graphs are optimised by the runtime: fused activations, channels in its own layout. All sessions of
a device are handed the same weights' memory, batch norms folded into it, and share one allocator.
The first program that reads a weight may copy it into the runtime's own layout; others that read
it, further pieces of a step, do without. Products of bytes are summed exactly also on x86 without
dot products of bytes, where the runtime's fastest kernels saturate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from nptp_opt.errors import ExecutionError, last_lines
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.onnx_bytes import tensor_elsewhere
from nptp_opt.kernels.executors.onnx_graph import Graph, SharedWeights
from nptp_opt.kernels.executors.onnx_program import Loaded, OpenedOnnx
from nptp_opt.kernels.executors.program import Shape
from nptp_opt.kernels.executors.registry import Capabilities, Executor, Opened

if TYPE_CHECKING:
    import onnxruntime as ort

EXACT_BYTES = "session.x64quantprecision", "1"
"""Processors without dot products of bytes add two products of unsigned and signed ones in 16 bits,
and saturate them; by this setting both are unsigned there, and nothing is changed elsewhere."""


class OnnxRuntime(Executor):
    """The CPU provider of ONNX Runtime."""

    name, package, module = "onnxruntime", "onnxruntime", "onnxruntime"
    install = "pip install 'nptp-opt[onnxruntime]'"
    capabilities = Capabilities(dtypes=("float32",), tolerance=1e-3, threads=True)

    def _open(self, weights: Mapping[str, Array], threads: int) -> Opened:
        return _Opened(weights, threads)


class _Opened(OpenedOnnx):
    """ONNX Runtime with one device's weights."""

    def __init__(self, weights: Mapping[str, Array], threads: int) -> None:
        super().__init__(weights)
        self.threads = threads
        self.values: dict[str, ort.OrtValue] = {}
        self.laid_out: set[str] = set()

    @property
    def sums_bytes(self) -> bool:
        return _sums_bytes()

    def load(
        self, graph: Graph, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
    ) -> Loaded:
        model, shared = graph.model(inputs, outputs, tensor_elsewhere)
        return _Session(self.session(model, shared), list(inputs), list(outputs))

    def session(self, model: bytes, shared: Sequence[str]) -> ort.InferenceSession:
        """A session of a model that is handed the weights of these names."""
        import onnxruntime as ort

        _share_memory()
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        level, again = ort.GraphOptimizationLevel, not self.laid_out.isdisjoint(shared)
        options.graph_optimization_level = (
            level.ORT_ENABLE_EXTENDED if again else level.ORT_ENABLE_ALL
        )
        self.laid_out.update(shared)
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry(*EXACT_BYTES)
        # the threads of one program must not spin while another one computes
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if shared:
            options.add_external_initializers(list(shared), [self._value(name) for name in shared])
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - the runtime's kinds of errors share no base
            raise ExecutionError(f"executor 'onnxruntime': {last_lines(error)}") from None

    def _value(self, name: str) -> ort.OrtValue:
        import onnxruntime as ort

        if name not in self.values:
            self.values[name] = ort.OrtValue.ortvalue_from_numpy(self.shared.arrays[name])
        return self.values[name]


@cache
def _sums_bytes() -> bool:
    """Are the largest sums of products right? In a version without ``EXACT_BYTES``, say, not."""
    graph = Graph(SharedWeights({}))
    one, nothing = graph.floats(1.0), graph.byte(0.0)
    weight = graph.constant(np.full((16, 64, 1, 1), 127, dtype=np.int8))
    zero = graph.constant(np.array(0, dtype=np.int8))
    x = graph.add("QuantizeLinear", "x", one, nothing)
    scale = graph.floats(1 / (127 * 64))
    y = graph.add("QLinearConv", x, one, nothing, weight, scale, zero, one, nothing)
    made = graph.add("DequantizeLinear", y, one, nothing)
    given = np.full((1, 64, 4, 4), 255.0, dtype=np.float32)
    opened = _Opened({}, 1)
    load = opened.load(graph, {"x": given.shape}, {made: (1, 16, 4, 4)})
    return bool(np.all(load([given])[0] == 255.0))


@cache
def _share_memory() -> None:
    """One allocator for all sessions of this process."""
    import onnxruntime as ort

    kind, memory = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    where = ort.OrtMemoryInfo("Cpu", kind, 0, memory)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(0, -1, -1, -1))


class _Session:
    """A graph, loaded."""

    def __init__(
        self, session: ort.InferenceSession, inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self.session, self.inputs, self.outputs = session, inputs, outputs

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        found: Sequence[Array] = self.session.run(
            self.outputs, dict(zip(self.inputs, inputs, strict=True))
        )
        return found
