"""Operators that no rule and no whole node knows, taken apart by torch into some that are known.

Torch decomposes nearly everything into a core of some two hundred operators. Only what is not known
is decomposed: convolutions, pools, resizes, norms and attention stay whole, as the model has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram, default_decompositions

from nptp_opt.network.lookalikes import name_shapes

ROUNDS = 4
"""Decompositions may use operators that have decompositions themselves."""


def decomposed(program: ExportedProgram, is_known: Callable[[str], bool]) -> ExportedProgram:
    """The same program with fewer kinds of operators; ``is_known`` is asked by an op's name.

    What depends on weights alone is left as it is: torch works it out when weights are loaded.
    """
    for _ in range(ROUNDS):
        name_shapes(program.graph)
        unknown = {target for target in _targets(program) if not is_known(_packet(target))}
        if not unknown:
            break
        table = default_decompositions()
        chosen = {target: table[target] for target in unknown if target in table}
        if not chosen:
            break
        program = program.run_decompositions(chosen)
    return program


def _targets(program: ExportedProgram) -> set[Any]:
    """The operators that compute from the model's inputs."""
    inputs = set(program.graph_signature.user_inputs)
    from_input: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.name in inputs or from_input.intersection(node.all_input_nodes):
            from_input.add(node)
    targets = {node.target for node in from_input}
    return {target for target in targets if isinstance(target, torch._ops.OpOverload)}


def _packet(target: Any) -> str:
    return str(target._schema.name.split("::")[1])
