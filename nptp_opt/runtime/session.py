"""A plan loaded on the workers of a pool: one input after the other, each compared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from nptp_opt.errors import InputError
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan import plan_to_json, write_plan
from nptp_opt.runtime.control import Message
from nptp_opt.runtime.job import JobSpec, pack, unpack
from nptp_opt.runtime.pool import WorkerPool
from nptp_opt.runtime.report import Reference, Run, RunOptions
from nptp_opt.runtime.schedule import participants
from nptp_opt.runtime.trace import Span
from nptp_opt.steps import Plan


class Session:
    """A plan loaded on the workers of a pool, ready for inputs."""

    def __init__(
        self, pool: WorkerPool, plan: Plan, model: LoadedModel, options: RunOptions
    ) -> None:
        self.pool, self.plan, self.model, self.options = pool, plan, model, options
        devices = plan.cluster.devices
        self.names = [devices[i].name for i in participants(plan)]
        self.source = devices[plan.cluster.source].name
        self.sink = devices[plan.cluster.sink].name
        unknown = [name for name in self.names if name not in pool.members]
        if unknown:
            raise InputError(f"device {unknown[0]!r} has no worker in this pool")

    def __enter__(self) -> Session:
        self.pool.jobs += 1
        folder = self.pool.folder / f"job-{self.pool.jobs}"
        folder.mkdir()
        plan_hash = plan_to_json(self.plan)["hash"]
        write_plan(self.plan, folder / "plan.json")
        save_weights(self.model, folder / "weights.safetensors")
        for name in self.names:
            spec = JobSpec(
                plan=str(folder / "plan.json"),
                plan_hash=plan_hash,
                weights=str(folder / "weights.safetensors"),
                device=name,
                transport=self.options.transport,
                rendezvous=str(folder / "rendezvous"),
                interface=self.pool.site.interface(name),
                delay_s=self.pool.site.delay_s,
                threads=self.options.threads,
                pad=self.options.throttle == "pad",
            )
            self.pool.send(name, "job", spec=asdict(spec))
        self.pool.collect("ready", self.names)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            return
        for name in self.names:
            self.pool.send(name, "end")
        self.pool.collect("ended", self.names)
        (self.pool.folder / f"job-{self.pool.jobs}" / "weights.safetensors").unlink()

    def run(self, reference: Reference) -> Run:
        """One input: all devices ready, then the source is released; nothing else is timed."""
        for name in self.names:
            payload = pack([reference.x]) if name == self.source else b""
            self.pool.send(name, "arm", payload)
        self.pool.collect("armed", self.names)
        self.pool.send(self.source, "go")
        done = self.pool.collect("done", self.names)
        result = done[self.sink]
        error, ok = reference.error(unpack(result["shapes"], result.payload))
        start = done[self.source]["start_ns"]
        spans = {name: _spans(message, start) for name, message in done.items()}
        return Run(
            latency_s=(result["end_ns"] - start) / 1e9,
            error=error,
            ok=ok,
            sent_bytes=sum(s.bytes for found in spans.values() for s in found if s.phase == "send"),
            spans=spans,
        )


def _spans(message: Message, start_ns: int) -> tuple[Span, ...]:
    """A device's spans from the moment at which the input was released."""
    spans = (Span(**fields) for fields in message["spans"])
    return tuple(
        Span(s.phase, s.step, max(0, s.start_ns - start_ns), s.end_ns - start_ns, s.peer, s.bytes)
        for s in spans
    )


def save_weights(model: LoadedModel, path: Path) -> None:
    """The model's weights as safetensors; tensors that share memory are stored one by one."""
    seen: set[int] = set()
    stored = {}
    for key, tensor in model.weights().items():
        values = tensor.contiguous()
        shared = values.untyped_storage().data_ptr() in seen
        seen.add(values.untyped_storage().data_ptr())
        stored[key] = values.clone() if shared else values
    save_file(stored, path)
