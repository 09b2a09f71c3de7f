"""Measures this device: seconds of a model's layers, alone and in chains, at several tile sizes."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nptp_opt import __version__
from nptp_opt.cluster.profiles import CODEC_RATES, PROFILE_SCHEMA, Profile
from nptp_opt.errors import InputError
from nptp_opt.kernels.executors import find, require
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.network.ref import InputShape
from nptp_opt.runtime.executed import as_arrays
from nptp_opt.runtime.profiling.fit import chain_errors, fit_together
from nptp_opt.runtime.profiling.layers import (
    ChainSample,
    Measured,
    Sample,
    measure_codec,
    measure_network,
)
from nptp_opt.runtime.profiling.link import measure_link, serve_link
from nptp_opt.runtime.transport.handshake import Keys, read_keys

MOST_RESIDUAL = 0.25
"""Relative distance of a measured tile from its line up to which nothing is said."""


@dataclass(frozen=True)
class ProfileRequest:
    """The options of ``profile``."""

    input: InputShape
    threads: int = 1
    repeats: int = 5
    executor: str | None = None
    """What is measured; None for the fastest that a self-test shows to be right."""
    serve: str | None = None
    peer: str | None = None
    secret_file: Path | None = None
    tls: Path | None = None
    """This side's certificate."""

    def __post_init__(self) -> None:
        if (self.serve or self.peer) and self.secret_file is None:
            raise InputError("`serve` and `peer` need `secret_file`: the same file on both sides")
        if self.tls is not None and not (self.serve or self.peer):
            raise InputError("`tls` belongs to `serve` and `peer`")
        if self.executor is not None:
            require(self.executor)
        if self.serve and self.peer:
            raise InputError("`serve` and `peer` exclude each other: one side serves")

    @property
    def keys(self) -> Keys | None:
        """What is proved to the peer; None without one."""
        return None if self.secret_file is None else read_keys(self.secret_file, self.tls)


def make_profile(ref: str, request: ProfileRequest, say: Callable[[str], None]) -> Profile:
    """Measure the layers of a model on this device, and the link if that is asked for."""
    link, keys = None, request.keys
    if request.serve and keys is not None:
        say(f"waiting at {request.serve} for a peer")
        serve_link(request.serve, keys)
    if request.peer and keys is not None:
        say(f"measuring the link to {request.peer}")
        link = measure_link(request.peer, keys)
    say(f"importing {ref}")
    model = load_model(ref, request.input)
    found = measure_layers(model, request.threads, request.repeats, once(say), request.executor)
    say("codecs")
    codec = measure_codec(request.repeats)
    provenance = _provenance(request.repeats, found.executor)
    profile = fit_profile(
        ref, request.threads, found.samples, provenance, found.executor, found.chains
    )
    for note in (*found.notes, *misfits(profile)):
        say(note)
    return profile.model_copy(update={"link": link, **codec_fields(codec)})


def once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says a text that comes again and again one time."""
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        if text != last:
            say(text)
        last = text

    return tell


def codec_fields(codec: Sequence[float]) -> dict[str, float]:
    """A profile's keys for what ``measure_codec`` found."""
    return dict(zip(CODEC_RATES, codec, strict=True))


def misfits(profile: Profile) -> tuple[str, ...]:
    """What to say of layer shapes whose tiles lie far from their line; nothing where none do."""
    far = [layer for layer in profile.layers if layer.residual > MOST_RESIDUAL]
    if not far:
        return ()
    worst = max(far, key=lambda layer: layer.residual)
    return (
        f"{len(far)} of {len(profile.layers)} layer shapes have tiles that, alone, took up to "
        f"{worst.residual:.0%} more or less than a line says (worst: {worst.layer}): small "
        "tiles seldom have the rate of large ones, and a device that does other work, or gets hot, "
        "changes its speed; measure again when it is idle, more often",
    )


def fit_profile(
    ref: str,
    threads: int,
    samples: Mapping[str, Sequence[Sample]],
    provenance: dict[str, Any],
    executor: str = "torch",
    chains: Sequence[ChainSample] = (),
) -> Profile:
    """The profile of measured tiles by layer shape, and of chains of layers; raises InputError when
    there are none."""
    fitted = fit_together(samples, chains)
    layers = fitted.layers
    if not layers:
        raise InputError("nothing to fit: no layer with any computation was measured")
    flop = sum(flop for layer_samples in samples.values() for flop, _ in layer_samples)
    seconds = sum(flop / speed.flop_per_s
                  for speed in layers for flop, _ in samples[speed.layer])  # fmt: skip
    return Profile.model_validate(
        {
            "schema": PROFILE_SCHEMA,
            "model": ref,
            "threads": threads,
            "executor": executor,
            "gflops": flop / seconds / 1e9,
            "overhead_ms": statistics.median(speed.overhead_ms for speed in layers),
            "program_ms": fitted.program_s * 1e3,
            "layers": layers,
            "provenance": provenance | _fitted(chain_errors(fitted, chains)),
        }
    )


def measure_layers(
    model: LoadedModel,
    threads: int,
    repeats: int,
    say: Callable[[str], None],
    executor: str | None = "torch",
) -> Measured:
    """As ``measure_network``, of a model that is loaded here; torch's threads are as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        weights = as_arrays(model.weights())
        return measure_network(model.network, weights, threads, repeats, say, executor)
    finally:
        torch.set_num_threads(before)


def _fitted(errors: Sequence[float]) -> dict[str, Any]:
    """How well chains are predicted; nothing where there are none."""
    if not errors:
        return {}
    off = [abs(error) for error in errors]
    return {
        "chains": len(off),
        "chain_error": statistics.median(off),
        "worst_chain_error": max(off),
    }


def _provenance(repeats: int, executor: str) -> dict[str, Any]:
    return {
        "tool": f"nptp-opt {__version__}",
        executor: find(executor).version,
        "machine": platform.machine(),
        "repeats": repeats,
    }
