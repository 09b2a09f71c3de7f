"""Random modules for every op that ONNX graphs are made of: (module, input shape) from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from nptp_opt.network.ref import Pixels

Case = tuple[nn.Module, tuple[int, ...]]


class Apply(nn.Module):
    """A function as a module, which may have a weight ``w``."""

    def __init__(self, function: Callable[..., Tensor], *weight: int) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.randn(weight)) if weight else None

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.w is None else self.function(x, self.w)


def size(rng: Random, least: int = 3) -> tuple[int, int]:
    return rng.randint(least, 12), rng.randint(least, 12)


def convolution(rng: Random) -> Case:
    kernel, dilation = rng.choice([(1, 1), (3, 3), (2, 5), (4, 1)]), rng.randint(1, 2)
    padding = rng.randint(0, 3), rng.randint(0, 3)
    stride = rng.randint(1, 3), rng.randint(1, 3)
    conv = nn.Conv2d(
        4, 8, kernel, stride, padding, dilation, rng.choice([1, 2, 4]), rng.random() < 0.5
    )
    return nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU()), (rng.randint(1, 2), 4, *size(rng, 9))


def depthwise(rng: Random) -> Case:
    conv = nn.Conv2d(6, 6, 3, rng.randint(1, 2), 1, groups=6, bias=False)
    before = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())  # as DenseNet has it
    return nn.Sequential(before, conv, nn.BatchNorm2d(6), nn.ReLU6()), (1, 6, *size(rng))


def transposed(rng: Random) -> Case:
    kernel, stride, dilation = rng.randint(1, 5), rng.randint(1, 4), rng.randint(1, 2)
    padding, extra = rng.randint(0, dilation * (kernel - 1) // 2), rng.randint(0, stride - 1)
    bias = rng.random() < 0.5
    conv = nn.ConvTranspose2d(4, 6, kernel, stride, padding, extra, 2, bias, dilation)
    return conv, (1, 4, *size(rng))


def linear(rng: Random) -> Case:
    height, width = size(rng)
    head = nn.Linear(4 * height * width, 9, rng.random() < 0.5)
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.Flatten(), head), (1, 2, height, width)


def pools(rng: Random) -> Case:
    kernel, ceil = (rng.randint(1, 4), rng.randint(1, 4)), rng.random() < 0.5
    padding, stride = tuple(rng.randint(0, k // 2) for k in kernel), rng.randint(1, 3)
    largest = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    average = nn.AvgPool2d(
        kernel, stride, padding, ceil, rng.random() < 0.5, rng.choice([None, None, 3])
    )
    return nn.Sequential(largest, nn.Conv2d(2, 2, 1), average), (2, 2, *size(rng, 9))


def dilated_pool(rng: Random) -> Case:
    return nn.MaxPool2d(3, rng.randint(1, 2), 1, dilation=2), (1, 2, *size(rng, 6))


def resizes(rng: Random) -> Case:
    mode = rng.choice(["nearest", "nearest-exact", "bilinear", "bicubic"])
    options: dict[str, object] = {"mode": mode, "size": size(rng, 1)}
    if mode.startswith("bi"):
        options["align_corners"] = rng.random() < 0.5
    return Apply(lambda x: functional.interpolate(x, **options)), (1, 2, *size(rng))


def adaptive(rng: Random) -> Case:
    return nn.AdaptiveAvgPool2d(size(rng, 1)), (1, 2, *size(rng))


def borders(rng: Random) -> Case:
    mode = rng.choice(["constant", "reflect", "replicate", "circular"])
    pads = [rng.randint(0, 3) for _ in range(4)]
    value = 0.5 if mode == "constant" else None
    return Apply(lambda x: functional.pad(x, pads, mode, value)), (1, 2, *size(rng, 5))


def slices(rng: Random) -> Case:
    start, step, dim = rng.randint(0, 2), rng.randint(1, 3), rng.randint(1, 3)

    def cut(x: Tensor) -> Tensor:
        index = [slice(None)] * 4
        index[dim] = slice(start, None, step)
        part = x[tuple(index)]
        return torch.cat([part, functional.relu(part), part], join)

    join = rng.randint(1, 3)
    return Apply(cut), (1, 6, *size(rng, 6))


def shuffles(rng: Random) -> Case:
    factor = rng.randint(1, 3)
    both = nn.Sequential(nn.PixelUnshuffle(factor), nn.Conv2d(2 * factor**2, factor**2, 1))
    height, width = size(rng, 2)
    return nn.Sequential(both, nn.PixelShuffle(factor)), (1, 2, height * factor, width * factor)


def channels(rng: Random) -> Case:
    def mixed(x: Tensor, w: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat([functional.softmax(a, 1), functional.log_softmax(b, 1), w * x], 1)
        y = functional.channel_shuffle(y, 2) + functional.pad(x, (0, 0, 0, 0, 2, 10))
        total = y.sum(1, keepdim=True) + y.mean(1, keepdim=True) + y.amax(1, keepdim=True)
        return y - total

    return Apply(mixed, 12, 1, 1), (rng.randint(1, 2), 12, *size(rng))


def layer_norm(rng: Random) -> Case:
    norm = nn.LayerNorm(4, elementwise_affine=rng.random() < 0.5)
    return Apply(lambda x: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), (1, 4, *size(rng))


def norms(rng: Random) -> Case:
    affine = rng.random() < 0.5
    group = nn.GroupNorm(2, 6, affine=affine)
    return nn.Sequential(nn.Conv2d(3, 6, 3), group, nn.PReLU(6)), (1, 3, *size(rng, 5))


def excitation(rng: Random) -> Case:
    pool = rng.choice([functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d])
    gate = nn.Conv2d(4, 4, 1)

    def squeezed(x: Tensor) -> Tensor:
        return x * torch.sigmoid(gate(pool(x, 1))) + x.mean((2, 3), keepdim=True).expand_as(x)

    return nn.Sequential(nn.Conv2d(3, 4, 3), Apply(squeezed)), (1, 3, *size(rng, 5))


def grid_weight(rng: Random) -> Case:
    """Weights with rows and columns of their own, in a sum and joined to a map."""
    height, width = size(rng)

    def weighted(x: Tensor, w: Tensor) -> Tensor:
        return torch.cat([x.abs() * w, w], 1)

    return Apply(weighted, 1, 3, height, width), (1, 3, height, width)


def shorter(rng: Random) -> Case:
    """Values that are rounded to a shorter type, and computed with further in float32."""
    dtype = rng.choice([torch.float16, torch.bfloat16])
    return Apply(lambda x: (1000 * x).to(dtype).float() * 1.5), (1, 3, *size(rng))


def head(rng: Random) -> Case:
    """What follows a network's maps, in the model's own dimensions."""
    axis, place = rng.randint(-1, 1), rng.randint(0, 2)

    def last(x: Tensor) -> Tensor:
        y = x.flatten(1).softmax(axis)
        y = y.view(-1, 4).unsqueeze(place).transpose(0, 2)
        y = functional.log_softmax(y.permute(2, 0, 1), axis)
        y = y.unflatten(y.shape.index(4), (2, -1))
        return y.reshape(y.shape[0], 1, -1).squeeze(1)

    return nn.Sequential(nn.Conv2d(3, 4, 1), Apply(last)), (1, 3, *size(rng))


ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    torch.abs, torch.cos, torch.erf, torch.exp, torch.neg, torch.relu, torch.sigmoid, torch.sin,
    torch.tanh, functional.mish, functional.hardswish, functional.selu, functional.silu,
    functional.gelu, functional.softplus, functional.hardsigmoid, functional.relu6, torch.square,
    torch.floor, torch.ceil, lambda x: (5 * x).round(),
    lambda x: functional.gelu(x, approximate="tanh"), lambda x: functional.elu(x, 0.7),
    lambda x: functional.celu(x, 1.3), lambda x: functional.leaky_relu(x, 0.2),
    lambda x: functional.hardtanh(x, -0.4, 0.8), lambda x: x.clamp(-0.3, 0.9),
    lambda x: x.clamp_min(0.1), lambda x: x.clamp_max(0.2), lambda x: (x.abs() + 0.5).log(),
    lambda x: (x.abs() + 0.5).sqrt(), lambda x: (x.abs() + 0.5).rsqrt(),
    lambda x: (x.abs() + 0.5).reciprocal(), lambda x: (x.abs() + 0.5) ** 1.7, lambda x: x**2,
    lambda x: torch.maximum(x, 0.5 * x), lambda x: torch.minimum(x, 0.5 * x),
    lambda x: 2.0 - x * 3.0 / 7.0, lambda x: torch.add(x, x, alpha=0.5),
    lambda x: torch.sub(x, x.abs(), alpha=2), lambda x: x / (x.abs() + 1.0),
]  # fmt: skip


def activations(rng: Random) -> Case:
    def every(x: Tensor) -> Tensor:
        return torch.cat([each(x) for each in ACTIVATIONS], 1)

    return Apply(every), (1, 2, *size(rng))


def pixels(rng: Random) -> Case:
    """Of an image that the network normalises: ``AS_PIXELS``."""
    return nn.Conv2d(3, 4, 3, padding=1), (1, 3, *size(rng))


AS_PIXELS = {pixels: Pixels(255.0, (0.4, 0.5, 0.6), (0.2,))}
"""Cases whose input is uint8."""

CASES: tuple[Callable[[Random], Case], ...] = (
    convolution, depthwise, transposed, linear, pools, dilated_pool, resizes, adaptive, borders,
    slices, shuffles, channels, layer_norm, norms, excitation, shorter, head, grid_weight,
    activations, pixels,
)  # fmt: skip
