"""``check``: a layer result, evaluated without any solver."""

from __future__ import annotations

from pathlib import Path

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.support import (
    json_flag,
    print_json,
    print_table,
)
from nptp_opt.errors import VerificationError


@command(example="check instance.json result.json")
@click.argument("instance", type=click.Path(path_type=Path))
@click.argument("result", type=click.Path(path_type=Path))
@json_flag
def check(instance: Path, result: Path, as_json: bool) -> None:
    """Evaluate a RESULT (as `solve-layer --json` prints it) of INSTANCE without any solver."""
    from nptp_opt.instances.library import open_layer
    from nptp_opt.verification.layer_result import check_result

    faults, makespan_s = check_result(open_layer(instance), result)
    content = {"ok": not faults, "makespan_s": makespan_s, "faults": faults}
    print_json("check", content) if as_json else print_table(content)
    if faults:
        raise VerificationError(f"{result}: {faults[0]}")
