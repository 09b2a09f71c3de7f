"""``inspect``: a model as the planner sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nptp_opt.commands.support import (
    input_option,
    input_shape,
    json_flag,
    load,
    print_json,
    say,
)
from nptp_opt.network.ref import spelled

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("model")
@input_option
@json_flag
def inspect(model: str, shape: str | None, as_json: bool) -> None:
    """Show MODEL as the planner sees it: layers, single-tensor cuts, what is gathered and why."""
    from nptp_opt.plot.tables import inspection, print_inspection

    given = input_shape(shape, model)
    say(f"importing {model} at {spelled(given)}")
    content = inspection(load(model, given).network)
    print_json(content) if as_json else print_inspection(content)
