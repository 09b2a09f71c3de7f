"""What a job is made of, a plan and weights: from files of this machine, or from the launcher."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nptp_opt.errors import InputError
from nptp_opt.files import load_json
from nptp_opt.kernels.crops import Array
from nptp_opt.plan.document import checked_plan
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import DeviceProgram
from nptp_opt.runtime.stored import StoredArrays
from nptp_opt.runtime.worker.weight_store import Content, WeightStore

Fetch = Callable[[Sequence[str]], Iterable[tuple[str, Content]]]
"""Asks the launcher for what has these hashes; gives each hash with its bytes."""


class Material(Protocol):
    """A job's plan and weights."""

    def plan(self, expected_hash: str) -> Plan:
        """The plan; raises InputError unless its content has the expected hash."""
        ...

    def weights(self, program: DeviceProgram) -> dict[str, Array]:
        """The weights that a device's program reads, by key."""
        ...


@dataclass(frozen=True)
class Files:
    """A plan file and a safetensors file, which is mapped: what is not read is not touched."""

    plan_path: Path
    weights_path: Path

    def plan(self, expected_hash: str) -> Plan:
        return _plan(load_json(self.plan_path), expected_hash, str(self.plan_path))

    def weights(self, program: DeviceProgram) -> dict[str, Array]:
        stored = StoredArrays(self.weights_path)
        return {key: stored[key] for key in sorted(program.weight_keys)}


@dataclass(frozen=True)
class Sent:
    """The text of a plan, and what its weights are: those that are not kept here are asked for.

    ``entries`` have a key, the hash of a tensor's bytes, and its type and shape.
    """

    text: bytes | bytearray
    entries: Sequence[dict[str, Any]]
    store: WeightStore
    fetch: Fetch

    def plan(self, expected_hash: str) -> Plan:
        return _plan(json.loads(self.text), expected_hash, "the plan that was sent")

    def weights(self, program: DeviceProgram) -> dict[str, Array]:
        self.store.begin_job()
        digests = dict.fromkeys(entry["digest"] for entry in self.entries)
        found = {digest: self.store.find(digest) for digest in digests}
        missing = [digest for digest, content in found.items() if content is None]
        for digest, content in self.fetch(missing):
            found[digest] = self.store.keep(digest, content)
        arrays = {entry["key"]: _array(found[entry["digest"]], entry) for entry in self.entries}
        return {key: arrays[key] for key in sorted(program.weight_keys)}


def _array(content: Content | None, entry: dict[str, Any]) -> Array:
    if content is None:
        raise InputError(f"weights {entry['key']!r} were not sent")
    dtype = np.dtype(entry["dtype"])
    return np.frombuffer(content, dtype).reshape(entry["shape"])


def _plan(data: Any, expected_hash: str, where: str) -> Plan:
    plan = checked_plan(data, where)
    if data["hash"] != expected_hash:
        raise InputError(
            f"{where}: hash {data['hash'][:12]} is not the plan's that is to run "
            f"({expected_hash[:12]}): copy the same plan file to every device"
        )
    return plan
