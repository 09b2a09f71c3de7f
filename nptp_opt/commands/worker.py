"""``worker``: be one device of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nptp_opt.commands.support import (
    FILE,
    executor_option,
)

if TYPE_CHECKING:
    pass


@click.command()
@click.option("--connect", required=True, metavar="ADDRESS:PORT", help="As given to run --hosts.")
@click.option("--name", required=True, help="The device's name in the cluster file.")
@click.option("--secret-file", type=FILE, required=True, help="The same file as run's.")
@click.option("--interface", default="", help="The only address to bind.",
              show_default="the cluster file's")  # fmt: skip
@executor_option("What computes here.", "run's")
def worker(
    connect: str, name: str, secret_file: Path, interface: str, executor: str | None
) -> None:
    """Be one device of a run on several machines, until that run ends."""
    from nptp_opt.runtime.worker.start import become_worker

    become_worker(connect, name, secret_file, interface, executor)
