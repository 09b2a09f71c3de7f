"""What every command has: common options, an example in its help, headings over many options."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from nptp_opt.commands.speech import common_options

MOST_UNGROUPED = 10
"""Options of a command up to which they stand under one heading."""

LONGEST = 200
"""Letters of a command's summary in the list of all."""

REST, GENERAL = "Options", "General"

_headings: dict[click.Parameter, str] = {}
"""Of options that ``under`` put below one."""


class Command(click.Command):
    """A command with the common options behind its own; ``example`` is shown as its last help."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.common = common_options()

    @property
    def examples(self) -> list[str]:
        """What is typed; a line that ends in a backslash goes on in the next."""
        lines = re.split(r"(?<!\\)\n", self.example) if self.example else []
        return [line if "nptp-opt " in line else f"nptp-opt {line}" for line in lines]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        return [*own[: len(self.params)], *self.common, *own[len(self.params) :]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under their headings, the common ones last."""
        for heading, params in self.sections(ctx).items():
            records = [found for param in params if (found := param.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def sections(self, ctx: click.Context) -> dict[str, list[click.Parameter]]:
        """The parameters by heading."""
        own = [param for param in self.params if isinstance(param, click.Option)]
        found: dict[str, list[click.Parameter]] = {REST: []}
        for param in own:
            heading = _headings.get(param, REST) if len(own) > MOST_UNGROUPED else REST
            found.setdefault(heading, []).append(param)
        common = [param for param in self.get_params(ctx) if param not in self.params]
        return {**found, GENERAL: common}

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.example:
            with formatter.section("Example"):
                for line in self.examples:
                    formatter.write(f"  {line}\n")
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the whole first sentence of its help."""
        found = {name: self.commands[name] for name in self.list_commands(ctx)}
        rows = [(name, each.get_short_help_str(LONGEST)) for name, each in found.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def command(name: str | None = None, *, example: str) -> Callable[[Callable[..., Any]], Command]:
    """As ``click.command``; ``example`` has what is typed, a line for each, without
    ``nptp-opt`` at the start."""
    return click.command(name, cls=Command, example=example)


def under(
    heading: str, *options: Callable[[Any], Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options below a heading of ``--help``."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        before = len(_given(function))
        for option in reversed(options):
            function = option(function)
        _headings.update(dict.fromkeys(_given(function)[before:], heading))
        return function

    return apply


def _given(function: Callable[..., Any]) -> Sequence[click.Parameter]:
    found: Sequence[click.Parameter] = getattr(function, "__click_params__", ())
    return found
