"""``emulate``: remove what killed runs left behind."""

from __future__ import annotations

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.support import (
    json_flag,
    print_json,
)


@command(example="emulate --clean")
@click.option("--clean", is_flag=True, required=True, help="Remove leftovers of killed runs.")
@json_flag
def emulate(clean: bool, as_json: bool) -> None:
    """Remove what a run that was killed with kill -9 has left on this machine.

    Emulated networks end with their processes; a run's folder in the temporary folder can stay.
    """
    from nptp_opt.plot.terminal import print_pairs
    from nptp_opt.runtime.launcher.leftovers import clean_leftovers

    content = clean_leftovers().to_json()
    print_json("emulate", content) if as_json else print_pairs(content)
