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

from nptp_opt.cost import sent_bytes
from nptp_opt.geometry import Tile
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import Opened, Prepared, TileProgram, choose, find, prepare
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
        self.plan, self.weights = exact(plan), as_arrays(model.weights())
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
        self.opened = find(self.chosen.name).open(self.weights)

    @property
    def wanted(self) -> frozenset[str]:
        """Tensors that the tile programs make, and what is between them where they round."""
        return frozenset(
            name
            for program in self.programs.values()
            for name in (
                (call.layer.name for call in program.calls) if program.rounds else program.outputs
            )
        )

    def run(self, x: Sequence[Tensor], expected: Mapping[str, Expected]) -> Executed:
        """Run the plan on float32 inputs and compare what every program makes."""
        report = Executed(self.chosen.name, len(self.programs), notes=self.chosen.notes)
        post, lock = Post(), threading.Lock()

        def device(number: int) -> None:
            name = self.plan.cluster.devices[number].name
            watched = {
                key: self._watched((number, key), _Compared(name, expected, report, lock))
                for key in programs(self.devices[number], self.plan.network)
            }
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

    def _watched(self, key: DeviceKey, compared: _Compared) -> Prepared:
        program = self.programs[key]
        if program.rounds:
            return _Stepped(program, self.opened, compared)
        return _Watched(self.chosen.prepared[key], program, compared)

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
            transport,
            {number: number for number in self.devices},
            Recorder(),
            chosen=Chosen(self.chosen.name, prepared),
            packing=Packing(network, "float32", self.weights),
        )
        is_source = program.device == cluster.source
        inputs = {name: each.numpy() for name, each in zip(network.inputs, x, strict=True)}
        run.arm(inputs if is_source else {})
        run.execute()
        run.finish()


def as_arrays(weights: Mapping[str, Tensor]) -> dict[str, Array]:
    """Arrays that lie in the tensors' memory; those that do not lie in it in order are copied."""
    return {key: values.contiguous().numpy() for key, values in weights.items()}


def exact(plan: Plan) -> Plan:
    """The plan with feature maps sent without loss."""
    network, exactly = plan.network, plan.cluster.sending_as("float32")
    if plan.cluster.transfer_dtype == "float32":
        return plan
    steps = []
    for step in plan.steps:
        moves = [
            move
            if step.kind == "global" and network.by_name[step.layers[-1]].reduces
            and move.tensor == step.layers[-1]
            else replace(move, bytes=sent_bytes(exactly, network, move.tensor, move.tile))
            for move in step.transfers
        ]  # fmt: skip
        steps.append(replace(step, transfers=tuple(moves)))
    return replace(plan, cluster=exactly, steps=tuple(steps))


class _Compared:
    """Results of a device that are compared with the model's own."""

    def __init__(
        self, device: str, expected: Mapping[str, Expected], report: Executed, lock: threading.Lock
    ) -> None:
        self.device, self.expected, self.report, self.lock = device, expected, report, lock

    def note(self, made: Mapping[str, Array], regions: Mapping[str, Tile]) -> None:
        """Compare what a program makes."""
        with self.lock:
            for name in made.keys() & self.expected.keys():
                self._compare(name, made[name], regions[name])

    def model_has(self, name: str, tile: Tile) -> Tensor:
        """The model's own values."""
        whole = self.expected[name].values
        return whole if tile.is_empty else whole[..., tile.y0 : tile.y1, tile.x0 : tile.x1]

    def _compare(self, name: str, values: Array, tile: Tile) -> None:
        whole, allowed = self.expected[name].values, self.expected[name].allowed
        if not values.size:
            return
        part, report = self.model_has(name, tile), self.report
        error = difference(torch.from_numpy(values), part)
        report.errors.note(error, largest(whole))
        if not error <= allowed:
            report.faults.append(
                f"executor {report.executor}: {name} on {self.device} differs from the model by "
                f"{error:.3g}; rounding explains {allowed:.3g}"
            )


class _Watched(Prepared):
    """A prepared program whose results are compared."""

    def __init__(self, prepared: Prepared, program: TileProgram, compared: _Compared) -> None:
        self.prepared, self.regions, self.compared = prepared, program.regions, compared

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        made = self.prepared.run(inputs)
        self.compared.note(made, self.regions)
        return made


class _Stepped(Prepared):
    """A program that rounds, call by call: each reads the model's own values of those before it.

    A value that takes the other of two steps is compared, and moves none of what follows.
    """

    def __init__(self, program: TileProgram, opened: Opened, compared: _Compared) -> None:
        self.program, self.compared = program, compared
        self.calls = [(call, opened.prepare(call)) for call in program.alone]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        held, regions = dict(inputs), self.program.regions
        for call, prepared in self.calls:
            made = prepared.run({value.name: held[value.name] for value in call.inputs})
            self.compared.note(made, regions)
            held |= made
            for name in made.keys() & self.compared.expected.keys():
                held[name] = self.compared.model_has(name, regions[name]).contiguous().numpy()
        return {name: held[name] for name in self.program.outputs}


class Post:
    """Messages between the threads of one process."""

    def __init__(self) -> None:
        self.arrived = threading.Condition()
        self.messages: dict[tuple[int, int, int], Array] = {}
        self.given_up = False

    def rank(self, own: int) -> Transport:
        """The transport of one rank."""
        return _Rank(self, own)

    def give_up(self) -> None:
        """Nothing more will come: whoever waits is told."""
        with self.arrived:
            self.given_up = True
            self.arrived.notify_all()

    def put(self, key: tuple[int, int, int], values: Array) -> None:
        """Leave a message: (from, to, tag)."""
        with self.arrived:
            self.messages[key] = values.copy()
            self.arrived.notify_all()

    def take(self, key: tuple[int, int, int], buffer: Array) -> int:
        """Wait for a message, and say how long it is; raises PeerError when all was given up."""
        with self.arrived:
            self.arrived.wait_for(lambda: self.given_up or key in self.messages)
            if key not in self.messages:
                raise PeerError(key[0], "another device failed")
            values = self.messages.pop(key).reshape(-1)
            buffer[: len(values)] = values
            return values.nbytes


class _Rank:
    posts_ahead = False

    def __init__(self, post: Post, own: int) -> None:
        self.post, self.own = post, own

    def receive(self, peer: int, tag: int, buffer: Array, *, shorter: bool = False) -> _Wait:
        return _Wait(self.post, (peer, self.own, tag), buffer)

    def send(self, peer: int, tag: int, buffer: Array) -> _Sent:
        self.post.put((self.own, peer, tag), buffer)
        return _Sent()

    def close(self) -> None:
        return


class _Wait:
    arrival: None = None

    def __init__(self, post: Post, key: tuple[int, int, int], buffer: Array) -> None:
        self.post, self.key, self.buffer = post, key, buffer

    def wait(self) -> int:
        return self.post.take(self.key, self.buffer)


class _Sent:
    arrival: None = None

    def wait(self) -> None:
        return
