"""Models that the tests import by ``tests.network.models:name``."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn


class Block(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class UNet(nn.Module):
    """Two levels, one upsampled by transposed convolution and one by interpolation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Block(3, 4), Block(4, 8), Block(8, 8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.d, self.e, self.out = Block(16, 4), Block(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        up = self.up(self.c(F.max_pool2d(b, 2)))
        up = F.pad(up, [0, b.shape[3] - up.shape[3], 0, b.shape[2] - up.shape[2]])
        d = self.d(torch.cat([up, b], 1))
        d = F.interpolate(d, size=a.shape[2:], mode="bilinear", align_corners=True)
        return self.out(self.e(torch.cat([d, a], 1)))


class Detector(nn.Module):
    """YOLO-style: three levels, an FPN neck, an output each."""

    def __init__(self):
        super().__init__()
        self.stem = Block(3, 4)
        self.down = nn.ModuleList(nn.Conv2d(4, 4, 3, 2, 1) for _ in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(4, 6, 1) for _ in range(3))

    def forward(self, x):
        levels = []
        x = self.stem(x)
        for down in self.down:
            x = F.silu(down(x))
            levels.append(x)
        top, outputs = levels[-1], []
        for level, head in zip(levels[::-1], self.heads, strict=True):
            top = level + F.interpolate(top, size=level.shape[2:], mode="nearest")
            outputs.append(head(top))
        return {"small": outputs[0], "middle": outputs[1], "large": outputs[2]}


class Chain(nn.Module):
    """Any function between two convolutions."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = Block(2, 4), nn.Conv2d(4, 2, 3), function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class EndToEnd(nn.Module):
    """Two maps joined one below the other."""

    def __init__(self):
        super().__init__()
        self.first, self.upper, self.lower = Block(3, 4), Block(4, 4), Block(4, 4)

    def forward(self, x):
        x = self.first(x)
        return torch.cat([self.upper(x), self.lower(x)], 2)


def end_to_end():
    return EndToEnd()


def unet():
    return UNet()


def detector():
    return Detector()


def broken():
    raise RuntimeError("no weights here\nand a second line")


def not_a_module():
    return 3


def fitting_badly():
    """A state dict with other keys: torch's message names them below its first line."""
    return nn.Conv2d(2, 2, 1).load_state_dict({"kernel": torch.ones(2, 2, 1, 1)})


made_already = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())


def branching():
    return Chain(lambda x: x if x.sum() > 0 else -x)


def conditional():
    return Chain(lambda x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)))


def nonzero():
    return Chain(lambda x: x[x > 0].reshape(1, 4, -1, 1))


def factoring():
    return Chain(lambda x: torch.linalg.qr(x)[0])


def view_in_place():
    def change(x):
        part = x[:, :2]
        part.mul_(2.0)
        return x

    return Chain(change)


def dropout_on():
    return Chain(lambda x: F.dropout(x, 0.5, training=True))
