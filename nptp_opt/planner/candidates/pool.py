"""The partitions that a whole network's search starts from: templates, and solved single layers."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice
from nptp_opt.network.ir import Network
from nptp_opt.planner.baselines.linears import in_head
from nptp_opt.planner.baselines.quick import coedge_shares
from nptp_opt.planner.candidates.catalogue import (
    distinct,
    family_templates,
    near_moves,
    small_templates,
    used_templates,
)
from nptp_opt.planner.candidates.layerwise import MOST_SOLVED, layer_problems, solved_templates
from nptp_opt.planner.candidates.templates import Template, strips
from nptp_opt.planner.options import PlanOptions
from nptp_opt.search import guillotine

LAYER_METHODS = ("column-dp", "multilevel")
"""Methods whose solutions are always candidates: their planners are baselines."""

SOLVING_S = 20.0
"""Seconds for the single layers' problems where no time limit is given: of ``LAYER_METHODS`` with
more than ``FEW_DEVICES``, of others always."""

FEW_DEVICES = 8
"""Up to here ``LAYER_METHODS`` take a few seconds for a network; they go through sets of
devices."""

Solved = Mapping[str, list[Template]]
"""By method the partitions that it found for single layers."""


def with_families(network: Network, cluster: Cluster, solved: Solved) -> list[Template]:
    """The families' templates, the baselines' strips, and what is solved."""
    n = len(cluster.devices)
    families = [
        *family_templates(cluster),
        *small_templates(network, cluster),
        strips("strip-equal", range(n), [1.0] * n, vertical=False),
        strips("coedge-style", range(n), coedge_shares(in_head(network), cluster), vertical=False),
        *itertools.chain.from_iterable(solved.values()),
    ]
    return distinct(families, network.spatial)


def near_plan(
    network: Network, cluster: Cluster, choices: Sequence[Choice], most: int, rng: random.Random
) -> list[Template]:
    """The partitions of a plan, and their neighbours: all, or a sample of ``most``."""
    used = distinct(used_templates(choices), network.spatial)
    around = [near for template in used for near in near_moves(template, cluster.kinds)]
    some = around if len(around) <= most else rng.sample(around, most)
    return distinct([*used, *(near() for near in some)], network.spatial)


def solved_layers(network: Network, cluster: Cluster, options: PlanOptions) -> Solved:
    """Single layers' solutions by the chosen formulation and by ``LAYER_METHODS``; they take at
    most half of the time limit.

    Without a limit, and with few devices, ``LAYER_METHODS`` end by themselves, as where they are
    planners: no plan of theirs is missed because the machine was busy.
    """
    methods = _methods(network, cluster, options)
    asked_s = options.limits.time_limit_s
    few = len(cluster.devices) <= FEW_DEVICES
    found = dict[str, list[Template]]()
    for name in methods:
        free = few and asked_s == math.inf and name in LAYER_METHODS
        part_s = math.inf if free else min(asked_s / 2, SOLVING_S) / len(methods)
        limits = replace(options.limits, time_limit_s=part_s, prove=False)
        solver = options.solver if name == options.formulation else None
        found[name] = [*solved_templates(network, cluster, name, solver, limits)]
    return found


def _methods(network: Network, cluster: Cluster, options: PlanOptions) -> list[str]:
    """The chosen formulation and ``LAYER_METHODS``.

    ``guillotine-dp`` is left out where it is too large for every layer: it would repeat the others.
    """
    methods = list(dict.fromkeys((options.formulation, *LAYER_METHODS)))
    if guillotine.NAME in methods and not any(
        guillotine.exact(problem) for problem in layer_problems(network, cluster)[:MOST_SOLVED]
    ):
        methods.remove(guillotine.NAME)
    return methods
