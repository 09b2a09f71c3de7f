"""Changed documents: places in them, other values there, and hashes of what they say then."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from click.testing import CliRunner
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nptp_opt.cli import main
from nptp_opt.cluster import Cluster
from nptp_opt.errors import NptpError
from nptp_opt.files import MOST_EXACT
from nptp_opt.plan.document import content_hash, plan_hash
from nptp_opt.plan.network_json import NetworkEntry, network_hash

TIMES = int(os.environ.get("NPTP_FUZZ", "1"))
"""How many times as many documents are tried as in the suite."""

EXTREMES = [
    -1, 0, 1, 2, 3, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**53, 2**53 + 1, 10**19, 10**400,
    -(10**30), 0.5, 1e-9, 1e-300, 1e30, 1e308, True, None, "7", [], {},
]  # fmt: skip

Place = tuple[Any, ...]

GONE = object()
"""In place of a value: the key or the entry is left out."""


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Places of all values in a document, also of objects and lists; not the document itself."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in parts:
        yield (*at, key)
        if isinstance(each, (dict, list)):
            yield from places(each, (*at, key))


def numbers(document: Any) -> list[Place]:
    """Places of all numbers in a document."""
    found = ((place, value_at(document, place)) for place in places(document))
    return [at for at, each in found if isinstance(each, (int, float)) and each is not True]


def value_at(document: Any, place: Place) -> Any:
    """What stands at a place."""
    for key in place:
        document = document[key]
    return document


def changed(document: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The document with another value at one place, or without it (``GONE``)."""
    other = copy.deepcopy(document)
    holder = value_at(other, place[:-1])
    if value is GONE:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return other


def others(value: Any) -> list[Any]:
    """Values that might stand where ``value`` stands: near ones, neutral ones, none."""
    if isinstance(value, bool):
        return [GONE, not value]
    if isinstance(value, (int, float)):
        half = value // 2 if isinstance(value, int) else value / 2
        more = value * 1.01 if abs(value) < MOST_EXACT else value * 2
        return [GONE, None, value + 1, more, half, value * 0, 1e-9]
    if isinstance(value, str):
        return [GONE, None, f"{value}x", ""]
    if isinstance(value, list):
        return [GONE, [], value[1:], value + value[:1], value[::-1]]
    return [GONE, {}] if isinstance(value, dict) else [GONE, 0.0, 1e-6, 5, "x", True]


def budget(examples: int) -> settings:
    """Hypothesis' settings for so many examples in the suite, and ``TIMES`` as many in all."""
    return settings(
        deadline=None,
        max_examples=examples * TIMES,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@st.composite
def mutants(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The document with one to three of its values changed, left out, or extreme."""
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        place = draw(st.sampled_from(found))
        values = [*others(value_at(document, place)), *EXTREMES]
        document = changed(document, place, draw(st.sampled_from(values)))
    return document


@st.composite
def garbled(draw: st.DrawFn, content: bytes) -> bytes:
    """The content cut short, with bytes of another value, or with a part of it twice."""
    at = draw(st.integers(0, len(content) - 1))
    more = draw(st.integers(1, 40))
    how = draw(st.sampled_from(["short", "flipped", "foreign", "twice", "hole"]))
    if how == "short":
        return content[:at]
    if how == "flipped":
        return (
            content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        )
    if how == "foreign":
        return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
    return content[: at + more] + content[at if how == "twice" else at + 2 * more :]


def toml_of(value: Any) -> str:
    """A document as TOML, of inline tables; what is None is left out, as TOML has no such value."""
    if isinstance(value, dict):
        return "\n".join(f"{json.dumps(key)} = {_inline(v)}" for key, v in value.items()
                         if v is not None)  # fmt: skip
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        held = (f"{json.dumps(k)} = {_inline(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(held)} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_inline(v) for v in value if v is not None)}]"
    return json.dumps(value)


Read = TypeVar("Read")


def read_or_refused(read: Callable[[], Read]) -> Read | None:
    """What is read; None where it is refused in one line. Any other exception is a bug."""
    try:
        return read()
    except NptpError as error:
        assert str(error).strip() and "\n" not in str(error).strip(), str(error)
        return None


def ends_with_words(arguments: Sequence[object], statuses: Sequence[int] = (0, 1, 2, 3)) -> int:
    """The status of a command: one of these, and not 0 only with a line on stderr."""
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    crashed = result.exception if not isinstance(result.exception, SystemExit) else None
    assert crashed is None, f"{arguments}: {crashed!r}"
    assert result.exit_code in statuses, result.output
    told = [line for line in result.stderr.splitlines() if line.startswith(("nptp-opt: ", "Error"))]
    assert result.exit_code == 0 or told, result.output
    assert "Traceback" not in result.output
    return result.exit_code


def rehashed(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan's document with hashes of what it says now, as a reader takes it."""
    content = {key: value for key, value in plan.items() if key != "hash"}
    content["cluster_hash"] = content_hash(_read_cluster(content["cluster"]))
    content["model"] = content["model"] | {"network_hash": _hash_of(content["network"])}
    return {**content, "hash": plan_hash(content)}


def _read_cluster(cluster: Any) -> Any:
    try:
        return Cluster.model_validate(cluster).to_json()
    except ValidationError:
        return cluster


def _hash_of(network: Any) -> str:
    try:
        return network_hash(NetworkEntry.model_validate(network).network())
    except ValidationError:
        return content_hash(network)
