"""Layer instances: JSON files (docs/instances.md) to ``LayerProblem`` and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nptp_opt.cluster import Cluster
from nptp_opt.cost import for_layer
from nptp_opt.errors import InputError
from nptp_opt.files import Strict, explain
from nptp_opt.layer.problem import LayerProblem, LayerShape

LAYER_SCHEMA = "nptp-opt/instance/1"

MOST_CUTS = 4096
"""Most steps between cuts per axis: exact searches keep tables of all pairs of cuts."""

Count = Annotated[int, Field(ge=1)]
CountPair = Annotated[tuple[Count, Count], Field(strict=False)]
Amount = Annotated[int, Field(ge=0)]


class LayerEntry(Strict):
    """The ``layer`` object of an instance file; pairs are (vertical, horizontal)."""

    op: str
    in_channels: Count
    out_channels: Count
    in_height: Count
    in_width: Count
    kernel: CountPair
    stride: CountPair = (1, 1)
    padding: Annotated[tuple[Amount, Amount, Amount, Amount], Field(strict=False)] = (0, 0, 0, 0)
    dilation: CountPair = (1, 1)
    groups: Count = 1
    bytes_per_element: Count = 4


class LayerInstance(Strict):
    """A layer instance file, field by field."""

    schema_: Annotated[Literal["nptp-opt/instance/1"], Field(alias="schema")]
    kind: Literal["layer"]
    name: Annotated[str, Field(min_length=1)]
    layer: LayerEntry
    cluster: Cluster
    cut_step: Count = 1


def layer_problem_from_json(data: Any, where: str = "instance") -> LayerProblem:
    """Read a layer instance from parsed JSON; raises InputError naming ``where`` and the field."""
    try:
        entry = LayerInstance.model_validate(data)
        layer = LayerShape(**entry.layer.model_dump())
        problem = LayerProblem(
            name=entry.name,
            layer=layer,
            cluster=for_layer(entry.cluster, layer),
            cut_step=entry.cut_step,
        )
    except ValidationError as error:
        raise explain(error, where, data) from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    _check_size(problem, where)
    pixels = problem.height * problem.width
    if len(problem.devices) > pixels:
        raise InputError(
            f"{where}: {len(problem.devices)} devices for {pixels} output pixels: remove devices"
        )
    return problem


def _check_size(problem: LayerProblem, where: str) -> None:
    side = max(problem.height, problem.width)
    if -(-side // problem.cut_step) > MOST_CUTS:
        raise InputError(
            f"{where}: the output map of {problem.height} x {problem.width} has more than "
            f"{MOST_CUTS} cut positions along an axis: set cut_step to at least "
            f"{-(-side // MOST_CUTS)}, or check in_height, in_width and padding"
        )


def layer_problem_to_json(problem: LayerProblem) -> dict[str, Any]:
    """The instance file's content; ``layer_problem_from_json`` reads it back unchanged."""
    return {
        "schema": LAYER_SCHEMA,
        "kind": "layer",
        "name": problem.name,
        "layer": asdict(problem.layer),
        "cluster": problem.cluster.to_json(),
        "cut_step": problem.cut_step,
    }
