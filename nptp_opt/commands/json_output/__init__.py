"""The objects that commands print with ``--json``, field by field: one model for each.

``python -m nptp_opt.commands.json_output`` prints them as one JSON Schema.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from nptp_opt.commands.json_output.base import ErrorOutput, Output
from nptp_opt.commands.json_output.listing import (
    CompareOutput,
    ExecutorsOutput,
    FormulationsOutput,
    InstancesExportOutput,
    InstancesGenerateOutput,
    InstancesListOutput,
    PlannersOutput,
    ReportOutput,
    SolversOutput,
    VersionsOutput,
)
from nptp_opt.commands.json_output.planning import (
    ExplainOutput,
    FrontOutput,
    InitOutput,
    InspectOutput,
    ShowOutput,
    SolveOutput,
    SweepOutput,
)
from nptp_opt.commands.json_output.proving import CheckOutput, SolveLayerOutput, VerifyOutput
from nptp_opt.commands.json_output.running import (
    EmulateOutput,
    InferOutput,
    RunOutput,
    SecretOutput,
    ServeOutput,
)

__all__ = ["DOCUMENTS", "OUTPUTS", "Output", "json_schema", "output_of", "schema_text"]

OUTPUTS: dict[str, type[Output]] = {
    "check": CheckOutput,
    "compare": CompareOutput,
    "emulate": EmulateOutput,
    "error": ErrorOutput,
    "executors": ExecutorsOutput,
    "explain": ExplainOutput,
    "formulations": FormulationsOutput,
    "front": FrontOutput,
    "infer": InferOutput,
    "init": InitOutput,
    "inspect": InspectOutput,
    "instances export": InstancesExportOutput,
    "instances generate": InstancesGenerateOutput,
    "instances list": InstancesListOutput,
    "planners": PlannersOutput,
    "report": ReportOutput,
    "run": RunOutput,
    "secret": SecretOutput,
    "serve": ServeOutput,
    "show": ShowOutput,
    "solve": SolveOutput,
    "solve-layer": SolveLayerOutput,
    "solvers": SolversOutput,
    "sweep": SweepOutput,
    "verify": VerifyOutput,
    "versions": VersionsOutput,
}
"""By command; ``front`` is ``solve --pareto``, ``error`` that of a command that fails."""

DOCUMENTS = {"instances show": "an instance", "profile": "a profile"}
"""Commands that print a file's content, which has a schema of its own."""


def output_of(content: dict[str, Any]) -> Output:
    """The object as its schema has it; raises ValueError for one that it does not allow."""
    by_schema = {kind.schema_name(): kind for kind in OUTPUTS.values()}
    return by_schema[content["schema"]].model_validate_json(json.dumps(content))


def json_schema() -> dict[str, Any]:
    """All of them as one JSON Schema; an object's key ``schema`` says which it is."""
    kinds: list[tuple[type[Output], Literal["validation"]]]
    kinds = [(kind, "validation") for kind in OUTPUTS.values()]
    references, definitions = models_json_schema(kinds, by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "nptp-opt/json-output",
        "title": "What the commands of nptp-opt print with --json",
        "oneOf": list(references.values()),
        **definitions,
    }


def schema_text() -> str:
    """The same as it is shipped."""
    return json.dumps(json_schema(), indent=1) + "\n"
