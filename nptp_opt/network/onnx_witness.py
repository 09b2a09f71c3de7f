"""Another engine for an ONNX file: what the import is held against.

It shares no code with the rules: the file goes to ONNX Runtime as it is, with the weights that the
import made up for it. Where that is not installed or refuses the file, the onnx package's own
evaluator takes it; ``name`` says which. On x86 without dot products of bytes ONNX Runtime's fastest
kernels saturate sums of unsigned times signed ones, and its answers are not the file's: it is told
to take exact ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from nptp_opt.errors import InputError
from nptp_opt.network.onnx_file import TAKEN, OnnxFile

MESSAGE_LIMIT = 2**31 - 2**24
"""Bytes of weights from which a model is handed on as a file: no message may have 2 GiB."""

TOGETHER = 16
"""Inner values that are held at the same time."""

OLDEST_IR = 4
"""The first version of the format in which weights need not be inputs."""

EXACT_BYTES = "session.x64quantprecision", "1"
"""By this setting ONNX Runtime makes signed weights unsigned where its kernels saturate; of files
whose activations are signed, and which are exact without it, it then refuses some."""

_KINDS = {dtype: kind for kind, dtype in TAKEN.items()}

Array = np.ndarray[Any, Any]
Run = Callable[[Sequence[str], dict[str, Array]], Sequence[Any]]
"""Values of these names, for named inputs."""


class OnnxWitness:
    """``read`` gives the file; ``inner`` are its nodes' names with their first outputs, in order.

    The engine is made when it is first needed.
    """

    def __init__(self, read: Callable[[], OnnxFile], inner: Sequence[tuple[str, str]]) -> None:
        self._read, self._inner = read, list(inner)

    @property
    def name(self) -> str:
        """The engine and its version."""
        return self._engine.name

    def outputs(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The file's outputs in order, for ``inputs`` in float32."""
        return self._engine.values(self._engine.outputs, inputs)

    def inner(self, *inputs: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and first output of every node that the import keeps, in order; may be slow."""
        engine = _Engine(self._read, [value for _, value in self._inner])
        for start in range(0, len(self._inner), TOGETHER):
            nodes = self._inner[start : start + TOGETHER]
            values = engine.values([value for _, value in nodes], inputs)
            yield from zip([name for name, _ in nodes], values, strict=True)

    @cached_property
    def _engine(self) -> _Engine:
        return _Engine(self._read)


class _Engine:
    """A file in ONNX Runtime or the onnx package's evaluator, which gives ``inner`` values too."""

    def __init__(self, read: Callable[[], OnnxFile], inner: Sequence[str] = ()) -> None:
        self.read, self.inner, file = read, inner, read()
        self.data = file.data
        self.outputs = [str(each.name) for each in file.graph.output]
        model = _complete_model(file, inner)
        self.name, self._run = _runtime(model, exact=bool(inner)) or _evaluator(model)

    def values(self, names: Sequence[str], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """These values for inputs; the evaluator's where ONNX Runtime gives up on the way."""
        feeds = {
            each.name: x.detach().to("cpu", each.dtype).reshape(each.shape).numpy()
            for each, x in zip(self.data, inputs, strict=True)
        }
        try:
            results = self._run(names, feeds)
        except Exception as error:  # noqa: BLE001 - engines raise their own kinds
            if self.name == _evaluator_name():
                raise _explain_failure(error, self.name) from None
            self.name, self._run = _evaluator(_complete_model(self.read(), self.inner))
            return self.values(names, inputs)
        return [_in_single(torch.from_numpy(np.array(value))) for value in results]


def _in_single(value: torch.Tensor) -> torch.Tensor:
    """Fractions in float32, other values as they are."""
    return value.float() if value.is_floating_point() else value


def _explain_failure(error: Exception, name: str) -> InputError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(f"{name} cannot run the file: {lines[0]}")


def _complete_model(file: OnnxFile, inner: Sequence[str]) -> onnx.ModelProto:
    """The file's model with all weights and the data alone, of the shapes that were asked for.

    What it declares of other shapes holds for other inputs, and goes.
    """
    model, graph = file.model, file.graph
    stored = {each.name for each in graph.initializer}
    for name in {each.name for each in graph.input} - stored - {each.name for each in file.data}:
        graph.initializer.append(onnx.numpy_helper.from_array(file.known[name], name))
    del graph.input[:], graph.value_info[:]
    graph.input.extend(
        onnx.helper.make_tensor_value_info(each.name, _KINDS[each.dtype], each.shape)
        for each in file.data
    )
    for each in graph.output:
        each.type.tensor_type.ClearField("shape")
    returned = {each.name for each in graph.output}
    more = [name for name in dict.fromkeys(inner) if name not in returned]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    model.ir_version = max(model.ir_version, OLDEST_IR)
    return model


def _runtime(model: onnx.ModelProto, *, exact: bool) -> tuple[str, Run] | None:
    """ONNX Runtime on one CPU; None where it is not installed or refuses the model.

    ``exact``: node by node, nothing fused.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    for setting in (EXACT_BYTES, None):
        options = _options(exact)
        if setting is not None:
            options.add_session_config_entry(*setting)
        try:
            session = _session(model, options)
        except Exception:  # noqa: BLE001 - an operator or opset that it does not have: its own kinds
            continue
        return f"ONNX Runtime {onnxruntime.__version__}", session.run
    return None


def _options(exact: bool) -> Any:
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _session(model: onnx.ModelProto, options: Any) -> Any:
    from onnxruntime import InferenceSession

    providers = ["CPUExecutionProvider"]
    if sum(each.ByteSize() for each in model.graph.initializer) < MESSAGE_LIMIT:
        return InferenceSession(model.SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory(prefix="nptp-opt-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save_model(model, path, save_as_external_data=True, location="weights")
        return InferenceSession(str(path), options, providers=providers)


def _evaluator(model: onnx.ModelProto) -> tuple[str, Run]:
    """Raises InputError where that has no function for an operator of the model."""
    try:
        return _evaluator_name(), ReferenceEvaluator(model, new_ops=[LRN]).run
    except Exception as error:  # noqa: BLE001 - the evaluator raises its own kinds
        raise _explain_failure(error, _evaluator_name()) from None


class LRN(OpRun):  # type: ignore[misc]
    """The evaluator's own (onnx 1.23) normalises only as many channels as there are samples."""

    op_domain = ""

    def _run(
        self, x: Array, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1
    ) -> tuple[Array]:
        before, squares = (size - 1) // 2, x * x
        starts = [(max(0, c - before), c - before + size) for c in range(x.shape[1])]
        sums = np.stack([squares[:, a:b].sum(axis=1) for a, b in starts], axis=1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


def _evaluator_name() -> str:
    return f"onnx reference evaluator {onnx.__version__}"
