"""A plan executed by threads: each device has its own executor and connections, as a worker has.

Milliseconds instead of the seconds that processes take; the launcher and its control channel are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Timer

import torch
from torch import Tensor

from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.executors import choose
from nptp_opt.network.load import LoadedModel
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.blocks import programs
from nptp_opt.runtime.device_program import device_program, participants
from nptp_opt.runtime.executed import as_arrays
from nptp_opt.runtime.trace import Recorder
from nptp_opt.runtime.transport.base import Rendezvous
from nptp_opt.runtime.transport.handshake import Keys
from nptp_opt.runtime.transport.packing import Packing
from nptp_opt.runtime.transport.tcp import TcpTransport
from nptp_opt.runtime.worker.device import DeviceRun

PATIENCE_S = 60.0
Answers = list[Mapping[str, Tensor]]


def execute(
    plan: Plan, model: LoadedModel, inputs: Sequence[Tensor], executor: str = "torch"
) -> tuple[Answers, int]:
    """The network's outputs for each input, one after the other, and the bytes of one input."""
    numbers = participants(plan)
    weights, barrier, addresses = (
        as_arrays(model.weights()),
        Barrier(len(numbers)),
        [""] * len(numbers),
    )

    def device(rank: int) -> tuple[Answers, int]:
        def meet(own: str) -> list[str]:
            addresses[rank] = own
            barrier.wait(PATIENCE_S)
            return addresses

        where = Rendezvous(None, rank, len(numbers), "127.0.0.1", Keys(b"s" * 32), meet)
        transport = TcpTransport(where)
        watchdog = Timer(PATIENCE_S, transport.close)  # whoever waits for ever is told
        watchdog.start()
        try:
            return _serve(plan, weights, numbers, rank, transport, barrier, inputs, executor)
        except BaseException:
            barrier.abort()
            raise
        finally:
            watchdog.cancel()
            transport.close()

    with ThreadPoolExecutor(len(numbers)) as threads:
        found = list(threads.map(device, range(len(numbers))))
    return found[numbers.index(plan.cluster.sink)][0], sum(sent for _, sent in found)


def _serve(
    plan: Plan,
    weights: Mapping[str, Array],
    numbers: Sequence[int],
    rank: int,
    transport: TcpTransport,
    barrier: Barrier,
    inputs: Sequence[Tensor],
    engine: str,
) -> tuple[Answers, int]:
    """One device's part: its outputs, and the bytes that it sent for the last input."""
    recorder, network = Recorder(), plan.network
    program = device_program(plan, numbers[rank])
    device = DeviceRun(
        network,
        program,
        transport,
        {number: k for k, number in enumerate(numbers)},
        recorder,
        chosen=choose(engine, programs(program, network), weights),
        packing=Packing(network, plan.cluster.transfer_dtype, weights),
    )
    answers: Answers = []
    for x in inputs:
        is_source = numbers[rank] == plan.cluster.source
        recorder.take()
        device.arm({network.inputs[0]: x.numpy()} if is_source else {})
        barrier.wait(PATIENCE_S)
        outputs = device.execute()
        device.finish()
        answers.append({name: torch.tensor(values) for name, values in outputs.items()})
        barrier.wait(PATIENCE_S)
    return answers, sum(span.bytes for span in recorder.take() if span.phase == "send")
