"""ONNX nodes drawn at random are computed as ONNX Runtime computes them, or refused."""

import random

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nptp_opt.errors import InputError
from nptp_opt.network.from_onnx import read_onnx

DRAWS = 30


def windows(rng, sizes):
    kernel = [rng.randint(1, 4) for _ in sizes]
    attrs = {
        "kernel_shape": kernel,
        "strides": [rng.randint(1, 4) for _ in sizes],
        "dilations": [rng.choice((1, 1, 2)) for _ in sizes],
    }
    if rng.random() < 0.3:
        return attrs | {"auto_pad": rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))}
    return attrs | {"pads": [rng.randint(0, max(0, kernel[i % 2] - 1)) for i in range(4)]}


def weights(rng, *shape):
    return np.random.default_rng(rng.randrange(2**30)).standard_normal(shape).astype(np.float32)


def max_pool(rng, sizes):
    return "MaxPool", windows(rng, sizes) | {"ceil_mode": rng.randint(0, 1)}, []


def average_pool(rng, sizes):
    attrs = windows(rng, sizes) | {"ceil_mode": rng.randint(0, 1)}
    attrs.pop("dilations")
    return "AveragePool", attrs | {"count_include_pad": rng.randint(0, 1)}, []


def conv(rng, sizes):
    attrs, group = windows(rng, sizes), rng.choice((1, 2, 4))
    shape = (4, 4 // group, *attrs["kernel_shape"])
    return "Conv", attrs | {"group": group}, [weights(rng, *shape), weights(rng, 4)]


def conv_transpose(rng, sizes):
    attrs, group = windows(rng, sizes), rng.choice((1, 2))
    if rng.random() < 0.3:
        attrs["output_padding"] = [rng.randint(0, s - 1) for s in attrs["strides"]]
    elif rng.random() < 0.5:
        attrs.pop("pads", None)
        attrs["output_shape"] = [
            (n - 1) * s + k - rng.randint(0, 2)
            for n, s, k in zip(sizes, attrs["strides"], attrs["kernel_shape"], strict=True)
        ]
    shape = (4, 3, *attrs["kernel_shape"])
    return (
        "ConvTranspose",
        attrs | {"group": group},
        [weights(rng, *shape), weights(rng, 3 * group)],
    )


def resize(rng, sizes):
    mode = rng.choice(("nearest", "nearest", "linear", "cubic"))
    attrs = {
        "mode": mode,
        "coordinate_transformation_mode": rng.choice(
            ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners",
             "half_pixel_symmetric", "tf_crop_and_resize")
        ),
    }  # fmt: skip
    if mode == "nearest":
        attrs["nearest_mode"] = rng.choice(
            ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        )
    if mode != "nearest" and rng.random() < 0.3:
        attrs["antialias"] = 1
    if mode == "cubic" and rng.random() < 0.4:
        attrs |= {"cubic_coeff_a": -0.5, "exclude_outside": rng.randint(0, 1)}
    roi = np.array([], np.float32)
    if attrs["coordinate_transformation_mode"] == "tf_crop_and_resize":
        starts, ends = (
            [rng.uniform(*span) for _ in range(2)] for span in ((-0.2, 0.4), (0.5, 1.2))
        )
        roi = np.array([0, 0, *starts, 1, 1, *ends], np.float32)
        attrs["extrapolation_value"] = 1.5
    if rng.random() < 0.4:
        out = [rng.choice((n, 2 * n, n // 2, rng.randint(1, 12))) for n in sizes]
        target = [None, np.array([1, 4, *out], np.int64)]
        if rng.random() < 0.3:
            attrs["keep_aspect_ratio_policy"] = rng.choice(("not_larger", "not_smaller"))
            attrs["axes"], target[1] = [2, 3], target[1][2:]
            roi = roi[[2, 3, 6, 7]] if roi.size else roi
    else:
        factors = [rng.choice((0.5, 1.0, 2.0, 3.0, 0.75, 1.3, 0.6)) for _ in sizes]
        target = [np.array([1, 1, *factors], np.float32)]
    return "Resize", attrs, [roi, *target]


def old_resize(rng, sizes):
    factors = [1.0, 1.0, *(rng.choice((0.5, 1.0, 2.0, 3.0, 0.75, 1.3, 0.6)) for _ in sizes)]
    mode = rng.choice(("nearest", "linear"))
    return "Resize", {"mode": mode}, [np.array(factors, np.float32)]


def pad(rng, sizes):
    mode = rng.choice(("constant", "reflect", "edge", "wrap"))
    first = rng.choice(([0, 0], [0, 2], [1, 1]))
    sides = [*first, *(rng.randint(-1, 3) for _ in range(2)), 0, 0, rng.randint(0, 3), 0]
    return "Pad", {"mode": mode}, [np.array(sides, np.int64), np.float32(1.5)]


def slice_(rng, sizes):
    ends = [rng.choice((2**31 - 1, rng.randint(1, 6), -1)) for _ in range(2)]
    steps = [rng.choice((1, 2, 3, -1, -2)), 1]
    if steps[0] < 0:
        ends[0] = rng.choice((-(2**31), 0, 1, -6))
    given = ([rng.randint(-4, 1) for _ in range(2)], ends, [2, -1], steps)
    return "Slice", {}, [np.array(v, np.int64) for v in given]


def softmax(rng, sizes):
    return rng.choice(("Softmax", "LogSoftmax")), {"axis": rng.randint(-4, 3)}, []


def flatten(rng, sizes):
    return "Flatten", {"axis": rng.randint(-4, 4)}, []


def lrn(rng, sizes):
    return "LRN", {"size": rng.choice((1, 3, 5)), "alpha": 0.1, "beta": 0.6, "bias": 1.5}, []


def norm(rng, sizes):
    return "LayerNormalization", {"axis": rng.randint(-3, -1)}, [weights(rng, sizes[-1])] * 2


def lp_pool(rng, sizes):
    return "LpPool", windows(rng, sizes) | {"p": rng.choice((1, 2, 3))}, []


def reduction(rng, sizes):
    op = rng.choice(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
         "ReduceLogSumExp", "ReduceSumSquare")
    )  # fmt: skip
    axes = np.array(rng.sample(range(-2, 2), rng.randint(1, 3)), np.int64)
    return op, {"keepdims": rng.randint(0, 1)}, [axes]


def running_sum(rng, sizes):
    attrs = {"exclusive": rng.randint(0, 1), "reverse": rng.randint(0, 1)}
    return "CumSum", attrs, [np.int64(rng.randint(-4, 3))]


def gather(rng, sizes):
    axis, shape = rng.randint(1, 3), rng.choice(((), (1,), (3,), (2, 2), (11,)))
    size = (1, 4, *sizes)[axis]
    index = [rng.randint(-size, size - 1) for _ in range(int(np.prod(shape)))]
    return "Gather", {"axis": axis - rng.choice((0, 4))}, [np.array(index, np.int64).reshape(shape)]


def gather_elements(rng, sizes):
    shape = (1, 4, rng.randint(1, sizes[0]), sizes[1])
    index = np.random.default_rng(rng.randrange(2**30)).integers(-sizes[0], sizes[0], shape)
    return "GatherElements", {"axis": 2}, [index]


def top_k(rng, sizes):
    axis = rng.randint(1, 3)
    count = rng.randint(1, (1, 4, *sizes)[axis])
    return "TopK", {"axis": axis, "largest": rng.randint(0, 1)}, [np.array([count], np.int64)]


def single(rng, sizes):
    """Of single elements, with attributes that have other defaults elsewhere."""
    return rng.choice(
        (
            ("Selu", {}, []), ("Selu", {"alpha": 0.5, "gamma": 2.0}, []),
            ("Celu", {"alpha": 2.0}, []), ("ThresholdedRelu", {"alpha": 0.3}, []),
            ("Softsign", {}, []),
            ("Shrink", {"bias": 0.2, "lambd": 0.4}, []), ("Round", {}, []), ("Ceil", {}, []),
            ("Asinh", {}, []), ("Hardmax", {"axis": rng.randint(-4, 3)}, []),
            ("LpNormalization", {"axis": 1, "p": rng.randint(1, 2)}, []),
            ("GlobalLpPool", {"p": 3}, []), ("Trilu", {"upper": rng.randint(0, 1)}, []),
            ("Mod", {"fmod": 1}, [np.float32(0.7)]),
            ("Tile", {}, [np.array([1, 2, 1, 3], np.int64)]),
            ("Mean", {}, [weights(rng, 4, 1, 1), np.float32(2.0)]),
            ("Max", {}, [weights(rng, 1, 4, 1, 1), np.float32(0.1)]),
            ("Einsum", {"equation": "nchw,dc->nhwd"}, [weights(rng, 5, 4)]),
        )
    )  # fmt: skip


def quantize(rng, sizes):
    kind, count = rng.choice((np.uint8, np.int8)), rng.choice((1, 4))
    zeros = np.array([rng.randint(0, 20) for _ in range(count)], kind)
    scales = np.array([rng.uniform(0.01, 0.1) for _ in range(count)], np.float32)
    one = [scales[0], zeros[0]]
    return "QuantizeLinear", {"axis": 1}, one if count == 1 else [scales, zeros]


def group_norm(rng, sizes):
    return "GroupNormalization", {"num_groups": 2}, [weights(rng, 4), weights(rng, 4)]


def fourier(rng, sizes):
    attrs = {"axis": rng.randint(1, 2), "inverse": rng.randint(0, 1)}
    attrs["onesided"] = 0 if attrs["inverse"] else rng.randint(0, 1)
    length = [np.int64(rng.randint(2, 12))] if rng.random() < 0.5 else []
    return "DFT", attrs, length


KINDS = {
    f"{make.__name__}-{opset}": (make, opset)
    for make, opset in (
        (max_pool, 22), (max_pool, 12), (average_pool, 22), (average_pool, 11), (conv, 22),
        (conv_transpose, 22), (resize, 19), (old_resize, 10), (pad, 19), (slice_, 13),
        (softmax, 13), (softmax, 11), (flatten, 13), (lrn, 13), (norm, 17), (lp_pool, 22),
        (reduction, 18), (running_sum, 14), (gather, 13), (gather_elements, 13), (top_k, 11),
        (single, 22), (quantize, 13), (group_norm, 21), (fourier, 17),
    )
}  # fmt: skip
"""What is drawn, and the opset whose definition it has."""


def drawn(make, opset, rng, path):
    """A file of one node that ``make`` draws, and the shape of its input."""
    shape = (1, 4, rng.randint(3, 9), rng.randint(1, 2) if make is fourier else rng.randint(3, 9))
    op, attrs, constants = make(rng, shape[2:])
    names = ["x"] + ["" if value is None else f"c{i}" for i, value in enumerate(constants)]
    results = ["y", "more"] if op == "TopK" else ["y"]
    node = helper.make_node(op, names, results, **attrs)
    kinds = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
    kind = kinds[constants[1].dtype] if op == "QuantizeLinear" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, [None] * 4)],
        [
            numpy_helper.from_array(np.asarray(v), f"c{i}")
            for i, v in enumerate(constants)
            if v is not None
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return shape, (op, attrs, constants)


def judged(module, x, node):
    """True where module and witness agree, False where either refuses the node."""
    try:
        with torch.no_grad():
            (found,) = module(x)
    except InputError as error:
        assert f"op {node[0]}" in str(error) and "\n" not in str(error)
        return False
    try:
        (expected,) = module.witness().outputs(x)
    except InputError:
        return False
    assert found.shape == expected.shape, node
    found, expected = found.float(), expected.float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda m: f"{node}: {m}")
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_node_is_computed_as_by_onnx_runtime_or_refused(kind, tmp_path):
    rng, right = random.Random(kind), 0
    for i in range(DRAWS):
        path = tmp_path / f"{i}.onnx"
        shape, node = drawn(*KINDS[kind], rng, path)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        right += judged(read_onnx(path, shape, 0), x, node)
    assert right >= DRAWS // 6
