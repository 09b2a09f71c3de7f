"""Small networks as ONNX Runtime's quantiser makes them."""

from __future__ import annotations

import io
import logging
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

Form = Literal["qdq-uint8", "qdq-int8", "qoperator-uint8", "qoperator-int8"]
FORMS: tuple[Form, ...] = ("qdq-uint8", "qdq-int8", "qoperator-uint8", "qoperator-int8")

INPUT = (1, 3, 24, 20)


class Convolutions(nn.Module):
    """Convolutions, a residual, a join of channels, pools, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(16, 12, 3, stride=2, padding=1)
        self.d = nn.Conv2d(12, 10, 3, padding=1, groups=2)
        self.head = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        y = self.b(x).relu() + x
        x = nn.functional.max_pool2d(torch.cat([x, y], 1), 3, 2, 1)
        x = self.d(self.c(x).relu()).relu()
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Gated(nn.Module):
    """Average pools, gates, a leaky activation, a join of two scales, and a softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.b = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.c = nn.Conv2d(14, 6, 3, padding=1)
        self.head = nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x * x.sigmoid()
        x = x * self.gate(nn.functional.adaptive_avg_pool2d(x, 1)).sigmoid()
        y = nn.functional.leaky_relu(self.b(x), 0.1)
        x = torch.cat([nn.functional.avg_pool2d(x, 3, 2, 1), y], 1)
        x = nn.functional.avg_pool2d(self.c(x).relu(), 2, count_include_pad=False)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)).softmax(1)


Kind = Literal["convolutions", "gated"]
_KINDS: dict[Kind, type[nn.Module]] = {"convolutions": Convolutions, "gated": Gated}


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, seed: int) -> None:
        self.random, self.left = np.random.default_rng(seed), 8

    def get_next(self) -> dict[str, Any] | None:
        self.left -= 1
        x = self.random.standard_normal(INPUT, dtype=np.float32)
        return {"x": x} if self.left >= 0 else None


@cache
def exported(kind: Kind, seed: int) -> bytes:
    """The network in floating point."""
    file = io.BytesIO()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(seed)
        network = _KINDS[kind]().eval()
        torch.onnx.export(
            network, (torch.zeros(INPUT),), file, dynamo=False, input_names=["x"]
        )  # fmt: skip
    return file.getvalue()


@cache
def quantised(form: Form, seed: int = 0, kind: Kind = "convolutions") -> bytes:
    """The same, with weights quantised by channel."""
    written, _, activations = form.partition("-")
    formats = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    logging.disable(logging.WARNING)
    try:
        with TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "few.onnx"
            before.write_bytes(exported(kind, seed))
            quantize_static(
                before, after, _Samples(seed), quant_format=formats[written],
                activation_type=types[activations], weight_type=QuantType.QInt8, per_channel=True,
            )  # fmt: skip
            made: bytes = onnx.load(after).SerializeToString()
    finally:
        logging.disable(logging.NOTSET)
    return made


def itself(form: Form, x: Tensor, kind: Kind = "convolutions") -> Any:
    """What ONNX Runtime gives on the whole model.

    Its sums saturate on some processors unless it is told otherwise, those of signed activations
    in QDQ form, too, which it makes unsigned.
    """
    options = ort.SessionOptions()
    if form != "qoperator-int8":  # whose sums are exact, and whose QGemm has no other
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(
        quantised(form, kind=kind), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x.numpy()})[0]
