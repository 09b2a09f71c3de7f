"""Operators that ONNX defines by others: a node without a rule becomes the nodes of its body.

The bodies are those of the onnx package, and so is what puts them in place (``onnx.inliner``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
import onnx.inliner
import onnx.shape_inference

from nptp_opt.network.onnx_rules import name_of

DOMAIN = "nptp_opt.body"
"""Where bodies lie until they are put in place."""

ROUNDS = 4
"""How often bodies are looked up: they may be made of operators that have bodies themselves."""

LOOPS = frozenset({"Range", "SequenceMap"})
"""Operators whose bodies are loops."""

SHOWN = 64
"""Elements up to which a weight's values are told to what finds out about types and shapes."""


def expanded(
    model: onnx.ModelProto, opset: int, is_wanted: Callable[[onnx.NodeProto], bool]
) -> onnx.ModelProto:
    """The model with every wanted node that has a body replaced by that body's nodes.

    Weights stay out of it: the package copies what it is given, and no message may have 2 GiB.
    """
    if not any(_has_body(node, opset, is_wanted) for node in model.graph.node):
        return model
    weights = [each for each in model.graph.initializer if _elements(each) > SHOWN]
    listed = [each.name for each in model.graph.input]
    light = _without(model, weights)
    for _ in range(ROUNDS):
        if not _put_bodies(light, opset, is_wanted):
            break
        light = onnx.inliner.inline_local_functions(light)
    kept = [each for each in light.graph.input if each.name in listed]
    del light.graph.input[:]
    light.graph.input.extend(kept)
    light.graph.initializer.extend(weights)
    return light


def _elements(proto: onnx.TensorProto) -> int:
    count = 1
    for size in proto.dims:
        count *= size
    return count


def _without(model: onnx.ModelProto, weights: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
    """The model with these weights as inputs."""
    light, names = onnx.ModelProto(), {each.name for each in weights}
    light.CopyFrom(_headless(model))
    graph, listed = light.graph, {each.name for each in model.graph.input}
    graph.node.extend(model.graph.node)
    graph.initializer.extend(each for each in model.graph.initializer if each.name not in names)
    graph.input.extend(model.graph.input)
    graph.input.extend(
        onnx.helper.make_tensor_value_info(each.name, each.data_type, tuple(each.dims))
        for each in weights
        if each.name not in listed
    )
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    return light


def _headless(model: onnx.ModelProto) -> onnx.ModelProto:
    """What a model says of itself, without its graph."""
    head = onnx.ModelProto(ir_version=max(model.ir_version, 8))
    head.opset_import.extend(each for each in model.opset_import if each.domain != DOMAIN)
    head.graph.name = model.graph.name
    return head


def _has_body(
    node: onnx.NodeProto, opset: int, is_wanted: Callable[[onnx.NodeProto], bool]
) -> bool:
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
        return False
    return is_wanted(node) and bool(_version(node, opset))


def _schema(node: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _version(node: onnx.NodeProto, opset: int) -> tuple[str, int] | None:
    """Which body holds at this opset: the newest that is not newer, by kind."""
    schema = _schema(node, opset)
    if schema is None or node.op_type in LOOPS:
        return None
    for kind in ("function", "context_dependent_function"):
        found = [v for v in getattr(schema, f"{kind}_opset_versions") if v <= opset]
        if found:
            return kind, max(found)
    return None


def _put_bodies(
    light: onnx.ModelProto, opset: int, is_wanted: Callable[[onnx.NodeProto], bool]
) -> bool:
    """Let every wanted node call its body as a function of the model; False without any."""
    nodes = [node for node in light.graph.node if _has_body(node, opset, is_wanted)]
    if not nodes:
        return False
    types = _types(light)
    for i, node in enumerate(nodes):
        _state_defaults(node, opset)
        body = _body(node, opset, types)
        body.domain, body.name = DOMAIN, f"{node.op_type}_{i}"
        for inner in body.node:
            inner.name = f"{name_of(node)}.{inner.output[0]}"
        light.functions.append(body)
        node.domain, node.op_type = body.domain, body.name
    light.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return True


def _state_defaults(node: onnx.NodeProto, opset: int) -> None:
    """What a node leaves to its operator's defaults, its body would leave to other defaults."""
    schema, given = _schema(node, opset), {each.name for each in node.attribute}
    assert schema is not None
    node.attribute.extend(
        each.default_value
        for name, each in schema.attributes.items()
        if name not in given and each.default_value.name
    )


def _types(light: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """What is known of the types and shapes of all values."""
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    found = {each.name: each.type for each in (*graph.value_info, *graph.output, *graph.input)}
    for each in graph.initializer:
        found[each.name] = onnx.helper.make_tensor_type_proto(each.data_type, tuple(each.dims))
    return found


def _body(node: onnx.NodeProto, opset: int, types: dict[str, onnx.TypeProto]) -> onnx.FunctionProto:
    schema, (kind, version) = _schema(node, opset), _version(node, opset) or ("", 0)
    assert schema is not None
    body = onnx.FunctionProto()
    if kind == "function":
        body.ParseFromString(schema.get_function_with_opset_version(version))
    else:
        given = [types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input]
        made = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), given
        )
        body.ParseFromString(made)
    for each in body.opset_import:
        each.version = opset if each.domain in ("", "ai.onnx") else each.version
    return body


def with_own_names(graph: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    """A graph inside a node whose values have names that no graph beside it has.

    Both sides of a choice may use the same names for different values.
    """
    own = onnx.GraphProto()
    own.CopyFrom(graph)
    local = {name for node in own.node for name in node.output if name}
    local |= {each.name for each in own.initializer}
    _rename(own, {name: f"{prefix}.{name}" for name in local})
    return own


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values other names wherever the graph, or one inside it, uses them."""
    for each in (*graph.initializer, *graph.output):
        each.name = names.get(each.name, each.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)
