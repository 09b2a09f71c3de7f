"""``init``: a cluster file from answers, options, or measurements of the boards themselves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.completion import names_of
from nptp_opt.commands.group import command, under
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import (
    FILE,
    executor_option,
    input_option,
    input_shape,
    json_flag,
    load,
    print_json,
)
from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.cluster import Cluster
    from nptp_opt.cluster.draft import Content
    from nptp_opt.cluster.links import MeasuredLinks
    from nptp_opt.cluster.profiles import Profile

KINDS = ("switched", "shared")
POSITIVE = click.FloatRange(min=0, min_open=True)
TIMEOUT_S = 120.0
"""How long a worker has to be there."""


@command(
    example="init --mbit-per-s 100 --device pi-0,gflops=10 --device pi-1,gflops=5\n"
    "init --hosts 192.0.2.1:5000 --secret-file my.secret --model vgg16 \\\n"
    "    --device pi-0,address=192.0.2.10 --device pi-1,address=192.0.2.11"
)
@click.option("-o", "--output", type=FILE, default=Path("cluster.toml"), help="Cluster file.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@under(
    "Cluster",
    click.option("--name", help="What it is called.", show_default="the file's name"),
    click.option("--device", "devices", multiple=True, metavar="NAME[,KEY=VALUE...]",
                 help="A device with keys of the cluster file; repeat it for each."),
    click.option("--network", "kind", type=click.Choice(KINDS),
                 help="A link per device, or one medium for all (Wi-Fi).",
                 show_default="switched, or measured"),
    click.option("--mbit-per-s", type=POSITIVE, help="Rate of every link, or of the medium.",
                 show_default="the devices' own, or measured"),
    click.option("--latency-ms", type=click.FloatRange(min=0), help="Of every message.",
                 show_default="0, or measured"),
)  # fmt: skip
@under(
    "Measuring",
    click.option("--hosts", metavar="ADDRESS:PORT",
                 help="Wait here for `nptp-opt worker` on every device, and measure all."),
    click.option("--secret-file", type=FILE, help="With --hosts: their secret."),
    click.option("--tls", type=FILE,
                 help="With --hosts: the launcher's certificate; everything goes over TLS."),
    click.option("--model", help="With --hosts: whose layers are measured.",
                 shell_complete=names_of("models", or_files=True)),
    input_option,
    click.option("--threads", type=click.IntRange(min=1), default=1, help="As runs will have."),
    click.option("--repeats", type=click.IntRange(min=1), default=5,
                 help="Measurements of a tile."),
    executor_option("What computes on the devices.", "the fastest that is right, on each"),
)  # fmt: skip
@json_flag
def init(output: Path, devices: Sequence[str], force: bool, as_json: bool, **options: Any) -> None:
    """Write a cluster file: by asking, from options, or with --hosts by measuring.

    Without --device it asks. With --hosts every device's speed is measured, layer shape by layer
    shape, then the way between every two devices, and all at once, which tells a switched network
    from a shared one; the devices need `nptp-opt worker`, not the model.
    """
    from nptp_opt.cluster.draft import draft, parse_device, require_new, with_profiles, write_draft

    _check_measuring(options)
    require_new([output], force=force)
    check_outputs(output)
    entries = [parse_device(text) for text in devices] or _ask_devices(options)
    profiles: dict[str, Profile] = {}
    links = None
    if options["hosts"] is not None:
        profiles, links = _measured(entries, output, options, force=force)
    kind = options["kind"] or (links.kind if links else KINDS[0])
    rates = {name: options[name] for name in ("mbit_per_s", "latency_ms")}
    content = draft(entries, name=options["name"] or output.stem, kind=kind, **rates)
    if profiles:
        content = with_profiles(content, profiles, links)
    for note in links.notes(kind) if links else ():
        say(note)
    cluster = write_draft(content, output, profiles)
    _print(cluster, output, profiles, links, as_json=as_json)


def _check_measuring(options: dict[str, Any]) -> None:
    """Raise InputError for options that lack each other."""
    if options["hosts"] is None:
        for name in ("secret_file", "tls", "model", "shape"):
            if options[name] is not None:
                spelled = {"shape": "--input"}.get(name, "--" + name.replace("_", "-"))
                raise InputError(f"{spelled} is for measuring: add --hosts ADDRESS:PORT")
        return
    for name in ("secret_file", "model"):
        if options[name] is None:
            spelled = name.replace("_", "-")
            raise InputError(f"--hosts needs --{spelled}: see `nptp-opt init --help`")


def somebody_answers() -> bool:
    """Whether a terminal is there for questions."""
    return sys.stdin.isatty()


def _ask_devices(options: dict[str, Any]) -> list[Content]:
    """What a person answers; the network's kind, rate and latency go into ``options``."""
    if not somebody_answers():
        raise InputError("no device is given and nobody is there to ask: add --device for each")
    measuring = options["hosts"] is not None
    if options["kind"] is None and not measuring:
        kinds = click.Choice(KINDS)
        options["kind"] = click.prompt("Network", type=kinds, default=KINDS[0], err=True)
    if options["mbit_per_s"] is None and not measuring:
        what = "the medium" if options["kind"] == "shared" else "every link"
        options["mbit_per_s"] = click.prompt(f"Mbit/s of {what}", type=POSITIVE, err=True)
    if options["latency_ms"] is None and not measuring:
        latency = click.FloatRange(min=0)
        options["latency_ms"] = click.prompt("ms of a message", type=latency, default=0.5, err=True)
    entries = [_ask_device(1, measuring=measuring)]
    while click.confirm("One more device?", default=len(entries) < 2, err=True):
        entries.append(_ask_device(len(entries) + 1, measuring=measuring))
    return entries


def _ask_device(number: int, *, measuring: bool) -> Content:
    """One device's entry."""
    entry: Content = {"name": click.prompt(f"Name of device {number}", err=True)}
    if measuring:
        return entry | {"address": click.prompt("Its address", err=True)}
    entry["gflops"] = click.prompt("Its GFLOP/s (`nptp-opt profile` measures them)", type=POSITIVE,
                                   err=True)  # fmt: skip
    memory = click.prompt("Its memory in MiB (0: no limit)", type=click.FloatRange(min=0),
                          default=0, err=True)  # fmt: skip
    return entry | ({"memory_mib": memory} if memory else {})


def _measured(
    entries: Sequence[Content], output: Path, options: dict[str, Any], *, force: bool
) -> tuple[dict[str, Profile], MeasuredLinks | None]:
    """The boards' profiles and the ways between them, as their workers measure them."""
    from nptp_opt.cluster.draft import profile_file, require_new
    from nptp_opt.runtime.profiling.survey import SurveyRequest, survey_hosts

    paths = [output.parent / profile_file(entry["name"]) for entry in entries]
    require_new(paths, force=force)
    check_outputs(*paths)
    names = ("threads", "repeats", "executor")
    request = SurveyRequest(**{name: options[name] for name in names})
    model = options["model"]
    shape = input_shape(options["shape"], model)
    say(f"importing {model}")
    loaded = load(model, shape)
    with show_progress("measuring") as line:
        return survey_hosts(loaded, entries, request, options["hosts"],
                            options["secret_file"], options["tls"], line.say,
                            TIMEOUT_S)  # fmt: skip


def _print(
    cluster: Cluster,
    path: Path,
    profiles: dict[str, Profile],
    links: MeasuredLinks | None,
    *,
    as_json: bool,
) -> None:
    from nptp_opt.cluster.draft import profile_file

    devices = [
        {
            "name": device.name,
            "gflops": device.gflops,
            "memory_mib": device.memory_mib,
            "up_mbit_per_s": device.up_mbit_per_s,
            "down_mbit_per_s": device.down_mbit_per_s,
            "address": device.address,
            "profile": profile_file(device.name) if device.name in profiles else None,
        }
        for device in cluster.devices
    ]
    network = cluster.network
    rates = {"mbit_per_s": network.mbit_per_s, "latency_ms": network.latency_ms}
    content = {"cluster": str(path), "network": network.kind, **rates}
    if as_json:
        measured = None if links is None else links.to_json()
        print_json("init", {**content, "devices": devices, "links": measured})
        return
    from nptp_opt.plot.terminal import print_pairs, print_rows, print_text

    print_pairs({key: value for key, value in content.items() if value is not None})
    print_text("")
    print_rows(devices, ("name", "gflops", "up_mbit_per_s", "down_mbit_per_s", "profile"))
    if links is not None:
        print_text("")
        print_rows([{**pair, "devices": " - ".join(pair["devices"])} for pair in links.to_json()])
