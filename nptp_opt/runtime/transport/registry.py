"""The transports by name. Each is imported when it is opened: one needs torch.distributed."""

from __future__ import annotations

from collections.abc import Callable

from nptp_opt.errors import unknown_name
from nptp_opt.runtime.transport.base import Rendezvous, Transport


def _gloo(rendezvous: Rendezvous) -> Transport:
    from nptp_opt.runtime.transport.gloo import GlooTransport

    return GlooTransport(rendezvous)


def _tcp(rendezvous: Rendezvous) -> Transport:
    from nptp_opt.runtime.transport.tcp import TcpTransport

    return TcpTransport(rendezvous)


_TRANSPORTS: dict[str, Callable[[Rendezvous], Transport]] = {"gloo": _gloo, "tcp": _tcp}

TRANSPORTS = tuple(_TRANSPORTS)


def check_transport(name: str) -> None:
    """Raise InputError unless ``name`` is a transport."""
    if name not in _TRANSPORTS:
        raise unknown_name("transport", name, _TRANSPORTS)


def open_transport(name: str, rendezvous: Rendezvous) -> Transport:
    """Join the job's other ranks; returns when all are there."""
    check_transport(name)
    return _TRANSPORTS[name](rendezvous)
