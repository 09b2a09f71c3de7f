"""One plan on one device: what a worker loads, and how it runs an input."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nptp_opt.errors import InputError
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import choose
from nptp_opt.kernels.executors.torch import set_threads
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.blocks import programs
from nptp_opt.runtime.device_program import device_program, participants
from nptp_opt.runtime.trace import Recorder, Status, overrun_s
from nptp_opt.runtime.transport.base import Meet, PeerError, Rendezvous
from nptp_opt.runtime.transport.handshake import Keys
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.transport.registry import open_transport
from nptp_opt.runtime.worker.device import DeviceRun, Pace
from nptp_opt.runtime.worker.lanes import LaneTransport, Turns
from nptp_opt.runtime.worker.material import Material
from nptp_opt.runtime.worker.priority import be_prompt


@dataclass(frozen=True)
class JobSpec:
    """What the launcher tells a worker: which files, who it is, how to meet the others.

    ``plan`` and ``weights`` are paths; where there is no common disk they are empty, the message's
    payload is the plan, and weights that the worker does not keep are asked for.
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
    dilation: float = 1.0
    """Seconds here of a second of the model of cost."""
    lanes: int = 1
    """Inputs that are on the device at a time."""


class Job:
    """Raises InputError when the plan is not the one that the launcher means, ExecutionError when
    the executor that it asks for is missing or wrong."""

    def __init__(
        self, spec: JobSpec, material: Material, recorder: Recorder, keys: Keys, meet: Meet
    ) -> None:
        set_threads(spec.threads)
        recorder.enter("loading")
        self.plan = material.plan(spec.plan_hash)
        names = [device.name for device in self.plan.cluster.devices]
        device = names.index(spec.device)
        self.is_source = device == self.plan.cluster.source
        self.threads, self.pad = spec.threads, spec.pad
        self.recorders = [recorder, *(Recorder() for _ in range(1, spec.lanes))]
        self.numbers: dict[int, int] = {}
        """The input that each lane works on."""
        self.program = device_program(self.plan, device)
        self.ranks = {number: rank for rank, number in enumerate(participants(self.plan))}
        self.modelled_s = {
            step: seconds * spec.dilation for step, seconds in self.program.modelled_s.items()
        }
        weights = self.weights = material.weights(self.program)
        tiles = programs(self.program, self.plan.network)
        chosen = choose(spec.executor, tiles, weights, spec.threads)
        self.executor, self.notes = chosen.name, chosen.notes
        rendezvous = Rendezvous(
            spec.rendezvous,
            self.ranks[device],
            len(self.ranks),
            spec.interface,
            keys,
            meet,
            spec.delay_s,
            [names[number] for number in self.ranks],
        )
        recorder.enter("joining")
        if spec.shares_cores:
            be_prompt()
        self.transport = open_transport(spec.transport, rendezvous)
        turns, pace = Turns(), Pace(spec.dilation)
        self.devices = [
            DeviceRun(
                self.plan.network,
                self.program,
                LaneTransport(self.transport, lane, spec.lanes),
                self.ranks,
                self.recorders[lane],
                chosen=chosen,
                packing=Packing(self.plan.network, self.plan.cluster.transfer_dtype, weights),
                pad=spec.pad,
                turn=partial(self._turn, turns, lane),
                pace=pace,
            )
            for lane in range(spec.lanes)
        ]

    def _turn(self, turns: Turns, lane: int) -> AbstractContextManager[None]:
        return turns.of(self.numbers.get(lane, 0))

    @property
    def status(self) -> Status:
        """What the oldest input's lane does; any progress of a lane is the job's."""
        lanes = [lane for _, lane in sorted((n, lane) for lane, n in tuple(self.numbers.items()))]
        oldest = self.recorders[lanes[0] if lanes else 0].status
        return replace(oldest, ticks=sum(recorder.status.ticks for recorder in self.recorders))

    def run_input(
        self, number: int, payload: bytes | bytearray, *, lane: int, trace: bool, finite: bool
    ) -> tuple[dict[str, Any], memoryview]:
        """Arm and execute one of several inputs in flight, in its lane's thread."""
        set_threads(self.threads)  # a setting of every thread's own
        self.numbers[lane] = number
        try:
            self.arm(payload, lane=lane, finite=finite)
            return self.execute(lane=lane, trace=trace)
        finally:
            self.numbers.pop(lane, None)
            self.recorders[lane].enter("idle")

    def arm(self, payload: bytes | bytearray, *, lane: int = 0, finite: bool = True) -> None:
        """Prepare for one input; ``payload`` holds it on the source and is empty elsewhere."""
        self.recorders[lane].clear()
        inputs = unpack_inputs(self.plan, payload) if self.is_source else {}
        self.devices[lane].arm(inputs, finite=finite)

    def arm_ahead(self, lane: int) -> None:
        """What can be prepared for the lane's next input when the answer to one is on its way."""
        self.devices[lane].arm_ahead()

    def execute(self, *, lane: int = 0, trace: bool = True) -> tuple[dict[str, Any], memoryview]:
        """Run the armed input; returns the report, and the outputs' elements on the sink.

        Spans are reported where ``trace`` asks for them.
        """
        start = time.monotonic_ns()
        outputs = self.devices[lane].execute()
        end = time.monotonic_ns()
        self.devices[lane].finish()
        recorder = self.recorders[lane]
        report = {
            "start_ns": start,
            "end_ns": end,
            "busy_ns": recorder.busy_ns,
            "sent_bytes": recorder.sent_bytes,
            "arrivals": recorder.take_arrivals(),
            "shapes": {name: list(values.shape) for name, values in outputs.items()},
        }
        overrun = overrun_s(self.modelled_s, recorder.spans) if self.pad else 0.0
        report["overrun_ns"] = round(1e9 * overrun)
        report["spans"] = [vars(span) for span in recorder.take()] if trace else []
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


def pack(arrays: Iterable[Any]) -> memoryview:
    """Elements of arrays (or tensors) one after the other, in float32, as bytes; of a single one
    they are not copied."""
    flat = [np.ascontiguousarray(array, dtype=np.float32).reshape(-1) for array in arrays]
    joined = flat[0] if len(flat) == 1 else np.concatenate([*flat, np.empty(0, np.float32)])
    return joined.data.cast("B") if joined.size else memoryview(b"")


def are_finite(arrays: Iterable[Any]) -> bool:
    """Is there neither NaN nor an infinity in arrays (or tensors)?"""
    return all(bool(np.isfinite(np.asarray(array)).all()) for array in arrays)


def unpack(shapes: Mapping[str, Any], payload: bytes | bytearray) -> dict[str, Array]:
    """Float32 arrays by name from ``pack``'s bytes; raises InputError for another length."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    if 4 * sum(sizes) != len(payload):
        raise InputError(f"{len(payload)} bytes for tensors of {4 * sum(sizes)} bytes")
    flat, found, start = np.frombuffer(payload, dtype=np.float32), dict[str, Array](), 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        found[name] = flat[start : start + size].reshape(shape)
        start += size
    return found


def unpack_inputs(plan: Plan, payload: bytes | bytearray) -> dict[str, Array]:
    """The network's inputs from a message's bytes."""
    return unpack({name: plan.network.shapes[name] for name in plan.network.inputs}, payload)
