"""One layer's partition problem: the solver-free object that every method takes.

Objective: the aligned makespan (docs/cost.md) over all partitions of the layer's output map whose
cuts lie at multiples of ``cut_step``. Devices may own no tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from nptp_opt.cluster import Cluster, Device
from nptp_opt.errors import InputError
from nptp_opt.geometry import Window

Pair = tuple[int, int]

MOST_SIZE = 2**24
"""Largest number of a layer's description."""

MOST_BYTES = 2**53
"""Most bytes of a layer's input, output and weights: what floating-point numbers count exactly."""

_NUMBERS = (
    "in_channels", "out_channels", "in_height", "in_width", "groups", "bytes_per_element"
)  # fmt: skip
_PAIRS = ("kernel", "stride", "dilation")

LAYER_OPS = ("conv2d", "max_pool2d", "avg_pool2d")


@dataclass(frozen=True)
class LayerShape:
    """A convolution or pooling layer: everything that costs need, nothing that weights need.

    Pairs are (vertical, horizontal); ``padding`` is top, bottom, left, right. Raises InputError
    when a field is out of range or no output is left.
    """

    op: str
    in_channels: int
    out_channels: int
    in_height: int
    in_width: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bytes_per_element: int = 4

    def __post_init__(self) -> None:
        if self.op not in LAYER_OPS:
            raise InputError(f"layer.op must be one of {', '.join(LAYER_OPS)}, got {self.op!r}")
        for field in (*_NUMBERS, *_PAIRS):
            self._check_range(field, least=1)
        self._check_range("padding", least=0)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise InputError("layer.groups must divide in_channels and out_channels")
        if self.op != "conv2d" and self.in_channels != self.out_channels:
            raise InputError("a pooling layer's in_channels and out_channels must be equal")
        if min(self.out_height, self.out_width) < 1:
            raise InputError(
                "the layer's kernel is larger than its padded input: no output is left"
            )
        self._check_bytes()

    def _check_range(self, field: str, least: int) -> None:
        value = getattr(self, field)
        numbers = value if isinstance(value, tuple) else (value,)
        if min(numbers) < least:
            raise InputError(f"layer.{field} must be at least {least}, got {value}")
        if max(numbers) > MOST_SIZE:
            raise InputError(f"layer.{field} must be at most {MOST_SIZE}, got {value}")

    def _check_bytes(self) -> None:
        """What is counted in bytes is counted exactly, by whole and by floating-point numbers."""
        weights = math.prod(self.kernel) * self.in_channels // self.groups * self.out_channels
        elements = {
            "input": self.in_channels * self.in_height * self.in_width,
            "output": self.out_channels * self.out_height * self.out_width,
            "weights": weights if self.op == "conv2d" else 0,
        }
        for what, count in elements.items():
            if count * self.bytes_per_element > MOST_BYTES:
                raise InputError(f"the layer's {what} would take more than {MOST_BYTES} bytes")

    def _n_out(self, axis: int) -> int:
        n_in = (self.in_height, self.in_width)[axis]
        padded = n_in + self.padding[2 * axis] + self.padding[2 * axis + 1]
        return (padded - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1

    @property
    def out_height(self) -> int:
        return self._n_out(0)

    @property
    def out_width(self) -> int:
        return self._n_out(1)

    def window(self, axis: int) -> Window:
        """Receptive window along axis 0 (vertical) or 1 (horizontal)."""
        return Window(
            n_in=(self.in_height, self.in_width)[axis],
            n_out=self._n_out(axis),
            kernel=self.kernel[axis],
            stride=self.stride[axis],
            dilation=self.dilation[axis],
            pad_lo=self.padding[2 * axis],
            pad_hi=self.padding[2 * axis + 1],
        )

    @property
    def window_y(self) -> Window:
        return self.window(0)

    @property
    def window_x(self) -> Window:
        return self.window(1)


@dataclass(frozen=True)
class LayerProblem:
    """A layer, a cluster and the grid of allowed cuts. Tiles are indexed by device number."""

    name: str
    layer: LayerShape
    cluster: Cluster
    cut_step: int = 1

    def __post_init__(self) -> None:
        if self.cut_step < 1:
            raise InputError(f"cut_step must be at least 1, got {self.cut_step}")

    @property
    def height(self) -> int:
        """Rows of the output map."""
        return self.layer.out_height

    @property
    def width(self) -> int:
        """Columns of the output map."""
        return self.layer.out_width

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.cluster.devices

    @cached_property
    def cuts_y(self) -> tuple[int, ...]:
        """Allowed positions of horizontal cuts, with both ends of the map."""
        return (*range(0, self.height, self.cut_step), self.height)

    @cached_property
    def cuts_x(self) -> tuple[int, ...]:
        """Allowed positions of vertical cuts, with both ends of the map."""
        return (*range(0, self.width, self.cut_step), self.width)

    @cached_property
    def device_classes(self) -> tuple[tuple[int, ...], ...]:
        """Device numbers grouped by equal costs and limits: interchangeable here."""
        groups: dict[object, list[int]] = {}
        for i, d in enumerate(self.devices):
            # The uplink has no part in aligned costs, the downlink none on a shared medium.
            rate = None if self.cluster.shared else d.down_mbit_per_s
            groups.setdefault((d.gflops, d.overhead_ms, d.memory_mib, rate), []).append(i)
        return tuple(tuple(group) for group in groups.values())
