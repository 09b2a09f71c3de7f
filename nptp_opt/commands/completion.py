"""``completion``: what a shell needs to complete commands, options and known names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from nptp_opt.commands.group import command
from nptp_opt.errors import InputError

VARIABLE = "_NPTP_OPT_COMPLETE"
"""In the environment where a shell asks for completions."""


def _formulations() -> Iterable[str]:
    from nptp_opt.layer.registry import specs
    from nptp_opt.layer.solve import solve_layer as _registers_all  # noqa: F401

    return (spec.name for spec in specs())


def _planners() -> Iterable[str]:
    from nptp_opt.planner import PLANNERS

    return (spec.name for spec in PLANNERS.values())


def _solvers() -> Iterable[str]:
    from nptp_opt.solvers import listing

    return (str(row["name"]) for row in listing())


def _executors() -> Iterable[str]:
    from nptp_opt.kernels.executors import listing

    return (str(row["name"]) for row in listing())


def _instances() -> Iterable[str]:
    from nptp_opt.instances import library

    return (entry.name for entry in library.select())


def _models() -> Iterable[str]:
    from nptp_opt.network.zoo import names_at_hand

    return names_at_hand()


NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "executors": _executors,
    "formulations": _formulations,
    "instances": _instances,
    "models": _models,
    "planners": _planners,
    "solvers": _solvers,
}
"""Where the known names of a kind come from."""


def names_of(kind: str, *, or_files: bool = False) -> Callable[..., list[CompletionItem]]:
    """Completes names of this kind; they are read when a shell asks, not before. With ``or_files``
    the shell completes files where no name begins so."""

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in sorted(NAMES[kind]()) if name.startswith(begun)]
        return found or ([CompletionItem(begun, type="file")] if or_files else [])

    return complete


@command(
    example='eval "$(nptp-opt completion bash)"\neval "$(nptp-opt completion zsh)"\n'
    "nptp-opt completion fish > ~/.config/fish/completions/nptp-opt.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print what SHELL needs to complete commands, options and known names at the Tab key.

    Add the example's line to ~/.bashrc, or to ~/.zshrc after compinit; that for fish is typed once.
    """
    found = get_completion_class(shell)
    if found is None:
        raise InputError(f"{shell}: this version of click completes nothing there")
    click.echo(found(ctx.find_root().command, {}, "nptp-opt", VARIABLE).source())
