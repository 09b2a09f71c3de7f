"""From a network's layers to layer problems, and from their solutions to templates."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.cost import for_layer
from nptp_opt.errors import InfeasibleError, NoSolutionError
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Window
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.problem import LAYER_OPS, LayerProblem, LayerShape
from nptp_opt.layer.solve import solve_layer
from nptp_opt.network.ir import Layer, Network
from nptp_opt.planner.candidates.catalogue import layers_by_work
from nptp_opt.planner.candidates.templates import UNIT, Template, from_tiles, snaps

FINEST_CUTS = 28
"""Cut positions per axis of a layer's problem; larger maps get a coarser ``cut_step``."""

MOST_SOLVED = 8
"""Layers whose own solutions become templates; each template is tried on every layer anyway."""

log = logging.getLogger(__name__)


def layer_problem(network: Network, layer: Layer, cluster: Cluster) -> LayerProblem | None:
    """The aligned problem of one layer of a network (one image of a batch).

    None for ops that are neither a convolution nor a pooling.
    """
    map_y, map_x = layer.maps[layer.inputs[0]]
    if layer.op not in LAYER_OPS or not isinstance(map_y, Window) or not isinstance(map_x, Window):
        return None
    shape = LayerShape(
        op=layer.op,
        in_channels=network.shapes[layer.inputs[0]][1],
        out_channels=layer.nodes[0].shape[1],
        in_height=map_y.n_in,
        in_width=map_x.n_in,
        kernel=(map_y.kernel, map_x.kernel),
        stride=(map_y.stride, map_x.stride),
        padding=(map_y.pad_lo, map_y.pad_hi, map_x.pad_lo, map_x.pad_hi),
        dilation=(map_y.dilation, map_x.dilation),
        groups=int(layer.nodes[0].attrs.get("groups", 1)),
        bytes_per_element=network.bytes_per_element,
    )
    step = max(1, math.ceil(max(layer.height, layer.width) / FINEST_CUTS))
    return LayerProblem(layer.name, shape, for_layer(cluster, shape), cut_step=step)


def layer_by_layer(
    network: Network,
    cluster: Cluster,
    formulation: str,
    solver: str | None,
    limits: Limits,
) -> list[Choice]:
    """Every layer with the partition that its own problem gives, whatever its neighbours have.

    A layer that has none (a concat, say) takes that of the layer before it. Raises
    NoSolutionError where the limit leaves a layer without a partition.
    """
    solved: dict[object, Template] = {}
    for problem, template in _solve_layers(network, cluster, formulation, solver, limits):
        solved[problem.layer] = template
    for problem in layer_problems(network, cluster):
        if problem.layer not in solved:
            raise NoSolutionError(
                f"{formulation}: no partition for layer {problem.name!r} within "
                f"{limits.time_limit_s:.3g} s; raise `time_limit_s`"
            )
    choices, snap = [], snaps(network)
    current = Template("single", {cluster.source: UNIT})
    for layer in network.shared_out:
        if layer.kind == "global":
            choices.append(Choice((layer,)))
            continue
        own = layer_problem(network, layer, cluster)
        current = solved.get(own.layer if own else None, current)
        choices.append(Choice((layer,), current.at(layer.height, layer.width, snap[layer.name])))
    return choices


def solved_templates(
    network: Network,
    cluster: Cluster,
    formulation: str,
    solver: str | None,
    limits: Limits,
) -> Iterator[Template]:
    """The solution of every distinct layer's problem as a template, heaviest layers first.

    Says so on the log where the time limit left layers out.
    """
    unfit: list[str] = []
    solutions = _solve_layers(network, cluster, formulation, solver, limits, unfit)
    number, count = 0, len(layer_problems(network, cluster))
    for _, template in itertools.islice(solutions, MOST_SOLVED):
        number += 1
        yield template
    wanted = min(MOST_SOLVED, count - len(unfit))
    if number < wanted and math.isfinite(limits.time_limit_s):
        log.warning(
            "%s: partitions for %d of %d layers within %.3g s; the others need more time",
            formulation, number, wanted, limits.time_limit_s,
        )  # fmt: skip


def layer_problems(network: Network, cluster: Cluster) -> list[LayerProblem]:
    """The problems of all distinct layers that have one, heaviest layers first."""
    problems = [layer_problem(network, layer, cluster) for layer in layers_by_work(network)]
    return [problem for problem in problems if problem is not None]


def _solve_layers(
    network: Network,
    cluster: Cluster,
    formulation: str,
    solver: str | None,
    limits: Limits,
    unfit: list[str] | None = None,
) -> Iterator[tuple[LayerProblem, Template]]:
    """Each layer gets an equal part of the time that is left; without a solution it is left out.

    Those that fit into no memory are named in ``unfit``, or their error is passed on without.
    """
    pending = layer_problems(network, cluster)
    deadline = time.monotonic() + limits.time_limit_s
    for k, problem in enumerate(pending):
        left = (deadline - time.monotonic()) / (len(pending) - k)
        if left <= 0:
            return
        part = replace(limits, time_limit_s=left)
        try:
            result = solve_layer(problem, formulation, solver=solver, limits=part)
        except InfeasibleError as error:
            if unfit is None:
                raise
            unfit.append(problem.name)
            log.info("layer %s: %s", problem.name, error)
            continue
        log.info("layer %s: %s by %s", problem.name, result.status, formulation)
        if result.tiles is not None:
            name = f"{formulation} {problem.name}"
            yield problem, from_tiles(name, result.tiles, problem.height, problem.width)
