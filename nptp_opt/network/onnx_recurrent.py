"""ONNX's recurrent layers as torch's, whole. Their gates stand in another order.

LSTM   ONNX  input, output, forget, cell     torch  input, forget, cell, output
GRU    ONNX  update, reset, hidden           torch  reset, update, hidden
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nptp_opt.network.onnx_rules import Attrs, op, refuse

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
PLAIN = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
"""The activations that torch has."""

_SAID = "activations direction hidden_size layout"


@op("LSTM", reads=_SAID, takes=7, makes=3, either=(4,))
def lstm(
    attrs: Attrs, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Any = None,
    hidden: Tensor | None = None, cell: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Every step's result, then the last hidden state and the last state of the cells."""
    x, states = _ready(attrs, x, w, lengths, [hidden, cell])
    params, both = _weights(attrs.op_type, w, r, b), w.shape[0] == 2
    y, *last = torch.lstm(x, states, params, b is not None, 1, 0.0, False, both, False)
    return _results(attrs, y, last, w.shape[0])


@op("GRU", reads=f"{_SAID} linear_before_reset", takes=6, makes=2, either=(4,))
def gru(
    attrs: Attrs, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Any = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    if not attrs["linear_before_reset"]:
        raise refuse("linear_before_reset=0: torch resets after its product")
    x, (state,) = _ready(attrs, x, w, lengths, [hidden])
    params, both = _weights(attrs.op_type, w, r, b), w.shape[0] == 2
    y, *last = torch.gru(x, state, params, b is not None, 1, 0.0, False, both, False)
    return _results(attrs, y, last, w.shape[0])


@op("RNN", reads=_SAID, takes=6, makes=2, either=(4,))
def rnn(
    attrs: Attrs, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Any = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    x, (state,) = _ready(attrs, x, w, lengths, [hidden])
    params, both = _weights(attrs.op_type, w, r, b), w.shape[0] == 2
    y, *last = torch.rnn_tanh(x, state, params, b is not None, 1, 0.0, False, both, False)
    return _results(attrs, y, last, w.shape[0])


def _ready(
    attrs: Attrs, x: Tensor, w: Tensor, lengths: Any, states: list[Tensor | None]
) -> tuple[Tensor, list[Tensor]]:
    """The input, steps first, and the states that it starts with; what torch lacks is refused."""
    plain = PLAIN[attrs.op_type] * w.shape[0]
    if attrs["activations"] not in (None, []) and [*map(_text, attrs["activations"])] != plain:
        raise refuse(f"activations {[*map(_text, attrs['activations'])]}")
    x = x.transpose(0, 1) if attrs["layout"] else x
    if lengths is not None and not _is_full(lengths, x.shape[0]):
        raise refuse("sequences of different lengths")
    size = attrs["hidden_size"] or w.shape[1] // len(GATES[attrs.op_type])
    none = torch.zeros(w.shape[0], x.shape[1], size, dtype=x.dtype)
    found = [none if state is None else state for state in states]
    if attrs["layout"]:
        found = [v if v is none else v.transpose(0, 1) for v in found]
    return (x.flip(0) if attrs["direction"] == "reverse" else x), found


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def _is_full(lengths: Any, steps: int) -> bool:
    return isinstance(lengths, np.ndarray) and bool((lengths == steps).all())


def _weights(op_type: str, w: Tensor, r: Tensor, b: Tensor | None) -> list[Tensor]:
    """torch's weights of one layer, direction by direction."""
    found: list[Tensor] = []
    for i in range(w.shape[0]):
        given = [w[i], r[i], *([] if b is None else _parts(b[i], 2))]
        found += [_reordered(each, GATES[op_type]) for each in given]
    return found


def _reordered(weight: Tensor, order: tuple[int, ...]) -> Tensor:
    gates = _parts(weight, len(order))
    return torch.cat([gates[i] for i in order])


def _parts(weight: Tensor, count: int) -> list[Tensor]:
    """Equal parts, each an op of its own: so they are weights, too."""
    size = weight.shape[0] // count
    return [weight.narrow(0, i * size, size) for i in range(count)]


def _results(attrs: Attrs, y: Tensor, last: list[Tensor], directions: int) -> tuple[Tensor, ...]:
    steps, samples, features = y.shape
    y = y.reshape(steps, samples, directions, features // directions)
    y = y.flip(0) if attrs["direction"] == "reverse" else y
    if attrs["layout"]:
        return y.transpose(0, 1), *(state.transpose(0, 1) for state in last)
    return y.transpose(1, 2), *last
