"""Small networks on which a fault was seen: each is a kind, not a case. Inputs stand beside
them."""

import torch
from torch import nn


class _TwoOutputs(nn.Module):
    """Input 2x3x1x3. Two outputs read the input: one through a pooled scale, one through
    padding."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1), nn.Sigmoid()
        )
        self.pad = nn.ReplicationPad2d(1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * self.scale(x), self.pad(x)


def two_outputs() -> nn.Module:
    return _TwoOutputs().eval()


def only_pool() -> nn.Module:
    """Input 1x3x1x2. Nothing but a reduction."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1)).eval()


def near_zero_mean() -> nn.Module:
    """Input 1x3x12x12. The right answer is nearly zero: the mean of a normalised map."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(4, 4), nn.AdaptiveAvgPool2d(1)
    ).eval()


class _SplitAttention(nn.Module):
    """Input 1x8x16x16. Two branches weighted by a softmax over a reduction of their sum (SKNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.squeeze, self.expand = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = torch.stack([self.a(x), self.b(x)], dim=1)
        weights = self.expand(self.squeeze(branches.sum(1).mean((2, 3), keepdim=True)).relu())
        weights = weights.view(weights.shape[0], 2, 8, 1, 1).softmax(dim=1)
        return (branches * weights).sum(dim=1)


def split_attention() -> nn.Module:
    return _SplitAttention().eval()


class _ChannelAttention(nn.Module):
    """Input 1x8x16x16. A 1-D convolution over pooled channels (ECA)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.over = (
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv1d(1, 1, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        weights = self.over(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * weights.sigmoid()


def channel_attention() -> nn.Module:
    return _ChannelAttention().eval()


class _NormOverMap(nn.Module):
    """Input 1x8x16x16. A response norm over the whole map (GRN of ConvNeXt V2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        return x + x * (norm / (norm.mean(dim=1, keepdim=True) + 1e-6))


def norm_over_map() -> nn.Module:
    return _NormOverMap().eval()


class _Detector(nn.Module):
    """Input 1x3x64x64. Two scales flattened, concatenated, distances by a softmax, anchors of
    the input's type (YOLO)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(16, 16, 3, 2, 1)
        self.box, self.bins = nn.Conv2d(16, 4 * 8, 1), nn.Conv2d(8, 1, 1, bias=False)
        self.register_buffer("anchors", torch.rand(2, 16 * 16 + 8 * 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p1 = self.stem(x).relu()
        p2 = self.down(p1).relu()
        flat = torch.cat([self.box(p).flatten(2) for p in (p1, p2)], dim=2)
        n, _, count = flat.shape
        away = self.bins(flat.view(n, 4, 8, count).transpose(2, 1).softmax(1)).view(n, 4, count)
        anchors = self.anchors.type_as(x).expand(n, 2, count)
        return torch.cat([anchors - away[:, :2], anchors + away[:, 2:]], dim=1)


def detector() -> nn.Module:
    return _Detector().eval()


def channels_last() -> nn.Module:
    """Input 1x16x16x3 (N, H, W, C): convolution between re-layouts, as TensorFlow's exports have
    it."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).relu()
            return self.b(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    return Last().eval()


class _Fn(nn.Module):
    def __init__(self, forward, *modules: nn.Module) -> None:
        super().__init__()
        self.layers, self._forward = nn.ModuleList(modules), forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self.layers, x)


def _conv(channels_in: int = 8, channels_out: int = 8, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)


def written_constant() -> nn.Module:
    """Input 1x8x16x16. A constant map is written through a slice: the write is lost, and
    `verify` says ok."""

    def forward(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(1, 8, 16, 16)
        mask[:, :, :8] = 1.0
        return layers[0](x + mask)

    return _Fn(forward, _conv()).eval()


def masked_convolution() -> nn.Module:
    """Input 1x8x16x16. Part of a cloned weight is zeroed (PixelCNN): the write is lost, and
    `verify` says ok."""

    def forward(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        weight = layers[0].weight.clone()
        weight[:, :, 2:] = 0
        return nn.functional.conv2d(x, weight, padding=1)

    return _Fn(forward, _conv()).eval()


def changed_input() -> nn.Module:
    """Input 1x8x16x16. The caller's tensor is changed: to be refused by name and line (accepted
    today)."""
    return _Fn(lambda layers, x: layers[0](x.sub_(0.5)), _conv()).eval()


def noisy() -> nn.Module:
    """Input 1x8x16x16. Random numbers are drawn: to be refused by name and line (accepted
    today)."""
    return _Fn(lambda layers, x: layers[0](x + torch.randn(1, 1, 16, 16)), _conv()).eval()


def slice_of_gathered() -> nn.Module:
    """Input 1x8x16x16. Columns of a map that one device holds whole: the slice is not taken."""
    return _Fn(
        lambda layers, x: layers[1](torch.flip(layers[0](x), [3])[:, :, :8]), _conv(), _conv()
    ).eval()


def windows() -> nn.Module:
    """Input 1x8x16x16. Window partition with `contiguous` before a view (Swin): `verify` dies on
    the strides."""

    def forward(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        y = layers[0](x).permute(0, 2, 3, 1).view(1, 2, 8, 2, 8, 8).permute(0, 1, 3, 2, 4, 5)
        return layers[1](y.contiguous().view(4, 64, 8))

    return _Fn(forward, _conv(), nn.Linear(8, 8)).eval()


def transposed_map() -> nn.Module:
    """Input 1x8x16x16. Height and width swapped before a convolution: the kernel is not
    (`verify` catches it)."""
    return _Fn(lambda layers, x: layers[0](x.transpose(2, 3)), _conv()).eval()


def explicit_float() -> nn.Module:
    """Input 1x8x16x16. `.float()` in the model: a right plan is refused in the float64 run."""
    return _Fn(lambda layers, x: layers[1](layers[0](x).float()), _conv(), _conv()).eval()


def position_network() -> nn.Module:
    """Input 1x8x16x16. A linear layer of a constant: float32 and float64 meet in the float64 run
    (ConViT)."""

    def forward(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        positions = torch.linspace(-1, 1, 8).view(8, 1).expand(8, 4)
        return layers[0](x) + layers[1](positions).mean(1).view(1, 8, 1, 1)

    return _Fn(forward, _conv(), nn.Linear(4, 4)).eval()


def attention_in_the_middle() -> nn.Module:
    """Input 1x8x16x16. What follows attention over the whole map stays on one device (VAE
    decoders, YOLO11, MAnet)."""

    def forward(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        tokens = layers[0](x).flatten(2).transpose(1, 2)
        tokens = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return layers[2](layers[1](tokens.transpose(1, 2).reshape(1, 8, 16, 16)).relu())

    return _Fn(forward, _conv(), _conv(), _conv()).eval()


def channels_last_memory() -> nn.Module:
    """Input 1x8x16x16. A memory format, nothing else: a right plan is refused in the float64
    run."""
    return _Fn(lambda layers, x: layers[0](x.to(memory_format=torch.channels_last)), _conv()).eval()


def rms_norm() -> nn.Module:
    """Input 1x8x16x16. RMS norm over the channels of each pixel (video decoders): refused."""
    return _Fn(
        lambda layers, x: layers[1](nn.functional.normalize(layers[0](x), dim=1) * 8**0.5),
        _conv(),
        _conv(),
    ).eval()


def integer_cast() -> nn.Module:
    """Input 1x8x16x16. `long()` is dropped from the plan (`verify` catches it, so the right
    model cannot be used)."""
    return _Fn(lambda layers, x: layers[0](x.long().float()), _conv()).eval()


def attention_with_dropout() -> nn.Module:
    """Input 1x8x16x16. Attention that drops out at random: to be refused by name (accepted
    today, the dropout not read)."""

    def forward(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        tokens = layers[0](x).flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=0.5)

    return _Fn(forward, _conv()).eval()
