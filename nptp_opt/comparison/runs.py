"""One run of a comparison: everything that decides its outcome, and the key made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from nptp_opt.comparison.planning import Planning, words

Harness = Literal["finished", "timeout", "out-of-memory", "crash", "error"]
"""How the run's process ended; what the solver says is another field.

``error`` is a run that refused its input with a message; ``crash`` is any other end.
"""

HARNESS: tuple[Harness, ...] = ("finished", "timeout", "out-of-memory", "crash", "error")


@dataclass(frozen=True)
class Run:
    """A method on an instance. ``method`` is a formulation for a layer, a planner for a network.

    ``instance`` is an instance file's content. The process is killed ``grace_s`` after the time
    limit, or above ``memory_mib``. ``plugins`` are modules that the process imports first;
    ``planning`` is how a planner plans, where not by default.
    """

    instance: Mapping[str, Any]
    method: str
    solver: str | None = None
    seed: int = 0
    time_limit_s: float = 60.0
    gap: float = 1e-6
    threads: int = 1
    memory_mib: float = 4096.0
    grace_s: float = 10.0
    plugins: tuple[str, ...] = ()
    planning: Planning = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the instance."""
        return str(self.instance["name"])

    @property
    def kind(self) -> str:
        """``layer`` or ``network``."""
        return str(self.instance["kind"])

    @property
    def named(self) -> str:
        """The method, and how it plans where that is not by default."""
        return f"{self.method}{words(self.planning)}"

    @property
    def label(self) -> str:
        """Method, and solver where there is one."""
        return self.named if self.solver is None else f"{self.named}/{self.solver}"

    @cached_property
    def key(self) -> str:
        """sha256 of the canonical JSON of all fields: runs with one key are one run."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """All fields; ``run_from_json`` reads them back.

        ``planning`` is left out where it is empty: runs of older results files have none.
        """
        fields = {**asdict(self), "instance": dict(self.instance), "plugins": list(self.plugins)}
        return {name: v for name, v in fields.items() if name != "planning" or v}


def run_from_json(data: Mapping[str, Any]) -> Run:
    """The run of ``Run.to_json``."""
    return Run(**{**data, "plugins": tuple(data["plugins"])})
