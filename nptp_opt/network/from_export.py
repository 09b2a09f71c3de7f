"""Front end for torch: an exported ATen graph, made functional, becomes nodes."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from nptp_opt.errors import InputError, UnsupportedError
from nptp_opt.network import (
    aten_linear,
    aten_moves,
    aten_pixelwise,
    aten_reductions,
    aten_views,
    aten_volumes,
    aten_windows,
)
from nptp_opt.network.aten_whole import actual, handle, is_known
from nptp_opt.network.calls import Call
from nptp_opt.network.casts import CASTS, cast_as_recorded
from nptp_opt.network.decompose import decomposed
from nptp_opt.network.functional import functional
from nptp_opt.network.graph import Const, Graph, Value
from nptp_opt.network.ir import Network
from nptp_opt.network.layers import anchor_names, fold_graph, rename_tensors
from nptp_opt.network.layout import Layout, layout_of_input
from nptp_opt.network.ops import ELEMENTWISE
from nptp_opt.network.quiet import quiet_export
from nptp_opt.network.ref import InputShape, Shape, shapes_of, spelled

__all__ = [
    "Imported",
    "Origin",
    "aten_linear",
    "aten_moves",
    "aten_pixelwise",
    "aten_reductions",
    "aten_views",
    "aten_volumes",
    "aten_windows",
    "export",
    "import_program",
]

NUMBERS = (bool, int, float, torch.SymBool, torch.SymFloat, torch.SymInt)
"""What a node may make beside tensors: the number that a constant holds, say."""

_CHECKS = ("_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range")


@dataclass(frozen=True)
class Origin:
    """Which value of the exported graph a tensor of the network is, and how its dimensions lie."""

    node: str
    layout: Layout | None


@dataclass(frozen=True)
class Imported:
    """A network with what is needed to run the model unpartitioned.

    ``derived`` are the graph's nodes that compute weights from weights; their state keys are
    ``derived:`` and the node's name. ``results`` are the model's outputs in its own order: the
    network's tensors, of which one may stand there twice. ``modules`` names the last node of
    every module that computes something, by the module's path.
    """

    network: Network
    program: torch.export.ExportedProgram
    origins: Mapping[str, Origin]
    derived: tuple[str, ...]
    results: tuple[str, ...]
    modules: Mapping[str, str]

    @property
    def placeholders(self) -> list[fx.Node]:
        """The graph's nodes for the model's inputs, in the model's own order.

        The network has those among them that some layer reads.
        """
        return _of_inputs(self.program)


def export(
    model: torch.nn.Module, shape: InputShape, name: str, device: str
) -> torch.export.ExportedProgram:
    """The functional ATen graph of ``model`` at this input shape, or these.

    Raises InputError naming the module that refuses the input, and UnsupportedError for a model
    that changes its input or state, or draws random numbers.
    """
    shapes = shapes_of(shape)
    _check_count(model, shapes, name)
    names = {id(module): path for path, module in model.named_modules()}
    entered = [""]

    def enter(module: torch.nn.Module, _: Any) -> None:
        entered.append(names.get(id(module), entered[-1]))

    training = [module for module in model.modules() if module.training]
    hook = torch.nn.modules.module.register_module_forward_pre_hook(enter)
    try:
        with torch.no_grad(), quiet_export():
            samples = tuple(torch.empty(each, device=device) for each in shapes)
            program = torch.export.export(model.eval(), samples, strict=False)
            return decomposed(functional(program), lambda op: op in _CHECKS or is_known(op))
    except UnsupportedError as error:
        raise UnsupportedError(f"{name}: {error}") from None
    except DynamicOutputShapeException as error:
        op = str(error.func).split(".")[1]
        raise UnsupportedError(
            f"{name}: op {op} is not supported: the sizes of what it makes depend on data"
        ) from None
    except GuardOnDataDependentSymNode:
        after = f" (seen after {entered[-1]!r} was entered)" if entered[-1] else ""
        raise UnsupportedError(
            f"{name}: control flow and sizes that depend on data are not supported{after}"
        ) from None
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        where = f" in {entered[-1]!r}" if entered[-1] else ""
        size = spelled(shapes)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        raise InputError(f"{name}: the model refuses an input of {size}{where}: {why}") from None
    finally:
        hook.remove()
        for module in training:  # the user's own module is left as it was
            module.training = True


def _check_count(model: torch.nn.Module, shapes: Sequence[Shape], name: str) -> None:
    """Raise InputError, with the names of the inputs, where there are too few or many shapes."""
    try:
        found = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # no Python function: the export itself will say so
        return
    if any(each.kind is each.VAR_POSITIONAL for each in found):
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in found if each.kind in kinds]
    least = sum(each.default is each.empty for each in taken)
    if not least <= len(shapes) <= len(taken):
        count = f"{least}" if least == len(taken) else f"{least} to {len(taken)}"
        names = ", ".join(each.name for each in taken)
        raise InputError(
            f"{name}: number of inputs: the model takes {count} ({names}), the shapes are "
            f"{len(shapes)}: {spelled(shapes)}; give one for each, in this order"
        )


def _of_inputs(program: torch.export.ExportedProgram) -> list[fx.Node]:
    """The placeholders of what the user gives, in order."""
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def import_program(program: torch.export.ExportedProgram, name: str) -> Imported:
    """Nodes, layers and weights of an exported graph; raises UnsupportedError naming the node."""
    return _Importer(program, name).run()


@dataclass
class _Importer:
    program: torch.export.ExportedProgram
    name: str
    graph: Graph = field(default_factory=Graph)
    env: dict[fx.Node, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    derived: list[str] = field(default_factory=list)
    made: dict[Value, str] = field(default_factory=dict)

    def run(self) -> Imported:
        self._placeholders()
        self.become_maps = _that_become_maps(self.program.graph)
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._call(node)
        outputs = self._outputs()
        for tensor, value in self.graph.relaid.items():
            if value in self.made:
                self.origins.setdefault(tensor, Origin(self.made[value], None))
        network = fold_graph(self.graph, self.name, self.inputs, list(dict.fromkeys(outputs)))
        names = anchor_names(network)
        origins = {names.get(tensor, tensor): made for tensor, made in self.origins.items()}
        network = rename_tensors(network, names)
        results = tuple(names.get(tensor, tensor) for tensor in outputs)
        modules = {_path_of(node): node.name for node in self.program.graph.nodes}
        return Imported(network, self.program, origins, tuple(self.derived), results, modules)

    def _placeholders(self) -> None:
        signature = self.program.graph_signature
        targets = {
            spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")
        }
        self.inputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec, value = targets[node.name], node.meta["val"]
            if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT:
                self._input(node, tuple(value.shape))
            else:
                self.env[node] = Const(str(spec.target), tuple(value.shape))

    def _input(self, node: fx.Node, shape: tuple[int, ...]) -> None:
        layout = layout_of_input(shape, channels_last=_is_channels_last(node))
        if layout is None:
            raise UnsupportedError(
                f"input {node.name!r}: {len(shape)} dimensions; 2 to 5 are known"
            )
        self.graph.shapes[node.name] = layout.canonical(shape)
        self.env[node] = Value(node.name, shape, layout, node.meta["val"].dtype)
        self.origins[node.name] = Origin(node.name, layout)
        self.inputs.append(node.name)

    def _call(self, node: fx.Node) -> None:
        if self._is_constant(node):
            self._derive(node)
            return
        if node.target is operator.getitem:
            self._getitem(node)
            return
        target: Any = node.target
        if not isinstance(target, torch._ops.OpOverload):
            op = getattr(target, "__name__", target)
            raise UnsupportedError(
                f"node {node.name!r}: op {op} is not supported (control flow and "
                "data-dependent sizes cannot be planned)"
            )
        packet, overload = target._schema.name.split("::")[1], target._overloadname
        if packet in _CHECKS:
            return
        call = self._call_of(node, packet, overload)
        many = isinstance(node.meta["val"], (list, tuple))
        result = handle(call)
        if isinstance(result, Value):
            recorded = cast_as_recorded(call, result)
            self.env[node] = [recorded] if many else recorded
        else:
            self.env[node] = [replace(each, dtype=each.dtype or call.dtype) for each in result]
        self._note(node, self.env[node])

    def _getitem(self, node: fx.Node) -> None:
        source, index = node.args
        assert isinstance(source, fx.Node) and isinstance(index, int)
        if not node.users:
            return
        source_value = self.env[source]
        if not isinstance(source_value, list) or index >= len(source_value):
            raise UnsupportedError(
                f"node {source.name!r}: op {_packet_of(source)} is not supported: its result "
                f"number {index + 1} is not known"
            )
        self.env[node] = source_value[index]
        self._note(node, self.env[node])

    def _call_of(self, node: fx.Node, packet: str, overload: str) -> Call:
        arguments = node.target._schema.arguments  # type: ignore[union-attr]
        given = dict(zip((a.name for a in arguments), node.args, strict=False)) | dict(node.kwargs)
        values = {a.name: given.get(a.name, a.default_value) for a in arguments}
        op = packet if packet.startswith("__") else packet.rstrip("_")
        shapes, dtypes = _shapes(node.meta["val"]), _dtypes(node.meta["val"])
        return Call(
            self.graph,
            self._readable(node, op),
            op,
            overload,
            {role: self._resolve(value) for role, value in values.items()},
            frozenset(a.name for a in arguments if a.kwarg_only),
            shapes[0] if shapes else (),
            shapes if isinstance(node.meta["val"], (list, tuple)) else (),
            node in self.become_maps,
            {a.name: a.default_value for a in arguments if a.has_default_value()},
            dtypes[0] if dtypes else None,
            dtypes,
        )

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            if value not in self.env:
                raise UnsupportedError(f"node {value.name!r}: its value is not a tensor")
            return self.env[value]
        if isinstance(value, (list, tuple)):
            return [self._resolve(each) for each in value]
        return value

    def _readable(self, node: fx.Node, op: str) -> str:
        """The module's path; an op's name behind it unless the module is one op."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path, kind = stack[-1] if stack else ("", "")
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        leaf = kind.startswith(("torch.nn.modules.", "nptp_opt.network.")) and path
        return path.removeprefix("nodes.") if leaf else f"{path}.{op}".lstrip(".")

    def _is_constant(self, node: fx.Node) -> bool:
        """True for tensors and numbers that depend on weights alone, or on nothing."""
        value = node.meta.get("val")
        known = bool(_shapes(value)) or isinstance(value, NUMBERS)
        return known and all(_is_derivable(self.env.get(each)) for each in node.all_input_nodes)

    def _derive(self, node: fx.Node) -> None:
        """Note a tensor to be computed when weights are; those of a list are taken out of it."""
        key, value = f"derived:{node.name}", node.meta["val"]
        consts = [Const(key, shape) for shape in _shapes(value)] or [Const(key, ())]
        self.env[node] = consts if isinstance(value, (list, tuple)) else consts[0]
        self.derived.append(node.name)

    def _note(self, node: fx.Node, value: Any) -> None:
        if isinstance(value, Value):
            self.origins.setdefault(value.tensor, Origin(node.name, value.layout))
            self.made.setdefault(value, node.name)

    def _outputs(self) -> list[str]:
        signature = self.program.graph_signature
        by_name = {node.name: node for node in self.program.graph.nodes}
        names: list[str] = []
        for spec in signature.output_specs:
            node = by_name.get(getattr(spec.arg, "name", ""))
            if spec.kind is not torch.export.graph_signature.OutputKind.USER_OUTPUT:
                continue
            value = self.env.get(node) if node is not None else None
            if node is None or not isinstance(value, Value):
                raise UnsupportedError(_no_result(spec.arg, node))
            tensor = actual(self.graph, value)
            self.origins.setdefault(tensor, Origin(node.name, None))
            names.append(tensor)
        return names


def _is_derivable(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(isinstance(part, Const) for part in parts)


def _no_result(given: Any, node: fx.Node | None) -> str:
    """Why an output of the model is none of the network's tensors."""
    if not isinstance(given, torch.export.graph_signature.TensorArgument):
        return f"output {getattr(given, 'value', given)!r} is no tensor: leave it out"
    op = "" if node is None else _packet_of(node)
    made = f", which op {op} makes," if op else ""
    return f"output {given.name!r}{made} does not depend on the input"


def _path_of(node: fx.Node) -> str:
    """The path of the innermost module that a node belongs to."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]).removeprefix("nodes.") if stack else ""


def _is_channels_last(node: fx.Node) -> bool:
    """True for an input that the model brings from (N, H, W, C) to (N, C, H, W) itself."""
    frontier = [node]
    while frontier:
        reader = frontier.pop()
        for user in reader.users:
            if user.target is torch.ops.aten.permute.default:
                return list(user.args[1]) == [0, 3, 1, 2]  # type: ignore[arg-type]
            shape = getattr(user.meta.get("val"), "shape", None)
            if shape == node.meta["val"].shape and _packet_of(user) in ELEMENTWISE | CASTS:
                frontier.append(user)
    return False


def _packet_of(node: fx.Node) -> str:
    target: Any = node.target
    known = isinstance(target, torch._ops.OpOverload)
    return str(target._schema.name.split("::")[1]) if known else ""


def _that_become_maps(graph: fx.Graph) -> set[fx.Node]:
    """Nodes from which, sooner or later, a tensor of more than two dimensions is made."""
    nodes: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op != "output":
            ranks = map(len, _shapes(node.meta.get("val")))
            if node in nodes or max(ranks, default=0) > 2:
                nodes.update(node.all_input_nodes)
    return nodes


def _shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in _tensors(value))


def _dtypes(value: Any) -> tuple[torch.dtype, ...]:
    return tuple(tensor.dtype for tensor in _tensors(value))


def _tensors(value: Any) -> list[torch.Tensor]:
    given = value if isinstance(value, (list, tuple)) else [value]
    return [each for each in given if isinstance(each, torch.Tensor)]
