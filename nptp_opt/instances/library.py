"""The instance library: named layers and networks of real models on clusters by recipe.

``library.json`` is written by ``nptp-opt instances generate``; ``best.json`` by
``benchmarks/library_best.py``. A name may stand wherever a command takes an instance file.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from nptp_opt.errors import InputError, unknown_name
from nptp_opt.files import Strict, load_json
from nptp_opt.instances.best import Best, best_table, grade_of
from nptp_opt.instances.networks import (
    ModelEntry,
    NetworkInstance,
    NetworkProblem,
    network_problem_from_json,
    network_problem_to_json,
)
from nptp_opt.instances.reader import (
    Count,
    LayerEntry,
    LayerInstance,
    layer_problem_from_json,
    layer_problem_to_json,
)
from nptp_opt.instances.recipes import ClusterRecipe
from nptp_opt.layer.problem import LayerProblem, LayerShape

LIBRARY_SCHEMA = "nptp-opt/library/1"

Problem = LayerProblem | NetworkProblem


class LibraryLayer(Strict):
    """A layer shape, and the place in a model that it was taken from."""

    model: str
    layer: str
    shape: LayerEntry


class LibraryEntry(Strict):
    """One instance: a layer or a model by its name in the library, and a cluster by recipe."""

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["layer", "network"]
    of: str
    cluster: ClusterRecipe
    cut_step: Count = 1


class Library(Strict):
    """The library file, field by field."""

    schema_: Annotated[Literal["nptp-opt/library/1"], Field(alias="schema")]
    models: dict[str, ModelEntry]
    layers: dict[str, LibraryLayer]
    instances: Annotated[tuple[LibraryEntry, ...], Field(strict=False)]

    def model_of(self, entry: LibraryEntry) -> str:
        """Name of the model that the instance comes from."""
        return entry.of if entry.kind == "network" else self.layers[entry.of].model

    def tags(self, entry: LibraryEntry) -> tuple[str, ...]:
        """What ``instances list --tag`` filters by; the grade is the last."""
        return (
            entry.kind,
            self.model_of(entry),
            *entry.cluster.tags,
            grade_of(best_table().get(entry.name)),
        )

    def problem(self, entry: LibraryEntry) -> Problem:
        """The instance, spelled out."""
        cluster = entry.cluster.cluster()
        if entry.kind == "network":
            return self.models[entry.of].on(cluster, entry.name)
        shape = LayerShape(**self.layers[entry.of].shape.model_dump())
        return LayerProblem(entry.name, shape, cluster, entry.cut_step)


@cache
def library() -> Library:
    """The library that is shipped with the package."""
    text = resources.files("nptp_opt.instances").joinpath("library.json").read_text("utf-8")
    return Library.model_validate_json(text)


@cache
def _by_name() -> dict[str, LibraryEntry]:
    return {entry.name: entry for entry in library().instances}


def select(tags: Iterable[str] = (), names: str = "*") -> tuple[LibraryEntry, ...]:
    """Entries that have all ``tags`` and whose names match the pattern; InputError for none."""
    wanted = set(tags)
    entries = tuple(
        entry
        for entry in library().instances
        if wanted <= set(library().tags(entry)) and fnmatch.fnmatchcase(entry.name, names)
    )
    if not entries:
        tagged = f" with tags {sorted(wanted)}" if wanted else ""
        raise InputError(
            f"no instance matches {names!r}{tagged}: see `nptp-opt instances list` for names and "
            "tags"
        )
    return entries


def row(entry: LibraryEntry) -> dict[str, Any]:
    """The entry as ``instances list`` shows it."""
    best = best_table().get(entry.name) or Best()
    return {
        "name": entry.name,
        "kind": entry.kind,
        "grade": grade_of(best),
        "value_s": best.value_s,
        "bound_s": best.bound_s,
        "value_by": best.value_by,
        "bound_by": best.bound_by,
        "tags": list(library().tags(entry)),
    }


def problem_from_json(data: Any, where: str = "instance") -> Problem:
    """A layer or network instance from parsed JSON, by its ``kind``."""
    if isinstance(data, dict) and data.get("kind") == "network":
        return network_problem_from_json(data, where)
    return layer_problem_from_json(data, where)


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """The instance file's content."""
    if isinstance(problem, NetworkProblem):
        return network_problem_to_json(problem)
    return layer_problem_to_json(problem)


def open_instance(ref: str | Path) -> Problem:
    """The instance in the file ``ref``, or of that name in the library.

    Raises InputError where there is neither, with the nearest name.
    """
    path = Path(ref)
    if path.exists() or path.suffix == ".json" or len(path.parts) > 1:
        return problem_from_json(load_json(path), str(path))
    if str(ref) not in _by_name():
        near = unknown_name("instance", str(ref), _by_name())
        raise InputError(f"{str(near).partition(' Known: ')[0]} See `nptp-opt instances list`.")
    return library().problem(_by_name()[str(ref)])


def open_layer(ref: str | Path) -> LayerProblem:
    """As ``open_instance``, for commands that take layer instances only."""
    problem = open_instance(ref)
    if isinstance(problem, NetworkProblem):
        raise InputError(f"{ref}: is a network instance; use `solve` or `compare`")
    return problem


def schema_of_instances() -> dict[str, Any]:
    """The JSON Schema of instance files, as it is shipped."""
    either: TypeAdapter[Any] = TypeAdapter(LayerInstance | NetworkInstance)
    return {"$id": "nptp-opt/instance/1", **either.json_schema(by_alias=True)}


def schema_of_library() -> dict[str, Any]:
    """The JSON Schema of the library file, as it is shipped."""
    return {"$id": LIBRARY_SCHEMA, **Library.model_json_schema(by_alias=True)}


def export(entries: Sequence[LibraryEntry]) -> dict[str, dict[str, Any]]:
    """Content of one instance file per entry, by file name."""
    return {f"{entry.name}.json": problem_to_json(library().problem(entry)) for entry in entries}
