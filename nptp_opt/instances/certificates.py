"""A network's best known value comes with its plan, packed for the table and evaluated again.

Kept are each segment's layers and its tiles; ``assemble`` makes transfers and costs from them.
"""

from __future__ import annotations

import base64
import json
import zlib

from nptp_opt.cluster import Cluster
from nptp_opt.evaluate.assemble import Choice, assemble
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Network
from nptp_opt.plan.model import Plan


def pack(plan: Plan) -> str:
    """Segments and tiles of a plan as text."""
    steps = [
        [step.layers, [[i, *tile] for i, tile in step.tiles.items()]]
        if step.kind == "spatial"
        else [step.layers, []]
        for step in plan.steps
        if step.kind != "gather"
    ]
    content = json.dumps(steps, separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(content, 9)).decode()


def latency_s(text: str, network: Network, cluster: Cluster) -> float:
    """The latency of a packed plan, evaluated by today's ``cost``; KeyError for another
    network's."""
    choices = [
        Choice(
            tuple(network.by_name[name] for name in layers),
            {i: Tile(*sides) for i, *sides in tiles},
        )
        for layers, tiles in json.loads(zlib.decompress(base64.b64decode(text)))
    ]
    return sum(step.makespan_s for step in assemble(network, cluster, choices))
