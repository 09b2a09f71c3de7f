"""What follows from constants alone is worked out, unless it would be too large or random."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from nptp_opt.errors import InputError
from nptp_opt.network.onnx_fold import folded, folds

HERE = Path("m.onnx")
I64 = np.int64


def worked_out(op, *values, opset=17, **attrs):
    names = [f"i{k}" for k in range(len(values))]
    node = helper.make_node(op, names, ["y"], name="it", **attrs)
    known = {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
    assert folds(node, known)
    return folded(node, known, opset, HERE)


@pytest.mark.parametrize(
    ("op", "values", "attrs", "expected"),
    [
        ("Range", (I64(0), I64(6), I64(2)), {}, [0, 2, 4]),
        ("Expand", (I64([[1], [2]]), I64([2, 2])), {}, [[1, 1], [2, 2]]),
        ("Tile", (I64([3, 4]), I64([2])), {}, [3, 4, 3, 4]),
        ("ConstantOfShape", (I64([2]),), {}, [0, 0]),
        ("Pad", (I64([5]), I64([1, 0]), I64(9)), {}, [9, 5]),
        ("OneHot", (I64([1]), I64(3), I64([0, 7])), {}, [[0, 7, 0]]),
        ("NonZero", (I64([0, 4, 0, 2]),), {}, [[1, 3]]),
        ("Einsum", (I64([[1, 2]]), I64([[3], [4]])), {"equation": "ij,jk->ik"}, [[11]]),
    ],
)
def test_constants_are_worked_out(op, values, attrs, expected):
    np.testing.assert_array_equal(worked_out(op, *values, **attrs)["y"], expected)


FAR = I64([2**20, 2**20])


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("Range", (np.float32(0), np.float32(1e12), np.float32(1))),
        ("Expand", (np.float32([[1]]), FAR)),
        ("Tile", (np.float32([[1]]), FAR)),
        ("ConstantOfShape", (FAR,)),
        ("Pad", (np.float32([1]), I64([0, 2**40]), np.float32(0))),
        ("OneHot", (I64([1]), I64(2**50), I64([0, 1]))),
        ("HannWindow", (I64(2**45),)),
        ("MatMul", (np.zeros((2**20, 1)), np.zeros((1, 2**20)))),
        ("Add", (np.zeros((2**20, 1)), np.zeros((1, 2**20)))),
    ],
)
def test_results_that_are_too_large_are_refused_before_they_are_made(op, values):
    with pytest.raises(InputError, match=r"node 'it': shape .* is not possible"):
        worked_out(op, *values)


def test_results_of_unknown_size_are_refused():
    """More dimensions than are told to the inference of shapes."""
    with pytest.raises(InputError, match="'it': op ConstantOfShape: how large its result is"):
        worked_out("ConstantOfShape", np.full(65, 2))


def test_what_the_package_only_defines_is_left_to_the_rules():
    """Bug: weights in 8 bits of opset 13 were refused, as the evaluator begins with opset 19."""
    numbers = np.array([1, 2], np.int8), np.float32(0.5)
    assert worked_out("DequantizeLinear", *numbers, opset=13) == {}


@pytest.mark.parametrize("op", ["RandomNormalLike", "If", "Resize", "own"])
def test_what_is_random_nested_disputed_or_foreign_is_never_worked_out(op):
    node = helper.make_node(op, ["a"], ["y"], domain="own" if op == "own" else "")
    assert not folds(node, {"a"})


def test_what_the_evaluator_cannot_do_is_named():
    with pytest.raises(InputError, match=r"m\.onnx: node 'it': op Reshape: "):
        worked_out("Reshape", np.zeros(3), I64([2, 2]))
