"""A story: a camera, and four boards on one Wi-Fi.

The camera's board has the picture and wants the answer. Bytes on the air cost most, so the picture
is sent as pixels, and the zeros behind the ReLUs are left out. A notebook-style script: the cells
are marked by ``# %%`` and can be run one by one.
"""

# %% The network: a small detector's trunk. Random weights; `weights="trained.pt"` brings others.
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import nptp_opt as nptp

torch.manual_seed(0)


def block(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, 1), nn.ReLU())


trunk = nn.Sequential(block(3, 16, 2), block(16, 32, 1), block(32, 32, 2), block(32, 64, 1)).eval()
SHAPE = (1, 3, 96, 128)
boards = nptp.Cluster(
    network={"kind": "shared", "mbit_per_s": 40.0, "latency_ms": 1.0},
    devices=[{"name": name, "gflops": 0.5} for name in ("camera", "pi-1", "pi-2", "pi-3")],
)

# %% Frames, as a camera gives them. A few are samples: how much of each map is zero?
rng = np.random.default_rng(0)
frames = [rng.integers(0, 256, SHAPE, dtype=np.uint8) for _ in range(6)]
with tempfile.TemporaryDirectory() as folder:
    for number, frame in enumerate(frames[:3]):
        np.save(Path(folder) / f"{number}.npy", frame)
    camera = nptp.load_model(trunk, SHAPE, input_dtype="uint8", scale=255)
    plan = nptp.solve(camera, boards, samples=folder)

# %% What that saves: the same planner with float32 pictures and every zero sent.
plain = nptp.solve(nptp.load_model(trunk, SHAPE), boards)
alone = nptp.solve(camera, boards, planner="single", bound=False)
print(f"the camera's board alone: {alone.latency_s * 1e3:.0f} ms")
print(f"four boards, all as float32: {plain.latency_s * 1e3:.0f} ms")
print(f"four boards, fewer bytes: {plan.latency_s * 1e3:.0f} ms")
print(f"sent for a frame: {plan.transfer_bytes / 1e3:.0f} kB, dense {plan.dense_bytes / 1e3:.0f}")

# %% At work: frames go through in order, several at a time. (On boards: site="ADDRESS:PORT".)
with nptp.deploy(plan, camera) as service:
    name = service.signature.inputs[0].name
    answers = list(service.stream({name: torch.from_numpy(frame)} for frame in frames))
with torch.no_grad():
    expected = trunk(torch.from_numpy(frames[0]).float() / 255)
assert isinstance(answers[0].value, torch.Tensor)
print("frames answered:", len(answers))
print("the module's own output:", torch.allclose(answers[0].value, expected, atol=1e-5))
