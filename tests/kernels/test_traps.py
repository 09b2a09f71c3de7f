"""Corners of torch's ops at which other systems are silently wrong, each cut at random."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from tests.kernels.test_ops import Apply, spatial
from tests.network.partitioned import check_module

MAP = (2, 4, 11, 10)


def check(function, shape=MAP):
    for seed in range(4):
        model = check_module(Apply(function), shape, seed)
    return model


def test_negative_padding_crops_before_a_convolution_and_between_others():
    weight = torch.randn(4, 4, 3, 3)
    assert spatial(check(lambda x: F.conv2d(F.pad(x, (-1, 2, 3, -2)), weight, padding=1)))
    assert spatial(check(lambda x: F.pad(F.pad(x, (-1, -2, 0, -3)), (2, 0, 1, 1), value=1.5)))


def test_ceil_mode_drops_windows_that_would_start_in_the_padding():
    for size in range(5, 10):
        assert spatial(check(lambda x: F.max_pool2d(x, 2, 3, 1, ceil_mode=True), (1, 2, size, 7)))
        check(lambda x: F.avg_pool2d(x, 2, 3, 1, ceil_mode=True), (1, 2, size, 7))


def test_a_given_divisor_counts_neither_padding_nor_what_ceil_mode_adds():
    for counted in (True, False):
        check(lambda x, c=counted: F.avg_pool2d(x, 3, 2, 1, True, c, divisor_override=5))


def test_dilated_max_pooling_with_padding_and_ceil_mode():
    assert spatial(check(lambda x: F.max_pool2d(x, 3, 2, 1, 2, ceil_mode=True)))
    assert spatial(check(lambda x: F.max_pool2d(x, (2, 3), (1, 2), (0, 1), (4, 3))))


def test_adaptive_pooling_to_more_rows_than_there_are():
    assert spatial(check(lambda x: F.adaptive_avg_pool2d(x, (13, 3))))
    assert spatial(check(lambda x: F.adaptive_max_pool2d(x, (4, 15))))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_align_corners_to_and_from_one_row(mode):
    def resized(size):
        return lambda x: F.interpolate(x, size=size, mode=mode, align_corners=True)

    assert spatial(check(resized((1, 7))))
    assert spatial(check(resized((5, 4)), (1, 2, 1, 6)))


def test_batch_norm_without_weights_of_its_own():
    norm = nn.BatchNorm2d(4, affine=False)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
    assert spatial(check_module(nn.Sequential(nn.Conv2d(4, 4, 3), norm), MAP))


def test_same_padding_of_even_kernels_with_dilation():
    for kernel, dilation in (((2, 4), 1), ((4, 2), 3)):
        conv = nn.Conv2d(4, 3, kernel, padding="same", dilation=dilation, bias=False)
        assert spatial(check_module(conv, MAP))


def test_a_map_scaled_up_from_one_reduced_pixel_is_cut_like_any_other():
    """DeepLab's image pooling: the upsampled pixel was taken for a reduced tensor itself."""

    def pooled(x):
        up = F.interpolate(F.adaptive_avg_pool2d(x, 1), size=x.shape[2:], mode="bilinear")
        return torch.cat([x, up], 1)

    assert {layer.kind for layer in check(pooled).network.layers} == {"spatial", "global"}


@pytest.mark.parametrize("cut", [lambda x: x > 0, lambda x: (x * 10).to(torch.int32)])
def test_integer_and_bool_maps_are_added_as_torch_adds_them(cut):
    """They were refused; before that, the sum was one of truth values."""
    assert {layer.kind for layer in check(lambda x: F.relu(x) + cut(x)).network.layers} == {
        "spatial"
    }
