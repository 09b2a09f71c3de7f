"""The op vocabulary: what a node may be, and what each costs. No torch here.

Windowed ops have receptive windows; pixelwise ops read the same pixel of all their inputs; a
reduction sees a whole map through partials; whole ops see everything at once and are gathered.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


WINDOWED = words(
    """
    avg_pool2d concat conv2d conv_transpose2d linear max_pool2d pad pixel_shuffle pixel_unshuffle
    resample resample_max slice
    """
)
"""Ops with a kernel of their own that reads a window of each input; that of ``linear`` is all."""

REDUCTIONS = frozenset({"global_avg_pool", "global_max_pool", "group_stats"})
"""Map -> (N, C, 1, 1) through one partial per tile."""

CHANNEL_OPS = words(
    """
    batch_norm broadcast cast channel_amax channel_avg_pool channel_concat channel_conv
    channel_log_softmax channel_mean channel_norm channel_pad channel_permute channel_slice
    channel_softmax channel_sum group_normalise prelu
    """
)
"""Pixelwise ops that mix the channels of one pixel, with a kernel of their own."""

ELEMENTWISE = words(
    """
    abs add celu clamp clamp_max clamp_min cos div elu erf exp floor gelu hardshrink hardsigmoid
    hardswish hardtanh leaky_relu log log1p log2 log_sigmoid maximum minimum mish mul neg pow
    reciprocal relu relu6 round rsqrt rsub selu sigmoid sign silu sin softplus softshrink
    sqrt square sub tanh tanhshrink threshold
    """
)
"""Pixelwise ops that are called by their own name in torch."""

WHOLE = words(
    """
    addmm amax argmax batch_norm bmm cat expand flatten flip layer_norm linear log_softmax
    matmul mean mm permute relayout reshape roll scaled_dot_product_attention select slice
    softmax squeeze stack sum t transpose unflatten unsqueeze view
    """
)
"""Ops that see their inputs whole: they run on one device."""

VIEWS = words(
    """
    expand flatten permute relayout reshape squeeze t transpose unflatten unsqueeze view
    """
)
"""Whole ops that compute nothing."""

UNCALLED = VIEWS | {"softmax", "log_softmax"}
"""Whole ops that count as folded onto what they follow, as they are on the pixels of a map."""

FLOP_PER_ELEMENT = {
    "batch_norm": 2.0,
    "layer_norm": 7.0,
    "channel_norm": 7.0,
    "channel_softmax": 3.0,
    "channel_log_softmax": 3.0,
    "group_normalise": 4.0,
    "group_stats": 3.0,
    "softmax": 3.0,
    "log_softmax": 3.0,
    "gelu": 8.0,
    "silu": 4.0,
    "sigmoid": 3.0,
    "tanh": 3.0,
}
"""Per output element (for reductions: per input element); 1 where nothing is listed."""

FREE = VIEWS | {
    "slice",
    "concat",
    "pad",
    "channel_slice",
    "channel_concat",
    "channel_permute",
    "channel_pad",
    "broadcast",
    "pixel_shuffle",
    "pixel_unshuffle",
}
"""Ops that move data and compute nothing."""


def flop_per_element(op: str) -> float:
    """FLOP per element of an op that is neither a convolution, a pooling nor a product."""
    return 0.0 if op in FREE else FLOP_PER_ELEMENT.get(op, 1.0)
