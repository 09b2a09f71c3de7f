"""``inspect``: a model as the planner sees it."""

from __future__ import annotations

from typing import Any

import click

from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    input_option,
    input_shape,
    json_flag,
    load,
    pixel_options,
    pixels_from,
    print_json,
)
from nptp_opt.network.ref import spelled


@command(example="inspect resnet50 --input 1x3x224x224")
@click.argument("model", shell_complete=names_of("models", or_files=True))
@input_option
@pixel_options
@json_flag
def inspect(model: str, shape: str | None, as_json: bool, **options: Any) -> None:
    """Show MODEL as the planner sees it: layers, single-tensor cuts, what is gathered and why."""
    from nptp_opt.plot.tables import inspection, print_inspection

    given = input_shape(shape, model)
    say(f"importing {model} at {spelled(given)}")
    content = inspection(load(model, given, pixels=pixels_from(options, given)).network)
    print_json("inspect", content) if as_json else print_inspection(content)
