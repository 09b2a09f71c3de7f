"""Network instances: a model, its input shape and a cluster (docs/instances.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from nptp_opt.cluster import Cluster
from nptp_opt.files import ONE, SEVERAL, Strict, explain, one_or_several
from nptp_opt.instances.reader import LAYER_SCHEMA, Count
from nptp_opt.network.ir import Density
from nptp_opt.network.ref import ModelRef, shape_to_json
from nptp_opt.plan.network_json import DensityEntry, densities_to_json
from nptp_opt.plan.pixels_json import PixelsField, pixels_from_json, pixels_to_json


@dataclass(frozen=True)
class NetworkProblem:
    """A model that is to be planned on a cluster."""

    name: str
    model: ModelRef
    cluster: Cluster
    densities: Mapping[str, Density] = field(default_factory=dict)
    """Of its maps, where they are known: then zeros need not be sent."""

    @property
    def dense(self) -> NetworkProblem:
        """The same with nothing but dense maps of floats to send."""
        return replace(self, model=replace(self.model, pixels=()), densities={})


Shape = Annotated[tuple[Count, ...], Field(strict=False, min_length=2)]
Shapes = Annotated[tuple[Shape, ...], Field(strict=False, min_length=2)]


class ModelEntry(Strict):
    """The ``model`` object: a reference that ``solve`` takes, and the shapes of its inputs.

    ``pixels`` are of inputs of uint8, ``densities`` of maps whose zeros need not be sent: both as
    plan files have them.
    """

    ref: Annotated[str, Field(min_length=1)]
    input: Annotated[
        Annotated[Shape, Tag(ONE)] | Annotated[Shapes, Tag(SEVERAL)], Discriminator(one_or_several)
    ]
    seed: Annotated[int, Field(ge=0)] = 0
    pixels: PixelsField = None
    densities: dict[str, DensityEntry] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.reference()
        return self

    def reference(self) -> ModelRef:
        """The model, without the densities of its maps."""
        return ModelRef(self.ref, self.input, self.seed, pixels=pixels_from_json(self.pixels))

    def on(self, cluster: Cluster, name: str) -> NetworkProblem:
        """The model to be planned on a cluster."""
        known = {tensor: each.density() for tensor, each in self.densities.items()}
        return NetworkProblem(name, self.reference(), cluster, known)


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
        raise explain(error, where, data) from None
    return entry.model.on(entry.cluster, entry.name)


def network_problem_to_json(problem: NetworkProblem) -> dict[str, Any]:
    """The instance file's content; ``network_problem_from_json`` reads it back unchanged."""
    model = problem.model
    return {
        "schema": LAYER_SCHEMA,
        "kind": "network",
        "name": problem.name,
        "model": {
            "ref": model.ref,
            "input": shape_to_json(model.input),
            "seed": model.seed,
            **pixels_to_json(model.pixels),
            **densities_to_json(problem.densities),
        },
        "cluster": problem.cluster.to_json(),
    }
