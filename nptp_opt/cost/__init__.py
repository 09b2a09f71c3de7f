"""All costs, by the model of cost (docs/cost.md), in SI units. Nobody else computes one.

Two modes of ownership: ``LayerCost`` is for a layer on its own (aligned), a step of a plan
(``plan.steps``) its segment inside a network from what the devices hold (given). Both end in
``makespan_s``. What costs many partitions at once (``cost.matrix``) is compiled, and imported when
it is first asked for: a worker does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nptp_opt.cost.encoding import (
    BITMASK_BYTES,
    HUFFMAN_BYTES,
    Wire,
    decode_s,
    dense_bytes,
    encode_s,
    wire,
)
from nptp_opt.cost.layer import (
    Form,
    LayerCost,
    layer_flop_per_pixel,
    layer_weight_bytes,
    messages_of,
)
from nptp_opt.cost.loads import (
    Encoding,
    FloatArray,
    Links,
    Load,
    LoadArrays,
    Transfer,
    comms_s,
    makespan_s,
    makespans_s,
)
from nptp_opt.cost.pieces import (
    first_reader,
    in_pieces_s,
    interior,
    pieces,
    read_by_others,
)
from nptp_opt.cost.reduction import (
    RESULT,
    reduction_compute_s,
    reduction_load_arrays,
    reduction_transfers,
    result_users,
)
from nptp_opt.cost.regions import CandidateTiles
from nptp_opt.cost.rims import RIMS, Rims
from nptp_opt.cost.segment import (
    Ownership,
    gather_compute_s,
    gather_needs,
    halo_transfers,
    input_ownership,
    segment_compute_s,
    segment_needs,
    step_loads,
)
from nptp_opt.cost.speed import (
    Speed,
    Speeds,
    for_layer,
    layer_key,
    layer_speed,
    mean_gflops,
    measured_share,
    speeds_of,
)
from nptp_opt.cost.transfer import (
    SCALE_BYTES,
    WireDtype,
    is_sent_exactly,
    rectangle_bytes,
    sent_bytes,
    sent_element_bytes,
    sent_pixel_bytes,
    wire_dtype,
    wire_element_bytes,
)

if TYPE_CHECKING:
    from nptp_opt.cost.matrix import StepCosts, candidate_array, gather_costs, segment_costs

_COMPILED = ("StepCosts", "candidate_array", "gather_costs", "segment_costs")

__all__ = [
    "BITMASK_BYTES",
    "HUFFMAN_BYTES",
    "RESULT",
    "RIMS",
    "SCALE_BYTES",
    "CandidateTiles",
    "Encoding",
    "FloatArray",
    "Form",
    "LayerCost",
    "Links",
    "Load",
    "LoadArrays",
    "Ownership",
    "Rims",
    "Speed",
    "Speeds",
    "StepCosts",
    "Transfer",
    "Wire",
    "WireDtype",
    "candidate_array",
    "comms_s",
    "decode_s",
    "dense_bytes",
    "encode_s",
    "first_reader",
    "for_layer",
    "gather_compute_s",
    "gather_costs",
    "gather_needs",
    "halo_transfers",
    "in_pieces_s",
    "input_ownership",
    "interior",
    "is_sent_exactly",
    "layer_flop_per_pixel",
    "layer_key",
    "layer_speed",
    "layer_weight_bytes",
    "makespan_s",
    "makespans_s",
    "mean_gflops",
    "measured_share",
    "messages_of",
    "pieces",
    "read_by_others",
    "rectangle_bytes",
    "reduction_compute_s",
    "reduction_load_arrays",
    "reduction_transfers",
    "result_users",
    "segment_compute_s",
    "segment_costs",
    "segment_needs",
    "sent_bytes",
    "sent_element_bytes",
    "sent_pixel_bytes",
    "speeds_of",
    "step_loads",
    "wire",
    "wire_dtype",
    "wire_element_bytes",
]


def __getattr__(name: str) -> Any:
    if name not in _COMPILED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("nptp_opt.cost.matrix"), name)
