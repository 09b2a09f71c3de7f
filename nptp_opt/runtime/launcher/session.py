"""A plan loaded on the workers of a pool: one input after the other, each compared."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nptp_opt.cost import gather_compute_s
from nptp_opt.errors import ExecutionError, InputError
from nptp_opt.kernels.executors.torch import as_tensors
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.document import plan_to_json, write_plan
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.device_program import device_program, participants
from nptp_opt.runtime.emulation.quota import Quotas, find_hierarchy, shares_of
from nptp_opt.runtime.launcher.pool import WorkerPool, no_room, understood
from nptp_opt.runtime.launcher.report import Reference, Run, RunOptions
from nptp_opt.runtime.launcher.shipment import Shipment, Shipped, told
from nptp_opt.runtime.trace import Span
from nptp_opt.runtime.transport.control import Message
from nptp_opt.runtime.worker.job import JobSpec, are_finite, pack, unpack
from nptp_opt.verification.torch_check import sent_errors

WEIGHTS = "weights.safetensors"
CLOCK_QUESTIONS = 9


class Session:
    """A plan loaded on the workers of a pool, ready for inputs."""

    def __init__(
        self,
        pool: WorkerPool,
        plan: Plan,
        model: LoadedModel,
        options: RunOptions,
        cpu_s: float | None = None,
    ) -> None:
        """``cpu_s``: CPU time that the whole model takes on this machine, for quotas."""
        self._lossy: dict[int, float] = {}
        self.shipped: dict[str, Shipped] = {}
        """What weights devices of other machines were sent."""
        self.cpu_s, self.quotas = cpu_s, contextlib.ExitStack()
        self.pool, self.plan, self.model, self.options = pool, plan, model, options
        devices = plan.cluster.devices
        self.names = [devices[i].name for i in participants(plan)]
        self.source = devices[plan.cluster.source].name
        self.sink = devices[plan.cluster.sink].name
        # gloo is called from one thread alone: there inputs in flight queue on every device
        self.lanes = options.in_flight if options.transport == "tcp" else 1
        unknown = [name for name in self.names if name not in pool.members]
        if unknown:
            raise InputError(f"device {unknown[0]!r} has no worker in this pool")
        self._check_executors()

    def _check_executors(self) -> None:
        """Raise ExecutionError where a device lacks the executor that is asked for."""
        wanted = self.options.chosen_executor
        for name in self.names if wanted is not None else ():
            member = self.pool.members[name]
            if wanted not in member.executors and not member.own_executor:
                there = ", ".join(member.executors) or "none"
                raise ExecutionError(
                    f"device {name!r} has no executor {wanted!r}, only {there}: choose one that "
                    "all devices have, or leave `executor` out"
                )

    def __enter__(self) -> Session:
        self.pool.jobs += 1
        self.folder = self.pool.folder / f"job-{self.pool.jobs}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise no_room(self.folder, error) from None
        try:
            self._begin()
        except BaseException:  # nobody else will: it was not entered
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def _begin(self) -> None:
        content = plan_to_json(self.plan)
        if self.pool.remote:
            self._send_content(content)
        else:
            self._send_paths(content)
        if self.options.transport == "tcp":
            self._introduce()
        ready = self.pool.collect("ready", self.names)
        self.executors = {name: str(ready[name]["executor"]) for name in self.names}
        notes = [note for name in self.names for note in ready[name]["notes"]]
        sent = [told(self.shipped)] if self.shipped else []
        self.notes = tuple(dict.fromkeys([*sent, *notes, *self._measured_otherwise()]))
        if self.options.throttle == "cgroup":
            self.quotas.enter_context(self._quotas())
        self.clocks = self._compare_clocks() if self.pool.remote else dict.fromkeys(self.names, 0)

    def _measured_otherwise(self) -> Iterator[str]:
        """Devices that compute by another executor than their speeds were measured with."""
        for device in self.plan.cluster.devices:
            used = self.executors.get(device.name)
            if used is not None and device.executor not in (None, used):
                yield (
                    f"device {device.name!r} computes by {used}, and its speeds in the plan were "
                    f"measured by {device.executor}: `nptp-opt profile --executor {used}` measures "
                    "those that it has"
                )

    def _send_paths(self, content: dict[str, Any]) -> None:
        """Workers on this machine read the job from the run's folder."""
        try:
            write_plan(self.plan, self.folder / "plan.json")
            save_file(unshare(self.model.weights()), self.folder / WEIGHTS)
        except (SafetensorError, OSError, InputError) as error:
            raise no_room(self.folder, error) from None
        for name in self.names:
            spec = replace(
                self._spec(name, content["hash"]),
                plan=str(self.folder / "plan.json"),
                weights=str(self.folder / WEIGHTS),
                rendezvous=str(self.folder / "rendezvous"),
            )
            self.pool.send(name, "job", spec=asdict(spec))

    def _send_content(self, content: dict[str, Any]) -> None:
        """Workers elsewhere get the plan with the message, and the weights that they ask for."""
        if self.pool.shipment is None or self.pool.shipment.model is not self.model:
            self.pool.shipment = Shipment(self.model)
        shipment, text = self.pool.shipment, json.dumps(content).encode()
        numbers = {device.name: i for i, device in enumerate(self.plan.cluster.devices)}
        entries = {
            name: shipment.entries(device_program(self.plan, numbers[name]).weight_keys)
            for name in self.names
        }
        for name in self.names:
            spec = asdict(self._spec(name, content["hash"]))
            self.pool.send(name, "job", text, spec=spec, weights=entries[name])
        wanted = self.pool.collect("wanted", self.names)
        for name in self.names:
            digests = wanted[name]["digests"]
            for digest in digests:
                with understood(name):
                    weights = shipment.content(digest)
                self.pool.send(name, "weights", weights, digest=digest)
            self.pool.send(name, "complete")
            self.shipped[name] = shipment.shipped(entries[name], digests)

    def _spec(self, name: str, plan_hash: str) -> JobSpec:
        return JobSpec(
            plan="",
            plan_hash=plan_hash,
            weights="",
            device=name,
            transport=self.options.transport,
            rendezvous=None,
            interface=self.pool.site.interface(name),
            delay_s=self.pool.site.delay_s,
            threads=self.options.threads,
            executor=self.options.chosen_executor,
            pad=self.options.throttle == "pad",
            dilation=self.options.dilation,
            # the kernel takes no real-time thread into a group with a quota
            lanes=self.lanes,
            shares_cores=not self.pool.remote and self.options.throttle != "cgroup",
        )

    def _quotas(self) -> Quotas:
        """Every worker as slow as its device, from now on: importing torch was not held back."""
        assert self.cpu_s is not None
        numbers = {device.name: i for i, device in enumerate(self.plan.cluster.devices)}
        device_s = {
            name: self.options.dilation
            * gather_compute_s(self.plan.cluster, numbers[name], self.plan.network.layers)
            for name in self.names
        }
        shares = shares_of(device_s, self.cpu_s, self.options.threads)
        return Quotas(self.pool.folder.name, self.pool.pids(self.names), shares, find_hierarchy())

    def _introduce(self) -> None:
        """Tell every worker where the others listen, in the order of their ranks."""
        listening = self.pool.collect("listening", self.names)
        addresses = [listening[name]["address"] for name in self.names]
        for name in self.names:
            self.pool.send(name, "peers", addresses=addresses)

    def _compare_clocks(self) -> dict[str, int]:
        """Nanoseconds to add to each worker's clock to have this machine's.

        Of several questions the one that was answered fastest counts; half its round trip is the
        error.
        """
        return {name: min(self._ask_clock(name) for _ in range(CLOCK_QUESTIONS))[1]
                for name in self.names}  # fmt: skip

    def _ask_clock(self, name: str) -> tuple[int, int]:
        """Round trip and offset."""
        start = time.monotonic_ns()
        self.pool.send(name, "clock")
        theirs = self.pool.collect("clock", [name])[name]["now_ns"]
        end = time.monotonic_ns()
        return end - start, (start + end) // 2 - theirs

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.quotas.close()
        try:
            if kind is None:
                for name in self.names:
                    self.pool.send(name, "end")
                self.pool.collect("ended", self.names)
        finally:  # a service has many sessions; what workers read of it they have, or want no more
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, reference: Reference) -> Run:
        """One input: all devices ready, then the source is released; nothing else is timed."""
        finite = are_finite(reference.inputs)
        for name in self.names:
            payload = pack(reference.inputs) if name == self.source else b""
            self.pool.send(name, "arm", payload, finite=finite)
        self.pool.collect("armed", self.names)
        self.pool.send(self.source, "go")
        return self.measured(reference, self.pool.collect("done", self.names))

    def measured(self, reference: Reference, done: Mapping[str, Message]) -> Run:
        """What the devices' reports of one input amount to; DeviceLostError for a wrong one."""
        with understood(self.sink):
            return self._measured(reference, done)

    def _measured(self, reference: Reference, done: Mapping[str, Message]) -> Run:
        result = done[self.sink]
        outputs = as_tensors(unpack(result["shapes"], result.payload))
        error, ok = reference.error(outputs, self._lossy_share(reference))
        start = done[self.source]["start_ns"] + self.clocks[self.source]
        spans = {name: self._spans(done[name], start - self.clocks[name]) for name in self.names}
        end = result["end_ns"] + self.clocks[self.sink]
        return Run(
            latency_s=self.seconds(end - start),
            ended_s=self.seconds(end),
            error=error,
            ok=ok,
            sent_bytes=sum(
                s.bytes
                for device_spans in spans.values()
                for s in device_spans
                if s.phase == "send"
            ),
            spans=spans,
            plan=self.plan,
            executors=self.executors,
        )

    def seconds(self, nanoseconds: int) -> float:
        """Of the devices' clock, which may be slower than this machine's."""
        return nanoseconds / 1e9 / self.options.dilation

    def _spans(self, message: Message, start_ns: int) -> tuple[Span, ...]:
        """A device's spans from the moment at which the input was released, on its clock."""
        spans = (Span(**fields) for fields in message["spans"])
        return tuple(
            replace(s, start_ns=max(0, self._own_ns(s.start_ns - start_ns)),
                    end_ns=self._own_ns(s.end_ns - start_ns))
            for s in spans
        )  # fmt: skip

    def _own_ns(self, nanoseconds: int) -> int:
        return round(nanoseconds / self.options.dilation)

    def _lossy_share(self, reference: Reference) -> float:
        """Relative error that transfers may add: twice what a replay of the plan has.

        A value on the border between two int8 steps may be rounded either way.
        """
        if self.plan.cluster.transfer_dtype == "float32":
            return 0.0
        if id(reference) not in self._lossy:
            error = sent_errors(self.plan, self.model, reference.inputs).relative
            self._lossy[id(reference)] = 2 * error
        return self._lossy[id(reference)]


def unshare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, as safetensors wants them."""
    seen: set[int] = set()
    tensors = {}
    for key, tensor in weights.items():
        values = tensor.contiguous()
        shared = values.untyped_storage().data_ptr() in seen
        seen.add(values.untyped_storage().data_ptr())
        tensors[key] = values.clone() if shared else values
    return tensors
