"""Parameters of tests that every executor runs; those of a missing one are skipped by its name."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from nptp_opt.kernels.executors import EXECUTORS, find


def by_each(names: Iterable[str]) -> list[object]:
    """The names as parameters."""
    return [_needing(name) for name in names]


def _needing(name: str) -> object:
    executor = find(name)
    missing = pytest.mark.skipif(
        not executor.available, reason=f"{name} is not installed: {executor.install}"
    )
    return pytest.param(name, marks=missing, id=name)


needs_openvino = pytest.mark.skipif(
    not find("openvino").available, reason="openvino is not installed: pip install openvino"
)

EACH = by_each(EXECUTORS)

OF_ONNX = by_each(["onnxruntime", "openvino"])
"""Those that read ONNX graphs."""
