"""An exported program as a functional graph: nothing is written in place or drawn at random.

Where the writes are activations of fresh values that nothing else reads, each becomes the op that
writes nothing; otherwise torch's own functionalisation does it, which takes longer.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import OutputKind

from nptp_opt.errors import UnsupportedError
from nptp_opt.network.ops import words

FRESH = words(
    """
    add avg_pool2d batch_norm bmm cat conv1d conv2d conv_transpose1d conv_transpose2d div
    group_norm instance_norm layer_norm linear matmul max_pool2d mul sub
    """
)
"""Ops whose result shares memory with nothing."""

SWITCHES = {
    "alpha_dropout": "train",
    "dropout": "train",
    "feature_alpha_dropout": "train",
    "feature_dropout": "train",
    "gru": "train",
    "lstm": "train",
    "native_dropout": "train",
    "rnn_relu": "train",
    "rnn_tanh": "train",
    "rrelu": "training",
    "rrelu_with_noise": "training",
    "scaled_dot_product_attention": "dropout_p",
}
"""What makes these ops random; without it they are not."""

CHANGED = {
    OutputKind.BUFFER_MUTATION: "buffer",
    OutputKind.PARAMETER_MUTATION: "parameter",
    OutputKind.USER_INPUT_MUTATION: "input",
}


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program without writes.

    Raises UnsupportedError, with the line of the model's source, where random numbers are drawn
    and where the model changes its input, a parameter or a buffer.
    """
    calls = {node.name: node for node in program.graph.nodes}
    _refuse_random(program.graph)
    if not _rewrite_fresh(program.graph):
        program = program.run_decompositions({})
        _refuse_random(program.graph)
    _refuse_changes(program, calls)
    return program


def source_line(node: fx.Node) -> str:
    """The model's own line that called the op, as ``file.py, line 3: code``; empty if unknown."""
    trace = str(node.meta.get("stack_trace") or "")
    frames = re.findall(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)', trace)
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    return "{}, line {}: {}".format(*own[-1]) if own else ""


def _refuse_random(graph: fx.Graph) -> None:
    for node in graph.nodes:
        target: Any = node.target
        if not isinstance(target, torch._ops.OpOverload):
            continue
        seeded = torch.Tag.nondeterministic_seeded in target.tags
        if seeded and _is_on(node, target):
            raise UnsupportedError(
                f"node {node.name!r}: op {_packet(target)} draws random numbers, and no plan can "
                f"repeat them{_at(source_line(node))}"
            )


def _is_on(node: fx.Node, target: torch._ops.OpOverload) -> bool:
    switch = SWITCHES.get(_packet(target).rstrip("_"))
    names = [argument.name for argument in target._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    defaults = {each.name: each.default_value for each in target._schema.arguments}
    return switch is None or bool(given.get(switch, defaults.get(switch)))


def _packet(target: torch._ops.OpOverload) -> str:
    return str(target._schema.name.split("::")[1])


def _at(line: str) -> str:
    return f" ({line})" if line else ""


def _rewrite_fresh(graph: fx.Graph) -> bool:
    """Turn every write into the op that writes nothing; False where one is more than that."""
    fresh: set[fx.Node] = set()
    rewritten: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        target: Any = node.target
        if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
            if isinstance(target, torch._ops.HigherOrderOperator):
                return False
            continue
        if target._schema.is_mutable:
            plain = _without_write(node, target)
            if plain is None or node.args[0] not in fresh:
                return False
            rewritten[node] = plain
        if target._schema.is_mutable or _packet(target) in FRESH:
            fresh.add(node)
    for node, plain in rewritten.items():
        node.target = plain
    return True


def _without_write(node: fx.Node, target: torch._ops.OpOverload) -> Any:
    """``relu`` for ``relu_``, where nothing but this call reads what it changes; else None."""
    written = [a.name for a in target._schema.arguments if a.alias_info and a.alias_info.is_write]
    name, given = _packet(target), node.args[0] if node.args else None
    alone = isinstance(given, fx.Node) and list(given.users) == [node]
    if written not in (["self"], ["input"]) or not name.endswith("_") or not alone:
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, target._overloadname, None)


def _refuse_changes(program: torch.export.ExportedProgram, calls: dict[str, fx.Node]) -> None:
    """``calls`` are the nodes of the program as it was before it became functional."""
    nodes = {node.name: node for node in program.graph.nodes}
    for spec in program.graph_signature.output_specs:
        if spec.kind in CHANGED:
            node = nodes.get(getattr(spec.arg, "name", ""))
            sources = node.meta.get("from_node", []) if node is not None else []
            changed = [calls[each.name] for each in reversed(sources) if each.name in calls]
            raise UnsupportedError(
                f"the model changes its {CHANGED[spec.kind]} {spec.target!r} in place"
                f"{_by(changed[0]) if changed else ''}; a plan is for a model that leaves it alone"
            )


def _by(call: fx.Node) -> str:
    """Where the model does it, and which op."""
    target: Any = call.target
    op = f", by op {_packet(target)}" if isinstance(target, torch._ops.OpOverload) else ""
    return f"{_at(source_line(call))}{op}"
