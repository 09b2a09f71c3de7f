"""Compiles what planning and bounds are compiled for, once: ``python -m tools.compile_kernels``.

Numba keeps it beside the modules. Tests that run side by side would each compile it for themselves.
"""

from __future__ import annotations

from torch import nn

import nptp_opt as nptp
from nptp_opt.cluster import cluster_from_json


def main() -> None:
    """Plan a small network on a switched and on a shared network, with bounds."""
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)
    )
    model = nptp.load_model(layers.eval(), (1, 3, 24, 24))
    link = {"up_mbit_per_s": 100.0, "down_mbit_per_s": 100.0}
    for network, own in (
        ({"kind": "switched"}, link),
        ({"kind": "shared", "mbit_per_s": 100.0}, {}),
    ):
        devices = [{"name": f"d{i}", "gflops": 0.01, **own} for i in range(3)]
        nptp.solve(model, cluster_from_json({"network": network, "device": devices}))


if __name__ == "__main__":
    main()
