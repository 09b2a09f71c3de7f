"""What the files of the command line share."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.network.load import LoadedModel

COMMON_INPUT = "1x3x224x224"

input_option = click.option(
    "--input",
    "shape",
    help="Input shape: batch x channels x height x width.",
    show_default=f"that of an .onnx file, else {COMMON_INPUT}",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object.")


def print_json(content: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(content, allow_nan=False))


def say(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


def load(ref: str, shape: tuple[int, ...], seed: int = 0) -> LoadedModel:
    """The model; what a user's module prints goes to stderr, stdout is for results."""
    from nptp_opt.network.load import load_model

    with contextlib.redirect_stdout(sys.stderr):
        return load_model(ref, shape, seed)


def input_shape(text: str | None, model: str) -> tuple[int, ...]:
    """Read what ``--input`` gives; without it, the size that an .onnx file was made with."""
    if text is None and model.endswith(".onnx"):
        from nptp_opt.network.from_onnx import declared_input

        declared = declared_input(Path(model))
        if declared is not None:
            return declared
    return _parsed(text or COMMON_INPUT)


def _parsed(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) < 3 or min(shape) < 1:
        raise InputError(
            f"--input must look like 1x3x224x224 (batch, channels, size), got {text!r}"
        )
    return shape
