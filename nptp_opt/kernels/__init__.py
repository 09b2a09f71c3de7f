"""Running one tile of a layer, a segment, a reduction or a whole-map layer in torch."""

from nptp_opt.kernels.crops import Crop, crop, paste
from nptp_opt.kernels.run import (
    combine,
    partial,
    run_gather,
    run_layer,
    run_network,
    run_segment,
)

__all__ = [
    "Crop",
    "combine",
    "crop",
    "partial",
    "paste",
    "run_gather",
    "run_layer",
    "run_network",
    "run_segment",
]
