"""``infer``: a plan's model, asked with one's own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.deployed import deploy_request, deployment_options, load_deployed
from nptp_opt.commands.following import VOID
from nptp_opt.commands.group import command, under
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.speech import say
from nptp_opt.commands.support import FILE, json_flag, print_json, print_table
from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.deployment.infer import Summary
    from nptp_opt.deployment.normalising import Normalising
    from nptp_opt.network.load import LoadedModel


def _numbers(_: click.Context, param: click.Parameter, value: str | None) -> list[float] | None:
    if value is None:
        return None
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter("must be numbers by commas: 0.5,0.5,0.5", param=param) from None


@command(example="infer plan.json photo.jpg --top 5 --weights weights.safetensors")
@click.argument("plan", type=FILE)
@click.argument("inputs", type=FILE, nargs=-1, required=True)
@under(
    "Output",
    click.option("-o", "--output", type=FILE,
                 help="A .npz or .safetensors file for one input, else a folder of .npz."),
    click.option("--top", type=click.IntRange(min=1), help="Print so many classes of each input."),
    click.option("--labels", type=FILE,
                 help="With --top: names of the classes, one on each line."),
)  # fmt: skip
@under(
    "Images",
    click.option("--scale", type=float, help="Pixels of images are multiplied by it.",
                 show_default="1/255"),
    click.option("--mean", callback=_numbers, help="Then, per channel, this is taken away.",
                 show_default="ImageNet's for colour, 0 for grey"),
    click.option("--std", callback=_numbers, help="And divided by this.",
                 show_default="ImageNet's for colour, 1 for grey"),
)  # fmt: skip
@deployment_options
@json_flag
def infer(
    plan: Path, inputs: tuple[Path, ...], output: Path | None, as_json: bool, **options: Any
) -> None:
    """Answer INPUTS (arrays, images, folders of them) by PLAN with one process per device.

    Arrays (.npy, .npz, .safetensors) have the model's own shapes and types; images are resized
    and normalised. All go through one session.
    """
    from nptp_opt.deployment.infer import Wanted
    from nptp_opt.deployment.infer import infer as answer_files
    from nptp_opt.deployment.inputs import input_files
    from nptp_opt.deployment.outputs import OutputFiles, read_labels
    from nptp_opt.deployment.service import Service
    from nptp_opt.runtime.children import terminable

    top, labels = options.pop("top") or 0, options.pop("labels")
    if output is None and not top:
        raise InputError("nothing is wanted of the answers: give -o OUT, --top N, or both")
    if labels is not None and not top:
        raise InputError("--labels is for --top N: give both")
    names = None if labels is None else read_labels(labels)
    files = input_files(inputs)
    given = {name: options.pop(name) for name in ("scale", "mean", "std")}
    alone = {"fixed": True} if len(files) == 1 else {}  # there is nothing to adapt for
    request = deploy_request(options, **alone)
    if output is not None and not output.is_dir():
        check_outputs(output, reads=(plan, *files))
    loaded, model = load_deployed(plan, options)
    prepare = _prepare(model, files, given)
    wanted = Wanted(None if output is None else OutputFiles(output, files), top, names)
    with (
        terminable(),
        show_progress("answering") as line,
        Service(loaded, model, request, progress=line.say) as service,
    ):
        summary = answer_files(
            service, files, prepare, wanted, lambda found: line.note(_pace(found, len(files)))
        )
    say(_pace(summary, len(files)))
    padded = request.as_run().chosen_throttle == "pad"
    if padded and summary.is_void:
        say(f"latencies are {VOID}; the answers are right")
    _print(summary, {"void": summary.is_void} if padded else {}, as_json)


def _prepare(
    model: LoadedModel, files: Sequence[Path], given: dict[str, Any]
) -> Normalising | None:
    """How images become inputs, said once; None where there are none."""
    from nptp_opt.deployment.inputs import has_images, image_spec
    from nptp_opt.deployment.normalising import normalising

    if not has_images(files):
        used = next((name for name, value in given.items() if value is not None), None)
        if used is not None:
            raise InputError(f"--{used} is for images: arrays are taken as they are")
        return None
    spec = image_spec(model.signature.inputs)
    prepare, how = normalising(spec.shape[1], **given), ""
    if spec.takes_bytes:
        _refuse_numbers(given)
        how = "as bytes: the network normalises them"
    say(f"images: resized to {spec.shape[2]}x{spec.shape[3]} (rows x columns), {how or prepare}")
    return prepare


def _refuse_numbers(given: dict[str, Any]) -> None:
    """Raise InputError for numbers that images for a network of bytes have no use for."""
    used = next((name for name, value in given.items() if value is not None), None)
    if used is not None:
        raise InputError(
            f"--{used}: the plan's network takes uint8 and normalises it itself: leave it out, or "
            "plan with other numbers"
        )


def _pace(found: Summary, count: int) -> str:
    rate = "" if found.rate_per_s is None else f", {found.rate_per_s:.4g} per second"
    return f"{len(found.latencies_s)} of {count} inputs{rate}"


def _print(summary: Summary, emulated: dict[str, bool], as_json: bool) -> None:
    content = {**summary.to_json(), **emulated}
    if as_json:
        print_json("infer", content)
        return
    for entry in content.pop("top"):
        for found in entry["classes"]:
            name = found.get("label", found["class"])
            click.echo(f"{entry['input']}: {name} {found['value']:.6g}")
    outputs = {
        name: f"{each['type']} {'x'.join(map(str, each['shape']))}"
        for name, each in content["outputs"].items()
    }
    files = content.pop("files")
    if files:
        several = f"{len(files)} in {Path(files[0]).parent}"
        content["files"] = files[0] if len(files) == 1 else several
    print_table({**content, "outputs": outputs})
