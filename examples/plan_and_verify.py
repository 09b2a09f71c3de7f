"""Plan a network on a cluster, prove the plan, run it on this machine.

A notebook-style script: the cells are marked by ``# %%`` and can be run one by one.
"""

# %% A small network, given as an object. Names ("vgg16") and .onnx files work as well.
import torch
from torch import nn

import nptp_opt as nptp

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
)
model = nptp.load_model(network, (1, 3, 64, 64))
print(model)

# %% A cluster: from a file, or from the file's keys.
cluster = nptp.Cluster(
    network={"kind": "switched", "latency_ms": 0.2},
    devices=[
        {"name": f"pi-{i}", "gflops": speed, "up_mbit_per_s": 100.0, "down_mbit_per_s": 100.0}
        for i, speed in enumerate((2.0, 1.0, 1.5))
    ],
)
print(cluster)

# %% The plan, and what a baseline would do.
plan = nptp.solve(model, cluster)
strips = nptp.solve(model, cluster, planner="coedge-style")
print(plan)
print(f"{strips.latency_s / plan.latency_s:.2f} times faster than coedge-style strips, predicted")

# %% Proof: every tile of every layer in torch, the outputs against the module itself.
report = nptp.verify(plan, model)
assert report.ok, report.faults
print(report)

# %% Execution: one process per device, here all on this machine.
measured = nptp.run(plan, model, repeats=3, warmup=1)
print(measured)
