"""``profile``: what this device and its link can do."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    executor_option,
    input_option,
    input_shape,
    json_flag,
    print_document,
)


@command(example="profile vgg16 -o pi-0.profile.json")
@click.argument("model", shell_complete=names_of("models", or_files=True))
@click.option("-o", "--output", type=FILE, required=True, help="Profile file (JSON).")
@input_option
@click.option("--threads", type=click.IntRange(min=1), default=1, help="As runs will have.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Measurements of a tile.")
@executor_option("What computes.", "the fastest that is right")
@click.option("--serve", metavar="ADDRESS:PORT", help="Also answer a peer that measures the link.")
@click.option("--peer", metavar="ADDRESS:PORT", help="Also measure the link to a peer that serves.")
@click.option("--secret-file", type=FILE, help="With --serve and --peer: what both know.")
@click.option("--tls", type=FILE,
              help="With --serve and --peer: this side's certificate.")  # fmt: skip
@json_flag
def profile(model: str, output: Path, shape: str | None, as_json: bool, **options: Any) -> None:
    """Measure how fast this device computes MODEL's layers, and its link to a peer.

    A cluster file names the result instead of gflops: profile = "pi-0.profile.json". On a switched
    network it stands for the link's rates, too, if they were measured.
    """
    from nptp_opt.cluster.profiles import write_profile
    from nptp_opt.plot.terminal import print_rows
    from nptp_opt.runtime.profiling.profile import ProfileRequest, make_profile

    check_outputs(output, reads=(model,))
    request = ProfileRequest(input_shape(shape, model), **options)
    with contextlib.redirect_stdout(sys.stderr):  # as for ``load``
        measured = make_profile(model, request, say)
    write_profile(measured, output)
    content = measured.to_json()
    print_document(content) if as_json else print_rows(content["layers"])
