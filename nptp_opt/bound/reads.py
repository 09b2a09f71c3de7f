"""Which pixels of every map something reads: those that every plan computes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nptp_opt.geometry import AxisMap
from nptp_opt.network.ir import Layer, Network, external_inputs

Mask = npt.NDArray[np.bool_]


def read_pixels(network: Network) -> dict[str, int]:
    """For every spatial layer a number of output pixels that every plan computes.

    Rows and columns that no window reads (behind a pool on an odd map, or between the pixels of a
    1x1 convolution with stride 2) need not be computed inside a segment. Of several readers the
    one that reads most counts.
    """
    whole = set(network.outputs)
    whole |= set(external_inputs(network.head)) if network.head else set()
    whole |= {layer.nodes[0].inputs[0] for layer in network.shared_out if layer.reduces}
    masks: dict[str, tuple[Mask, Mask]] = {}
    for layer in reversed(network.spatial):
        full = (np.ones(layer.height, dtype=bool), np.ones(layer.width, dtype=bool))
        seen = [] if layer.name not in whole else [full]
        for name in network.consumers[layer.name]:
            if name in masks:
                seen.append(_read_by(network.by_name[name], layer, masks[name]))
        masks[layer.name] = max(seen, key=_area, default=(full[0] & False, full[1] & False))
    return {name: _area(pair) for name, pair in masks.items()}


def _area(pair: tuple[Mask, Mask]) -> int:
    return int(pair[0].sum()) * int(pair[1].sum())


def _read_by(reader: Layer, layer: Layer, wanted: tuple[Mask, Mask]) -> tuple[Mask, Mask]:
    """Rows and columns of ``layer`` that single wanted pixels of ``reader`` read at least."""
    map_y, map_x = reader.maps[layer.name]
    return _axis(map_y, wanted[0], layer.height), _axis(map_x, wanted[1], layer.width)


def _axis(axis: AxisMap, wanted: Mask, length: int) -> Mask:
    read = np.zeros(length, dtype=bool)
    for position in np.flatnonzero(wanted):
        lo, hi = axis.need(int(position), int(position) + 1)
        read[lo:hi] = True
    return read
