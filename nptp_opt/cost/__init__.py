"""All costs, by the model of cost (docs/cost.md), in SI units. Nobody else computes one.

Two modes of ownership: ``LayerCost`` is for a layer on its own (aligned), a step of a plan
(``plan.steps``) its segment inside a network from what the devices hold (given). Both end in
``makespan_s``.
"""

from nptp_opt.cost.layer import (
    Form,
    LayerCost,
    layer_flop_per_pixel,
    layer_weight_bytes,
    messages_of,
)
from nptp_opt.cost.loads import (
    FloatArray,
    Links,
    Load,
    LoadArrays,
    Transfer,
    comms_s,
    makespan_s,
    makespans_s,
)
from nptp_opt.cost.matrix import StepCosts, candidate_array, gather_costs, segment_costs
from nptp_opt.cost.overlap import Split, interior, overlapped_s, split
from nptp_opt.cost.reduction import (
    RESULT,
    reduction_compute_s,
    reduction_load_arrays,
    reduction_transfers,
    result_users,
)
from nptp_opt.cost.regions import CandidateTiles
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
    rectangle_bytes,
    sent_bytes,
    sent_element_bytes,
    sent_pixel_bytes,
)

__all__ = [
    "RESULT",
    "SCALE_BYTES",
    "CandidateTiles",
    "FloatArray",
    "Form",
    "LayerCost",
    "Links",
    "Load",
    "LoadArrays",
    "Ownership",
    "Speed",
    "Speeds",
    "Split",
    "StepCosts",
    "Transfer",
    "candidate_array",
    "comms_s",
    "for_layer",
    "gather_compute_s",
    "gather_costs",
    "gather_needs",
    "halo_transfers",
    "input_ownership",
    "interior",
    "layer_flop_per_pixel",
    "layer_key",
    "layer_speed",
    "layer_weight_bytes",
    "makespan_s",
    "makespans_s",
    "mean_gflops",
    "measured_share",
    "messages_of",
    "overlapped_s",
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
    "split",
    "step_loads",
]
