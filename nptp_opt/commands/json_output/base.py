"""What the objects of ``--json`` have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of an object: every key is known, numbers are numbers, none is infinite."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Output(Part):
    """The one object that a command prints; ``schema`` says which, and in which version."""

    @classmethod
    def schema_name(cls) -> str:
        """What its key ``schema`` says."""
        (name,) = cls.model_fields["schema_"].annotation.__args__  # type: ignore[union-attr]
        return str(name)


Named = Field(alias="schema")
"""For the field that names the schema: pydantic has a ``schema`` of its own."""

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Table = list[dict[str, Any]]
"""Rows of a report: each has a key per column."""


class Spread(Part):
    """Seconds of several inputs."""

    median: Seconds
    min: Seconds
    max: Seconds


class Rectangle(Part):
    """A device's tile on output indices: rows from y0 up to y1, columns from x0 up to x1."""

    device: str
    y0: Count
    y1: Count
    x0: Count
    x1: Count


class ErrorOutput(Output):
    """Printed in place of a result where a command with ``--json`` fails before it has one."""

    schema_: Literal["nptp-opt/error/1"] = Named
    error: str
    """Kind of the error: the name of its type, or ``UsageError``, ``Interrupted``."""
    message: str
    """What is wrong, where, and what to do: the line that stderr has, too."""
    exit_code: Annotated[int, Field(ge=1)]
    """Status of the command (docs/exit-codes.md)."""
