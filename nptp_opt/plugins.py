"""Registries by name, which packages of others may add to (docs/extending.md).

An installed package that names a function under the entry point group ``nptp_opt.planners``,
``nptp_opt.formulations``, ``nptp_opt.solvers`` or ``nptp_opt.executors`` has it called, without
arguments, when a name of that kind is first looked up; the function registers what it brings.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.metadata import entry_points
from typing import ClassVar, TypeVar

from nptp_opt.errors import unknown_name

T = TypeVar("T")

log = logging.getLogger(__name__)


class Packaged:
    """What an installed package brings: a solver, an engine."""

    name: ClassVar[str]
    package: ClassVar[str]
    module: ClassVar[str]

    @property
    def available(self) -> bool:
        """True when it can be loaded here."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

    @property
    def version(self) -> str | None:
        """Version of its package; None where that is not installed."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None


class Registry(Mapping[str, T]):
    """Entries of one kind by name, in order of registration; plug-ins come last."""

    def __init__(self, kind: str) -> None:
        """``kind`` is a word for messages, "planner"; its plural names the entry point group."""
        self.kind, self.group = kind, f"nptp_opt.{kind}s"
        self._entries: dict[str, T] = {}
        self._complete = False

    def register(self, name: str, entry: T) -> None:
        """Add an entry; raises ValueError where the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry

    def find(self, name: str) -> T:
        """The entry of that name; raises InputError with the nearest known name."""
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]

    def __getitem__(self, name: str) -> T:
        self._load_plugins()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._entries)

    def _load_plugins(self) -> None:
        """Let every plug-in register, once; one that fails is told of and left out."""
        if self._complete:
            return
        self._complete = True
        for point in entry_points(group=self.group):
            try:
                point.load()()
            except Exception as error:  # noqa: BLE001 - somebody else's code may raise anything
                log.warning(
                    "plug-in %s (%s) is left out: %s: %s",
                    point.name, point.value, type(error).__name__, error,
                )  # fmt: skip
