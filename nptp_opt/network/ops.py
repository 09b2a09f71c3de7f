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
    avg_pool2d avg_pool3d concat conv2d conv3d conv_transpose2d conv_transpose3d linear max_pool2d
    max_pool3d pad pixel_shuffle pixel_unshuffle resample resample_max slice
    """
)
"""Ops with a kernel of their own that reads a window of each input; that of ``linear`` is all."""

REDUCTIONS = frozenset({"global_avg_pool", "global_max_pool", "group_stats"})
"""Map -> (N, C, 1, 1) through one partial per tile."""

CHANNEL_OPS = words(
    """
    batch_norm broadcast cast channel_amax channel_avg_pool channel_concat channel_conv
    channel_log_softmax channel_mean channel_norm channel_pad channel_permute channel_slice
    channel_softmax channel_sum constant group_normalise normalise prelu
    """
)
"""Pixelwise ops that mix the channels of one pixel, with a kernel of their own."""

ELEMENTWISE = words(
    """
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not
    bitwise_or bitwise_xor ceil celu clamp clamp_max clamp_min copysign cos cosh deg2rad digamma div
    elu eq erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod frac ge gelu gt
    hardshrink hardsigmoid hardswish hardtanh heaviside hypot isclose isfinite isinf isnan isneginf
    isposinf le leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2
    logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul
    nan_to_num ne neg pow rad2deg reciprocal relu relu6 remainder round rsqrt rsub selu sgn sigmoid
    sign signbit silu sin sinc sinh softplus softshrink sqrt square sub tan tanh
    threshold trunc where xlogy
    """
)
"""Pixelwise ops that are called by their own name in torch."""

WHOLE = words(
    """
    _cdist_forward _safe_softmax _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d addmm
    affine_grid_generator all amax amin aminmax any argmax argmin argsort avg_pool1d avg_pool2d
    avg_pool3d baddbmm batch_norm bmm bucketize cat channel_shuffle col2im constant_pad_nd conv1d
    conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d count_nonzero cummax cummin
    cumprod cumsum diagonal expand flatten flip gather glu grid_sampler grid_sampler_2d
    grid_sampler_3d group_norm gru im2col index index_add index_copy index_fill index_put
    index_select instance_norm kthvalue layer_norm linalg_vector_norm linear log_softmax
    logcumsumexp logsumexp lstm masked_scatter matmul max max_pool1d max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d mean median
    min mm mode movedim mv nanmean nanmedian nanquantile nansum native_channel_shuffle
    native_group_norm native_layer_norm pad permute pixel_shuffle pixel_unshuffle prelu prod
    quantile reflection_pad1d reflection_pad2d reflection_pad3d relayout repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d reshape rms_norm rnn_relu rnn_tanh roll
    rot90 scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted select
    select_scatter slice slice_scatter softmax sort squeeze stack std std_mean sum t take_along_dim
    tile topk transpose tril triu unflatten unfold unsqueeze upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    var var_mean view
    """
)
"""Ops that see their inputs whole: they run on one device. All are pure: no state, no chance."""

SEVERAL = words(
    """
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d aminmax cummax cummin gru kthvalue
    lstm max max_pool2d_with_indices max_pool3d_with_indices median min mode nanmedian
    native_group_norm native_layer_norm rnn_relu rnn_tanh sort std_mean topk var_mean
    """
)
"""Whole ops with several results, each of which is a node: values and where they stand, say."""

SELECTS = words(
    """
    amax amin aminmax argmax argmin argsort bucketize cat clamp clamp_max clamp_min count_nonzero
    cummax cummin diagonal expand flatten flip gather index index_put index_select kthvalue
    masked_fill max maximum median min minimum mode permute repeat repeat_interleave reshape roll
    rot90 scatter searchsorted select select_scatter slice slice_scatter sort squeeze stack t
    take_along_dim tile topk transpose tril triu unflatten unfold unsqueeze where
    """
)
"""Ops whose whole numbers are elements of their inputs, count elements, or say where they are."""

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
    "group_norm": 7.0,
    "instance_norm": 7.0,
    "rms_norm": 4.0,
    "native_layer_norm": 7.0,
    "native_group_norm": 7.0,
    "layer_norm": 7.0,
    "channel_norm": 7.0,
    "channel_softmax": 3.0,
    "channel_log_softmax": 3.0,
    "group_normalise": 4.0,
    "normalise": 3.0,
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
    "constant",
    "broadcast",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "diagonal",
    "flip",
    "index",
    "movedim",
    "repeat",
    "roll",
    "select",
    "stack",
    "cat",
    "tile",
    "unfold",
}
"""Ops that move data and compute nothing."""


def flop_per_element(op: str) -> float:
    """FLOP per element of an op that is neither a convolution, a pooling nor a product."""
    return 0.0 if op in FREE else FLOP_PER_ELEMENT.get(op, 1.0)
