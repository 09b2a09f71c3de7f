"""What a plan takes for inputs whose maps are dense: each at its 90th percentile.

The plan stays as it is, only what leaves out zeros is longer: a rectangle by the elements that are
not zero beyond the mean, at most by what makes it as long as its elements, for then it goes dense.
All maps at once is more than the 90th percentile of inputs, for no input need be dense everywhere.
"""

from __future__ import annotations

import math
from dataclasses import replace

from nptp_opt.cost import Transfer
from nptp_opt.cost.encoding import dense_bytes
from nptp_opt.cost.transfer import sent_pixel_bytes, wire_element_bytes
from nptp_opt.evaluate.simulate import simulate
from nptp_opt.plan.model import Plan


def densest_s(plan: Plan) -> float | None:
    """Simulated seconds with all that is coded at its map's 90th percentile; None if nothing is."""
    moves = (move for step in plan.steps for move in step.transfers)
    if all(move.encoding == "dense" for move in moves):
        return None
    steps = [
        replace(step, transfers=tuple(_longer(plan, move) for move in step.transfers))
        for step in plan.steps
    ]
    return simulate(plan.network, plan.cluster, steps)


def _longer(plan: Plan, move: Transfer) -> Transfer:
    if move.encoding == "dense":
        return move
    known = plan.network.densities[move.tensor]
    pixel: float = sent_pixel_bytes(plan.cluster, plan.network, move.tensor)
    if move.encoding == "huffman":
        element = wire_element_bytes(plan.cluster, plan.network, move.tensor)
        pixel = pixel * (element - 1 + known.first_byte_bits / 8) / element
    more = math.ceil(move.tile.area * pixel * max(0.0, known.p90 - known.mean))
    most = max(move.bytes, dense_bytes(plan.cluster, plan.network, move))
    return replace(move, bytes=min(move.bytes + more, most))
