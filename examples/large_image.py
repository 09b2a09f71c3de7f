"""A story: a picture of 2048 x 2048 pixels that no board has the memory for.

One board alone is refused, with what it lacks. Four boards hold a part of every map each. A
notebook-style script: the cells are marked by ``# %%`` and can be run one by one.
"""

# %% A network that keeps the resolution: 4 channels of 2048 x 2048 are 64 MiB.
import torch
from torch import nn

import nptp_opt as nptp
from nptp_opt.evaluate.memory import peak_bytes

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(4, 4, 5, stride=4, padding=2),
    nn.ReLU(),
    nn.Conv2d(4, 1, 3, padding=1),
).eval()
model = nptp.load_model(network, (1, 1, 2048, 2048))

# %% Boards with 56 MiB to spare.
boards = nptp.Cluster(
    network={"kind": "switched", "latency_ms": 0.3},
    devices=[
        {
            "name": f"pi-{number}",
            "gflops": 4.0,
            "memory_mib": 56.0,
            "up_mbit_per_s": 940.0,
            "down_mbit_per_s": 940.0,
        }
        for number in range(4)
    ],
)

# %% Alone: refused, before anything is computed.
try:
    nptp.solve(model, boards, planner="single")
except nptp.InfeasibleError as error:
    print(f"one board: {error}")

# %% Together: the plan that fits, and what every board holds at most.
plan = nptp.solve(model, boards)
held = peak_bytes(plan.network, len(boards.devices), plan.steps, boards.source)
for device, peak in zip(boards.devices, held, strict=True):
    print(f"{device.name}: {peak / 2**20:.0f} of {device.memory_mib:.0f} MiB")
    assert peak <= device.memory_mib * 2**20
print(f"{plan.latency_s * 1e3:.0f} ms, {plan.transfer_bytes / 1e6:.1f} MB sent")

# %% Proof: every layer of every tile, beside the unpartitioned model.
report = nptp.verify(plan, model)
assert report.ok, report.faults
print("the tiles are right:", report.ok)
