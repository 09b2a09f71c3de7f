"""Models of the library that torchvision has not: a U-Net and a one-stage detector.

Use them as ``nptp_opt.instances.models:unet`` and ``nptp_opt.instances.models:detector``.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn


def _block(channels_in: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.1),
    )


def _double(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(_block(channels_in, channels), _block(channels, channels))


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padded convolutions and transposed ones upwards.

    Height and width of the input must be multiples of 16.
    """

    def __init__(self, width: int = 32, classes: int = 2) -> None:
        super().__init__()
        sizes = [width * 2**k for k in range(5)]
        self.down = nn.ModuleList(
            _double(a, b) for a, b in zip([3, *sizes[:3]], sizes[:4], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.middle = _double(sizes[3], sizes[4])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in sizes[3::-1])
        self.merge = nn.ModuleList(_double(2 * c, c) for c in sizes[3::-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = self.pool(x)
        x = self.middle(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(kept), strict=True):
            x = merge(torch.cat((skip, up(x)), dim=1))
        out: torch.Tensor = self.head(x)
        return out


class Detector(nn.Module):
    """A one-stage detector in the style of YOLOv3-tiny: two heads, the finer one from a join.

    Height and width of the input must be multiples of 32; outputs are raw, undecoded.
    """

    def __init__(self, outputs: int = 255) -> None:
        super().__init__()
        sizes = (16, 32, 64, 128, 256)
        stages: list[nn.Module] = [_block(3, 16)]
        for a, b in itertools.pairwise(sizes):
            stages += [nn.MaxPool2d(2), _block(a, b)]
        self.fine = nn.Sequential(*stages)
        self.coarse = nn.Sequential(
            nn.MaxPool2d(2), _block(256, 512), _block(512, 1024), _block(1024, 256, 1)
        )
        self.coarse_head = nn.Sequential(_block(256, 512), nn.Conv2d(512, outputs, 1))
        self.lift = nn.Sequential(_block(256, 128, 1), nn.Upsample(scale_factor=2))
        self.fine_head = nn.Sequential(_block(384, 256), nn.Conv2d(256, outputs, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        joined = torch.cat((self.lift(coarse), fine), dim=1)
        return self.coarse_head(coarse), self.fine_head(joined)


def unet() -> nn.Module:
    """The U-Net with 32 to 512 channels, for inputs such as 1x3x256x256."""
    return UNet()


def detector() -> nn.Module:
    """The detector, for inputs such as 1x3x416x416."""
    return Detector()
