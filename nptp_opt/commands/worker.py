"""``worker``: be one device of a run."""

from __future__ import annotations

from typing import Any

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.support import FILE, executor_option
from nptp_opt.runtime.worker.weight_store import DEFAULT_MIB


@command(
    example="worker --connect 192.0.2.1:5000 --name pi-1 --secret-file secret\n"
    "worker --connect 192.0.2.1:5000 --name a --secret-file s --tls a.pem"
)
@click.option("--connect", required=True, metavar="ADDRESS:PORT", help="As given to run --hosts.")
@click.option("--name", required=True, help="The device's name in the cluster file.")
@click.option("--secret-file", type=FILE, required=True, help="The same file as run's.")
@click.option("--tls", type=FILE, help="This device's certificate: everything goes over TLS.")
@click.option("--interface", default="", help="The only address to bind.",
              show_default="the cluster file's")  # fmt: skip
@executor_option("What computes here.", "run's")
@click.option("--daemon", is_flag=True,
              help="Wait for a launcher as long as it takes, then for the next.")  # fmt: skip
@click.option("--cache", type=FILE, help="Folder in which weights are kept.",
              show_default="of this user")  # fmt: skip
@click.option("--cache-mib", type=click.FloatRange(min=0), default=DEFAULT_MIB,
              help="How much of them; 0 keeps none.")  # fmt: skip
@click.option("--install-service", is_flag=True,
              help="Print a systemd unit for this, install nothing.")  # fmt: skip
def worker(**options: Any) -> None:
    """Be one device of a run, or a service, on several machines, until that ends."""
    from nptp_opt.runtime.worker.start import WorkerRequest, start

    start(WorkerRequest(**options), ("nptp_opt", "worker"))
