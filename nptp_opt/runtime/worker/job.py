"""One plan on one device, from files: what a worker loads, and how it runs an input."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.files import load_json
from nptp_opt.kernels.executors import choose
from nptp_opt.plan.document import load_plan
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.blocks import programs
from nptp_opt.runtime.device_program import DeviceProgram, device_program, participants
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.base import Meet, PeerError, Rendezvous
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.transport.registry import open_transport
from nptp_opt.runtime.worker.device import DeviceRun
from nptp_opt.runtime.worker.priority import be_prompt


@dataclass(frozen=True)
class JobSpec:
    """What the launcher tells a worker: which files, who it is, how to meet the others.

    ``plan`` and ``weights`` are paths; where there is no common disk the message's payload brings
    their content and they are empty.
    """

    plan: str
    plan_hash: str
    weights: str
    device: str
    transport: str
    rendezvous: str | None
    interface: str
    delay_s: float
    threads: int
    pad: bool
    shares_cores: bool
    """Other devices of the plan run on this machine too."""
    executor: str | None = None
    """What computes tile programs; None for the fastest that is right."""


class Job:
    """Raises InputError when the plan is not the one that the launcher means, ExecutionError when
    the executor that it asks for is missing or wrong."""

    def __init__(self, spec: JobSpec, recorder: Recorder, secret: bytes, meet: Meet) -> None:
        torch.set_num_threads(spec.threads)
        recorder.enter("loading")
        self.plan = load_checked_plan(Path(spec.plan), spec.plan_hash)
        names = [device.name for device in self.plan.cluster.devices]
        device = names.index(spec.device)
        self.is_source = device == self.plan.cluster.source
        self.recorder = recorder
        self.program = device_program(self.plan, device)
        self.ranks = {number: rank for rank, number in enumerate(participants(self.plan))}
        weights = load_weights(Path(spec.weights), self.program)
        tiles = programs(self.program, self.plan.network)
        chosen = choose(spec.executor, tiles, weights, spec.threads)
        self.executor, self.notes = chosen.name, chosen.notes
        rendezvous = Rendezvous(
            spec.rendezvous,
            self.ranks[device],
            len(self.ranks),
            spec.interface,
            secret,
            meet,
            spec.delay_s,
        )
        recorder.enter("joining")
        if spec.shares_cores:
            be_prompt()
        self.transport = open_transport(spec.transport, rendezvous)
        self.device = DeviceRun(
            self.plan.network,
            self.program,
            weights,
            self.transport,
            self.ranks,
            recorder,
            prepared=chosen.prepared,
            packing=Packing(self.plan.network, self.plan.cluster.transfer_dtype),
            pad=spec.pad,
        )

    def arm(self, payload: bytes | bytearray) -> None:
        """Prepare for one input; ``payload`` holds it on the source and is empty elsewhere."""
        self.recorder.take()
        self.device.arm(unpack_inputs(self.plan, payload) if self.is_source else {})

    def execute(self) -> tuple[dict[str, Any], memoryview]:
        """Run the armed input; returns the report, and the outputs' elements on the sink."""
        start = time.monotonic_ns()
        with torch.inference_mode():
            outputs = self.device.execute()
            end = time.monotonic_ns()
            self.device.finish()
        report = {
            "start_ns": start,
            "end_ns": end,
            "spans": [asdict(span) for span in self.recorder.take()],
            "shapes": {name: list(values.shape) for name, values in outputs.items()},
        }
        return report, pack(outputs.values())

    def peer_of(self, error: Exception) -> str | None:
        """Name of the device whose loss an error reports; None for any other error."""
        if not isinstance(error, PeerError):
            return None
        device = next(number for number, rank in self.ranks.items() if rank == error.peer)
        return self.name_of(device)

    def name_of(self, device: int | None) -> str | None:
        """Name of a device by its number."""
        return None if device is None else self.plan.cluster.devices[device].name

    def close(self) -> None:
        """Leave the other ranks."""
        self.transport.close()


def load_checked_plan(path: Path, expected_hash: str) -> Plan:
    """The plan of a file; raises InputError unless its content has the expected hash."""
    plan = load_plan(path)
    actual = load_json(path)["hash"]
    if actual != expected_hash:
        raise InputError(
            f"{path}: hash {actual[:12]} is not the plan's that is to run ({expected_hash[:12]}): "
            "copy the same plan file to every device"
        )
    return plan


def load_weights(path: Path, program: DeviceProgram) -> dict[str, Tensor]:
    """The weights that a program reads, mapped from a safetensors file; others are not touched."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in sorted(program.weight_keys)}


def pack(tensors: Any) -> memoryview:
    """Elements of float32 tensors one after the other, as bytes."""
    flat = [tensor.detach().to(torch.float32).reshape(-1) for tensor in tensors]
    joined = torch.cat(flat) if flat else torch.empty(0)
    return joined.numpy().data.cast("B") if len(joined) else memoryview(b"")


def unpack(shapes: Mapping[str, Any], payload: bytes | bytearray) -> dict[str, Tensor]:
    """Tensors by name from ``pack``'s bytes; raises InputError when the length does not fit."""
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    if 4 * sum(sizes) != len(payload):
        raise InputError(f"{len(payload)} bytes for tensors of {4 * sum(sizes)} bytes")
    flat = torch.frombuffer(payload, dtype=torch.float32) if payload else torch.empty(0)
    return {
        name: part.view(*shape)
        for (name, shape), part in zip(shapes.items(), torch.split(flat, sizes), strict=True)
    }


def unpack_inputs(plan: Plan, payload: bytes | bytearray) -> dict[str, Tensor]:
    """The network's inputs from a message's bytes."""
    return unpack({name: plan.network.shapes[name] for name in plan.network.inputs}, payload)
