"""Transport over torch.distributed (gloo)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from nptp_opt.errors import InputError
from nptp_opt.kernels.crops import Array
from nptp_opt.runtime.transport.base import PeerError, Rendezvous

NEVER = timedelta(days=1)
"""The launcher decides when to give up; gloo's own limit must not come first."""


@dataclass(frozen=True)
class _Work:
    work: dist.Work
    peer: int
    arrival: None = None

    def wait(self) -> None:
        try:
            self.work.wait()
        except RuntimeError as error:
            raise PeerError(self.peer, str(error).splitlines()[0]) from None


class GlooTransport:
    """All ranks in the default process group; a job of one rank needs none."""

    posts_ahead = False

    def __init__(self, rendezvous: Rendezvous) -> None:
        if rendezvous.delay_s > 0:
            raise InputError(
                "transport 'gloo' cannot add the network's latency, and this kernel has no netem: "
                "use transport 'tcp', or latency_ms = 0"
            )
        if rendezvous.keys.identity is not None:
            raise InputError("transport 'gloo' has no TLS: use transport 'tcp'")
        self.alone = rendezvous.size == 1
        if self.alone:
            return
        if rendezvous.path is None:
            raise InputError("transport 'gloo' needs a common file system: use transport 'tcp'")
        os.environ["GLOO_SOCKET_IFNAME"] = rendezvous.interface
        dist.init_process_group(
            "gloo",
            init_method=f"file://{rendezvous.path}",
            rank=rendezvous.rank,
            world_size=rendezvous.size,
            timeout=NEVER,
        )

    def receive(self, peer: int, tag: int, buffer: Array, *, shorter: bool = False) -> _Work:
        return self._start(dist.irecv, peer, tag, buffer)

    def send(self, peer: int, tag: int, buffer: Array) -> _Work:
        return self._start(dist.isend, peer, tag, buffer)

    def _start(self, call: object, peer: int, tag: int, buffer: Array) -> _Work:
        assert callable(call)
        try:
            work = call(torch.from_numpy(buffer), peer, tag=tag)
        except RuntimeError as error:
            raise PeerError(peer, str(error).splitlines()[0]) from None
        return _Work(work, peer)

    def close(self) -> None:
        if not self.alone:
            dist.destroy_process_group()
