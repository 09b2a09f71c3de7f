"""Running one tile of a layer, a segment, a reduction or a whole-map layer in torch.

Names are imported when they are first asked for (PEP 562): a worker without torch has executors,
crops and reductions, and none of the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nptp_opt.kernels.crops import Crop, crop, paste
    from nptp_opt.kernels.run import (
        combine,
        partial,
        run_gather,
        run_layer,
        run_network,
        run_segment,
    )

_CROPS = ("Crop", "crop", "paste")

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{'crops' if name in _CROPS else 'run'}")
    return getattr(home, name)
