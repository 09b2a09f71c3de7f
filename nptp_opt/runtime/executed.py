"""A plan's tile programs, executed by the executor that a run would take, in this process.

Every device runs its own program in a thread, as a worker does, and messages go through memory.
What each tile program makes is held against the model's own tensors. Transfers are exact: what
smaller types lose is for the verifier to report.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from nptp_opt.geometry import Tile
from nptp_opt.kernels.executors import Prepared, TileProgram, choose, prepare
from nptp_opt.kernels.executors.choice import Chosen
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.blocks import Key, programs
from nptp_opt.runtime.device_program import DeviceProgram, device_program, participants
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.base import PeerError, Transport
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.worker.device import DeviceRun
from nptp_opt.verification.tolerance import difference, largest
from nptp_opt.verification.torch_check import Executed, Expected

DeviceKey = tuple[int, Key]
"""A device's number, and which of its tile programs."""


class Execution:
    """What ``verify_plan`` asks for the part of an executor.

    ``executor`` None means the fastest one that a self-test shows to be right. Raises InputError
    for a name that is not known, ExecutionError for an engine that is missing.
    """

    def __init__(self, plan: Plan, model: LoadedModel, executor: str | None) -> None:
        self.plan, self.weights = exact(plan), model.weights()
        self.devices = {i: device_program(self.plan, i) for i in participants(plan)}
        self.programs: dict[DeviceKey, TileProgram] = {
            (number, key): program
            for number, device in self.devices.items()
            for key, program in programs(device, plan.network).items()
        }
        if executor is None:
            self.chosen: Chosen[DeviceKey] = choose(None, self.programs, self.weights)
        else:
            self.chosen = prepare(executor, self.programs, self.weights)

    @property
    def wanted(self) -> frozenset[str]:
        """Tensors that the tile programs make."""
        return frozenset(name for program in self.programs.values() for name in program.outputs)

    def run(self, x: Sequence[Tensor], expected: Mapping[str, Expected]) -> Executed:
        """Run the plan on float32 inputs and compare what every program makes."""
        report = Executed(self.chosen.name, len(self.programs), notes=self.chosen.notes)
        post, lock = Post(), threading.Lock()

        def device(number: int) -> None:
            name = self.plan.cluster.devices[number].name
            watched = {
                key: _Watched(self.chosen.prepared[number, key], self.programs[number, key], name,
                              expected, report, lock)
                for key in programs(self.devices[number], self.plan.network)
            }  # fmt: skip
            try:
                self._device(self.devices[number], watched, post.rank(number), x)
            except BaseException:
                post.give_up()
                raise

        with ThreadPoolExecutor(len(self.devices)) as threads:
            found = [threads.submit(device, number) for number in self.devices]
        for each in sorted(found, key=lambda future: isinstance(future.exception(), PeerError)):
            each.result()
        return report

    def _device(
        self,
        program: DeviceProgram,
        prepared: Mapping[Key, Prepared],
        transport: Transport,
        x: Sequence[Tensor],
    ) -> None:
        network, cluster = self.plan.network, self.plan.cluster
        run = DeviceRun(
            network,
            program,
            self.weights,
            transport,
            {number: number for number in self.devices},
            Recorder(),
            prepared=prepared,
            packing=Packing(network, "float32"),
        )
        with torch.inference_mode():
            is_source = program.device == cluster.source
            run.arm(dict(zip(network.inputs, x, strict=True)) if is_source else {})
            run.execute()
            run.finish()


def exact(plan: Plan) -> Plan:
    """The plan with feature maps sent as float32."""
    network = plan.network
    if plan.cluster.transfer_dtype == "float32":
        return plan
    steps = []
    for step in plan.steps:
        moves = [
            move
            if step.kind == "global" and network.by_name[step.layers[-1]].reduces
            and move.tensor == step.layers[-1]
            else replace(move, bytes=network.pixel_bytes(move.tensor) * move.tile.area)
            for move in step.transfers
        ]  # fmt: skip
        steps.append(replace(step, transfers=tuple(moves)))
    return replace(plan, cluster=plan.cluster.sending_as("float32"), steps=tuple(steps))


class _Watched(Prepared):
    """A prepared program whose results are compared."""

    def __init__(
        self,
        prepared: Prepared,
        program: TileProgram,
        device: str,
        expected: Mapping[str, Expected],
        report: Executed,
        lock: threading.Lock,
    ) -> None:
        self.prepared, self.device, self.expected = prepared, device, expected
        self.regions, self.report, self.lock = program.regions, report, lock

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = self.prepared.run(inputs)
        with self.lock:
            for name in made.keys() & self.expected.keys():
                self._compare(name, made[name], self.regions[name])
        return made

    def _compare(self, name: str, values: Tensor, tile: Tile) -> None:
        whole, allowed = self.expected[name].values, self.expected[name].allowed
        part = whole if tile.is_empty else whole[..., tile.y0 : tile.y1, tile.x0 : tile.x1]
        if not values.numel():
            return
        error, report = difference(values, part), self.report
        report.errors.note(error, largest(whole))
        if not error <= allowed:
            report.faults.append(
                f"executor {report.executor}: {name} on {self.device} differs from the model by "
                f"{error:.3g}; rounding explains {allowed:.3g}"
            )


class Post:
    """Messages between the threads of one process."""

    def __init__(self) -> None:
        self.arrived = threading.Condition()
        self.messages: dict[tuple[int, int, int], Tensor] = {}
        self.given_up = False

    def rank(self, own: int) -> Transport:
        """The transport of one rank."""
        return _Rank(self, own)

    def give_up(self) -> None:
        """Nothing more will come: whoever waits is told."""
        with self.arrived:
            self.given_up = True
            self.arrived.notify_all()

    def put(self, key: tuple[int, int, int], values: Tensor) -> None:
        """Leave a message: (from, to, tag)."""
        with self.arrived:
            self.messages[key] = values.clone()
            self.arrived.notify_all()

    def take(self, key: tuple[int, int, int], buffer: Tensor) -> None:
        """Wait for a message; raises PeerError when everything was given up."""
        with self.arrived:
            self.arrived.wait_for(lambda: self.given_up or key in self.messages)
            if key not in self.messages:
                raise PeerError(key[0], "another device failed")
            buffer.copy_(self.messages.pop(key).view(-1))


class _Rank:
    def __init__(self, post: Post, own: int) -> None:
        self.post, self.own = post, own

    def receive(self, peer: int, tag: int, buffer: Tensor) -> _Wait:
        return _Wait(self.post, (peer, self.own, tag), buffer)

    def send(self, peer: int, tag: int, buffer: Tensor) -> _Sent:
        self.post.put((self.own, peer, tag), buffer)
        return _Sent()

    def close(self) -> None:
        return


class _Wait:
    def __init__(self, post: Post, key: tuple[int, int, int], buffer: Tensor) -> None:
        self.post, self.key, self.buffer = post, key, buffer

    def wait(self) -> None:
        self.post.take(self.key, self.buffer)


class _Sent:
    def wait(self) -> None:
        return
