"""The page of what commands print with ``--json``, from the models that describe it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nptp_opt.commands.json_output import OUTPUTS
from tools.docs.markdown import escape, inline, table

PLAIN = {str: "text", float: "number", int: "whole number", bool: "true or false", Any: "any",
         type(None): "null"}  # fmt: skip


def objects() -> str:
    """Every object, and each of its parts where it is first used."""
    told: set[type[BaseModel]] = set()
    return "\n\n".join(_object(name, told) for name in sorted(OUTPUTS))


def _object(name: str, told: set[type[BaseModel]]) -> str:
    kind = OUTPUTS[name]
    blocks = [
        f"## {name} {{#{name.replace(' ', '-')}}}",
        f"Schema `{kind.schema_name()}`.",
        _fields(kind),
    ]
    for part in _parts(kind):
        if part not in told:
            told.add(part)
            blocks += [f"### {part.__name__}", inline(inspect.getdoc(part) or ""), _fields(part)]
    return "\n\n".join(blocks)


def _fields(kind: type[BaseModel]) -> str:
    rows = [
        [
            f"`{field.alias or name}`",
            escape(_type(field)),
            inline(" ".join((field.description or "").split())),
        ]
        for name, field in kind.model_fields.items()
        if field.alias != "schema"
    ]
    return table(["key", "type", "meaning"], rows)


def _type(field: FieldInfo) -> str:
    text = _words(field.annotation)
    return text if field.is_required() else f"{text}; may be missing"


def _words(kind: Any) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if hasattr(kind, "__metadata__"):
        return _words(inside[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, inside))
    if origin is Literal:
        return ", ".join(map(str, inside))
    if origin in (list, tuple):
        return f"list of {_words(inside[0])}"
    if origin is dict:
        return f"object by name of {_words(inside[1])}"
    return str(kind.__name__)


def _parts(kind: Any) -> Iterator[type[BaseModel]]:
    """The models inside of a model's fields, in order and depth first."""
    for field in kind.model_fields.values():
        yield from _inside(field.annotation)


def _inside(kind: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        yield kind
        yield from _parts(kind)
    for part in get_args(kind):
        yield from _inside(part)
