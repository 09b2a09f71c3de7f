"""``secret``: what a launcher and its workers on other machines know, and show each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nptp_opt.commands.group import command
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import FILE, json_flag, print_json
from nptp_opt.errors import InputError
from nptp_opt.runtime.launcher.certificates import DAYS

if TYPE_CHECKING:
    from nptp_opt.runtime.launcher.certificates import Made


@command(
    example="secret my.secret\n"
    "secret my.secret --tls certificates --cluster cluster.toml\n"
    "secret --tls certificates --device pi-9"
)
@click.argument("file", type=FILE, required=False)
@click.option("--tls", type=FILE, metavar="FOLDER",
              help="Write certificates there, for the launcher and every device.")  # fmt: skip
@click.option("-c", "--cluster", type=FILE, help="With --tls: whose devices.")
@click.option("--device", "devices", multiple=True, metavar="NAME",
              help="With --tls: a device; repeat it for each.")  # fmt: skip
@click.option("--days", type=click.IntRange(min=1), default=DAYS,
              help="With --tls: how long certificates are valid.")  # fmt: skip
@json_flag
def secret(
    file: Path | None,
    tls: Path | None,
    cluster: Path | None,
    devices: Sequence[str],
    days: int,
    as_json: bool,
) -> None:
    """Write a fresh random secret to FILE, which its owner alone can read.

    Copy it to every machine, for --secret-file of `run`, `infer`, `serve` and `worker`. With --tls
    the FOLDER gets launcher.pem for --tls of those commands, NAME.pem for --tls of each device's
    `worker`, and authority.pem, which signs them and is copied nowhere. Files that are there are
    not overwritten.
    """
    from nptp_opt.runtime.transport.handshake import require_new_secret, write_secret

    if tls is None and (file is None or cluster is not None or devices):
        raise InputError("nothing to write: name a FILE for the secret, or a folder as `tls`")
    if file is not None:
        require_new_secret(file)
    made = None if tls is None else _certificates(tls, cluster, devices, days)
    if file is not None:
        write_secret(file)
    _tell(file, made, as_json=as_json)


def _certificates(folder: Path, cluster: Path | None, devices: Sequence[str], days: int) -> Made:
    from nptp_opt.cluster import load_cluster
    from nptp_opt.runtime.launcher.certificates import make_certificates

    of_cluster = [] if cluster is None else [each.name for each in load_cluster(cluster).devices]
    names = [*of_cluster, *devices]
    if not names:
        raise InputError(
            "`tls` makes a certificate for every device: name them by `cluster` or `devices`"
        )
    return make_certificates(folder, names, days)


def _tell(file: Path | None, made: Made | None, *, as_json: bool) -> None:
    paths = [] if made is None else [str(path) for path in made.paths]
    if as_json:
        secret = None if file is None else str(file)
        expires = None if made is None else f"{made.expires:%Y-%m-%d}"
        print_json("secret", {"secret": secret, "certificates": paths, "expires": expires})
        return
    if file is not None:
        say(f"{file}: copy it to every machine, over a channel that nobody else reads")
    if made is not None:
        say(f"{', '.join(paths)}: valid until {made.expires:%Y-%m-%d}; each device gets its own "
            "alone, over such a channel, and authority.pem stays here")  # fmt: skip
