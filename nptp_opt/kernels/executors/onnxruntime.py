"""ONNX Runtime: a program is one graph or several, with torch between them.

Graphs are optimised by the runtime: fused activations, channels in its own layout. All sessions of
a device are handed the same weights' memory, batch norms folded into it, and share one allocator.
The first program that reads a weight may copy it into the runtime's own layout; others that read
it, the rims of a step that overlaps, do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nptp_opt.errors import ExecutionError, last_lines
from nptp_opt.kernels.crops import Crop
from nptp_opt.kernels.executors.program import Call, TileProgram
from nptp_opt.kernels.executors.registry import Capabilities, Executor, Opened, Prepared
from nptp_opt.kernels.executors.torch import check_weights, compute

if TYPE_CHECKING:
    import onnxruntime as ort

    from nptp_opt.kernels.executors.onnx_lowering import Span


class OnnxRuntime(Executor):
    """The CPU provider of ONNX Runtime; graphs are made with the onnx package."""

    name, package, module = "onnxruntime", "onnxruntime", "onnxruntime"
    install = "pip install 'nptp-opt[onnxruntime]'"
    capabilities = Capabilities(dtypes=("float32",), tolerance=1e-3, threads=True)

    @property
    def available(self) -> bool:
        from importlib.util import find_spec

        return super().available and find_spec("onnx") is not None

    def _open(self, weights: Mapping[str, Tensor], threads: int) -> Opened:
        return _Opened(weights, threads)


class _Opened(Opened):
    """ONNX Runtime with one device's weights."""

    def __init__(self, weights: Mapping[str, Tensor], threads: int) -> None:
        from nptp_opt.kernels.executors.onnx_graph import SharedWeights

        self.weights, self.threads = weights, threads
        self.shared = SharedWeights(weights)
        self.values: dict[str, ort.OrtValue] = {}
        self.laid_out: set[str] = set()

    def prepare(self, program: TileProgram) -> Prepared:
        check_weights(program.calls, self.weights)
        return _Program(program, self)

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
def _share_memory() -> None:
    """One allocator for all sessions of this process."""
    import onnxruntime as ort

    kind, memory = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    where = ort.OrtMemoryInfo("Cpu", kind, 0, memory)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(0, -1, -1, -1))


class _Program(Prepared):
    """Stages in order; each reads what is given and what others made."""

    def __init__(self, program: TileProgram, opened: _Opened) -> None:
        from nptp_opt.kernels.executors.onnx_lowering import spans

        told: dict[str, str] = {}
        found = list(spans(program, opened.shared, told))
        self.program, self.fallbacks = program, told
        self.stages: list[_Session | _ByTorch] = []
        for number, span in enumerate(found):
            later = {
                name for s in found[number + 1 :] for c in s.calls for name in c.reads.values()
            }
            made = (call.layer.name for call in span.calls)
            wanted = [name for name in made if name in later or name in program.outputs]
            if span.graph is None:
                self.stages.append(_ByTorch(span.calls, opened.weights))
            else:
                self.stages.append(_Session(program, span, wanted, opened))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        held: dict[str, Crop] = {
            value.name: (value.tile, inputs[value.name]) for value in self.program.inputs
        }
        for stage in self.stages:
            stage.run(held)
        return {name: held[name][1] for name in self.program.outputs}


class _ByTorch:
    """Calls that torch computes."""

    def __init__(self, calls: Sequence[Call], weights: Mapping[str, Tensor]) -> None:
        self.calls, self.weights = calls, weights

    def run(self, held: dict[str, Crop]) -> None:
        """Add what the calls make to the values that are ``held``."""
        for call in self.calls:
            held[call.layer.name] = call.tile, compute(call, self.weights, held)


class _Session:
    """A graph, loaded; ``wanted`` of the values that its calls make are handed on."""

    def __init__(
        self, program: TileProgram, span: Span, wanted: Sequence[str], opened: _Opened
    ) -> None:
        assert span.graph is not None
        shapes, self.inputs, self.wanted = program.shapes, span.inputs, list(wanted)
        self.tiles = [program.regions[name] for name in wanted]
        # what only renames a value is no node, and no graph may hand on its own input
        self.names = [span.graph.add("Identity", span.values[name]) for name in wanted]
        model, shared = span.graph.model(
            {value: shapes[name] for name, value in self.inputs.items()},
            {value: shapes[name] for value, name in zip(self.names, wanted, strict=True)},
        )
        self.session = opened.session(model, shared)

    def run(self, held: dict[str, Crop]) -> None:
        """Add what the graph makes to the values that are ``held``."""
        feeds = {value: _array(held[name][1]) for name, value in self.inputs.items()}
        found = self.session.run(self.names, feeds)
        for name, tile, values in zip(self.wanted, self.tiles, found, strict=True):
            held[name] = tile, torch.from_numpy(values)


def _array(values: Tensor) -> object:
    return values.detach().contiguous().numpy()
