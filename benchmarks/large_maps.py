"""Planning seconds and memory where maps grow: the same network at 1024, 4096 and 8192 squared.

    python benchmarks/large_maps.py

Protocol. Six convolutions on four equal devices of 10 GFLOP/s, 100 Mbit/s switched; each size is
planned by ``nptp-opt solve`` in a process of its own, import, its comparison and bound included,
one after the other, after one that is not counted (it compiles). Processor seconds and the largest
resident memory are the kernel's.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from about import arguments, head, provenance, save
from torch import nn

SIZES = (1024, 4096, 8192)
CHANNELS = (3, 8, 8, 16, 16, 16, 8)
DEVICE = '[[device]]\nname = "d{}"\ngflops = 10\nup_mbit_per_s = 100\ndown_mbit_per_s = 100\n'
CLUSTER = '[network]\nkind = "switched"\nlatency_ms = 0.5\n' + "".join(map(DEVICE.format, range(4)))


def six() -> nn.Module:
    """The network: strides of two in its second and fourth layer."""
    parts: list[nn.Module] = []
    for k in range(6):
        stride = 2 if k in (1, 3) else 1
        parts += [nn.Conv2d(CHANNELS[k], CHANNELS[k + 1], 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*parts)


def planned(folder: Path, size: int) -> dict[str, float]:
    """One plan, in a process of its own."""
    plan = folder / "plan.json"
    arguments = ["solve", "large_maps:six", "-c", str(folder / "c.toml"), "-o", str(plan)]
    arguments += ["--input", f"1x3x{size}x{size}"]
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "nptp_opt", *arguments], here)
    _, status, used = os.wait4(pid, 0)
    assert status == 0, "the command failed"
    content = json.loads(plan.read_text())
    return {
        "size": size,
        "processor_s": used.ru_utime + used.ru_stime,
        "memory_mb": used.ru_maxrss / 1e3,
        "latency_s": content["latency_s"],
        "gap": content["gap"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "c.toml").write_text(CLUSTER)
        planned(folder, SIZES[0])
        rows = [planned(folder, size) for size in SIZES]
    about = provenance()
    lines = [
        *head("Maps of many pixels", "python benchmarks/large_maps.py", about),
        "| pixels squared | processor s | MB | latency s | gap |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['size']} | {row['processor_s']:.1f} | {row['memory_mb']:.0f} | "
            f"{row['latency_s']:.3g} | {row['gap']:.1%} |"
        )
    save("large_maps", {"about": about, "rows": rows}, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
