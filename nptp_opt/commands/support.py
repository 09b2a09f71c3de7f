"""What the files of the command line share."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nptp_opt.commands.completion import names_of
from nptp_opt.commands.speech import say, speech
from nptp_opt.errors import InputError

if TYPE_CHECKING:
    from nptp_opt.network.load import LoadedModel
    from nptp_opt.network.ref import InputPixels, InputShape, Shape
    from nptp_opt.plan.model import Plan

FILE = click.Path(path_type=Path)

Command = TypeVar("Command", bound=Callable[..., Any])

COMMON_INPUT = "1x3x224x224"

OPTIONS = {
    "time_limit_s": "--time-limit",
    "latency_limit_s": "--latency-limit-ms",
    "ranges": "--over",
    "devices": "--device",
    **{
        name: "--" + name.replace("_", "-")
        for name in (
            "against allow_other_weights baseline calibrate cluster days emulate executor hosts "
            "http in_flight input_dtype interface labels mean objective pareto peer samples "
            "repeats scale scheduler secret_file serve solver std throttle tls tls_ca_file "
            "tls_cert tls_key top transport weights"
        ).split()
    },
}
"""The options by the names of the library's arguments."""


def as_options(text: str) -> str:
    """A message of the library with the options' names where it has `arguments` in backticks."""
    return re.sub(r"`(\w+)`", lambda match: OPTIONS.get(match[1], match[0]), text)


input_option = click.option(
    "--input",
    "shape",
    help="Input shape: batch x channels x height x width; of several inputs, by commas.",
    show_default=f"that of an .onnx file, else {COMMON_INPUT}",
)


def executor_option(text: str, default: str) -> Callable[[Command], Command]:
    """``--executor``; ``default`` says what is done without it."""
    return click.option("--executor", metavar="NAME", help=text, show_default=default,
                        shell_complete=names_of("executors"))  # fmt: skip


weights_option = click.option(
    "--weights", type=FILE,
    help="The model's weights: .safetensors, or a state dict saved by torch.",
    show_default="an .onnx file's or callable's own; of a torchvision name random ones",
)  # fmt: skip


def planned_weights_options(command: Command) -> Command:
    """``--weights`` of a command that takes a plan, which may know which they have to be."""
    allow = click.option(
        "--allow-other-weights", is_flag=True, help="Also other weights than the plan's."
    )
    return weights_option(allow(command))


GONE = {
    "predicted": "--objective predicted is what every plan is made for now: leave --objective out",
    "overlap": "--overlap is gone: plans overlap computing and exchange where that makes them "
    "faster; leave it out",
}
"""What to write instead of what there was before."""


class ObjectiveChoice(click.Choice[str]):
    """The objectives; one that is gone says what to write instead."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "predicted":
            self.fail(GONE["predicted"], param, ctx)
        return super().convert(value, param, ctx)


def _refuse_overlap(_: click.Context, __: click.Parameter, given: str | None) -> None:
    if given is not None:
        raise click.UsageError(GONE["overlap"])


gone_options = click.option(
    "--overlap", is_flag=False, flag_value="yes", hidden=True, expose_value=False,
    callback=_refuse_overlap, help="Gone.",
)  # fmt: skip
"""Options of earlier versions, which say what to write instead."""

json_flag = click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object.")


def print_json(command: str, content: dict[str, Any]) -> None:
    """The one JSON object of ``command``, its schema named in it."""
    from nptp_opt.commands.json_output import OUTPUTS

    print_document({"schema": OUTPUTS[command].schema_name(), **content})


def print_document(content: dict[str, Any]) -> None:
    """A file's content, which names its own schema."""
    speech().printed = True
    click.echo(json.dumps(content, allow_nan=False))


def load(
    ref: str,
    shape: InputShape,
    seed: int = 0,
    weights: Path | None = None,
    pixels: InputPixels = (),
) -> LoadedModel:
    """The model; what a user's module prints goes to stderr, stdout is for results."""
    from nptp_opt.network.load import load_model

    with contextlib.redirect_stdout(sys.stderr):
        return load_model(ref, shape, seed, weights, pixels)


def load_planned(
    plan: Plan, where: Path, weights: Path | None, allow_other_weights: bool
) -> LoadedModel:
    """The model of the plan in the file ``where``, with the weights that it was made with."""
    from nptp_opt.verification.static import require_weights

    planned = plan.model
    model = load(planned.ref, planned.input, planned.seed, weights, planned.pixels)
    if not allow_other_weights:
        require_weights(plan, model, str(where))
    elif planned.weights not in (None, model.ref.weights):
        say(f"{where}: was made with other weights")
    return model


def _numbers(
    _: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[float, ...], ...]:
    """Of every time that the option is given."""
    try:
        return tuple(tuple(map(float, text.split(","))) for text in given)
    except ValueError:
        raise click.BadParameter(
            f"numbers by commas are wanted, got {' '.join(given)!r}", param=param
        ) from None


def pixel_options(command: Command) -> Command:
    """``--input-dtype`` and how pixels are normalised."""
    return together(
        click.option("--input-dtype", type=click.Choice(["float32", "uint8"]), multiple=True,
                     help="What the input is; the network normalises uint8 itself. Of several "
                     "inputs these four may be given once for each.", show_default="float32"),
        click.option("--scale", type=float, help="Of uint8 pixels: ((x / SCALE) - mean) / std.",
                     multiple=True, show_default="1"),
        click.option("--mean", metavar="M[,M...]", callback=_numbers, show_default="0",
                     multiple=True, help="The same: for all channels, or for each."),
        click.option("--std", metavar="S[,S...]", callback=_numbers, show_default="1",
                     multiple=True, help="The same."),
    )(command)  # fmt: skip


samples_option = click.option(
    "--samples", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Inputs (.npy, .npz) to count zeros on, which then need not be sent.",
    show_default="all is sent",
)  # fmt: skip


def pixels_from(options: Mapping[str, Any], shape: InputShape) -> InputPixels:
    """What ``pixel_options`` ask for; raises InputError for numbers without pixels."""
    from nptp_opt.network.ref import pixels_of, shapes_of

    dtypes = options["input_dtype"] or ("float32",)
    numbers = (options[name] or None for name in ("scale", "mean", "std"))
    return pixels_of(len(shapes_of(shape)), dtypes, *numbers)


def input_shape(text: str | None, model: str) -> InputShape:
    """Read what ``--input`` gives; without it, the size that an .onnx file was made with."""
    if text is None:
        from nptp_opt.api import default_input

        return default_input(model)
    shapes = tuple(_parse_shape(part) for part in text.split(","))
    return shapes[0] if len(shapes) == 1 else shapes


def _parse_shape(text: str) -> Shape:
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(
            f"--input must look like 1x3x224x224 (batch, channels, size), got {text!r}"
        )
    return shape


def finite(_: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("must be a number", param=param)
    return value


def together(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def limit_options(time_help: str) -> Callable[[Command], Command]:
    """Options of a search; what its time limit covers differs from command to command."""
    return together(
        click.option(
            "--solver",
            help="Solver for the formulation.",
            show_default="its first one",
            shell_complete=names_of("solvers"),
        ),
        click.option(
            "--time-limit", type=float, callback=finite, help=time_help, show_default="none"
        ),
        click.option("--gap", type=float, default=1e-6, callback=finite, help="Gap to prove."),
        click.option("--seed", type=int, default=0, help="Seed of solvers and weights."),
        click.option(
            "--threads", type=int, default=1, help="Threads per solver; 0 lets it choose."
        ),
    )


def limits_from(**options: Any) -> Any:
    from nptp_opt.layer.limits import Limits

    limit = options["time_limit"]
    return Limits(
        time_limit_s=math.inf if limit is None else limit,
        gap=options["gap"],
        seed=options["seed"],
        threads=options["threads"],
    )


def print_table(content: dict[str, Any]) -> None:
    from nptp_opt.plot.terminal import print_pairs

    print_pairs(content)


def print_list(
    name: str, rows: list[dict[str, Any]], as_json: bool, first: Sequence[str] = ()
) -> None:
    """Rows as JSON under ``name``, or as a table whose columns ``first`` matter most."""
    from nptp_opt.plot.terminal import print_rows

    print_json(name, {name: rows}) if as_json else print_rows(rows, first)


tag_option = click.option(
    "--tag", "tags", multiple=True, help="Only with this tag; may be repeated."
)
name_option = click.option("--name", "names", default="*", help="Pattern of names.")
