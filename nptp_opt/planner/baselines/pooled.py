"""Baselines that solve the single layers: layer by layer, or with the solutions as a pool."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.linears import linears_on_sink
from nptp_opt.planner.candidates.catalogue import distinct, single_templates
from nptp_opt.planner.candidates.layerwise import layer_by_layer, solved_templates
from nptp_opt.planner.candidates.pool import LAYER_METHODS, Solved
from nptp_opt.planner.candidates.templates import Template
from nptp_opt.planner.options import PlanOptions
from nptp_opt.planner.path.shortest_path import ShortestPath


def layerwise(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
    """Every layer by the chosen formulation, on its own."""
    method = (options.formulation, options.solver, options.limits)
    return linears_on_sink(lambda maps, on: layer_by_layer(maps, on, *method))(network, cluster)


def pooled_planner(formulation: str) -> Callable[[Network, Cluster, PlanOptions], list[Choice]]:
    """Every layer may take any layer's partition by one method, or one device; no fusion."""

    def plan(network: Network, cluster: Cluster, options: PlanOptions) -> list[Choice]:
        method = (formulation, options.limits)
        return linears_on_sink(lambda maps, on: _from_pool(maps, on, *method))(network, cluster)

    return plan


def plans_from_solved(
    network: Network, cluster: Cluster, solved: Solved, deadline: float = math.inf
) -> Iterator[list[Choice]]:
    """The plans of ``pooled_planner`` for ``LAYER_METHODS``, from what is solved already; none is
    begun when ``time.monotonic()`` has passed ``deadline``."""
    for method in LAYER_METHODS:
        if time.monotonic() > deadline:
            return
        yield linears_on_sink(partial(_best_unfused, solved=solved[method]))(network, cluster)


def _from_pool(
    network: Network, cluster: Cluster, formulation: str, limits: Limits
) -> list[Choice]:
    only_tiles = replace(limits, prove=False)  # a proof can take minutes on a shared network
    solved = solved_templates(network, cluster, formulation, None, only_tiles)
    return _best_unfused(network, cluster, solved)


def _best_unfused(network: Network, cluster: Cluster, solved: Iterable[Template]) -> list[Choice]:
    """The fastest plan, a step per layer, over ``solved`` partitions and single devices."""
    templates = distinct([*single_templates(cluster), *solved], network.spatial)
    return ShortestPath(network, cluster, templates, fuse=False).choices()
