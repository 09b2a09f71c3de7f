"""Network instances: a model, its input shape and a cluster (docs/instances.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError

from nptp_opt.cluster import Cluster
from nptp_opt.files import ONE, SEVERAL, Strict, explain, one_or_several
from nptp_opt.instances.reader import LAYER_SCHEMA, Count
from nptp_opt.network.ref import ModelRef, shape_to_json


@dataclass(frozen=True)
class NetworkProblem:
    """A model that is to be planned on a cluster."""

    name: str
    model: ModelRef
    cluster: Cluster


Shape = Annotated[tuple[Count, ...], Field(strict=False, min_length=2)]
Shapes = Annotated[tuple[Shape, ...], Field(strict=False, min_length=2)]


class ModelEntry(Strict):
    """The ``model`` object: a reference that ``solve`` takes, and the shapes of its inputs."""

    ref: Annotated[str, Field(min_length=1)]
    input: Annotated[
        Annotated[Shape, Tag(ONE)] | Annotated[Shapes, Tag(SEVERAL)], Discriminator(one_or_several)
    ]
    seed: Annotated[int, Field(ge=0)] = 0


class NetworkInstance(Strict):
    """A network instance file, field by field."""

    schema_: Annotated[Literal["nptp-opt/instance/1"], Field(alias="schema")]
    kind: Literal["network"]
    name: Annotated[str, Field(min_length=1)]
    model: ModelEntry
    cluster: Cluster


def network_problem_from_json(data: Any, where: str = "instance") -> NetworkProblem:
    """Read a network instance from parsed JSON; raises InputError naming ``where`` and field."""
    try:
        entry = NetworkInstance.model_validate(data)
    except ValidationError as error:
        raise explain(error, where) from None
    model = ModelRef(entry.model.ref, entry.model.input, entry.model.seed)
    return NetworkProblem(entry.name, model, entry.cluster)


def network_problem_to_json(problem: NetworkProblem) -> dict[str, Any]:
    """The instance file's content; ``network_problem_from_json`` reads it back unchanged."""
    model = problem.model
    return {
        "schema": LAYER_SCHEMA,
        "kind": "network",
        "name": problem.name,
        "model": {"ref": model.ref, "input": shape_to_json(model.input), "seed": model.seed},
        "cluster": problem.cluster.to_json(),
    }
