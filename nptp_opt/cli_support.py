"""What the files of the command line share."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.network.load import LoadedModel

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


def input_shape(text: str) -> tuple[int, ...]:
    """Read what ``--input`` gives."""
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) < 3 or min(shape) < 1:
        raise InputError(
            f"--input must look like 1x3x224x224 (batch, channels, size), got {text!r}"
        )
    return shape
