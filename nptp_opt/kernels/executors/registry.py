"""Engines that compute tile programs: their one interface, what each can do as data, the registry.

An executor is opened with a device's weights and number of threads. What that gives prepares the
device's programs, once per session; a prepared program runs any number of inputs. What an executor
cannot express is computed by torch, layer by layer, and named; without torch it is an error.
Weights and values are numpy arrays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors.program import TileProgram
from nptp_opt.plugins import Packaged, Registry

ValueType = Literal["float32", "float64"]


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do; everything is off unless an executor says otherwise.

    ``tolerance`` is how far a program's output may lie from torch's in the self-test, relative to
    that output's largest magnitude.
    """

    dtypes: tuple[ValueType, ...]
    tolerance: float
    threads: bool = False
    all_ops: bool = False


class Prepared(ABC):
    """A program, compiled. ``fallbacks`` maps layers that torch computes to the reason."""

    fallbacks: Mapping[str, str] = {}

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The program's outputs by name, from float32 arrays by the names of its inputs."""


class Opened(ABC):
    """An engine with the weights of one device, which its programs share."""

    @abstractmethod
    def prepare(self, program: TileProgram) -> Prepared:
        """Compile a program; raises InputError where a weight that it reads is missing, and
        ExecutionError where a layer needs torch and that is missing."""


class Executor(Packaged, ABC):
    """An engine: its name, the package and module that bring it, and what it can do."""

    install: ClassVar[str]
    """The command that installs it."""
    capabilities: ClassVar[Capabilities]

    def open(self, weights: Mapping[str, Array], threads: int = 1) -> Opened:
        """The engine for one device, computing with ``threads`` threads.

        Raises ExecutionError where it is not installed, InputError for more threads than it takes.
        """
        self.require()
        if threads > 1 and not self.capabilities.threads:
            raise InputError(f"executor {self.name!r} cannot use {threads} threads: set 1")
        return self._open(weights, threads)

    def require(self) -> None:
        """Raise ExecutionError, with the command that installs it, where the engine is missing."""
        if not self.available:
            raise ExecutionError(f"executor {self.name!r} is not installed: {self.install}")

    @abstractmethod
    def _open(self, weights: Mapping[str, Array], threads: int) -> Opened: ...


EXECUTORS: Registry[Executor] = Registry("executor")
"""Every executor by name; plug-ins register here, too."""


def register(executor: Executor) -> None:
    """Add an executor; raises ValueError for a name that is taken."""
    EXECUTORS.register(executor.name, executor)


def find(name: str) -> Executor:
    """The executor of that name; raises InputError with the nearest known name."""
    return EXECUTORS.find(name)


def require(name: str) -> Executor:
    """As ``find``, for one that is wanted here: raises ExecutionError where it is missing."""
    executor = find(name)
    executor.require()
    return executor


def listing() -> list[dict[str, Any]]:
    """Name, version, availability and capabilities of every executor, ready for JSON."""
    return [
        {
            "name": executor.name,
            "version": executor.version,
            "available": executor.available,
            "tolerance": executor.capabilities.tolerance,
            "threads": executor.capabilities.threads,
        }
        for executor in EXECUTORS.values()
    ]
