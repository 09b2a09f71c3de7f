"""The page on deployments: its code does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.builders import make_cluster

GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.mark.usefixtures("forked")
def test_the_pages_code_runs() -> None:
    """As it stands there, with a module, a cluster and tensors of the reader's own."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    given: dict[str, Any] = {
        "module": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(),
        "cluster": make_cluster(),
        "x": x,
        "frames": [x, 2 * x],
    }
    (code,) = re.findall(r"```python\n(import nptp_opt.*?)```", GUIDE.read_text(), re.S)
    exec(compile(code, str(GUIDE), "exec"), given)
    expected = given["module"](x)
    assert torch.allclose(given["y"], expected, atol=1e-5)
    assert len(given["answers"]) == 10
    assert all(torch.allclose(each.value, expected, atol=1e-5) for each in given["answers"])
    assert torch.allclose(given["answer"].value, given["module"](2 * x), atol=1e-5)
